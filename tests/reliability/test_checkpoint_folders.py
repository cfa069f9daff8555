"""Checkpoints on real file systems: writers that are killed, full disks, folders that cannot be written or are gone."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from eqvae.commands import run_command
from eqvae.files import TEMPORARY_PREFIX
from eqvae.training.checkpoints import AtomicCheckpointIO, load_checkpoint, newest_checkpoint
from eqvae.training.run_folder import RunFolder
from tests.reliability.isolation import FORK, drop_rights, in_child, mount_memory
from tests.reliability.runs import fit_on

WEIGHTS = torch.arange(500_000.0)  # 2 MB
OTHER_FILE_SYSTEM = Path("/dev/shm")


def save(path: Path, step: int) -> None:
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"weight": WEIGHTS + step}, "global_step": step}, path)


def save_without_end(pipe: int, folder: Path, step: int, temporary: Path) -> None:
    """Write step after step to `last.ckpt`, every other one to a file of its own too; tells when a save begins."""
    torch.set_num_threads(1)
    os.environ["TMPDIR"] = str(temporary)
    while True:
        step += 1
        os.write(pipe, bytes([step % 256]))
        save(folder / "last.ckpt", step)
        if step % 2:
            save(folder / f"step={step:07d}.ckpt", step)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]


@pytest.mark.reliability(4)
def test_writers_that_are_killed_leave_what_loads(tmp_path, times, reached):
    if not OTHER_FILE_SYSTEM.is_dir() or OTHER_FILE_SYSTEM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system for TMPDIR")
    folder, chance, num_kills, left = tmp_path / "checkpoints", random.Random(), times(8, 50), 0
    save(folder / "last.ckpt", 0)
    for _ in range(num_kills):
        begun = killed_within_a_save(folder, chance)
        for path in folder.glob("*.ckpt"):
            load_checkpoint(path)
        newest = newest_checkpoint(folder)
        assert newest.step in (begun - 1, begun), "neither the last nor the one before"
        assert not newest.damaged
        assert torch.equal(load_checkpoint(newest.path)["state_dict"]["weight"], WEIGHTS + newest.step)
        assert len(leftovers(folder)) <= 1
        left += len(leftovers(folder))
        RunFolder(tmp_path, folder).first_checkpoint(None, resume=True, overwrite=False)
        assert not leftovers(folder), "the next start sweeps"
        for path in sorted(folder.glob("step=*.ckpt"))[:-2]:
            path.unlink()
    reached.count("kills", num_kills)
    reached.says(f"{left} of them left a temporary file")


def killed_within_a_save(folder: Path, chance: random.Random) -> int:
    """Kill a writer somewhere in its second save or a little later; returns the step of the last one that it began."""
    reading, writing = os.pipe()
    arguments = (writing, folder, newest_checkpoint(folder).step, OTHER_FILE_SYSTEM)
    process = FORK.Process(target=save_without_end, args=arguments)
    process.start()
    os.close(writing)
    first = arguments[2] + 1
    told = [os.read(reading, 1)]
    started = time.monotonic()
    told.append(os.read(reading, 1))
    time.sleep(chance.random() * (time.monotonic() - started))  # a save's length at most
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while more := os.read(reading, 64):
        told.extend(more[place : place + 1] for place in range(len(more)))
    os.close(reading)
    return first + len(told) - 1


def fill_the_disk(folder: Path, cache: Path) -> dict:
    mount_memory(folder, "size=3m")
    said, code = io.StringIO(), 0
    wide = {"model__init_args__backbone__init_args__hidden_size": 64, "trainer__logger": False}
    with contextlib.redirect_stderr(said):
        try:
            run_command(lambda: fit_on(2, folder, cache, **wide))
        except SystemExit as stop:
            code = stop.code
    newest = newest_checkpoint(folder / "checkpoints")
    error = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    step = load_checkpoint(newest.path)["global_step"]
    return {"code": code, "error": error, "step": step, "leftovers": leftovers(folder / "checkpoints")}


@pytest.mark.reliability(5)
def test_a_full_disk_ends_a_fit_and_leaves_the_checkpoint_before(cache, tmp_path, reached):
    """Three megabytes of memory as the disk of a run."""
    (tmp_path / "disk").mkdir()
    found = in_child(fill_the_disk, tmp_path / "disk", cache)
    (line,) = found["error"]
    assert found["code"] == 1
    assert f"no space for checkpoint {tmp_path}/disk/checkpoints/" in line
    assert "bytes (No space left on device)" in line
    assert found["step"] > 0
    assert not found["leftovers"]
    reached.says(f"exit code 1, path and bytes named, step {found['step']} loads")


def save_into(folder: Path) -> str:
    """What a second save into a folder says."""
    try:
        save(folder / "last.ckpt", 2)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    return "nothing"


def save_without_rights(folder: Path) -> str:
    drop_rights()
    return save_into(folder)


def save_read_only(folder: Path) -> str:
    mount_memory(folder, "size=9m")
    save(folder / "last.ckpt", 1)
    mount_memory(folder, "remount,ro")
    said = save_into(folder)
    assert load_checkpoint(folder / "last.ckpt")["global_step"] == 1
    return said


@pytest.mark.reliability(6, counts="kinds")
@pytest.mark.parametrize("kind", ["mode", "read-only"])
def test_a_folder_that_cannot_be_written_is_named(kind, tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder / "last.ckpt", 1)
    if kind == "mode":
        folder.chmod(0o500)
        said = in_child(save_without_rights, folder)
        folder.chmod(0o700)
    else:
        said = in_child(save_read_only, folder)
    expected = {"mode": "Permission denied", "read-only": "Read-only file system"}[kind]
    assert said == f"{expected}: {folder}/last.ckpt"
    assert load_checkpoint(folder / "last.ckpt")["global_step"] == 1


@pytest.mark.reliability(6, counts="kinds")
def test_an_immutable_folder_is_named(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder / "last.ckpt", 1)
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
        pytest.skip("no folder can be made immutable here")
    try:
        assert save_into(folder) == f"Operation not permitted: {folder}/last.ckpt"
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)
    assert load_checkpoint(folder / "last.ckpt")["global_step"] == 1


@pytest.mark.reliability(6, counts="kinds")
def test_a_folder_that_was_removed_is_made_again_or_named(tmp_path, reached):
    folder = tmp_path / "run" / "checkpoints"
    save(folder / "last.ckpt", 1)
    shutil.rmtree(tmp_path / "run")
    assert save_into(folder) == "nothing"
    assert load_checkpoint(folder / "last.ckpt")["global_step"] == 2
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("a file in its place")
    assert str(tmp_path / "run") in save_into(folder)
    reached.says("a removed folder is made again")
