"""Speed of a run: what is logged, and that it agrees with the clock."""

import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from dit.backbones.flops import num_multiply_adds
from eqvae.devices import matmul_flops
from eqvae.training.throughput import ThroughputMonitor
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
