"""What a start autoencoder's latents are like: equivariance errors in several bases, and where their energy comes from.

The paper's error divides by the energy of raw latents. So a channel with a large mean hides the others, and so does one
with a large variance, although a generator sees every channel with mean 0 and variance 1. The same error is therefore
also taken after an affine map of the channels, which commutes with every probe (turns and resampling keep constants).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.autoencoders import codebook_usage
from eqvae.equivariance import measured_transforms
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.evaluation.latents import radial_power_spectrum

BASES = ("raw", "centred", "standardized", "whitened")
SMALLEST_VARIANCE = 1e-6  # share of the largest; directions below it are no part of the latents


@torch.no_grad()
def measure_start(autoencoder, images: Tensor, num_equivariance_images: int = 500, batch_size: int = 100) -> dict:
    """All numbers of one autoencoder.

    Args:
        autoencoder: KL or VQ, in evaluation mode.
        images: held-out images [N, 3, H, W] in [-1, 1].
        num_equivariance_images: the first so many give the errors.

    Returns:
        The report of `AutoencoderEvaluation`; `errors` {basis: {probe: mean over images}}; `rotation` and `scale`, the
        means of the raw ones as the paper prints them; `spectrum_power` by radial frequency; per channel `mean`,
        `variance` and `turn_error` (at 90 degrees, pooled over images, of the centred latents); `thumbnail_share`, see
        there; `kl` in nats and `posterior_std`, both per latent element; `num_parameters`; with a codebook
        `perplexity` and `used_codes`, see `codebook_usage`.
    """
    evaluation = AutoencoderEvaluation(num_equivariance_images=num_equivariance_images)
    means, stds, rates = [], [], []
    for batch in images.split(batch_size):
        evaluation.update(autoencoder, batch)
        mean, std = autoencoder.latent_moments(batch)
        means.append(mean)
        stds.append(std)
        rates.append(0.5 * (mean.square() + std.square() - 1 - 2 * std.clamp_min(1e-12).log()).mean())
    latents = torch.cat(means)
    few = images[:num_equivariance_images]
    encoded = torch.cat([autoencoder.posterior(batch).mean for batch in few.split(batch_size)])
    pairs = transformed_pairs(autoencoder, few, encoded, batch_size)
    errors = {basis: basis_errors(pairs, *basis_of(encoded, basis)) for basis in BASES}
    centre = encoded.mean((0, 2, 3))
    variance = encoded.var((0, 2, 3), correction=0)
    frequencies, power = radial_power_spectrum(latents)
    codes = usage_of_codes(autoencoder, images, batch_size) if autoencoder.num_codes else {}
    return (
        evaluation.compute()
        | codes
        | {
            "rotation": mean_of(errors["raw"], "rotation"),
            "scale": mean_of(errors["raw"], "scale"),
            "errors": errors,
            "spectrum_frequency": frequencies.tolist(),
            "spectrum_power": power.tolist(),
            "channel_mean": centre.tolist(),
            "channel_variance": variance.tolist(),
            "channel_turn_error": _channel_errors(*pairs["rotation 90"], centre).tolist(),
            "thumbnail_share": thumbnail_share(encoded, few),
            "kl": None if autoencoder.num_codes else float(torch.stack(rates).mean()),
            "posterior_std": float(torch.cat(stds).mean()),
            "latent_shape": list(latents.shape[1:]),
            "num_parameters": sum(parameter.numel() for parameter in autoencoder.parameters()),
        }
    )


def usage_of_codes(autoencoder, images: Tensor, batch_size: int) -> dict[str, float]:
    """How all images together use the codebook."""
    tokens = torch.cat([autoencoder.cached_rows(batch)["tokens"] for batch in images.split(batch_size)])
    return {name: float(value) for name, value in codebook_usage(tokens.long(), autoencoder.num_codes).items()}


def mean_of(errors: dict[str, float], kind: str) -> float:
    """Mean over the probes of a kind, "rotation" or "scale"."""
    values = [value for probe, value in errors.items() if probe.startswith(kind)]
    return sum(values) / len(values)


def transformed_pairs(
    autoencoder, images: Tensor, latents: Tensor, batch_size: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Per probe of the paper T E(x) and E(T x), both [N, C, h, w], of images [N, 3, H, W] with latents E(x)."""
    pairs = {}
    for name, transform in measured_transforms(tuple(latents.shape[-2:])).items():
        expected = [autoencoder.posterior(transform(batch)).mean for batch in images.split(batch_size)]
        pairs[name] = (transform(latents), torch.cat(expected))
    return pairs


def basis_of(latents: Tensor, basis: str) -> tuple[Tensor, Tensor]:
    """The affine map z -> W (z - m) of a basis: m [C] and W [K, C], estimated on latents [N, C, h, w].

    "raw" keeps latents, "centred" removes each channel's mean, "standardized" also divides by its standard deviation,
    "whitened" takes all principal directions of the channels at variance 1, so that no linear mixing of channels
    changes it (K is below C where directions are empty).
    """
    channels = latents.shape[1]
    vectors = latents.movedim(1, 0).flatten(1).double()
    mean = vectors.mean(1)
    if basis == "raw":
        return torch.zeros(channels), torch.eye(channels)
    if basis == "centred":
        return mean.float(), torch.eye(channels)
    covariance = torch.cov(vectors, correction=0).reshape(channels, channels)
    if basis == "standardized":
        return mean.float(), torch.diag(covariance.diagonal().clamp_min(1e-12).rsqrt()).float()
    assert basis == "whitened", basis
    values, directions = torch.linalg.eigh(covariance)
    kept = values > SMALLEST_VARIANCE * values.max()
    return mean.float(), (directions[:, kept] * values[kept].rsqrt()).T.float()


def basis_errors(pairs: dict[str, tuple[Tensor, Tensor]], mean: Tensor, matrix: Tensor) -> dict[str, float]:
    """Mean over images of |T E(x) - E(T x)|^2 / |E(T x)|^2 per probe, both sides mapped by z -> W (z - m)."""
    report = {}
    for name, pair in pairs.items():
        actual, expected = (torch.einsum("kc,nchw->nkhw", matrix, z - mean[:, None, None]).flatten(1) for z in pair)
        squares = (actual - expected).square().sum(1), expected.square().sum(1).clamp_min(1e-12)
        report[name] = float((squares[0] / squares[1]).mean())
    return report


def _channel_errors(actual: Tensor, expected: Tensor, mean: Tensor) -> Tensor:
    """[C]: energy of the difference over the energy of the centred latents, both summed over images and places."""
    centred = expected - mean[:, None, None]
    return (actual - expected).square().sum((0, 2, 3)) / centred.square().sum((0, 2, 3)).clamp_min(1e-12)


def thumbnail_share(latents: Tensor, images: Tensor) -> dict[str, float]:
    """Share of the latents' variance that a linear map of the image's thumbnail explains, in [0, 1].

    The thumbnail is the mean colour of each f x f patch, which turns and shrinks with the image: what it explains is
    equivariant, so the rest bounds the errors. `centred` weighs channels by their variance, `standardized` alike.

    Args:
        latents: [N, C, h, w].
        images: [N, 3, f h, f w].
    """
    thumbnails = F.interpolate(images, latents.shape[-2:], mode="area").movedim(1, -1).flatten(0, -2).double()
    values = latents.movedim(1, -1).flatten(0, -2).double()
    thumbnails, values = thumbnails - thumbnails.mean(0), values - values.mean(0)
    residual = values - thumbnails @ torch.linalg.lstsq(thumbnails, values).solution
    total, rest = values.square().sum(0).clamp_min(1e-12), residual.square().sum(0)
    return {"centred": float(1 - rest.sum() / total.sum()), "standardized": float(1 - (rest / total).mean())}
