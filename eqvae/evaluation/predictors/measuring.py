"""From an autoencoder and images to what predictors take, and to their numbers."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from eqvae.autoencoders import Autoencoder
from eqvae.data import ImageSource, to_uint8
from eqvae.data.module import ImageBatches
from eqvae.data.sources import MaskedSource
from eqvae.evaluation.batches import images_at_once
from eqvae.evaluation.features import create_extractor, images_to_features
from eqvae.evaluation.predictors import PREDICTORS, LatentSample
from eqvae.selection import describe_selection, evenly_spaced
from eqvae.stream import SequentialBatches

MAX_IMAGES = 5000  # whose latents are measured
MAX_KEPT_IMAGES = 256  # that are encoded again, transformed
DEAD = 1e-6  # a channel's std, as a share of the largest, below which it varies by rounding alone


class Prediction(NamedTuple):
    """What was measured: {"name/quantity": value}, and {name: why} of the predictors that could not be."""

    values: dict[str, float]
    left_out: dict[str, str]


def choose_predictors(words: list[str]) -> list[str] | None:
    """Names of predictors as a command line has them: "all" gives None, "none" an empty list.

    Raises:
        ValueError: for an unknown name, or one beside "all" or "none".
    """
    if words in (["all"], ["none"]):
        return None if words == ["all"] else []
    unknown = [word for word in words if word not in PREDICTORS]
    if unknown:
        raise ValueError(f"predictor {unknown[0]!r} is unknown: use all, none, or some of {', '.join(PREDICTORS)}")
    return list(dict.fromkeys(words))


def predict(sample: LatentSample, names: list[str] | None = None) -> Prediction:
    """Numbers of the predictors named, or for None of all that this sample allows.

    Raises:
        ValueError: for one of the named predictors that this sample does not allow.
    """
    values: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in PREDICTORS if names is None else names:
        try:
            values |= PREDICTORS[name](sample)
        except ValueError as error:
            if names is not None:
                raise
            left_out[name] = str(error).removeprefix(f"{name} ")
    return Prediction(values, left_out)


def describe_sample(sample: LatentSample, source: ImageSource) -> dict[str, str]:
    """What a result says of the images that its predictors are of."""
    masks = "known" if sample.masks is not None else "not known, all pixels count"
    return {"predictor_images": describe_selection(len(sample.latents), len(source)), "foreground": masks}


@torch.no_grad()
def autoencoder_to_sample(
    autoencoder: Autoencoder,
    source: ImageSource,
    num_images: int | None = None,
    num_workers: int = 0,
    device: str = "cpu",
    names: list[str] | None = None,
) -> LatentSample:
    """Latents of at most `MAX_IMAGES` evenly spaced images, normalized over them, with what predictors ask for.

    Latents are posterior means (of a quantizing autoencoder codebook vectors). Masks are known of a `MaskedSource`.

    Args:
        autoencoder: frozen, on `device`.
        num_images: take only so many; None: all, up to `MAX_IMAGES`.
        names: of the predictors that will be asked; features, the most costly part, are left out where none needs them.
            None: all.
    """
    count = min(MAX_IMAGES, len(source) if num_images is None else num_images)
    batches = _Rows(ImageBatches(source), evenly_spaced(count, len(source)))
    extractor = create_extractor(device=device) if _need_features(names) else None
    kept = torch.isin(torch.arange(len(batches)), evenly_spaced(MAX_KEPT_IMAGES, len(batches)))
    parts = _Parts()
    at_once = images_at_once(*source[0][0].shape[-2:])
    for batch in SequentialBatches(batches, at_once).loader(num_workers):
        images = batch["image"].to(device)
        mean, std = autoencoder.latent_moments(images)
        images = to_uint8(images)
        parts.add(
            latents=mean.float().cpu(),
            labels=batch["label"],
            images=images[kept[batch["key"]].to(device)],
        )
        if extractor is not None:
            parts.add(features=images_to_features(images, extractor))
        if isinstance(source, MaskedSource):
            parts.add(masks=_on_grid(source.masks(batch["index"]), (mean.shape[-2], mean.shape[-1])))
        parts.add_posterior(mean, std)
    return parts.sample(autoencoder, extractor)


def _need_features(names: list[str] | None) -> bool:
    return any("features" in PREDICTORS[name].needs for name in (PREDICTORS if names is None else names))


class _Rows:
    """Some rows of a data set that is read in whole batches."""

    def __init__(self, dataset: ImageBatches, rows: Tensor):
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def get_batch(self, ids: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        return self.dataset.get_batch(self.rows[ids], keys)


def _on_grid(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [B, S, S] at the nearest pixel of each latent's centre, bool [B, h, w]."""
    return F.interpolate(masks[:, None].float(), size, mode="nearest-exact")[:, 0] > 0


class _Parts:
    """What batches leave behind."""

    def __init__(self):
        self._parts: dict[str, list[Tensor]] = {}
        self._variance = self._rate = torch.zeros((), dtype=torch.float64)  # sums over images

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self._parts.setdefault(name, []).append(value)

    def add_posterior(self, mean: Tensor, std: Tensor) -> None:
        mean, variance = mean.double(), std.double().square()
        nats = (mean.square() + variance - 1 - variance.clamp_min(1e-300).log()) / 2
        self._variance = self._variance + variance.sum(0).cpu()
        self._rate = self._rate + nats.mean((2, 3)).sum(0).cpu()

    def sample(self, autoencoder: Autoencoder, extractor: FeatureExtractorBase | None) -> LatentSample:
        whole = {name: torch.cat(self._parts.pop(name)) for name in list(self._parts)}
        raw, count = whole.pop("latents"), len(whole["labels"])
        shift, scale = channel_normalization(raw)
        model = NormalizedModel(autoencoder, shift, scale, whole["images"].device)
        noise = (self._variance / count * scale.double().square()).float()
        has_noise = bool((noise > 0).any())
        return LatentSample(
            raw.sub_(shift).mul_(scale),
            whole["images"].shape[-1],
            noise=noise if has_noise else None,
            rate=self._rate / count if has_noise else None,
            encode=model.encode,
            decode=model.decode,
            extract=None if extractor is None else partial(images_to_features, extractor=extractor),
            labels=whole["labels"],
            masks=whole.get("masks"),
            images=whole["images"],
            features=whole.get("features"),
            smallest_side=getattr(autoencoder, "smallest_latent_side", 1),  # of anything that encodes and decodes
        )


def channel_normalization(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / std [C, 1, 1] of each channel of [N, C, h, w]; where only rounding moves a channel, 0."""
    std, mean = torch.std_mean(latents, dim=(0, 2, 3), correction=0)
    alive = std > std.max() * DEAD
    scale = torch.where(alive, 1 / std.where(alive, 1), 0)
    return mean[:, None, None], scale[:, None, None]


class NormalizedModel:
    """An autoencoder between images and normalized latents; a quantizer counts as part of its decoder.

    Where raw latents are packed posteriors, encoding gives normalized posteriors, which transforms act on, and both are
    decoded.

    Args:
        shift, scale: [C, 1, 1], normalized = (raw - shift) * scale; a channel of scale 0 stays at its shift.
    """

    def __init__(self, autoencoder: Autoencoder, shift: Tensor, scale: Tensor, device: torch.device):
        self.autoencoder, self.shift, self.scale = autoencoder, shift.to(device), scale.to(device)
        self.to_posterior = getattr(autoencoder, "to_posterior", lambda latents: latents)  # of anything that decodes

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [-1, 1] to normalized posterior means."""
        mean = self.autoencoder.posterior(images).mean.float()
        shift, scale = pooled_channels(self.shift, self.scale, mean.shape[1])
        return (mean - shift) * scale

    def decode(self, latents: Tensor) -> Tensor:
        """Normalized latents or posteriors to images, not clamped; gradients pass, through a quantizer straight."""
        latents = latents.to(self.shift.device)
        shift, scale = pooled_channels(self.shift, self.scale, latents.shape[1])
        raw = latents * torch.where(scale > 0, 1 / scale.where(scale > 0, 1), 0) + shift
        if latents.shape[1] == len(self.shift):
            raw = self.to_posterior(raw)
        return self.autoencoder.transformed_decode(raw).images.float()


def pooled_channels(shift: Tensor, scale: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Shift and scale of so many channels [C, 1, 1], of which each is packed into neighbours of those [C p p, 1, 1]."""
    if len(shift) == channels:
        return shift, scale
    shift, scale = (each.view(channels, -1) for each in (shift, scale))
    mean, variance = shift.mean(1), torch.where(scale > 0, scale.where(scale > 0, 1).square().reciprocal(), 0).mean(1)
    variance = variance + shift.var(1, correction=0)
    pooled = torch.where(variance > 0, variance.where(variance > 0, 1).rsqrt(), 0)
    return mean[:, None, None], pooled[:, None, None]
