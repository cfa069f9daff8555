"""Equivariance regularization: the transforms, how a step draws one, and how far an autoencoder is from obeying them.

EQ-VAE (arXiv 2502.09509) asks that a transformed latent decodes to the transformed image,

    loss( D(T z), T x )   with   z ~ E(x)   in place of   loss( D(z), x ),

for T = scaling followed by a quarter turn. Nothing here trains: a step is drawn (`TransformDistribution.draw`), acted
out (`reconstruct`), and handed to whatever loss the module uses. `equivariance_errors` measures the result.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

QUARTER_TURNS = (1, 2, 3)
MEASURED_SCALES = (0.25, 0.5, 0.75)  # of the paper's equivariance error
Factor = float | Fraction


@dataclass(frozen=True)
class SpatialTransform:
    """Resize by (vertical, horizontal) factors, flip left to right if asked, then turn clockwise.

    Acts on any [B, C, H, W], images and latents alike, by the same call: no antialiasing, corners not aligned.

    Args:
        scale: (sy, sx). Floats as the released code takes them: the output has floor(sy * H) by floor(sx * W) pixels
            before it is turned, and a product that is rounded down, as 22 * (15 / 22), loses a row. Fractions are
            exact: sy * H must be whole. Where both make the same size, they make the same pixels.
        quarter_turns: clockwise turns of 90 degrees, any integer.
        interpolation: "bilinear" (as the released code) or "bicubic" (as the paper states).
        flip: left to right, before the turns.
    """

    scale: tuple[Factor, Factor] = (1.0, 1.0)
    quarter_turns: int = 0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, *output_size(H, W)].

        Raises:
            ValueError: where a fraction makes no whole number of pixels.
        """
        if self.scale != (1.0, 1.0):
            exact = all(isinstance(factor, Fraction) for factor in self.scale)
            grid = {"size": self._scaled_size(*x.shape[-2:])} if exact else {"scale_factor": self.scale}
            x = F.interpolate(x, **grid, mode=self.interpolation, align_corners=False)
        if self.flip:
            x = x.flip(-1)
        return x.rot90(self.quarter_turns % 4, dims=(-1, -2))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the transformed image of a height x width one."""
        size = self._scaled_size(height, width)
        return size if self.quarter_turns % 2 == 0 else size[::-1]

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        for side, factor in zip((height, width), self.scale, strict=True):
            if isinstance(factor, Fraction) and (side * factor).denominator != 1:
                raise ValueError(f"{factor} of {side} pixels is no whole number: use sides that it divides")
        return int(height * self.scale[0]), int(width * self.scale[1])

    def then(self, other: Self) -> Self:
        """The single transform equal to this one followed by `other` (exact on the grid; scaling resamples once)."""
        sy, sx = other.scale if self.quarter_turns % 2 == 0 else other.scale[::-1]
        scale = (self.scale[0] * sy, self.scale[1] * sx)
        # A flip after k turns is the flip followed by -k turns.
        turns = -self.quarter_turns if other.flip else self.quarter_turns
        quarter_turns = (turns + other.quarter_turns) % 4
        return SpatialTransform(scale, quarter_turns, self.interpolation, self.flip != other.flip)

    def inverse(self) -> Self:
        """Turns and flips back, then scales back: exact for turns and flips, up to resampling for scales."""
        sy, sx = self.scale if self.quarter_turns % 2 == 0 else self.scale[::-1]
        turns = self.quarter_turns if self.flip else -self.quarter_turns  # a flipped turn is its own inverse
        return SpatialTransform((1 / sy, 1 / sx), turns % 4, self.interpolation, self.flip)


class Draw(NamedTuple):
    """What one training step does: transform the latent, shrink the image (prior preservation), or neither."""

    kind: Literal["equivariance", "low_resolution", "plain"]
    transform: SpatialTransform


@dataclass(frozen=True)
class TransformDistribution:
    """How a training step draws its transform.

    Scales are fractions on the latent grid, k / side with side // 4 <= k < side, so that a scaled latent has k rows and
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
        for name in ("probability", "low_resolution_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    def draw(
        self, seed: int, step: int, latent_size: tuple[int, int], rank: int = 0, stream: str = "equivariance"
    ) -> Draw:
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

    def smallest_side(self, latent_size: tuple[int, int]) -> int:
        """Shorter side of the smallest latent that a step can draw; the image's is f times it.

        Raises:
            ValueError: for a latent that cannot be scaled down.
        """
        side = min(latent_size)
        scales = self.probability > 0 and self.scale != "none"
        shrinks = self.probability < 1 and self.low_resolution_probability > 0
        return int(_scale_grid(side)[0] * side) if scales or shrinks else side

    def _draw_scale(self, rng: random.Random, latent_size: tuple[int, int]) -> tuple[Factor, Factor]:
        if self.scale == "none":
            return (1.0, 1.0)
        if self.scale == "anisotropic":
            return (rng.choice(_scale_grid(latent_size[0])), rng.choice(_scale_grid(latent_size[1])))
        return _isotropic_scale(rng, latent_size)


PRESETS = {
    "paper": TransformDistribution(interpolation="bicubic", low_resolution_probability=0.0),
    "released": TransformDistribution(interpolation="bilinear", low_resolution_probability=0.25, critic="fresh"),
}  # EQ-VAE, section 3 and its released code, which differ


def choose_transforms(transforms: TransformDistribution | str | None) -> TransformDistribution:
    """A distribution as it is, a preset by its name, or for None the ordinary loss: no transforms at all.

    Raises:
        ValueError: for an unknown name.
    """
    if transforms is None:
        return TransformDistribution(probability=0.0, low_resolution_probability=0.0)
    if isinstance(transforms, str):
        if transforms not in PRESETS:
            raise ValueError(f"transforms {transforms!r} are no preset: use {', '.join(PRESETS)}, or their settings")
        return PRESETS[transforms]
    return transforms


def _scale_grid(side: int) -> list[Fraction]:
    if side < 2:
        raise ValueError(f"a latent of side {side} cannot be scaled down: use larger images or a smaller factor")
    return [Fraction(k, side) for k in range(max(1, side // 4), side)]


def _isotropic_scale(rng: random.Random, latent_size: tuple[int, int]) -> tuple[Fraction, Fraction]:
    factor = rng.choice(_scale_grid(min(latent_size)))
    height, width = latent_size
    return Fraction(round(height * factor), height), Fraction(round(width * factor), width)


class Reconstruction(NamedTuple):
    """One autoencoder forward pass: what was decoded, what it should equal, and what it came from."""

    images: Tensor  # [B, 3, h, w]
    target: Tensor  # [B, 3, h, w]
    latents: Tensor  # [B, C, h, w]: posterior sample or features, as encoded, untransformed
    posterior: object | None  # of a KL autoencoder
    codes: object | None  # of a VQ autoencoder, after the transform


def reconstruct(
    autoencoder, images: Tensor, draw: Draw, noise: Tensor | None = None, encoded: object | None = None
) -> Reconstruction:
    """Act a draw out in one forward pass of the autoencoder.

    A VQ autoencoder's features are transformed before they are quantized (EQ-VAE, section 3), and the decoder's
    gradient passes straight through the quantizer.

    Args:
        autoencoder: KL: `encode(images)` to a posterior; VQ: `features(images)` and `quantize(features)`. Both:
            `decode(latents)`.
        images: [B, 3, H, W] in [-1, 1].
        draw: what the step does.
        noise: standard normal, at least [B, C, H / f, W / f], for the posterior sample (the top-left corner is used
            when the input shrinks); None decodes the mean. A VQ autoencoder takes none.
        encoded: posterior or features of `images` where they are known, for a draw that does not shrink the input.
    """
    assert encoded is None or draw.kind != "low_resolution", "shrunken images have another posterior"
    target = images if draw.kind == "plain" else draw.transform(images)
    source = target if draw.kind == "low_resolution" else images
    if is_quantized(autoencoder):
        posterior, latents = None, autoencoder.features(source) if encoded is None else encoded
    else:
        posterior = autoencoder.encode(source) if encoded is None else encoded
        latents = posterior.mean
        if noise is not None:
            height, width = latents.shape[-2:]
            latents = latents + posterior.std * noise[..., :height, :width]
    decoded, codes = decode_transformed(autoencoder, latents, draw)
    assert decoded.shape == target.shape, f"decoded {tuple(decoded.shape)}, transformed image {tuple(target.shape)}"
    return Reconstruction(decoded, target, latents, posterior, codes)


def is_quantized(autoencoder) -> bool:
    """Whether the autoencoder has a codebook: its transforms act on features, before the quantizer."""
    return hasattr(autoencoder, "quantize")


def decode_transformed(autoencoder, latents: Tensor, draw: Draw) -> tuple[Tensor, object | None]:
    """Transform latents (or features) if the draw says so, quantize them if there is a codebook, and decode.

    Returns:
        Images [B, 3, h, w] and the codes of a VQ autoencoder, else None.
    """
    if draw.kind == "equivariance":
        latents = draw.transform(latents)
    if not is_quantized(autoencoder):
        return autoencoder.decode(latents), None
    codes = autoencoder.quantize(latents)
    straight_through = codes.features + (codes.latents - codes.features).detach()
    return autoencoder.decode(straight_through), codes


def measured_transforms(
    latent_size: tuple[int, int], scales: Sequence[float] = MEASURED_SCALES
) -> dict[str, SpatialTransform]:
    """The paper's probes, one at a time: turns of 90, 180, 270 degrees and the scales that fit the latent grid."""
    turns = {f"rotation {90 * k}": SpatialTransform(quarter_turns=k) for k in QUARTER_TURNS}
    side = math.gcd(*latent_size)  # what fits it fits both
    fitting = [s for s in scales if (side * s).is_integer()]
    return turns | {f"scale {s:.2f}": SpatialTransform((s, s)) for s in fitting}


@torch.no_grad()
def equivariance_errors(autoencoder, images: Tensor) -> dict[str, dict[str, Tensor]]:
    """How far latents are from transforming as images do, per probe, one value per image.

    Squared norms, with E the posterior mean (EQ-VAE, section 3): the latent error is
    ``(T E(x) - E(T x))^2 / E(T x)^2``, the decoded one ``(D(T E(x)) - T x)^2 / (T x)^2``, which training drives down.

    Args:
        images: [B, 3, H, W] in [-1, 1].

    Returns:
        {"latent": {probe: [B]}, "decoded": {probe: [B]}}, probes named as by `measured_transforms`.
    """
    latents = autoencoder.encode(images).mean
    errors: dict[str, dict[str, Tensor]] = {"latent": {}, "decoded": {}}
    for name, transform in measured_transforms(tuple(latents.shape[-2:])).items():
        transformed_image, transformed_latents = transform(images), transform(latents)
        expected = autoencoder.encode(transformed_image).mean
        errors["latent"][name] = _relative_square(transformed_latents, expected)
        errors["decoded"][name] = _relative_square(autoencoder.decode(transformed_latents), transformed_image)
    return errors


def _relative_square(actual: Tensor, expected: Tensor) -> Tensor:
    difference = (actual.float() - expected.float()).flatten(1).square().sum(1)
    return difference / expected.float().flatten(1).square().sum(1).clamp_min(1e-12)
