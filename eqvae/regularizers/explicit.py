"""The explicit latent loss: the ablation of EQ-VAE that collapses."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder, Term
from eqvae.equivariance import SpatialTransform
from eqvae.precision import at_least_float32
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, Passes, Size, StepKey
from eqvae.regularizers.equivariance import TransformDistribution, choose_transforms, draw_of
from eqvae.regularizers.measuring import require_trained_encoder

NAME = "explicit"


def explicit_error(
    autoencoder: Autoencoder, latents: Tensor, images: Tensor, transform: SpatialTransform, stop_gradient: bool = False
) -> Tensor:
    """|T E(x) - E(T x)|^2, summed over the latent, mean over the batch.

    Args:
        latents: posterior means E(x) [B, C, h, w].
        images: x [B, 3, H, W]; the transformed ones are encoded.
        stop_gradient: take E(T x) as a constant.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not stop_gradient):
        expected = autoencoder.posterior(transform(images)).mean
    difference = transform(at_least_float32(latents)) - at_least_float32(expected)
    return difference.square().sum() / len(images)


@dataclass(frozen=True)
class ExplicitError(Action):
    """Decodes images as they are, and adds the error of their latents under a transform."""

    transform: SpatialTransform
    weight: float
    stop_gradient: bool

    def terms(self, step: Pass) -> list[Term]:
        result = step.result
        where = (step.autoencoder, result.posterior.mean, result.encoded, self.transform)
        return [Term(NAME, explicit_error(*where, self.stop_gradient), self.weight)]


class ExplicitEquivariance(LatentRegularizer):
    """``weight |T E(x) - E(T x)|^2`` on posterior means in place of the transformed reconstruction; x is decoded.

    EQ-VAE, table 9: equivariance errors fall and so does everything else (rFID 118, gFID 141 at weight 0.1), since a
    smaller latent has a smaller error. It exists to show that. On a VQ autoencoder it acts on features.

    Args:
        transforms: how a step draws its transform: settings, or a preset, "paper" or "released".
        weight: lambda; 0.1 in the paper.
        stop_gradient: take E(T x) as a constant.

    Raises:
        ValueError: for transforms that every device draws for itself.
    """

    name, resizes = NAME, True

    def __init__(
        self,
        transforms: TransformDistribution | Literal["paper", "released"] = "paper",
        weight: float = 0.1,
        stop_gradient: bool = False,
    ):
        super().__init__()
        self.transforms, self.weight, self.stop_gradient = choose_transforms(transforms), weight, stop_gradient
        if not self.transforms.same_on_all_devices:
            raise ValueError("explicit: its term is one of all devices: leave transforms.same_on_all_devices true")

    @property
    def fresh_for_critic(self) -> bool:
        return self.transforms.critic == "fresh"

    def prepare(self, autoencoder: Autoencoder) -> None:
        require_trained_encoder(autoencoder, NAME)

    def draw(self, key: StepKey) -> Action:
        draw = draw_of(self.transforms, key)
        if draw.kind != "equivariance":
            return draw
        return ExplicitError(draw.transform, self.weight, self.stop_gradient)

    def smallest_side(self, latent_size: Size) -> int:
        return self.transforms.smallest_side(latent_size)

    def smallest_compared(self, latent_size: Size) -> int:
        """Of the steps that shrink the input: what an equivariance step transforms is encoded alone."""
        return replace(self.transforms, scale="none").smallest_side(latent_size)

    def extra_passes(self) -> Passes:
        return Passes(encoder=self.transforms.probability)

    def critic_passes(self) -> Passes:
        return self.transforms.critic_passes()
