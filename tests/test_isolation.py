"""No test reads or writes outside its own folders: what `conftest.py` watches over, tried on a checkout of its own."""

import os
import shutil
from pathlib import Path

import pytest

from tests.checkout import LinkedFolders
from tests.watching import NewFiles, watching


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    for name in ("runs/a.txt", "configs/b.yaml", "eqvae/c.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("x")
    (tmp_path / "linked").symlink_to(root / "configs")
    return root


CHANGES = {
    "a new file": lambda root: (root / "new.txt").write_text("x"),
    "a changed file": lambda root: (root / "configs/b.yaml").open("a").close(),
    "a file through a link": lambda root: (root.parent / "linked/b.yaml").write_text("y"),
    "a folder": lambda root: (root / "folder").mkdir(),
    "a removed file": lambda root: (root / "eqvae/c.py").unlink(),
    "a removed tree": lambda root: shutil.rmtree(root / "configs"),
    "a file moved in": lambda root: (root.parent / "own.txt").rename(root / "own.txt"),
    "a file moved out": lambda root: (root / "eqvae/c.py").rename(root.parent / "c.py"),
    "a link": lambda root: (root / "link").symlink_to(root / "eqvae"),
    "a run that is read": lambda root: (root / "runs/a.txt").read_text(),
    "runs that are listed": lambda root: list((root / "runs").iterdir()),
    "runs that are searched": lambda root: list(root.glob("runs/*.txt")),
    "a run that is written": lambda root: (root / "runs/a.txt").write_text("y"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_touches_a_checkout_is_seen(checkout, change):
    (checkout.parent / "own.txt").write_text("x")
    with watching(checkout) as touched:
        CHANGES[change](checkout)
    assert touched
    assert all(str(checkout) in each for each in touched)


def test_what_is_allowed_goes_unseen(checkout, monkeypatch):
    monkeypatch.chdir(checkout.parent)
    with watching(checkout) as touched:
        (checkout / "configs/b.yaml").read_text()
        list(checkout.iterdir())
        Path("own.txt").write_text("x")
        os.makedirs(checkout / "eqvae/__pycache__")
        (checkout / "eqvae/__pycache__/c.pyc").write_bytes(b"")
        (checkout / ".cache").mkdir()
        Path("runs").mkdir()
        Path("runs/own.txt").write_text("x")
    (checkout / "later.txt").write_text("x")
    assert touched == []


def test_files_that_came_are_named_once(checkout):
    new = NewFiles(checkout, ("runs",))
    assert new() == set()
    (checkout / "deep/er").mkdir(parents=True)
    (checkout / "deep/er/new.txt").write_text("x")
    assert new() == {str(checkout / "deep/er/new.txt")}
    (checkout / "deep/er/newer.txt").write_text("x")
    (checkout / "eqvae/c.py").unlink()
    assert new() == {str(checkout / "deep/er/newer.txt")}
    shutil.rmtree(checkout / "deep")
    for name in ("runs/b.txt", ".hidden", "eqvae/__pycache__/c.pyc"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("x")
    assert new() == set()


WRITES = {
    "a file": lambda folder: (folder / "new.txt").write_text("x"),
    "a link that is gone": lambda folder: (folder / "configs").unlink(),
    "a link that became a file": lambda folder: [(folder / "configs").unlink(), (folder / "configs").write_text("x")],
}


@pytest.mark.parametrize("write", WRITES)
def test_a_folder_that_was_written_into_serves_no_other_test(checkout, tmp_path, write):
    (parent := tmp_path / "folders").mkdir()
    folders = LinkedFolders(checkout, ("runs",), parent)
    first = folders.clean()
    assert sorted(path.name for path in first.iterdir()) == ["configs", "eqvae"]
    assert (first / "configs/b.yaml").read_text() == "x"
    assert folders.clean() == first
    WRITES[write](first)
    second = folders.clean()
    assert second != first
    assert sorted(path.name for path in second.iterdir()) == ["configs", "eqvae"]
