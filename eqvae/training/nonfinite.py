"""What happens when a loss or a gradient is not finite: stop before the update, or skip it and count."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from safetensors.torch import save
from torch import Tensor, nn

from eqvae.files import write_atomically
from eqvae.processes import true_in_all_processes

OnNonFinite = Literal["stop", "skip"]
MAXIMUM_IDS = 16


class FiniteGuard:
    """Decides before every optimizer step whether its losses and gradients are fit for an update.

    All processes decide alike, since one that alone stopped or skipped would leave the others waiting. The step's
    batches are written to `nonfinite/step=NNNNNNN-rank=R.safetensors` in the trainer's root folder. With loss scaling
    (precision 16-mixed) gradients are left to the scaler, which leaves updates out and halves its scale until they are
    finite; at a scale of 1 they would not be finite without it either, and are judged here.

    Args:
        on_nonfinite: "stop" raises, "skip" leaves the update out and counts it in `num_skipped`.
    """

    def __init__(self, on_nonfinite: OnNonFinite = "stop"):
        if on_nonfinite not in ("stop", "skip"):
            raise ValueError(f"on_nonfinite {on_nonfinite!r} is unknown: use stop or skip")
        self.on_nonfinite, self.num_skipped = on_nonfinite, 0
        self._watched: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        self._statistics: list[Tensor] = []
        self._accepted: list[Tensor] = []

    def begin(self, module: nn.Module) -> None:
        """Know what the module's networks gather of what they see, batch norms above all, before the first step.

        A step that is skipped has gathered already, and leaves it as it was: statistics that are not finite would stay
        so, and no checkpoint be written any more.
        """
        if self.on_nonfinite == "skip":
            self._statistics = list(module.buffers())
            self._accepted = [each.clone() for each in self._statistics]

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
            _copy(self._statistics, self._accepted)
            return True
        message = self._report(module, watched)
        if self.on_nonfinite == "stop":
            raise ValueError(f"{message}: lower the learning rate, use bf16, or set on_nonfinite to skip")
        self.num_skipped += 1
        _copy(self._accepted, self._statistics)
        rank_zero_warn(f"{message}: update skipped, {self.num_skipped} so far")
        return False

    def _report(self, module: Any, watched: list[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> str:
        """Write the batches and say what is wrong with them."""
        names = sorted({name for _, terms in watched for name, value in terms.items() if not value.isfinite().all()})
        what = f"{', '.join(names)} is not finite" if names else "a gradient is not finite"
        ids = torch.cat([batch["index"].cpu() for batch, _ in watched])
        bad = torch.cat([_bad_samples(batch, terms).cpu() for batch, terms in watched])
        listed = (ids[bad] if bad.any() else ids).tolist()
        more = " ..." if len(listed) > MAXIMUM_IDS else ""
        step = module.global_step
        name = f"step={step:07d}-rank={module.global_rank}.safetensors"
        path = Path(module.trainer.default_root_dir) / "nonfinite" / name
        write_atomically(path, save(_one_batch([batch for batch, _ in watched])))
        samples = ", ".join(map(str, listed[:MAXIMUM_IDS]))
        return f"{what} at step {step} (samples {samples}{more}; batch saved as {path})"


@torch.no_grad()
def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)


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
