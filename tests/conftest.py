"""Every test runs offline, on one thread, in a folder of its own from which the checkout is only read."""

from tests.importing import all_is_imported  # isort: split

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir

from tests import OWNER
from tests.checkout import LinkedFolders
from tests.tiny import PACKAGED, stage_one
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


@pytest.fixture(scope="session")
def _folders(tmp_path_factory):
    return LinkedFolders(ROOT, NOT_OURS, tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="session", autouse=True)
def _in_a_copy(_folders):
    """Fixtures that several tests share work in a folder of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(_folders.new())
        yield


@pytest.fixture(autouse=True)
def _in_an_own_copy(_folders, monkeypatch, _touched):
    """Every test works in a folder that no other has written into."""
    monkeypatch.chdir(_folders.clean())
    yield
    left, touched = _new_files(), list(_touched)
    _touched.clear()
    assert not left, f"the test left files in the checkout: {', '.join(sorted(left))}"
    assert not touched, f"the test, or a fixture, touched the checkout: {', '.join(touched)}"


def pytest_configure(config):
    torch.set_num_threads(1)
    notes = TemporaryDirectory(prefix="hypothesis-")  # of hypothesis, which else keeps them in the checkout
    config.add_cleanup(notes.cleanup)
    set_hypothesis_home_dir(notes.name)


def pytest_collection_finish():
    all_is_imported()


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
    cli = stage_one(folder, PACKAGED)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return folder / "latents"
