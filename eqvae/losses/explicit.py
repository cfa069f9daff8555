"""The explicit latent loss: the ablation of EQ-VAE that collapses."""

import torch
from torch import Tensor

from eqvae.equivariance import SpatialTransform


class ExplicitLatentLoss:
    """weight |T E(x) - E(T x)|^2 on posterior means, summed over the latent, mean over the batch; x itself is decoded.

    EQ-VAE, table 9: equivariance errors fall and so does everything else (rFID 118, gFID 141 at weight 0.1), since a
    smaller latent has a smaller error. It exists to show that.

    Args:
        weight: lambda; 0.1 in the paper.
        stop_gradient: take E(T x) as a constant.
    """

    def __init__(self, weight: float = 0.1, stop_gradient: bool = False):
        self.weight, self.stop_gradient = weight, stop_gradient

    def __call__(self, autoencoder, latents: Tensor, images: Tensor, transform: SpatialTransform) -> Tensor:
        """The unweighted scalar, from means [B, C, h, w] of images [B, 3, H, W]; encodes the transformed images."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop_gradient):
            expected = autoencoder.encode(transform(images)).mean
        return (transform(latents) - expected).float().square().sum() / len(images)
