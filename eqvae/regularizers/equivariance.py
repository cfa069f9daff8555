"""Equivariance regularization of EQ-VAE (arXiv 2502.09509): how a step draws its transform, and what it does."""

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from torch import Tensor

from eqvae.equivariance import QUARTER_TURNS, Factor, SpatialTransform
from eqvae.ranges import require_choice
from eqvae.regularizers.base import Action, LatentRegularizer, Passes, Size, StepKey

NAME = "equivariance"
CHOICES = {
    "scale": ("none", "isotropic", "anisotropic"),
    "rotation": ("none", "quarter"),
    "interpolation": ("bilinear", "bicubic"),
    "critic": ("same", "fresh"),
}


@dataclass(frozen=True)
class Draw(Action):
    """What one training step does: transform the latent, shrink the image (prior preservation), or neither."""

    kind: Literal["equivariance", "low_resolution", "plain"]
    transform: SpatialTransform

    @property
    def changes_input(self) -> bool:
        return self.kind == "low_resolution"

    def on_images(self, images: Tensor) -> Tensor:
        return self.transform(images) if self.kind == "low_resolution" else images

    def on_latents(self, latents: Tensor) -> Tensor:
        return self.transform(latents) if self.kind == "equivariance" else latents

    def on_target(self, images: Tensor) -> Tensor:
        return self.transform(images) if self.kind == "equivariance" else images


@dataclass(frozen=True)
class TransformDistribution:
    """How a training step draws its transform.

    Scales are fractions on the latent grid, k / side with side / 4 <= k < side, so that a scaled latent has k rows and
    its scaled image f k (on a 32 x 32 latent: the released code's k / 32, k = 8 ... 31). On a latent that is not
    square, an isotropic scale lies on the grid of the shorter side and the longer takes the nearest whole size. A turn
    of an equivariance step is 90, 180 or 270 degrees, never none.

    Args:
        scale: "isotropic" (the paper's main model), "anisotropic" (each axis its own factor) or "none".
        rotation: "quarter" or "none".
        flip: flip every other equivariance step, too (in neither paper nor released code).
        interpolation: "bilinear" or "bicubic", the same for image and latent.
        probability: of an equivariance step; the others preserve the prior (p_alpha of the paper is 1 - this).
        low_resolution_probability: of shrinking the input image in a step that is no equivariance step
            (released code: 0.25, so 12.5 % of all steps; paper: 0).
        critic: "same" shows the critic the transformed images of the autoencoder's own pass; "fresh" draws a whole step
            of its own for it (equivariance, low resolution or plain, and the posterior sample), as the released code
            does in its second pass. It costs a decoder pass each step, and an encoder pass where either draw shrinks
            the input, both without gradients.
        same_on_all_devices: false lets every device draw its own transforms; the result then depends on their number.

    Raises:
        ValueError: for a word that is none of these, or a probability outside [0, 1].
    """

    scale: Literal["none", "isotropic", "anisotropic"] = "isotropic"
    rotation: Literal["none", "quarter"] = "quarter"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    probability: float = 0.5
    low_resolution_probability: float = 0.25
    flip: bool = False
    critic: Literal["same", "fresh"] = "same"
    same_on_all_devices: bool = True

    def __post_init__(self):
        for name, choices in CHOICES.items():
            require_choice(f"transforms: {name}", getattr(self, name), choices)
        for name in ("probability", "low_resolution_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    def draw(self, seed: int, step: int, latent_size: Size, rank: int = 0, stream: str = NAME) -> Draw:
        """The draw of a step: a function of (seed, step) alone, hence the same on every device and after a resume.

        Args:
            latent_size: (height, width) of the untransformed latent; scales are multiples of 1 / side.
            rank: of the device; matters only where devices draw their own.
            stream: name of the draws, another one for the critic's.
        """
        device = "" if self.same_on_all_devices or rank == 0 else f"/{rank}"
        rng = random.Random(f"{stream}/{seed}/{step}{device}")
        if rng.random() < self.probability:
            scale = self._draw_scale(rng, latent_size)
            quarter_turns = rng.choice(QUARTER_TURNS) if self.rotation == "quarter" else 0
            flip = self.flip and rng.random() < 0.5
            return Draw("equivariance", SpatialTransform(scale, quarter_turns, self.interpolation, flip))
        if rng.random() < self.low_resolution_probability:
            return Draw("low_resolution", SpatialTransform(_isotropic_scale(rng, latent_size), 0, self.interpolation))
        return Draw("plain", SpatialTransform())

    def critic_passes(self) -> Passes:
        """Of a step: the decoder's, and the encoder's where one of the two draws shrinks the input."""
        if self.critic == "same":
            return Passes()
        shrinks = (1 - self.probability) * self.low_resolution_probability
        return Passes(encoder=1 - (1 - shrinks) ** 2, decoder=1.0)

    def smallest_side(self, latent_size: Size) -> int:
        """Shorter side of the smallest latent that a step can draw; the image's is f times it.

        Raises:
            ValueError: for a latent that cannot be scaled down.
        """
        side = min(latent_size)
        scales = self.probability > 0 and self.scale != "none"
        shrinks = self.probability < 1 and self.low_resolution_probability > 0
        return int(_scale_grid(side)[0] * side) if scales or shrinks else side

    def _draw_scale(self, rng: random.Random, latent_size: Size) -> tuple[Factor, Factor]:
        if self.scale == "none":
            return (1.0, 1.0)
        if self.scale == "anisotropic":
            return (rng.choice(_scale_grid(latent_size[0])), rng.choice(_scale_grid(latent_size[1])))
        return _isotropic_scale(rng, latent_size)


PRESETS = {
    "paper": TransformDistribution(interpolation="bicubic", low_resolution_probability=0.0),
    "released": TransformDistribution(interpolation="bilinear", low_resolution_probability=0.25, critic="fresh"),
}  # EQ-VAE, section 3 and its released code, which differ


class Equivariance(LatentRegularizer):
    """loss( D(T z), T x ) in place of loss( D(z), x ) in the steps that draw it, for T = scaling and a quarter turn.

    Source: EQ-VAE, arXiv 2502.09509. It costs no pass; with the critic of the released code it does, without gradients:
    see `TransformDistribution.critic`.

    Args:
        transforms: how a step draws its transform: settings, or a preset, "paper" or "released".
    """

    name, resizes = NAME, True

    def __init__(self, transforms: TransformDistribution | Literal["paper", "released"] = "paper"):
        super().__init__()
        self.transforms = choose_transforms(transforms)

    @property
    def fresh_for_critic(self) -> bool:
        return self.transforms.critic == "fresh"

    def describe(self) -> str:
        settings = ("scale", "rotation", "interpolation", "probability", "low_resolution_probability")
        told = [f"{name.replace('_', ' ')} {getattr(self.transforms, name)}" for name in settings]
        told += ["flips in half of them"] if self.transforms.flip else []
        told += ["a pass of the critic's own"] if self.fresh_for_critic else []
        return f"{self.name}: {', '.join(told)}"

    def draw(self, key: StepKey) -> Draw:
        return draw_of(self.transforms, key)

    def smallest_side(self, latent_size: Size) -> int:
        return self.transforms.smallest_side(latent_size)

    def critic_passes(self) -> Passes:
        return self.transforms.critic_passes()


def draw_of(transforms: TransformDistribution, key: StepKey) -> Draw:
    """The draw of a step's key."""
    return transforms.draw(key.seed, key.step, key.latent_size, key.rank, key.stream or NAME)


def choose_transforms(transforms: TransformDistribution | str) -> TransformDistribution:
    """A distribution as it is, or a preset by its name.

    Raises:
        ValueError: for an unknown name.
    """
    if not isinstance(transforms, str):
        return transforms
    if transforms not in PRESETS:
        raise ValueError(f"transforms {transforms!r} are no preset: use {', '.join(PRESETS)}, or their settings")
    return PRESETS[transforms]


def _scale_grid(side: int) -> list[Fraction]:
    if side < 2:
        raise ValueError(f"a latent of side {side} cannot be scaled down: use larger images or a smaller factor")
    return [Fraction(k, side) for k in range(-(-side // 4), side)]  # from a quarter on, never below


def _isotropic_scale(rng: random.Random, latent_size: Size) -> tuple[Fraction, Fraction]:
    factor = rng.choice(_scale_grid(min(latent_size)))
    height, width = latent_size
    return Fraction(round(height * factor), height), Fraction(round(width * factor), width)
