"""A fit that is killed with SIGKILL and resumed equals one that was left alone, bit for bit."""

import random
import signal
import subprocess
import sys

import pytest
import torch

from eqvae.training.checkpoints import load_checkpoint
from tests.reliability.runs import MAX_STEPS, create_run


def same(a, b) -> bool:
    """Equal trees of tensors and plain values, bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_killed_and_resumed_equals_undisturbed(stage, cache, tmp_path):
    whole = create_run(stage, tmp_path / "whole", cache)
    whole.trainer.fit(whole.model, whole.datamodule)

    step = random.randrange(3, MAX_STEPS)  # any step: the seed is not fixed on purpose
    command = [sys.executable, "-m", "tests.reliability.killed_fit", str(stage), str(tmp_path / "killed"), str(cache)]
    killed = subprocess.run(
        [*command, str(step), str(int(signal.SIGKILL))], capture_output=True, text=True, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]

    resumed = create_run(stage, tmp_path / "killed", cache)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    assert 0 < load_checkpoint(last)["global_step"] < MAX_STEPS, f"killed at {step}"
    resumed.trainer.fit(resumed.model, resumed.datamodule, ckpt_path=str(last))
    assert resumed.trainer.global_step == whole.trainer.global_step == MAX_STEPS

    expected, actual = (load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "killed"))
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states"):
        assert same(expected[part], actual[part]), f"{part} differs after a kill at step {step}"
    assert not same(expected["state_dict"], expected["current_model_state"]), "the average never moved"
