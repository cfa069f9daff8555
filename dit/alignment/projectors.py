"""Trained projectors in files: of our aligned runs, and of REPA's public checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dit.alignment.objective import create_layers
from dit.backbones.layers import linear
from dit.checkpoints import read_checkpoint
from dit.public.repa import PROJECTOR_PREFIX
from dit.public.weights import first_keys, public_weights
from eqvae.training.averaging import averaged_weights

PREFIX = "projector."


@dataclass(frozen=True)
class TrainedProjector:
    """A projector in evaluation mode.

    Args:
        network: from tokens [B, T, D] to [B, T, width].
        depth: block whose tokens it takes, from 1.
        encoder: that it was trained with; None where the file does not tell.
    """

    network: nn.Sequential
    depth: int
    encoder: str | None

    @property
    def width(self) -> int:
        """Channels it makes."""
        return linear(self.network, -1).out_features


def load_projector(
    path: str | Path, depth: int | None = None, ema_decay: float | None = None
) -> TrainedProjector | None:
    """The projector of a checkpoint, averaged as its generator; None without one, or where its depth is unknown.

    Args:
        path: `.ckpt` of stage 2, or a public checkpoint of REPA, of which the first projector is taken.
        depth: of a file that does not tell, as public ones (published: 8 for L and XL, 4 for B).
        ema_decay: as of `dit.checkpoints.load_generator`.

    Raises:
        ValueError: if the file is missing or damaged, or tells another depth.
    """
    checkpoint = read_checkpoint(path)
    if "generator" in checkpoint:
        weights = _below(averaged_weights(checkpoint, ema_decay), PREFIX)
    else:
        weights = _below(public_weights(checkpoint), PROJECTOR_PREFIX)
    about = checkpoint.get("alignment", {})
    if depth is not None and about.get("depth", depth) != depth:
        raise ValueError(f"checkpoint {path} was aligned at depth {about['depth']}, not {depth}: leave the depth out")
    depth = about.get("depth", depth)
    if not weights or depth is None:
        return None
    try:
        first, second, third = (weights[f"{number}.weight"] for number in (0, 2, 4))
        network = create_layers((first.shape[1], len(first), len(second), len(third)))
        network.load_state_dict({key: value.float() for key, value in weights.items()})
    except (KeyError, IndexError, RuntimeError):
        raise ValueError(
            f"checkpoint {path}: its projector is no three layers of REPA's: {first_keys(weights)}"
        ) from None
    return TrainedProjector(network.eval().requires_grad_(False), depth, about.get("encoder"))


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if str(key).startswith(prefix)}
