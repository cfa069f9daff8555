"""Latents of which a part is hidden from the decoder: positions, or the last channels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqvae.autoencoders import Autoencoder
from eqvae.randomness import keyed_normal
from eqvae.ranges import require_number
from eqvae.regularizers.base import Action, LatentRegularizer, StepKey
from eqvae.regularizers.measuring import channel_statistics, require_no_codebook

POSITIONS, CHANNELS = "masking", "channel_masking"


@dataclass(frozen=True)
class MaskedPositions(Action):
    """Puts a token in the place of a share of the latent positions, the same of all images."""

    key: StepKey
    ratio: float
    block: int
    token: Tensor

    def on_latents(self, latents: Tensor) -> Tensor:
        return torch.where(self.hidden(*latents.shape[-2:]).to(latents.device, non_blocking=True), self.token, latents)

    def hidden(self, height: int, width: int) -> Tensor:
        """Which positions [height, width] are hidden."""
        rows, columns = (-(-side // self.block) for side in (height, width))
        count = math.floor(self.ratio * rows * columns + 1e-6)  # a whole number that rounding has put just below stays
        places = self.key.generator(f"{POSITIONS} places").sample(range(rows * columns), count)
        hidden = torch.zeros(rows * columns, dtype=torch.bool)
        hidden[places] = True
        whole = hidden.view(rows, columns).repeat_interleave(self.block, 0).repeat_interleave(self.block, 1)
        return whole[:height, :width]


class LatentMasking(LatentRegularizer):
    """LMR: decodes latents of which a learned token replaces a share of the positions, in all channels, to x.

    Source: SSVAE, arXiv 2512.05394. A step draws its share and positions, the same for all images. Of a VQ autoencoder
    features are replaced before they are quantized.

    Args:
        ratios: shares of hidden positions; of each the whole part is taken.
        probabilities: of each share in a step; 0.6, 0.1, 0.15, 0.15 in the paper at 512 pixels.
        block: side of the squares that are hidden, in latent pixels; 2 in the paper at 512 pixels.

    Raises:
        ValueError: for shares outside [0, 1], probabilities that are not one for each share and sum to 1, or a block
            below 1.
    """

    name = POSITIONS

    def __init__(
        self,
        ratios: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
        probabilities: Sequence[float] = (0.7, 0.1, 0.1, 0.1),
        block: int = 1,
    ):
        super().__init__()
        if not all(0 <= ratio <= 1 for ratio in ratios):
            raise ValueError(f"{POSITIONS}: ratios {list(ratios)} are no shares: give numbers in [0, 1]")
        if len(ratios) != len(probabilities) or min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6:
            raise ValueError(f"{POSITIONS}: probabilities {list(probabilities)}: give one for each ratio, in sum 1")
        require_number(f"{POSITIONS}: block", block, least=1)
        self.ratios, self.probabilities, self.block = tuple(ratios), tuple(probabilities), block

    def prepare(self, autoencoder: Autoencoder) -> None:
        """Make the token, [1, C, 1, 1], from standard normal values."""
        token = keyed_normal(torch.zeros(1), (autoencoder.posterior_channels, 1, 1), seed=0, stream=POSITIONS)
        self.token = nn.Parameter(token)

    def draw(self, key: StepKey) -> MaskedPositions:
        (ratio,) = key.generator(POSITIONS).choices(self.ratios, self.probabilities)
        return MaskedPositions(key, ratio, self.block, self.token)


@dataclass(frozen=True)
class MaskedChannels(Action):
    """Leaves the first channels, and puts their mean over the batch in the place of the others."""

    kept: int

    def on_latents(self, latents: Tensor) -> Tensor:
        if self.kept >= latents.shape[1]:
            return latents
        mean = channel_statistics(latents).mean.to(latents.dtype)
        return torch.cat((latents[:, : self.kept], mean[:, self.kept :].expand_as(latents[:, self.kept :])), dim=1)


class ChannelMasking(LatentRegularizer):
    """Decodes the first c channels of a latent, the others set to 0, to x; a step draws c for all images.

    Source: the structured latent space of DC-AE 1.5, arXiv 2508.00413. 0 is meant in normalized latents: raw ones get
    the channel's mean over the batch, so that nothing shifts.

    Args:
        kept: numbers of channels, of which each step draws one. None: 16, 20, 24 ... and all of more than 16 channels,
            1, 2 ... and all of fewer.

    Raises:
        ValueError: by `prepare`, for a VQ autoencoder, or numbers that it does not have.
    """

    name = CHANNELS

    def __init__(self, kept: Sequence[int] | None = None):
        super().__init__()
        self.given = None if kept is None else tuple(kept)
        self.kept: tuple[int, ...] = self.given or ()

    def prepare(self, autoencoder: Autoencoder) -> None:
        require_no_codebook(autoencoder, CHANNELS, "its generators predict codes, whose channels have no order")
        channels = autoencoder.posterior_channels
        if self.given is None:
            self.kept = (*range(16, channels, 4), channels) if channels > 16 else tuple(range(1, channels + 1))
        if not self.kept or not all(1 <= count <= channels for count in self.kept):
            raise ValueError(f"{CHANNELS}: kept {list(self.kept)}: give numbers in 1 ... {channels}")

    def draw(self, key: StepKey) -> MaskedChannels:
        return MaskedChannels(key.generator(CHANNELS).choice(self.kept))
