"""How well pictures are reconstructed: PSNR and SSIM per picture."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def images_to_psnr(images: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB per picture [B] of uint8 pictures [B, 3, H, W]: 20 log10(255 / RMSE); identical ones give 100."""
    error = (images.double() - target.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255.0**2 / error.clamp_min(255.0**2 * 1e-10))


def images_to_ssim(images: Tensor, target: Tensor) -> Tensor:
    """SSIM per picture [B] of uint8 pictures: Gaussian window 11 x 11, sigma 1.5, K .01 and .03, data range 255."""
    return structural_similarity_index_measure(
        images.float(), target.float(), data_range=255.0, sigma=1.5, kernel_size=11, reduction="none"
    )
