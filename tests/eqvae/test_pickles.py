"""Files that hold more than tensors: none is executed, and none is refused with advice to execute it after all."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dit.alignment.projectors import load_projector
from dit.checkpoints import load_generator
from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.training_files import read_critic
from eqvae.data.npz import NpzSource
from eqvae.evaluation import create_extractor
from eqvae.evaluation.inputs import open_samples, stored_statistics
from eqvae.losses.perceptual import create_perceptual
from eqvae.training.checkpoints import checkpoint_step, load_checkpoint
from eqvae.vision_transformers import read_encoder_weights
from eqvae.weights import read_optimizer_states
from tests.tiny import train

ADVICE = (
    "weights_only=False",
    "weights_only` to `False",
    "allow_pickle=True",
    "allowlist",
    "add_safe_globals",
    "trust",
)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


def write(path: Path, how: str, marker: Path) -> Path:
    """Tensors and a payload among them, in each format of torch, or as a pickle alone."""
    content = {"state_dict": {"weight": torch.zeros(1), "x": Payload(marker)}, "global_step": 3}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    return path


LOADERS = {
    "checkpoint": load_checkpoint,
    "step of a checkpoint": checkpoint_step,
    "resumed": lambda path: train("fit", "--config", "configs/eqvae/tiny-shapes.yaml", "--ckpt_path", path),
    "generator": load_generator,
    "projector": load_projector,
    "autoencoder": load_autoencoder,
    "critic": read_critic,
    "optimizer": read_optimizer_states,
    "extractor": lambda path: create_extractor("inception_v3", str(path), "cpu"),
    "perceptual": lambda path: create_perceptual("lpips_vgg", str(path)),
    "encoder": lambda path: read_encoder_weights(str(path)),
}


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_payload_among_weights_is_refused_and_not_run(tmp_path, loader, how):
    path = write(tmp_path / "evil.pt", how, tmp_path / "ran")
    refuse(lambda: LOADERS[loader](path), path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("reader", [NpzSource, lambda path: open_samples(str(path), 8), stored_statistics])
@pytest.mark.parametrize("how", ["objects", "pickle"])
def test_a_payload_in_an_npz_is_refused_and_not_run(tmp_path, reader, how):
    path, evil = tmp_path / "evil.npz", np.array([Payload(tmp_path / "ran")] * 4, dtype=object)
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        np.savez(path, arr_0=evil, mu=evil, sigma=evil)
    refuse(lambda: reader(str(path)), path)
    assert not (tmp_path / "ran").exists()


def refuse(call, path: Path) -> None:
    with pytest.raises(ValueError, match=path.name) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert not [advice for advice in ADVICE if advice.lower() in message.lower()]
