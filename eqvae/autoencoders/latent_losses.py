"""What each family of autoencoders minimizes on its latents: a divergence or a codebook loss."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from eqvae.autoencoders.encodings import Codes, Posterior
from eqvae.precision import at_least_float32
from eqvae.processes import mean_over_processes


class Term(NamedTuple):
    """One term of a loss.

    Args:
        name: in the log.
        value: scalar, unweighted.
        weight: in the sum that is minimized; None only logs the value.
        adaptive: multiply the weight by the ratio of two norms, of the gradients of reconstruction and of this term at
            the encoder's last layer; what comes out is logged as `<name>_weight`.
    """

    name: str
    value: Tensor
    weight: float | None = None
    adaptive: bool = False


LatentLoss = Callable[[Posterior, Codes | None], list[Term]]
"""Terms of the posterior of a batch, and of the codes that were decoded."""


def no_terms(posterior: Posterior, codes: Codes | None) -> list[Term]:
    """The loss of latents on which nothing but reconstruction acts."""
    return []


def kl_terms(weight: float, posterior: Posterior, codes: Codes | None) -> list[Term]:
    """The divergence from a standard normal, summed over the latent, mean over the batch.

    Of a posterior in 16 bits it is computed in float32: near a standard normal its parts cancel.
    """
    assert isinstance(posterior, DiagonalGaussianDistribution), "only a Gaussian diverges from a normal"
    parameters = at_least_float32(posterior.parameters)
    if parameters.dtype != posterior.parameters.dtype:
        posterior = DiagonalGaussianDistribution(parameters)
    return [Term("kl", posterior.kl().mean(), weight)]


class CodebookLoss:
    """q = mean |sg(z_q) - z|^2 + beta mean |z_q - sg(z)|^2, or with beta on the other term.

    Source: VQ-GAN, arXiv 2012.09841.

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


def codebook_terms(loss: CodebookLoss, num_codes: int, posterior: Posterior, codes: Codes | None) -> list[Term]:
    """The codebook loss, and how much of the codebook the batches of all devices use."""
    assert codes is not None, "a codebook decodes codes"
    usage = _usage(mean_over_processes(_shares(codes.indices, num_codes)))
    return [Term("codebook", loss(codes), loss.weight), *(Term(name, value) for name, value in usage.items())]


def codebook_usage(indices: Tensor, num_codes: int) -> dict[str, Tensor]:
    """How a batch of indices [B, h, w] uses the codebook: `perplexity` in [1, num_codes], `used_codes` in [0, 1]."""
    return _usage(_shares(indices, num_codes))


def _shares(indices: Tensor, num_codes: int) -> Tensor:
    """[num_codes], in sum 1."""
    # Not torch.bincount, which waits for a CUDA device to tell it the largest index.
    counts = torch.zeros(num_codes, device=indices.device).index_add_(
        0, indices.flatten(), torch.ones(1, device=indices.device).expand(indices.numel())
    )
    return counts / indices.numel()


def _usage(share: Tensor) -> dict[str, Tensor]:
    return {"perplexity": torch.special.entr(share).sum().exp(), "used_codes": (share > 0).float().mean()}
