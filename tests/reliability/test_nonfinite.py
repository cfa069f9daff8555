"""A loss or gradient that is not finite: the run stops before the update or skips it, and keeps the batch."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from tests.reliability.runs import create_run, run_settings
from tests.tiny import FLOAT16, stage_one, stage_two

STEP, MAX_STEPS = 3, 8


class Poison(Callback):
    """At one step makes the input or a gradient infinite; keeps the weights from before that step."""

    def __init__(self, what: str):
        self.what, self.before, self.after = what, None, None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == STEP:
            if self.before is None:
                self.before = weights(module)
            if self.what == "loss":
                batch["image" if "image" in batch else "latents"][1] = float("inf")
        elif trainer.global_step == STEP + 1 and self.after is None:
            self.after = weights(module)

    def on_after_backward(self, trainer, module):
        if trainer.global_step == STEP and self.what == "gradient":
            next(p for p in module.parameters() if p.grad is not None).grad.view(-1)[0] = float("nan")


def weights(module) -> dict:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def equal(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.reliability(8, counts="stops in 1 process")
@pytest.mark.parametrize(("stage", "what"), [(1, "loss"), (1, "gradient"), (2, "loss"), (2, "gradient")])
def test_stops_before_the_update(stage, what, cache, tmp_path):
    poison = Poison(what)
    run = create_run(stage, tmp_path, cache, callbacks=[poison])
    expected = "a gradient is not finite" if what == "gradient" else "(loss|nll).* is not finite"
    with pytest.raises(ValueError, match=rf"{expected} at step {STEP} \(samples \d+.*batch saved as") as error:
        run.trainer.fit(run.model, run.datamodule)
    assert "\n" not in str(error.value)
    assert run.trainer.global_step == STEP
    assert equal(poison.before, weights(run.model))
    saved = load_file(tmp_path / "nonfinite" / f"step={STEP:07d}-rank=0.safetensors")
    for index in saved["index"].tolist() if what == "gradient" else []:
        assert str(index) in str(error.value)
    if stage == 2 and what == "loss":  # losses per sample tell which one it was
        assert f"(samples {saved['index'][1]};" in str(error.value)
        assert not saved["latents"][1].isfinite().any()


@pytest.mark.parametrize(("stage", "what"), [(1, "gradient"), (2, "loss")])
def test_skips_the_update_and_counts(stage, what, cache, tmp_path):
    poison = Poison(what)
    run = create_run(stage, tmp_path, cache, callbacks=[poison])
    run.model.guard.on_nonfinite = "skip"
    run.trainer.fit(run.model, run.datamodule)
    assert run.trainer.global_step == MAX_STEPS
    assert run.model.guard.num_skipped == 1
    assert equal(poison.before, poison.after)
    assert all(value.isfinite().all() for value in run.model.state_dict().values())


@pytest.mark.parametrize("moment", [0, STEP])
def test_a_skipped_step_leaves_the_critics_statistics(moment, tmp_path, monkeypatch):
    """Its batch norm has seen the broken batch: what it then had of it, no checkpoint could be written with."""
    monkeypatch.setattr("tests.reliability.test_nonfinite.STEP", moment)
    critic = {"model.init_args.adversarial": "{num_layers: 1, base_channels: 8}", "model.init_args.transforms": "null"}
    settings = run_settings(1, tmp_path) | critic | {"model.init_args.on_nonfinite": "skip"}
    run = stage_one(tmp_path, settings, callbacks=[Poison("loss")])
    run.trainer.fit(run.model, run.datamodule)
    assert run.model.guard.num_skipped == 1
    norm = run.model.critic.main[3]
    assert norm.num_batches_tracked > 0
    assert norm.running_mean.isfinite().all()
    assert norm.running_var.isfinite().all()


class BrokenGradient(Callback):
    """A gradient that is not a number from one step on, for some steps; keeps weights and loss scales."""

    def __init__(self, num_steps: int):
        self.num_steps, self.weights, self.scales = num_steps, [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.weights.append(weights(module))
        self.scales.append(trainer.precision_plugin.scaler.get_scale())

    def on_after_backward(self, trainer, module):
        if STEP <= trainer.global_step < STEP + self.num_steps:
            next(p for p in module.parameters() if p.grad is not None).grad.view(-1)[0] = float("nan")


def test_loss_scaling_tries_a_smaller_scale_first(cache, tmp_path):
    broken = BrokenGradient(num_steps=1)
    run = stage_two(tmp_path, cache, FLOAT16 | {"trainer.max_steps": MAX_STEPS}, callbacks=[broken])
    run.trainer.fit(run.model, run.datamodule)
    assert run.trainer.global_step == MAX_STEPS
    assert run.model.guard.num_skipped == 0
    assert equal(broken.weights[STEP], broken.weights[STEP + 1])
    assert not equal(broken.weights[STEP + 1], broken.weights[STEP + 2])
    assert broken.scales[STEP + 1] == broken.scales[STEP] / 2


def test_loss_scaling_does_not_hide_a_gradient_that_stays_broken(cache, tmp_path):
    """From 65,536 sixteen halvings lead to a scale of 1, at which the run stops instead of skipping for ever."""
    broken = BrokenGradient(num_steps=1000)
    run = stage_two(tmp_path, cache, FLOAT16 | {"trainer.max_steps": 40}, callbacks=[broken])
    with pytest.raises(ValueError, match=rf"a gradient is not finite at step {STEP + 16} \(samples"):
        run.trainer.fit(run.model, run.datamodule)
    assert broken.scales[-1] == 1
    assert equal(broken.weights[STEP], weights(run.model))


@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
def test_an_infinite_loss_is_found_under_loss_scaling(on_nonfinite, cache, tmp_path):
    poison = Poison("loss")
    run = stage_two(tmp_path, cache, FLOAT16 | {"trainer.max_steps": MAX_STEPS}, callbacks=[poison])
    run.model.guard.on_nonfinite = on_nonfinite
    if on_nonfinite == "stop":
        with pytest.raises(ValueError, match=rf"loss is not finite at step {STEP} \(samples \d+;"):
            run.trainer.fit(run.model, run.datamodule)
        assert equal(poison.before, weights(run.model))
        return
    run.trainer.fit(run.model, run.datamodule)
    assert run.trainer.global_step == MAX_STEPS
    assert run.model.guard.num_skipped == 1
    assert equal(poison.before, poison.after)
    assert not equal(poison.after, weights(run.model))
