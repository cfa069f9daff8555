"""Every test runs offline, on one thread, from the repository root."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir

from tests.tiny import stage_one

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])


def pytest_configure(config):
    torch.set_num_threads(1)
    notes = TemporaryDirectory(prefix="hypothesis-")  # of hypothesis, which else keeps them in the checkout
    config.add_cleanup(notes.cleanup)
    set_hypothesis_home_dir(notes.name)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A small latent cache of the packaged autoencoder."""
    folder = tmp_path_factory.mktemp("cache")
    cli = stage_one(folder)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return folder / "latents"
