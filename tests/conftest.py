"""Every test runs offline, on one thread, in a folder of its own from which the checkout is only read."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir

from tests import OWNER
from tests.tiny import stage_one
from tests.watching import NewFiles, watching

pytest_plugins = ["tests.reliability.plugin"]
ROOT = Path(__file__).parents[1]
# Autograd counts devices once, at the first backward of a process, and takes the ones that torch pretends to have while
# it traces (`FakeTensorMode`) for real; it then starts threads for them, and no forked process can go backward.
torch.ones((), requires_grad=True).backward()
NOT_OURS = ("runs", "shared")  # what other commands write into a checkout, and data beside it
_new_files = NewFiles(ROOT, NOT_OURS)


@pytest.fixture(scope="session", autouse=True)
def _touched():
    """What this process did to the checkout, and read of the runs in it, since it was last looked at."""
    with watching(ROOT) as touched:
        yield touched


@pytest.fixture(scope="session", autouse=True)
def _in_a_copy(tmp_path_factory):
    """Fixtures that several tests share work in a folder of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(_checkout_in(tmp_path_factory.mktemp("session")))
        yield


@pytest.fixture(autouse=True)
def _in_an_own_copy(tmp_path_factory, monkeypatch, _touched):
    """A working folder with links to what a checkout has: relative paths are read there, and written nowhere else."""
    monkeypatch.chdir(_checkout_in(tmp_path_factory.mktemp("folder")))
    yield
    left, touched = _new_files(), list(_touched)
    _touched.clear()
    assert not left, f"the test left files in the checkout: {', '.join(sorted(left))}"
    assert not touched, f"the test, or a fixture, touched the checkout: {', '.join(touched)}"


def _checkout_in(folder: Path) -> Path:
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in NOT_OURS:
            (folder / entry.name).symlink_to(entry)
    return folder


def pytest_configure(config):
    torch.set_num_threads(1)
    notes = TemporaryDirectory(prefix="hypothesis-")  # of hypothesis, which else keeps them in the checkout
    config.add_cleanup(notes.cleanup)
    set_hypothesis_home_dir(notes.name)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_unconfigure():
    process, _, user_files = os.environ[OWNER].partition(":")
    if int(process) == os.getpid():
        shutil.rmtree(user_files, ignore_errors=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A small latent cache of the packaged autoencoder."""
    folder = tmp_path_factory.mktemp("cache")
    cli = stage_one(folder)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return folder / "latents"
