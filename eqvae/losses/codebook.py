"""What pulls features and codebook together (VQ-GAN, arXiv 2012.09841), and how much of the codebook is used."""

import torch
from torch import Tensor

from eqvae.autoencoders import Codes


class CodebookLoss:
    """q = mean |sg(z_q) - z|^2 + beta mean |z_q - sg(z)|^2, or with beta on the other term.

    Args:
        weight: of q (codebook_weight).
        beta: 0.25 in VQ-GAN.
        legacy: beta on the term that moves the codebook, as all published VQ-GANs were trained; false puts it on the
            term that commits the features, as in VQ-VAE.
    """

    def __init__(self, weight: float = 1.0, beta: float = 0.25, legacy: bool = True):
        self.weight, self.beta, self.legacy = weight, beta, legacy

    def __call__(self, codes: Codes) -> Tensor:
        """The scalar q of codes whose features and latents are [B, C, h, w]."""
        features, latents = codes.features.float(), codes.latents.float()
        commitment = (latents.detach() - features).square().mean()
        codebook = (latents - features.detach()).square().mean()
        if self.legacy:
            return commitment + self.beta * codebook
        return self.beta * commitment + codebook


def codebook_usage(indices: Tensor, num_codes: int) -> dict[str, Tensor]:
    """How a batch of indices [B, h, w] uses the codebook: `perplexity` in [1, num_codes], `used_codes` in [0, 1]."""
    # Not torch.bincount, which waits for a CUDA device to tell it the largest index.
    counts = torch.zeros(num_codes, device=indices.device).index_add_(
        0, indices.flatten(), torch.ones(1, device=indices.device).expand(indices.numel())
    )
    share = counts / indices.numel()
    return {"perplexity": torch.special.entr(share).sum().exp(), "used_codes": (share > 0).float().mean()}
