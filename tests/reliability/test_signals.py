"""Real signals inside forward, backward, validation and save: a checkpoint at a step boundary, and an exact resume."""

import functools
import os
import signal
import time

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.signals import SaveOnSignal
from tests.reliability.isolation import FORK
from tests.reliability.runs import MAX_STEPS, create_run, last_checkpoint, require_same_training

STEP = 3
BETWEEN = {1: None, 2: 4}  # steps between validations; of an autoencoder one takes longer than its training
PLACES = ("forward", "backward", "validation", "save")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SHORT = [
    pytest.param(1, signal.SIGTERM, "forward", STEP, marks=pytest.mark.slow),
    pytest.param(1, signal.SIGINT, "backward", STEP, marks=pytest.mark.slow),
    (2, signal.SIGINT, "forward", STEP),
    (2, signal.SIGTERM, "backward", STEP),
    (2, signal.SIGINT, "validation", STEP),
    (2, signal.SIGTERM, "save", STEP),
    (2, signal.SIGUSR1, "forward", STEP),
]
LONG = [  # five of each signal in each place
    (1 if step == STEP else 2, number, place, step) for number in SIGNALS for place in PLACES for step in range(1, 6)
]


def pytest_generate_tests(metafunc):
    if "place" in metafunc.fixturenames:
        cases = LONG if metafunc.config.getoption("--reliability") else SHORT
        metafunc.parametrize(("stage", "number", "place", "step"), cases)


class SignalInside(Callback):
    """Sends this process a signal, once, in the middle of a part of a step; keeps when, and which steps are saved."""

    def __init__(self, number: int, place: str, step: int):
        self.number, self.place, self.step, self.sent, self.saved_at = number, place, step, 0.0, []

    def _send(self, trainer, place: str) -> None:
        if place == self.place and trainer.global_step >= self.step and not self.sent:
            self.sent = time.monotonic()
            os.kill(os.getpid(), self.number)

    def on_train_start(self, trainer, module):
        network = module.backbone.blocks[0] if hasattr(module, "backbone") else module.autoencoder.model.encoder
        # Forward of a training step: the one of a validation is another place.
        network.register_forward_hook(lambda *_: self._send(trainer, "forward") if trainer.training else None)
        network.register_full_backward_hook(lambda *_: self._send(trainer, "backward"))

    def on_validation_batch_start(self, trainer, *_):
        self._send(trainer, "validation")

    def on_save_checkpoint(self, trainer, *_):
        self.saved_at.append(trainer.global_step)
        self._send(trainer, "save")


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    """Function from a stage to the last checkpoint of a run that nothing interrupts."""

    @functools.cache
    def checkpoint_of(stage: int) -> dict:
        run = create_run(stage, tmp_path_factory.mktemp("whole"), cache, validate_at=BETWEEN[stage])
        run.trainer.fit(run.model, run.datamodule)
        return load_checkpoint(run.trainer.checkpoint_callback.last_model_path)

    return checkpoint_of


@pytest.mark.reliability(3, counts="signals")
def test_signal_saves_at_a_step_boundary_and_resumes_exactly(
    undisturbed, stage, number, place, step, cache, tmp_path, reached
):
    before, inside = signal.getsignal(number), SignalInside(number, place, step)
    # In a validation the module has the averaged weights; one at an odd step is where nothing was saved yet.
    validate_at = step if place == "validation" else BETWEEN[stage]
    boundary = {"validation": step, "save": step + step % 2}.get(place, step + 1)
    run = create_run(stage, tmp_path, cache, callbacks=[inside], validate_at=validate_at)
    if number == signal.SIGUSR1:
        run.trainer.fit(run.model, run.datamodule)
    else:
        with pytest.raises(SystemExit) as stop:
            run.trainer.fit(run.model, run.datamodule)
        reached.largest("seconds to the end", time.monotonic() - inside.sent)
        assert time.monotonic() - inside.sent < 30
        assert stop.value.code == 128 + number
        last = tmp_path / "checkpoints" / "last.ckpt"
        assert load_checkpoint(last)["global_step"] == boundary
        run = create_run(stage, tmp_path, cache, validate_at=validate_at)
        run.trainer.fit(run.model, run.datamodule, ckpt_path=str(last))
    assert boundary in inside.saved_at
    assert signal.getsignal(number) == before
    assert run.trainer.global_step == MAX_STEPS
    require_same_training(last_checkpoint(tmp_path), undisturbed(stage), f"signal inside {place} of step {step}")


def test_what_queues_a_job_again_is_told_once_the_step_is_saved(undisturbed, cache, tmp_path):
    """Submitit's own handler, which ends the process, has to find the newest step on disk."""
    last, found = tmp_path / "checkpoints" / "last.ckpt", []

    def queue_again(number, frame):
        found.append(load_checkpoint(last)["global_step"])
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, queue_again)
    try:
        run = create_run(2, tmp_path, cache, callbacks=[SignalInside(signal.SIGUSR2, "forward", 4)])
        with pytest.raises(SystemExit):
            run.trainer.fit(run.model, run.datamodule)
        assert signal.getsignal(signal.SIGUSR2) is queue_again
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert found == [5]
    run = create_run(2, tmp_path, cache)
    run.trainer.fit(run.model, run.datamodule, ckpt_path=str(last))
    require_same_training(last_checkpoint(tmp_path), undisturbed(2), "queued again after step 5")


class SlowValidation(Callback):
    """Takes its time, and is told to end in its second batch."""

    def __init__(self):
        self.num_batches = 0

    def on_validation_batch_start(self, trainer, *_):
        self.num_batches += 1
        if self.num_batches == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_does_not_wait_for_the_end_of_a_validation(cache, tmp_path):
    slow = SlowValidation()
    run = create_run(2, tmp_path, cache, callbacks=[slow], validate_at=4)
    run.trainer.limit_val_batches, run.datamodule.evaluation_batch_size = 1.0, 1
    with pytest.raises(SystemExit) as stop:
        run.trainer.fit(run.model, run.datamodule)
    assert stop.value.code == 143
    assert slow.num_batches == 2


class SignalAtStep(Callback):
    """Tells its own process to end in the middle of a step."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == STEP:
            os.kill(os.getpid(), signal.SIGTERM)


def fit_and_end(folder, cache):
    torch.set_num_threads(1)
    run = create_run(2, folder, cache, callbacks=[SignalAtStep()])
    run.trainer.fit(run.model, run.datamodule)


def test_exit_code_of_the_process(cache, tmp_path):
    process = FORK.Process(target=fit_and_end, args=(tmp_path, cache))
    process.start()
    process.join(300)
    assert process.exitcode == 143
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == STEP + 1


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
def test_termination_ends_what_is_no_training_at_once(function):
    class Terminated(lightning.LightningModule):
        seen = 0

        def validation_step(self, batch, batch_idx):
            self.seen += 1
            if self.seen == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        test_step = predict_step = validation_step

    module = Terminated()
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "barebones": True}
    trainer = lightning.Trainer(callbacks=[SaveOnSignal()], **quiet)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        getattr(trainer, function)(module, DataLoader(range(5)))
    assert stop.value.code == 143
    assert module.seen == 2
    assert signal.getsignal(signal.SIGTERM) == before
