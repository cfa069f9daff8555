"""What a real device is waited for: nothing in a step's own work, one value in all that a trainer does around it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim.swa_utils import get_ema_multi_avg_fn

from eqvae.training.gradients import Gradients
from tests.cuda.devices import GPU, ON_EACH
from tests.cuda.test_training import GENERATORS, autoencoder, images, latents

WAITED = "synchronizing CUDA operation"


@contextmanager
def refused_waits(device: torch.device) -> Iterator[None]:
    """A device that is waited for inside raises."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("which", GENERATORS)
@ON_EACH
def test_a_steps_own_work_waits_for_nothing(which, device):
    """Draws, loss, backward pass, clipping, optimizer and average; the trainer then reads whether all was finite."""
    torch.manual_seed(0)
    module = GENERATORS[which]().to(device)
    optimizer, gradients = module.configure_optimizers(), Gradients(module.parameters())
    average = [each.detach().clone() for each in gradients.parameters]
    data = {"latents": torch.randn(4, 8, 8, 8), "label": torch.arange(4), "key": torch.arange(4)}
    batch = {name: value.to(device) for name, value in data.items()}

    def step() -> torch.Tensor:
        loss = module.loss_terms(batch)["loss"].mean()
        loss.backward()
        gradients.measure()
        gradients.clip(1.0)
        optimizer.step()
        optimizer.zero_grad()
        get_ema_multi_avg_fn(0.9)(average, gradients.parameters, 1)
        return loss

    step()  # tables are copied at their first use
    with refused_waits(device):
        step()
    before = [each.clone() for each in gradients.parameters]
    step()
    assert any(not torch.equal(a, b) for a, b in zip(before, gradients.parameters, strict=True))


class CountWaits(Callback):
    """Warnings of torch between the ends of two batches; the first one sets things up."""

    def __init__(self, heard: list):
        self.heard, self.steps = heard, []

    def on_train_batch_end(self, trainer, *_):
        self.steps.append([str(each.message) for each in self.heard if WAITED in str(each.message)])
        self.heard.clear()
        torch.cuda.set_sync_debug_mode("warn")


@pytest.mark.gpu
@pytest.mark.parametrize("stage", ["autoencoder", *GENERATORS])
def test_a_trained_step_waits_once(stage, cache, tmp_path, record_property):
    module, data = (autoencoder(), images()) if stage == "autoencoder" else (GENERATORS[stage](), latents(cache))
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        counted = CountWaits(heard)
        options = {"max_epochs": 1, "max_steps": 6, "limit_val_batches": 0, "callbacks": [counted], **quiet}
        trainer = Trainer(accelerator="gpu", devices=[GPU.index], default_root_dir=tmp_path, **options)
        try:
            trainer.fit(module, data)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [len(step) for step in counted.steps[1:]]
    record_property("waits", waits)
    assert waits
    assert max(waits) <= 1
