"""A step is one update of the trained network, however many optimizers, batches or workers make it."""

import csv

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from eqvae.training.averaging import ExponentialMovingAverage
from eqvae.training.checkpoints import load_checkpoint
from tests.reliability.test_processes import InFloat64, fit
from tests.tiny import stage_one, stage_two

CRITIC = {
    "model.init_args.adversarial": "eqvae.losses.AdversarialLoss",
    "model.init_args.adversarial.num_layers": 1,
    "model.init_args.adversarial.base_channels": 4,
}
MAX_STEPS, DECAY = 10, 0.9
CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"


class CountSteps(Callback):
    """Counts batches, and steps of each optimizer; averages the autoencoder's weights in float64."""

    def __init__(self):
        self.num_batches, self.updates, self.average, self.weights, self.step = 0, [], None, None, 0

    def on_train_start(self, trainer, module):
        self.updates = [0] * len(trainer.optimizers)
        for number, optimizer in enumerate(trainer.optimizers):
            optimizer.register_step_post_hook(lambda *_, at=number: self._count(at))
        self.average = {name: value.detach().double() for name, value in module.named_parameters()}

    def _count(self, optimizer: int) -> None:
        self.updates[optimizer] += 1

    def on_train_batch_end(self, trainer, module, *_):
        self.num_batches += 1
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            self.weights = {name: value.detach().clone() for name, value in module.named_parameters()}
            for name, value in self.weights.items():
                self.average[name] = DECAY * self.average[name] + (1 - DECAY) * value.double()


@pytest.mark.reliability(10)
def test_ten_steps_with_a_critic_are_ten_everywhere(tmp_path, reached):
    counted = CountSteps()
    settings = CRITIC | {
        "trainer.max_steps": MAX_STEPS,
        "trainer.log_every_n_steps": 1,
        "trainer.limit_val_batches": 0,
        "trainer.callbacks": "[]",
    }
    settings |= {"trainer.logger": f"{{class_path: {CSV_LOGGER}, init_args: {{save_dir: {tmp_path}}}}}"}
    callbacks = [counted, ModelCheckpoint(every_n_train_steps=5, save_top_k=-1, save_last=True)]
    run = stage_one(tmp_path, settings, callbacks=callbacks)
    run.trainer.fit(run.model, run.datamodule)
    (table,) = tmp_path.rglob("metrics.csv")
    with table.open() as file:
        logged = [int(row["step"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert run.trainer.global_step == MAX_STEPS
    assert counted.num_batches == MAX_STEPS
    assert counted.updates == [MAX_STEPS, MAX_STEPS]
    assert logged == list(range(MAX_STEPS))
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["epoch=0-step=0000005.ckpt", "epoch=0-step=0000010.ckpt", "last.ckpt"]
    assert load_checkpoint(tmp_path / "checkpoints" / saved[1])["global_step"] == MAX_STEPS
    reached.says(f"{counted.num_batches} steps, {len(logged)} in the log, {saved[1]}")


@pytest.mark.parametrize("stage", [1, 2])
def test_accumulated_batches_are_logged_as_steps(stage, cache, tmp_path):
    """Of both stages, and after a resume; of stage 1 every batch was a step for loggers, validations included."""
    key = "model.init_args.accumulate_batches" if stage == 1 else "trainer.accumulate_grad_batches"
    settings = {key: 2, "trainer.log_every_n_steps": 1, "trainer.max_steps": 4, "trainer.val_check_interval": 4}
    settings |= {"trainer.limit_val_batches": 1}
    settings |= {"trainer.logger": f"{{class_path: {CSV_LOGGER}, init_args: {{save_dir: {tmp_path}}}}}"}
    run = stage_one(tmp_path, settings) if stage == 1 else stage_two(tmp_path, cache, settings)
    run.trainer.fit(run.model, run.datamodule)
    (table,) = tmp_path.rglob("metrics.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    validated = "val/psnr" if stage == 1 else "val/loss"
    for name, steps in (("train/loss", [0, 1, 2, 3]), ("optimizer/learning_rate", [0, 1, 2, 3]), (validated, [1, 3])):
        assert [int(row["step"]) for row in rows if row.get(name)] == steps, name


class FailIn(Callback):
    """Raises in the middle of a validation."""

    def on_validation_batch_end(self, trainer, module, *_):
        if trainer.global_step == MAX_STEPS // 2:
            raise RuntimeError("in the validation")


@pytest.mark.reliability(9)
@pytest.mark.parametrize("fails", [pytest.param(False, marks=pytest.mark.reliability(9, long=True)), True])
def test_averages_of_a_run_with_critic_and_accumulation(fails, tmp_path, reached):
    """Also where a validation, in which the module has the averaged weights, ends in an error and is saved."""
    counted, path = CountSteps(), tmp_path / "end.ckpt"
    accumulated = 4
    settings = CRITIC | {
        "trainer.max_steps": MAX_STEPS,
        "trainer.limit_val_batches": 1,
        "trainer.val_check_interval": accumulated * MAX_STEPS // 2,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.callbacks": "[]",
        "model.init_args.accumulate_batches": accumulated,
    }
    saving = ModelCheckpoint(tmp_path, filename="end", every_n_train_steps=MAX_STEPS, save_on_exception=True)
    callbacks = [counted, ExponentialMovingAverage(DECAY), *([FailIn()] if fails else []), saving]
    run = stage_one(tmp_path, settings, callbacks=callbacks)
    if fails:
        with pytest.raises(RuntimeError, match="in the validation"):
            run.trainer.fit(run.model, run.datamodule)
        (path,) = tmp_path.glob("*end*.ckpt")
    else:
        run.trainer.fit(run.model, run.datamodule)
    checkpoint, steps = load_checkpoint(path), MAX_STEPS // 2 if fails else MAX_STEPS
    assert counted.updates == [steps, steps]
    assert checkpoint["averaging_state"]["n_averaged"] == 1 + steps, "the start counts as one"
    for name, value in counted.weights.items():
        assert torch.equal(checkpoint["current_model_state"][name], value), name
        expected = counted.average[name]
        difference = (checkpoint["state_dict"][name].double() - expected).abs() / expected.abs().clamp(min=1)
        assert difference.max() <= 1e-6, name  # each step rounds to float32, by 6e-8 of the value at most
        reached.largest("off float64", difference.max())
    reached.says(f"{accumulated} batches a step, critic, " + ("failed validation" if fails else "whole run"))


@pytest.mark.reliability(12)
@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.reliability(12, long=True)), 2])
def test_accumulation_changes_no_weight(stage, cache, tmp_path, times, reached):
    """One batch of 8 against four of 2, in float64 so that the order of sums does not count."""
    key = "model.init_args.accumulate_batches" if stage == 1 else "trainer.accumulate_grad_batches"
    common = {"model.init_args.learning_rate": 1e-4, "trainer.max_steps": times(5, 60)}
    one, four = (
        fit(stage, tmp_path / str(count), cache, 1, [InFloat64()], common | {key: count})["weights"] for count in (1, 4)
    )
    difference = max(float((four[name] - value).abs().max()) for name, value in one.items())
    assert difference <= 1e-6
    reached.largest("4 x 2 against 1 x 8", difference)


@pytest.mark.reliability(12)
@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.reliability(12, long=True)), 2])
def test_workers_change_no_bit(stage, cache, tmp_path, times, reached):
    counts = (0, 1, 4)[: times(2, 3)]
    runs = [
        fit(stage, tmp_path / str(count), cache, 1, overrides={"data.init_args.num_workers": count}) for count in counts
    ]
    for run in runs[1:]:
        assert run["losses"] == runs[0]["losses"]
        assert all(torch.equal(value, run["weights"][name]) for name, value in runs[0]["weights"].items())
    reached.count(f"worker counts in stage {stage} bit-equal", len(counts))
