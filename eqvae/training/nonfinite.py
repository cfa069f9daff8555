"""What happens when a loss or a gradient is not finite: stop before the update, or skip it and count."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from safetensors.torch import save
from torch import Tensor, nn

from eqvae.files import write_atomically
from eqvae.processes import in_turns, true_in_all_processes

OnNonFinite = Literal["stop", "skip"]
MAXIMUM_IDS = 16


class FiniteGuard:
    """Decides before every optimizer step whether its losses and gradients are fit for an update.

    All processes decide alike, since one that alone stopped or skipped would leave the others waiting, and name the
    samples of all. What batch normalization measured of a skipped step is forgotten, too. The step's batches are
    written to `nonfinite/step=NNNNNNN-rank=R.safetensors` in the trainer's root folder. With loss scaling (precision
    16-mixed) gradients are left to the scaler, which leaves updates out and halves its scale until they are finite; at
    a scale of 1 they would not be finite without it either, and are judged here.

    Args:
        on_nonfinite: "stop" raises, "skip" leaves the update out and counts it in `num_skipped`.
    """

    def __init__(self, on_nonfinite: OnNonFinite = "stop"):
        if on_nonfinite not in ("stop", "skip"):
            raise ValueError(f"on_nonfinite {on_nonfinite!r} is unknown: use stop or skip")
        self.on_nonfinite, self.num_skipped = on_nonfinite, 0
        self._watched: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        self._measured: list[Tensor] = []
        self._kept: list[Tensor] = []

    def begin(self, network: nn.Module) -> None:
        """Find the statistics that forward passes of a network change, before its first step."""
        layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        self._measured = [buffer for layer in layers for buffer in layer.buffers()]
        self._kept = [buffer.clone() for buffer in self._measured]

    def watch(self, batch: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
        """Remember a batch of the coming step and its losses, scalars or per sample [B]."""
        self._watched.append((batch, {name: value.detach() for name, value in terms.items()}))

    def accepts(self, module: Any, norms: Iterable[Tensor]) -> bool:
        """Whether to update with gradients of these norms (`Gradients.measure`); forgets the watched batches.

        Raises:
            ValueError: if not, and `on_nonfinite` is "stop", with the step, the sample ids and the file of the batch.
        """
        watched, self._watched = self._watched, []
        totals = [value.sum() for _, terms in watched for value in terms.values()]
        scaler = loss_scaler(module.trainer)
        if scaler is None or scaler.get_scale() <= 1:
            totals += norms
        finite = torch.stack([total.float() for total in totals]).isfinite().all()
        if true_in_all_processes(finite):  # the one wait for the device in a step
            if self._kept and self.on_nonfinite == "skip":
                torch._foreach_copy_(self._kept, self._measured)
            return True
        message = self._report(module, watched)
        if self.on_nonfinite == "stop":
            raise ValueError(f"{message}: lower the learning rate, use bf16, or set on_nonfinite to skip")
        if self._kept:
            torch._foreach_copy_(self._measured, self._kept)
        self.num_skipped += 1
        rank_zero_warn(f"{message}: update skipped, {self.num_skipped} so far")
        return False

    def _report(self, module: Any, watched: list[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> str:
        """Say what is wrong with the batches of all processes, and write those of this one."""
        step, folder = module.global_step, Path(module.trainer.default_root_dir) / "nonfinite"
        path = folder / f"step={step:07d}-rank={module.global_rank}.safetensors"
        names = sorted({name for _, terms in watched for name, value in terms.items() if not value.isfinite().all()})
        ids = torch.cat([batch["index"].cpu() for batch, _ in watched])
        bad = torch.cat([_bad_samples(batch, terms).cpu() for batch, terms in watched])
        found = in_turns([_Found(names, (ids[bad] if bad.any() else ids).tolist(), path)])
        write_atomically(path, save(_one_batch([batch for batch, _ in watched])))
        found = [each for each in found if each.names] or found  # a gradient is that of all
        names = sorted({name for each in found for name in each.names})
        what = f"{', '.join(names)} is not finite" if names else "a gradient is not finite"
        listed = [sample for each in found for sample in each.samples]
        samples = ", ".join(map(str, listed[:MAXIMUM_IDS])) + (" ..." if len(listed) > MAXIMUM_IDS else "")
        return f"{what} at step {step} (samples {samples}; batch saved as {found[0].path})"


class _Found(NamedTuple):
    """What one process has to say of a step: losses that are not finite, samples to look at, and where they are."""

    names: list[str]
    samples: list[int]
    path: Path


def loss_scaler(trainer: Any) -> torch.amp.GradScaler | None:
    """What scales the loss of a run in float16 (precision 16-mixed); None for any other run."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _bad_samples(batch: dict[str, Tensor], terms: dict[str, Tensor]) -> Tensor:
    """Which samples [B] have a loss of their own that is not finite."""
    bad = torch.zeros_like(batch["index"], dtype=torch.bool)
    for value in terms.values():
        if value.shape == bad.shape:
            bad |= ~value.isfinite()
    return bad


def _one_batch(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    tensors = {name for batch in batches for name, value in batch.items() if isinstance(value, Tensor)}
    return {name: torch.cat([batch[name] for batch in batches]).cpu().contiguous() for name in sorted(tensors)}
