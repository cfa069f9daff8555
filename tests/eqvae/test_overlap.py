"""What keeps a device busy: gradients are exchanged once a step, and batches wait for it in pinned memory."""

import os
import socket

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from eqvae.losses import AdversarialLoss
from eqvae.stream import SequentialBatches, training_loader
from tests.cuda.test_training import CRITIC, GENERATORS, autoencoder, images, latents
from tests.eqvae.test_stream import stub_trainer

STEPS, ACCUMULATED = 3, 4


@pytest.fixture
def alone(monkeypatch):
    """A group of this one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    before = set(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in set(os.environ) - before:
        monkeypatch.delenv(name)


class WatchedDDP(DDPStrategy):
    """DDP whose exchanges go through a function; Lightning takes hooks on CUDA devices alone."""

    def __init__(self, exchange):
        super().__init__(process_group_backend="gloo")
        self.exchange = exchange

    def configure_ddp(self) -> None:
        super().configure_ddp()
        self.model.register_comm_hook(None, self.exchange)


@pytest.mark.parametrize("stage", [1, 2])
def test_gradients_are_exchanged_once_a_step(stage, alone, cache, tmp_path):
    """However many batches it accumulates: all of them together make as many exchanges as single batches do."""
    exchanged: list[int] = []

    def exchange(_: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        exchanged.append(bucket.index())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False)
    options = {"max_epochs": 1, "max_steps": STEPS, "limit_val_batches": 0, "use_distributed_sampler": False} | quiet
    if stage == 1:
        module, data = autoencoder(accumulate_batches=ACCUMULATED, adversarial=AdversarialLoss(**CRITIC)), images()
    else:
        module, data = GENERATORS["SiT"](), latents(cache)
        options |= {"accumulate_grad_batches": ACCUMULATED}
    batches: list[int] = []
    strategy = WatchedDDP(exchange)
    trainer = Trainer(accelerator="cpu", devices=1, strategy=strategy, default_root_dir=tmp_path, **options)
    counted = module.on_train_batch_end
    module.on_train_batch_end = lambda *about: batches.append(1) or counted(*about)
    trainer.fit(module, data)
    assert trainer.global_step == STEPS
    assert len(batches) == STEPS * ACCUMULATED
    assert exchanged.count(0) == STEPS, "the first bucket tells"


@pytest.mark.parametrize("available", [True, False])
def test_batches_are_pinned_where_there_is_a_gpu(available, monkeypatch):
    """A copy from pinned memory leaves the processor free; Lightning asks for it without waiting."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    data = images().sources["train"]
    assert training_loader(data, 4, 0, stub_trainer()).pin_memory is available
    assert SequentialBatches(data, 4).loader().pin_memory is available
