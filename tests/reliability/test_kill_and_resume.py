"""A fit that is killed or told to end, anywhere, and resumed equals one that was left alone, bit for bit."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from eqvae.training.checkpoints import newest_checkpoint
from tests.reliability.runs import MAX_STEPS, fit_on, require_same_training

FORK = multiprocessing.get_context("fork")  # what a child needs is imported already
KILLS_PER_RUN = 5
LONG_RUNS = {1: 8, 2: 40}  # steps of the runs that are stopped at every position; stage 1 is slow


class TellSteps(Callback):
    """Writes a byte whenever a step is about to change the weights."""

    def __init__(self, pipe: int):
        self.pipe = pipe

    def on_before_optimizer_step(self, trainer, module, optimizer):
        os.write(self.pipe, bytes([trainer.global_step]))


def train_and_tell(pipe: int, stage: int, folder, cache, settings: dict) -> None:
    torch.set_num_threads(1)
    os.setpgrp()  # so that the loader's workers can be killed with it
    fit_on(stage, folder, cache, [TellSteps(pipe)], **settings)


def kill_at_random(chance: random.Random, stage: int, folder, cache, settings: dict) -> int:
    """Start or resume a run in another process and kill it during a step, or shortly after; returns which step."""
    begun = newest_checkpoint(folder / "checkpoints").step
    reading, writing = os.pipe()
    process = FORK.Process(target=train_and_tell, args=(writing, stage, folder, cache, settings))
    process.start()
    os.close(writing)
    step, seen = chance.randrange(begun, MAX_STEPS - 1), -1
    while seen < step:
        told = os.read(reading, 1)
        assert told, f"the run ended by itself behind step {seen}"
        seen = told[0]
    time.sleep(chance.random() * 0.02)  # on into the update, the save that follows, or the next step
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    os.close(reading)
    assert process.exitcode == -signal.SIGKILL
    return step


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    """Function from a stage and a number of steps to the last checkpoint of a run that nothing interrupts."""
    known = {}

    def checkpoint_of(stage: int, steps: int) -> dict:
        if (stage, steps) not in known:
            folder = tmp_path_factory.mktemp("whole")
            known[stage, steps] = fit_on(stage, folder, cache, trainer__max_steps=steps)
        return known[stage, steps]

    return checkpoint_of


@pytest.mark.reliability(1)
@pytest.mark.parametrize(
    ("stage", "num_workers"),
    [(1, 0), (2, 0), *(pytest.param(stage, 2, marks=pytest.mark.reliability(1, long=True)) for stage in (1, 2))],
)
def test_killed_and_resumed_equals_undisturbed(stage, num_workers, undisturbed, cache, tmp_path, times, reached):
    chance = random.Random()  # any step: the seed is not fixed on purpose
    settings = {"data__init_args__num_workers": num_workers}
    for number in range(times(1, 2)):
        folder, kills = tmp_path / str(number), times(1, KILLS_PER_RUN)
        steps = [kill_at_random(chance, stage, folder, cache, settings) for _ in range(kills)]
        result = fit_on(stage, folder, cache, **settings)
        require_same_training(result, undisturbed(stage, MAX_STEPS), f"killed at steps {steps}")
        reached.count("kills", kills)


class RecordSaves(Callback):
    """How many batches of a step had been used whenever it was saved."""

    def __init__(self, batches_per_step: int):
        self.batches_per_step, self.used = batches_per_step, []

    def on_save_checkpoint(self, trainer, *_):
        self.used.append((trainer.fit_loop.epoch_loop.batch_idx + 1) % self.batches_per_step)


@pytest.mark.parametrize("stage", [1, 2])
def test_nothing_is_saved_between_the_batches_of_a_step(stage, cache, tmp_path):
    """Not even by a run that goes on from a step at which it would have saved."""
    settings = {"trainer__accumulate_grad_batches": 2} if stage == 2 else {}
    for steps in (2, 5):
        saves = RecordSaves(batches_per_step=2)
        fit_on(stage, tmp_path, cache, [saves], trainer__max_steps=steps, **settings)
        assert saves.used
        assert not any(saves.used)


class EndAt(Callback):
    """Tells its own process to end within a step."""

    def __init__(self, step: int):
        self.step = step

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.reliability(2)
@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.reliability(2, long=True)), 2])
def test_resumed_twice_from_every_position(stage, undisturbed, cache, tmp_path, times, reached):
    """The first stop lies at each step in turn, the second anywhere behind it."""
    chance, num_steps = random.Random(stage), times(MAX_STEPS, LONG_RUNS[stage])
    positions, settings = range(1, num_steps + 1)[: times(1, num_steps)], {"trainer__max_steps": num_steps}
    for first in positions:
        folder = tmp_path / str(first)
        stops = [first, *([chance.randrange(first, num_steps) + 1] if first < num_steps else [])]
        for stop in stops:
            with pytest.raises(SystemExit):
                fit_on(stage, folder, cache, [EndAt(stop - 1)], **settings)
            assert newest_checkpoint(folder / "checkpoints").step == stop
        result = fit_on(stage, folder, cache, **settings)
        require_same_training(result, undisturbed(stage, num_steps), f"stopped at steps {stops}")
    reached.count(f"positions in stage {stage}", len(positions))
