"""Scale equivariance: smaller latents decode to smaller images, in every step beside the ordinary loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from eqvae.autoencoders import Term
from eqvae.ranges import require_choice
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, Passes, Size, StepKey

NAME = "scale_equivariance"


def shrink(x: Tensor, size: Size) -> Tensor:
    """Means of blocks, [B, C, H, W] to [B, C, *size]; where sides halve, that is bilinear resizing.

    By 4 it is that twice over: bilinear resizing in one step would read 4 of 16 pixels.
    """
    return F.adaptive_avg_pool2d(x, size)


@dataclass(frozen=True)
class SmallerDecoded(Action):
    """Adds the distance of the decoded smaller latent from the smaller image."""

    factor: int
    smallest: int
    weight: float
    target: Literal["image", "reconstruction"]

    def terms(self, step: Pass) -> list[Term]:
        result = step.result
        height, width = (max(side // self.factor, min(side, self.smallest)) for side in result.latents.shape[-2:])
        decoded = step.autoencoder.transformed_decode(shrink(result.latents, (height, width))).images
        whole = result.encoded
        if self.target == "reconstruction":
            whole = step.autoencoder.transformed_decode(result.latents).images
        height, width = decoded.shape[-2:]
        return [Term(NAME, step.distance(decoded, shrink(whole, (height, width))), self.weight)]


class ScaleEquivariance(LatentRegularizer):
    """``weight d(D(T z), T x)`` beside ``d(D(z), x)`` in every step.

    T shrinks by a whole factor, d is the loss of reconstruction.

    Source: "Improving the diffusability of autoencoders", arXiv 2502.14831. Where EQ-VAE puts the transformed
    reconstruction in place of the plain one, here both are in each step. The critic sees plain pairs alone.

    Args:
        factors: of which each step draws one; sides that they do not divide are rounded down.
        weight: alpha; 0.25 in the paper.
        target: what the smaller image is made of: the "image", or its "reconstruction" D(z), with gradient.

    Raises:
        ValueError: for factors that do not shrink, or another target.
    """

    name = NAME

    def __init__(
        self,
        factors: Sequence[int] = (2, 4),
        weight: float = 0.25,
        target: Literal["image", "reconstruction"] = "image",
    ):
        super().__init__()
        if not factors or min(factors) < 2:
            raise ValueError(f"{NAME}: factors {list(factors)} do not shrink: give whole numbers of at least 2")
        require_choice(f"{NAME}: target", target, ("image", "reconstruction"))
        self.factors, self.weight = tuple(factors), weight
        self.target: Literal["image", "reconstruction"] = target

    def draw(self, key: StepKey) -> SmallerDecoded:
        factor = key.generator(NAME).choice(self.factors)
        return SmallerDecoded(factor, self.smallest_side(key.latent_size), self.weight, self.target)

    def smallest_side(self, latent_size: Size) -> int:
        return max(min(latent_size) // max(self.factors), 1)

    def smallest_shown(self, latent_size: Size) -> int:
        return min(latent_size)

    def extra_passes(self) -> Passes:
        return Passes(decoder=1.0 if self.target == "image" else 2.0)
