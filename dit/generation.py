"""Pictures from a trained generator: the same picture for the same index, whatever the batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import torch
from torch import Tensor

from dit.checkpoints import Generator
from dit.samplers import CountingModel, StochasticSettings, TokenSettings, guide, image_noise, sample, step_noise
from eqvae.autoencoders import Autoencoder
from eqvae.data.images import to_uint8
from eqvae.fixed_batches import map_rows, whole_batches
from eqvae.randomness import keyed_integers
from eqvae.ranges import require_number


@dataclass(frozen=True)
class SamplingSettings:
    """How pictures are sampled; written into every result.

    Args:
        sampler: a name of `dit.samplers.SAMPLERS`; null takes the objective's own ("heun", "ddpm", "halton").
        num_inference_steps: steps of the sampler.
        guidance_scale: of classifier-free guidance; 1 is none.
        guidance_channels: "all", or "first3" as the public DiT and SiT samplers do.
        guidance_interval: first and last time at which guidance acts, in the objective's time.
        timestep_spacing: of diffusion samplers, "linspace" or "leading" (`dit.samplers.sample`).
        timestep_shift: of the times of euler, heun and midpoint (LightningDiT: 0.3); 1 is none.
        stochastic: of "euler_maruyama" and "stochastic_heun"; null takes the published ones.
        seed: of starting noise, step noise and random labels.
        uint8_rule: "round", or "truncate" as the public samplers do.
        guidance_schedule: "constant", or "linear": the scale grows from 1 at t = 0 to guidance_scale at t = 1.
        tokens: of the samplers of masked tokens.

    Raises:
        ValueError: naming the number that is not finite or out of its range.
    """

    sampler: str | None = None
    num_inference_steps: int = 50
    guidance_scale: float = 1.0
    guidance_channels: Literal["all", "first3"] = "all"
    guidance_interval: tuple[float, float] = (0.0, 1000.0)
    timestep_spacing: Literal["linspace", "leading"] = "linspace"
    timestep_shift: float = 1.0
    stochastic: StochasticSettings | None = None
    seed: int = 0
    uint8_rule: Literal["round", "truncate"] = "round"
    guidance_schedule: Literal["constant", "linear"] = "constant"
    tokens: TokenSettings = field(default_factory=TokenSettings)

    def __post_init__(self):
        require_number("num_inference_steps", self.num_inference_steps, least=1)
        require_number("guidance_scale", self.guidance_scale, least=0)
        require_number("timestep_shift", self.timestep_shift, above=0)
        low, high = self.guidance_interval
        require_number("guidance_interval's low", low, least=0)
        require_number("guidance_interval's high", high, least=low)

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """The settings among options of a command line, those of tokens by their own names; others are ignored."""
        own, tokens = (
            {each.name: options[each.name] for each in fields(kind) if each.name in options}
            for kind in (cls, TokenSettings)
        )
        return cls(**own, tokens=TokenSettings(**tokens))


def choose_labels(indices: Tensor, num_classes: int, how: str, seed: int = 0) -> Tensor:
    """Labels [B] of image indices [B]: "balanced" (index modulo classes), "random", or a comma-separated list.

    Raises:
        ValueError: for a list with labels that the generator does not know.
    """
    if how == "balanced":
        return indices % num_classes
    if how == "random":
        return keyed_integers(indices, num_classes, seed=seed, stream="labels")
    try:
        listed = torch.tensor([int(label) for label in how.split(",")])
    except ValueError:
        raise ValueError(f"labels {how!r}: use balanced, random, or numbers separated by commas") from None
    if listed.min() < 0 or listed.max() >= num_classes:
        raise ValueError(f"labels {how}: this generator knows 0 to {num_classes - 1}")
    return listed[indices % len(listed)]


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


@torch.inference_mode()
def generate_latents(
    generator: Generator,
    indices: Tensor,
    labels: Tensor,
    settings: SamplingSettings,
    callback: Callable[[int, Tensor, float], None] | None = None,
    counter: CountingModel | None = None,
) -> Tensor:
    """Normalized latents [B, C, h, w], or tokens [B, h, w], of image indices [B] with labels [B].

    A counter stands in for the backbone.
    """
    device = next(generator.backbone.parameters()).device
    indices, labels = indices.to(device), labels.to(device)
    config = generator.backbone.config
    model = guide(
        counter or generator.backbone,
        labels,
        settings.guidance_scale,
        generator.num_classes if config["class_dropout_prob"] > 0 else None,
        settings.guidance_channels,
        settings.guidance_interval,
        settings.guidance_schedule,
    )
    shape = generator.spec.shape
    return sample(
        generator.objective,
        model,
        image_noise(indices, shape, settings.seed),
        settings.sampler or generator.default_sampler,
        settings.num_inference_steps,
        step_noise(indices, shape, settings.seed),
        callback,
        settings.stochastic,
        settings.timestep_spacing,
        timestep_shift=settings.timestep_shift,
        tokens=settings.tokens,
    )


def make_images(
    generator: Generator,
    autoencoder: Autoencoder,
    indices: Tensor,
    labels: Tensor,
    settings: SamplingSettings,
    batch_size: int = 100,
) -> tuple[Tensor, dict[str, float]]:
    """uint8 images [N, 3, H, W] of image indices [N] with labels [N], and what they cost.

    The autoencoder goes unchecked. On a processor an image is the same to the last bit for any N, where the first
    index is a multiple of `eqvae.fixed_batches.ROWS`.

    Args:
        batch_size: images at a time on an accelerator.

    Returns:
        Images, and `function_evaluations` and `network_passes` summed over them; guidance makes two passes in one
        evaluation.
    """
    device = next(generator.backbone.parameters()).device
    autoencoder = autoencoder.to(device)

    @torch.inference_mode()
    def make(indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        counter = CountingModel(generator.backbone)
        latents = generate_latents(generator, indices, labels, settings, counter=counter)
        images = to_uint8(generator.spec.decode(autoencoder, latents), settings.uint8_rule)
        costs = torch.tensor([counter.num_evaluations, counter.num_samples / len(indices)], dtype=torch.float64)
        return images, costs.expand(len(indices), 2)

    images, costs = map_rows(make, indices, labels, device=device, batch_size=batch_size)
    return images, dict(zip(("function_evaluations", "network_passes"), costs.sum(0).tolist(), strict=True))


def generate_images(
    generator: Generator,
    autoencoder: Autoencoder,
    labels: Tensor,
    settings: SamplingSettings,
    batch_size: int = 100,
) -> Iterator[Tensor]:
    """Batches uint8 [B, 3, H, W] of the images 0, 1, ... with labels [N].

    Args:
        batch_size: images at a time; rounded up to whole `eqvae.fixed_batches.ROWS` for the batches that come out.

    Raises:
        ValueError: if the autoencoder is not the one that made the generator's latents.
    """
    require_autoencoder(generator, autoencoder)
    for batch in torch.arange(len(labels)).split(whole_batches(batch_size)):
        yield make_images(generator, autoencoder, batch, labels[batch], settings, batch_size)[0]
