"""Alignment of latents with the features of a foundation model that is frozen."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqvae.autoencoders import Autoencoder, Term
from eqvae.foundation import EfficientNetMap, FeatureEncoder
from eqvae.precision import at_least_float32
from eqvae.randomness import keyed_uniform
from eqvae.ranges import require_number
from eqvae.regularizers.base import Action, LatentRegularizer, Pass, StepKey
from eqvae.regularizers.measuring import require_trained_encoder

NAME = "alignment"
LARGEST_GRID = 16


def cosine_margin(projected: Tensor, features: Tensor, margin: float) -> Tensor:
    """mcos: ``relu(1 - margin - cos)`` of tokens of one place, both [B, N, width]; a mean."""
    return (1 - margin - F.cosine_similarity(projected, features, dim=-1)).relu().mean()


def similarity_margin(projected: Tensor, features: Tensor, margin: float) -> Tensor:
    """mdms: ``relu(|cos(z_i, z_j) - cos(F_i, F_j)| - margin)`` over all pairs of an image's tokens; a mean."""
    ours, theirs = (F.normalize(tokens, dim=-1, eps=1e-6) for tokens in (projected, features))
    return ((ours @ ours.mT - theirs @ theirs.mT).abs() - margin).relu().mean()


@dataclass(frozen=True)
class Aligned(Action):
    """Adds both margins between projected latents and features."""

    encoder: FeatureEncoder
    projection: Tensor
    grid: int
    weight: float
    margins: tuple[float, float]

    def terms(self, step: Pass) -> list[Term]:
        result = step.result
        features = self.encoder(result.encoded, self.grid)
        with torch.autocast(features.device.type, enabled=False):
            projected = F.conv2d(at_least_float32(result.latents), self.projection)
            tokens = F.adaptive_avg_pool2d(projected, self.grid).flatten(2).transpose(1, 2)
            cosine = cosine_margin(tokens, features, self.margins[0])
            similarity = similarity_margin(tokens, features, self.margins[1])
        logged = [Term("alignment_mcos", cosine.detach()), Term("alignment_mdms", similarity.detach())]
        return [Term(NAME, cosine + similarity, self.weight, adaptive=True), *logged]


class FoundationAlignment(LatentRegularizer):
    """VF loss: latents lie where features of a frozen network lie, place by place and pair by pair.

    ``relu(1 - m1 - cos(F, W z))`` of each place and ``relu(|cos(z_i, z_j) - cos(F_i, F_j)| - m2)`` of all pairs of
    places, for features F and a projection W that trains with the autoencoder.

    Source: VA-VAE, arXiv 2501.01423. Its weight is adaptive: it follows the gradients of reconstruction and of this
    term at the encoder's last convolution. Its code gives images to DINOv2 without ImageNet's mean and deviation; here
    each encoder normalizes as it was trained. W is not exported. The passes of the foundation model are not counted in
    `extra_passes`.

    Args:
        encoder: of the features; None: `EfficientNetMap`. In YAML `class_path: dit.alignment.Encoder` with
            `init_args: {name: dinov2_large}` is the paper's.
        weight: 0.1 in the paper, times the adaptive weight.
        cosine_margin: m1; 0.5 in the paper.
        similarity_margin: m2; 0.25 in the paper.
        grid: side in features; latents are averaged to it. None: that of the latents of whole images, at most 16.

    Raises:
        ValueError: for a grid below 1; by `prepare`, for an encoder that does not train.
    """

    name = NAME
    adaptive = True

    def __init__(
        self,
        encoder: FeatureEncoder | None = None,
        weight: float = 0.1,
        cosine_margin: float = 0.5,
        similarity_margin: float = 0.25,
        grid: int | None = None,
    ):
        super().__init__()
        self.encoder = EfficientNetMap() if encoder is None else encoder
        require_number(f"{NAME}: grid", 1 if grid is None else grid, least=1)
        self.weight, self.grid = weight, grid
        self.margins = (cosine_margin, similarity_margin)

    def prepare(self, autoencoder: Autoencoder) -> None:
        """Make the projection [width, C, 1, 1], uniform as that of a new convolution."""
        require_trained_encoder(autoencoder, NAME)
        channels, width = autoencoder.posterior_channels, self.encoder.width
        uniform = keyed_uniform(torch.zeros(1), (width, channels, 1, 1), seed=0, stream=NAME)[0]
        self.projection = nn.Parameter((2 * uniform - 1) / channels**0.5)

    def draw(self, key: StepKey) -> Aligned:
        grid = self.grid or min(LARGEST_GRID, *key.latent_size)
        return Aligned(self.encoder, self.projection, grid, self.weight, self.margins)
