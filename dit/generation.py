"""Images from a trained generator: the same image for the same index, whatever the batch."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dit.backbones.interface import config_of
from dit.backbones.maskgit import MASKED
from dit.checkpoints import Generator
from dit.samplers import CountingModel, SamplingSettings, guide, image_noise, step_noise
from dit.samplers.sampler import Callback
from eqvae.autoencoders import Autoencoder
from eqvae.data.images import to_uint8
from eqvae.fixed_batches import map_rows, whole_batches
from eqvae.precision import ENCODING_PRECISIONS, at_least_float32, encoding


def require_autoencoder(generator: Generator, autoencoder: Autoencoder, allow_other: bool = False) -> None:
    """Refuse an autoencoder that did not make the generator's latents.

    Args:
        allow_other: accept one of the same latents, e.g. whose decoder alone was trained on; the latents keep the
            normalization that the generator was trained with. So it is where the generator does not know its own.

    Raises:
        ValueError: with both fingerprints, or where even the shape of the latents differs.
    """
    spec = generator.spec
    spec.require_format(autoencoder, "the generator")
    if not allow_other and spec.autoencoder_fingerprint is not None:
        spec.require_autoencoder(autoencoder, "the generator")


def require_guidable(backbone: nn.Module, guidance_scale: float) -> None:
    """Refuse to guide a generator that knows only labels.

    Raises:
        ValueError: with the scale that does not guide.
    """
    if guidance_scale != 1 and config_of(backbone)["class_dropout_prob"] == 0:
        raise ValueError(
            f"guidance_scale {guidance_scale:g} needs a generator that has also learned without labels, and this one "
            "was trained with class_dropout_prob 0: give guidance_scale 1"
        )


@torch.inference_mode()
def generate_latents(
    generator: Generator,
    indices: Tensor,
    labels: Tensor,
    settings: SamplingSettings,
    callback: Callback | None = None,
    counter: CountingModel | None = None,
) -> Tensor:
    """Normalized latents [B, C, h, w], or tokens [B, h, w], of image indices [B] with labels [B].

    A counter stands in for the backbone.
    """
    device = next(generator.backbone.parameters()).device
    indices, labels = indices.to(device), labels.to(device)
    config = config_of(generator.backbone)
    model = guide(
        _in_precision(counter or generator.backbone, generator.precision, device),
        labels,
        settings.guidance_scale,
        generator.num_classes if config["class_dropout_prob"] > 0 else None,
        settings.guidance_channels,
        settings.guided_times,
        settings.guidance_schedule,
    )
    sampler, shape = settings.sampler_for(generator.objective), generator.spec.shape
    return sampler(
        generator.objective,
        model,
        image_noise(indices, shape, settings.seed),
        settings.num_inference_steps,
        step_noise(indices, shape, settings.seed),
        callback,
        sampler.build_settings(settings.options),
    )


def _in_precision(model: Callable[..., Tensor], precision: str, device: torch.device) -> Callable[..., Tensor]:
    """The model itself in float32, else under autocast: what the sampler adds up is float32 all the same."""
    if precision == "float32":
        return model

    def call(*inputs: Any, **conditions: Any) -> Tensor:
        with torch.autocast(device.type, ENCODING_PRECISIONS[precision]):
            return at_least_float32(model(*inputs, **conditions))

    return call


class NotFiniteError(ValueError):
    """Samples of a generator that diverged, or of settings that it does not bear."""


def make_images(
    generator: Generator,
    autoencoder: Autoencoder,
    indices: Tensor,
    labels: Tensor,
    settings: SamplingSettings,
    batch_size: int = 100,
    callback: Callback | None = None,
    require_finite: bool = True,
) -> tuple[Tensor, dict[str, float]]:
    """uint8 images [N, 3, H, W] of image indices [N] with labels [N], and what they cost.

    The autoencoder goes unchecked. On a processor an image is the same to the last bit for any N, where the first
    index is a multiple of `eqvae.fixed_batches.ROWS`.

    Args:
        batch_size: images at a time on an accelerator.
        callback: told step, latents and time after each step of a batch, from several threads on a processor.
        require_finite: refuse values that are not; else they are black.

    Returns:
        Images, and `function_evaluations` and `network_passes` summed over them; guidance makes two passes in one
        evaluation.

    Raises:
        NotFiniteError: naming the first image that is not finite.
    """
    device = next(generator.backbone.parameters()).device
    autoencoder = autoencoder.to(device)

    @torch.inference_mode()
    def make(indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        counter = CountingModel(generator.backbone)
        latents = generate_latents(generator, indices, labels, settings, callback, counter)
        decoded = _decode(generator, autoencoder, latents)
        finite = decoded.isfinite().flatten(1).all(1)
        images = to_uint8(decoded, settings.uint8_rule)
        costs = torch.tensor([counter.num_evaluations, counter.num_samples / len(indices)], dtype=torch.float64)
        return images, costs.expand(len(indices), 2), finite

    # Of convolutions, too: by torch's own setting those of a GPU round to TF32.
    with encoding("float32", device):
        images, costs, finite = map_rows(make, indices, labels, device=device, batch_size=batch_size)
    if require_finite and not finite.all():
        first, sampler = int(indices[~finite][0]), settings.sampler or generator.default_sampler
        raise NotFiniteError(
            f"image {first} is not finite ({sampler}, guidance_scale {settings.guidance_scale:g}): it is not written; "
            "look whether the training diverged, or sample with less guidance or more steps into another --output"
        )
    return images, dict(zip(("function_evaluations", "network_passes"), costs.sum(0).tolist(), strict=True))


def _decode(generator: Generator, autoencoder: Autoencoder, generated: Tensor) -> Tensor:
    """Images [B, 3, H, W] of latents or tokens; NaN where a token could not be drawn."""
    if generated.is_floating_point():
        return generator.spec.decode(autoencoder, generated)
    lacking = generated == MASKED
    decoded = generator.spec.decode(autoencoder, generated.masked_fill(lacking, 0))
    return decoded.masked_fill(lacking.flatten(1).any(1).view(-1, 1, 1, 1), math.nan)


def generate_images(
    generator: Generator,
    autoencoder: Autoencoder,
    labels: Tensor,
    settings: SamplingSettings,
    batch_size: int = 100,
    first_batch: int = 0,
    every: int = 1,
    require_finite: bool = True,
) -> Iterator[Tensor]:
    """Batches uint8 [B, 3, H, W] of the images 0, 1, ... with labels [N].

    Args:
        batch_size: images at a time; rounded up to whole `eqvae.fixed_batches.ROWS` for the batches that come out.
        first_batch, every: of all batches only this one and every so many-th after it.
        require_finite: as of `make_images`.

    Raises:
        ValueError: if the autoencoder is not the one that made the generator's latents.
    """
    require_autoencoder(generator, autoencoder)
    for batch in torch.arange(len(labels)).split(whole_batches(batch_size))[first_batch::every]:
        given = (batch, labels[batch], settings, batch_size)
        yield make_images(generator, autoencoder, *given, require_finite=require_finite)[0]
