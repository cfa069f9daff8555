"""The alignment term of REPA: a projector on the tokens of one block, and the cosine with the encoder's features."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit.alignment.encoders import Encoder
from dit.backbones.transformer import DiT


def cosine_alignment(projected: Tensor, targets: Tensor) -> Tensor:
    """Mean cosine over tokens, [B], of projected tokens and features [B, T, z]; in float32 whatever their type."""
    return (F.normalize(projected.float(), dim=-1) * F.normalize(targets.float(), dim=-1)).sum(-1).mean(-1)


@contextmanager
def tokens_after(backbone: DiT, depths: list[int]) -> Iterator[dict[int, Tensor]]:
    """Collects the tokens [B, T, D] that leave blocks `depths` (from 1) in the forward pass made inside."""
    backbone.kept_depths = tuple(depths)
    try:
        yield backbone.kept_tokens
    finally:
        backbone.kept_depths, backbone.kept_tokens = (), {}


def create_layers(sizes: tuple[int, int, int, int]) -> nn.Sequential:
    """Linear-SiLU-Linear-SiLU-Linear of these widths."""
    first, second, third = (nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), third)


class Alignment:
    """How a generator is aligned; loss = denoising loss - coefficient * mean cosine.

    Args:
        encoder: gives the targets; with a feature cache it is opened once, to compare its weights.
        depth: block whose tokens are projected, counted from 1; published: 8 for L and XL, 4 for B.
        coefficient: of the alignment term; published: 0.5.
        projector_width: hidden width of the projector; published: 2048.

    Raises:
        ValueError: if depth or width is not positive or the coefficient negative.
    """

    def __init__(self, encoder: Encoder, depth: int = 8, coefficient: float = 0.5, projector_width: int = 2048):
        if depth < 1 or projector_width < 1 or coefficient < 0:
            raise ValueError("alignment: depth and projector_width must be positive, coefficient not negative")
        self.encoder, self.depth, self.coefficient = encoder, depth, coefficient
        self.projector_width = projector_width

    def create_projector(self, backbone: nn.Module, seed: int) -> nn.Sequential:
        """Linear-SiLU-Linear-SiLU-Linear from the tokens' width to the features', keys as the public `projectors.0`.

        Raises:
            ValueError: if the backbone has fewer blocks than `depth`, or does not keep their tokens.
        """
        if not isinstance(backbone, DiT):
            raise ValueError(f"alignment is for DiT and SiT, not for {type(backbone).__name__}: set alignment to null")
        if self.depth > backbone.config["depth"]:
            raise ValueError(f"alignment.depth is {self.depth}, the backbone has {backbone.config['depth']} blocks")
        sizes = (backbone.config["hidden_size"], self.projector_width, self.projector_width, self.encoder.width)
        projector = create_layers(sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in projector:
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)
        return projector

    def description(self) -> dict[str, str | int]:
        """What a checkpoint says of its projector."""
        return {"encoder": self.encoder.name, "depth": self.depth}

    def targets(self, batch: dict[str, Tensor], grid: int) -> Tensor:
        """Features [B, grid * grid, width]: those of the batch, or the encoder's of its images."""
        return batch["features"] if "features" in batch else self.encoder(batch["image"], grid)

    def connect(self, data: Any, grid: int) -> None:
        """Make a `LatentDataModule` deliver targets: rows of its feature cache, or else images.

        Raises:
            ValueError: if it has neither, or features of another encoder, other weights, another grid or data set.
        """
        if data.features_folder is not None:
            data.features.require(data.cache, self.encoder.name, grid, self.encoder.width)
            data.features.require_fingerprint(self.encoder.fingerprint(grid))
            self.encoder.release()
        elif data.images is None:
            raise ValueError("alignment needs data.init_args.features (a feature cache) or data.init_args.images")
        data.reads_targets = True
