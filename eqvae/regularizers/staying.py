"""Latents that stay close to those that training started from."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder, Term
from eqvae.efficientnet import FrozenNetwork
from eqvae.precision import at_least_float32
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, Passes, StepKey
from eqvae.regularizers.measuring import require_trained_encoder

NAME = "stay_close"


@dataclass(frozen=True)
class Distance(Action):
    """Adds the squared distance of posterior means from those of the start."""

    start: FrozenNetwork
    weight: float

    def terms(self, step: Pass) -> list[Term]:
        result = step.result
        expected = self._expected(result.encoded)
        return [Term(NAME, (at_least_float32(result.posterior.mean) - expected).square().mean(), self.weight)]

    @torch.no_grad()
    def _expected(self, images: Tensor) -> Tensor:
        return at_least_float32(self.start.on(images.device).posterior(images).mean)


class StayClose(LatentRegularizer):
    """``mean |E(x) - E_start(x)|^2``, the loss of semantic preservation of AlignTok, arXiv 2509.25162.

    There the start is a pretrained encoder; here the one of the fine-tuning, as a control of how far others may move.
    The start is what the config's `autoencoder` gives, also after a resume. Of a VQ autoencoder features are compared.

    Args:
        weight: 1 in the paper, beside a reconstruction loss that is a mean over pixels.

    Raises:
        ValueError: by `prepare`, for an encoder that does not train.
    """

    name = NAME

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def prepare(self, autoencoder: Autoencoder) -> None:
        require_trained_encoder(autoencoder, NAME)
        self.start = FrozenNetwork(copy.deepcopy(autoencoder))

    def draw(self, key: StepKey) -> Distance:
        return Distance(self.start, self.weight)

    def extra_passes(self) -> Passes:
        return Passes(encoder=1.0)
