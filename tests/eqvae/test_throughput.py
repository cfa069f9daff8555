"""Speed of a run: what is logged, and that it agrees with the clock."""

import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from dit.backbones.flops import num_multiply_adds
from eqvae.devices import matmul_flops
from eqvae.stream import training_loader
from eqvae.training.throughput import ThroughputMonitor, Waiting
from tests.tiny import STAGE_TWO, stage_two


class Slow(Callback):
    """Makes every batch take a known time at least."""

    def on_train_batch_start(self, *_):
        time.sleep(0.05)


def test_speed_is_images_over_time(cache, tmp_path):
    overrides = {"trainer.max_steps": 12, "trainer.log_every_n_steps": 1}
    monitor = ThroughputMonitor(window=4, measure_peak=True)
    run = stage_two(tmp_path, cache, overrides, callbacks=[Slow(), monitor])
    run.trainer.fit(run.model, run.datamodule)
    logged = {name: float(value) for name, value in run.trainer.logged_metrics.items()}
    speed = logged["speed/images_per_second"]
    assert 0 < speed < STAGE_TWO["data.init_args.global_batch_size"] / 0.05
    operations = 3 * 2 * num_multiply_adds(run.model.backbone)
    assert logged["speed/tflops"] == pytest.approx(speed * operations / 1e12, rel=1e-3)
    assert logged["speed/mfu"] == pytest.approx(logged["speed/tflops"] * 1e12 / monitor.peak_flops, rel=1e-3)
    assert {"speed/images_per_second", "speed/mfu"} <= run.trainer.progress_bar_metrics.keys()


class SlowlyRead:
    """A data set whose batches take a known time to read."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def get_batch(self, ids, keys):
        time.sleep(0.1)
        return self.dataset.get_batch(ids, keys)


def test_waiting_for_data_is_measured(cache, tmp_path, monkeypatch):
    """Batches that take .1 s to read, and .05 s at least to train on."""
    overrides = {"trainer.max_steps": 12, "trainer.log_every_n_steps": 1}
    monitor = ThroughputMonitor(window=4)
    monkeypatch.setattr("dit.data.training_loader", lambda data, *rest: training_loader(SlowlyRead(data), *rest))
    run = stage_two(tmp_path, cache, overrides, callbacks=[Slow(), monitor])
    run.trainer.fit(run.model, run.datamodule)
    waiting = monitor._waiting
    assert waiting.seconds_waited == pytest.approx(11 * 0.1, rel=0.3)
    assert waiting.seconds > 11 * 0.15
    assert float(run.trainer.logged_metrics["speed/waiting"]) == pytest.approx(waiting.share, abs=1e-6)


class Loader:
    def __init__(self, num_workers):
        self.num_workers, self.seconds_waited = num_workers, 0.0


@pytest.mark.parametrize(
    ("num_workers", "waited", "share", "wanted"),
    [
        (0, 0.3, 0.75, 3),  # .3 s to read, .1 s to train
        (0, 0.05, 0.125, 1),
        (2, 0.3, 0.75, 8),  # two processes bring a batch every .4 s, so one takes .8 s
        (4, 0.2, 0.5, 8),
    ],
)
def test_loader_processes_that_would_hide_it(num_workers, waited, share, wanted, monkeypatch):
    loader, now = Loader(num_workers), 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    waiting = Waiting(loader)
    for _ in range(11):
        loader.seconds_waited += waited
        now += 0.4
        waiting.count()
    assert waiting.share == pytest.approx(share)
    assert waiting.wanted_workers == wanted
    assert f"{wanted} would hide that" in waiting.advice()


def test_nothing_is_said_where_little_is_waited():
    waiting = Waiting(Loader(0))
    assert waiting.advice() is None
    waiting.seconds, waiting.seconds_waited = 1.0, 0.05
    assert waiting.advice() is None


def test_peak_is_a_plausible_number():
    assert 1e8 < matmul_flops(torch.device("cpu"), repeats=2) < 1e14


class Products(TorchDispatchMode):
    """Keeps what every matrix product multiplies."""

    def __init__(self):
        super().__init__()
        self.operands = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.mm.default:
            self.operands += args
        return function(*args, **(kwargs or {}))


def test_peak_multiplies_random_numbers():
    """Matrices of equal entries run faster than real ones."""
    before = torch.get_rng_state()
    with Products() as products:
        matmul_flops(torch.device("cpu"), repeats=1)
    assert len(products.operands) == 4  # two products: one warms up
    for matrix in products.operands:
        sample = matrix.flatten()[:1000]
        assert float(sample.std()) == pytest.approx(1, abs=0.15)
        assert len(sample.unique()) > 900
    assert torch.equal(torch.get_rng_state(), before)


def test_window_must_hold_two():
    with pytest.raises(ValueError, match="window"):
        ThroughputMonitor(window=1)
