"""Moving averages: float64 reference, several at once, accumulation, resume, and what a checkpoint gives back."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dit.checkpoints import load_generator
from eqvae.training.averaging import ExponentialMovingAverage, averaged_weights
from eqvae.training.checkpoints import load_checkpoint
from tests.tiny import stage_two

DECAYS = [0.9, 0.5, 0.99]
STEPS = 8


class Float64Averages(Callback):
    """The same averages in double precision, from the weights after every step."""

    def __init__(self):
        self.averages, self.updates = None, 0

    def on_train_start(self, trainer, module):
        start = {name: value.detach().double().clone() for name, value in module.named_parameters()}
        self.averages = {decay: dict(start) for decay in DECAYS}

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == self.updates:
            return
        self.updates = trainer.global_step
        for decay, average in self.averages.items():
            for name, value in module.named_parameters():
                average[name] = decay * average[name] + (1 - decay) * value.detach().double()


def run(folder, cache, callbacks, **overrides):
    settings = {
        "trainer.max_steps": STEPS,
        "trainer.callbacks": "[]",
        "trainer.accumulate_grad_batches": 2,
        "trainer.enable_checkpointing": False,
    } | overrides
    return stage_two(folder, cache, settings, callbacks=callbacks)


@pytest.fixture(scope="module")
def averaged(cache, tmp_path_factory):
    folder, reference = tmp_path_factory.mktemp("averages"), Float64Averages()
    cli = run(folder, cache, [ExponentialMovingAverage(DECAYS), reference])
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(folder / "end.ckpt")
    return folder / "end.ckpt", reference


@pytest.mark.reliability(9)
def test_every_average_equals_the_double_precision_one(averaged):
    path, reference = averaged
    checkpoint = load_checkpoint(path)
    assert reference.updates == STEPS, "one update for each optimizer step, not for each accumulated batch"
    for decay in DECAYS:
        weights = averaged_weights(checkpoint, decay)
        for name, expected in reference.averages[decay].items():
            # A lerp in float32 each step, 6e-8 of weights below 1, of which the decay forgets the older ones.
            torch.testing.assert_close(weights[name].double(), expected, rtol=1e-6, atol=1e-6)


def test_generators_of_every_decay(averaged):
    path, reference = averaged
    for decay in DECAYS:
        backbone = load_generator(path, ema_decay=decay).backbone
        for name, value in backbone.named_parameters():
            expected = reference.averages[decay][f"backbone.{name}"]
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"no moving average of decay 0.8: the checkpoint holds \[0.9, 0.5, 0.99\]"):
        load_generator(path, ema_decay=0.8)


def test_averages_resume_bit_for_bit(averaged, cache, tmp_path):
    half = run(tmp_path, cache, [ExponentialMovingAverage(DECAYS), StopAt(3, tmp_path / "half.ckpt")])
    with pytest.raises(SystemExit):
        half.trainer.fit(half.model, half.datamodule)
    rest = run(tmp_path, cache, [ExponentialMovingAverage(DECAYS)])
    rest.trainer.fit(rest.model, rest.datamodule, ckpt_path=str(tmp_path / "half.ckpt"))
    rest.trainer.save_checkpoint(tmp_path / "end.ckpt")
    expected, actual = load_checkpoint(averaged[0]), load_checkpoint(tmp_path / "end.ckpt")
    for decay in DECAYS:
        for name, value in averaged_weights(expected, decay).items():
            assert torch.equal(value, averaged_weights(actual, decay)[name]), (decay, name)
    fewer = run(tmp_path, cache, [ExponentialMovingAverage([0.5, 0.9])])
    fewer.trainer.fit(fewer.model, fewer.datamodule, ckpt_path=str(tmp_path / "half.ckpt"))
    fewer.trainer.save_checkpoint(tmp_path / "fewer.ckpt")
    for decay in (0.5, 0.9):  # each goes on with its own, in whatever order
        own = averaged_weights(load_checkpoint(tmp_path / "fewer.ckpt"), decay)
        assert all(torch.equal(value, own[name]) for name, value in averaged_weights(expected, decay).items())
    other = run(tmp_path, cache, [ExponentialMovingAverage([0.9, 0.7])])
    with pytest.raises(ValueError, match=r"no moving average of decay 0.7"):
        other.trainer.fit(other.model, other.datamodule, ckpt_path=str(tmp_path / "half.ckpt"))


class StopAt(Callback):
    """Saves after a step, as a checkpoint callback would, and leaves."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise SystemExit


@pytest.mark.parametrize("decay", [1.0, -0.1, [], [0.9, 0.9]])
def test_impossible_decays_are_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        ExponentialMovingAverage(decay)
