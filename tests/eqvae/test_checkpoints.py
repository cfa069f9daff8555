"""Checkpoints: whole or absent, verified, finite, never executed; the newest intact one is found."""

import errno
import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from eqvae.files import TEMPORARY_PREFIX, write_atomically
from eqvae.hashes import archive_is_sound
from eqvae.training.checkpoints import AtomicCheckpointIO, Newest, load_checkpoint, newest_checkpoint

CHECKPOINT = {"state_dict": {"weight": torch.arange(1000.0)}, "global_step": 7, "loops": {"a": [1, 2]}}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save(path: Path, step: int, **parts) -> Path:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT | {"global_step": step} | parts, path)
    return path


def flip(path: Path, place: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(content)


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path / "checkpoints" / "last.ckpt", 7)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_round_trip_in_one_file_with_its_hash(saved):
    assert names(saved.parent) == ["last.ckpt"]
    assert archive_is_sound(saved)
    loaded = AtomicCheckpointIO().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["weight"], CHECKPOINT["state_dict"]["weight"])
    assert {k: loaded[k] for k in ("global_step", "loops")} == {"global_step": 7, "loops": {"a": [1, 2]}}


@pytest.mark.reliability(7)
def test_every_changed_byte_is_refused_by_name(saved, reached):
    earlier = save(saved.with_name("step=5.ckpt"), 5)
    intact, draw = saved.read_bytes(), random.Random(0)
    places = [draw.randrange(len(intact)) for _ in range(100)] + list(range(-len("sha256:") - 64, -54))
    for place in places:
        saved.write_bytes(intact)
        flip(saved, place, 1 << draw.randrange(8))
        with pytest.raises(ValueError, match=r"last\.ckpt (is damaged|cannot be read)") as error:
            AtomicCheckpointIO().load_checkpoint(saved)
        assert str(saved) in str(error.value)
        assert f"the newest intact one beside it is {earlier}, of step 5" in str(error.value)
        assert "\n" not in str(error.value)
    reached.count("flipped bits", len(places))


@pytest.mark.reliability(7, counts="cuts")
@pytest.mark.parametrize("keep", [0, 1, 1000])
def test_a_truncated_checkpoint_is_refused_in_one_line(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"last\.ckpt") as error:
        load_checkpoint(saved)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_lost_its_hash_is_refused(saved):
    """Archiving programs drop the comment: what the file says of itself still tells that there was one."""
    with zipfile.ZipFile(saved, "a") as archive:
        archive.comment = b""
    assert archive_is_sound(saved) is None
    with pytest.raises(ValueError, match="is damaged: it lacks the sha256"):
        load_checkpoint(saved)
    assert newest_checkpoint(saved.parent) == Newest(damaged=[saved])


@pytest.mark.reliability(7)
def test_damage_is_reported_with_the_newest_intact_one_beside_it(saved):
    save(saved.with_name("step=3.ckpt"), 3)
    earlier = save(saved.with_name("step=5.ckpt"), 5)
    flip(saved, 300)
    with pytest.raises(ValueError, match=rf"is damaged.*; the newest intact one beside it is {earlier}, of step 5"):
        load_checkpoint(saved)


def test_the_newest_is_the_one_of_most_steps_that_is_intact(tmp_path):
    assert newest_checkpoint(tmp_path / "absent") == Newest()
    paths = {step: save(tmp_path / f"step={step}.ckpt", step) for step in (100, 20, 3)}  # written in this order
    assert newest_checkpoint(tmp_path) == Newest(paths[100], 100)
    last = save(tmp_path / "last.ckpt", 100)
    assert newest_checkpoint(tmp_path) == Newest(last, 100), "of equal ones that written last"
    flip(last, 1000)
    assert newest_checkpoint(tmp_path) == Newest(paths[100], 100, [last])
    paths[100].write_bytes(b"")
    assert newest_checkpoint(tmp_path) == Newest(paths[20], 20, [paths[100], last])


def test_a_copied_folder_has_the_same_newest_one(tmp_path):
    for step in (3, 100, 20):
        save(tmp_path / "run" / f"step={step}.ckpt", step)
    shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)  # with new times
    assert newest_checkpoint(tmp_path / "copy").step == 100


def test_missing_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"^no checkpoint at .*absent\.ckpt: check the path$"):
        load_checkpoint(tmp_path / "absent.ckpt")


@pytest.mark.reliability(6, counts="kinds")
def test_folder_that_cannot_be_written_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "file" / "last.ckpt")


class FullDisk:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.reliability(5)
def test_a_full_disk_names_path_and_size_and_keeps_the_old_checkpoint(saved, monkeypatch):
    torch_save = torch.save
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: torch_save(checkpoint, FullDisk(file, 2000)))
    with pytest.raises(ValueError, match=rf"no space for checkpoint {saved}, which takes 4,000 bytes .*--resume"):
        save(saved, 8)
    assert load_checkpoint(saved)["global_step"] == 7
    assert names(saved.parent) == ["last.ckpt"]


@pytest.mark.reliability(8)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_neither_written_nor_read(saved, monkeypatch, value):
    broken = {"backbone.weight": torch.tensor([1.0, value])}
    parts = {"further_averages": {"0.9": broken}}
    for name in ("state_dict", "current_model_state"):
        parts[name] = broken
        with pytest.raises(ValueError, match=rf"last\.ckpt is not written: {name}\.backbone\.weight is not finite"):
            save(saved, 8, **{name: broken})
    with pytest.raises(ValueError, match=r"optimizer_states\.0\.state\.5\.exp_avg is not finite at step 8"):
        save(saved, 8, optimizer_states=[{"state": {5: {"exp_avg": torch.tensor(value)}}, "param_groups": []}])
    assert load_checkpoint(saved)["global_step"] == 7
    monkeypatch.setattr("eqvae.training.checkpoints._nonfinite", lambda *_: None)  # of another program
    save(saved, 8, further_averages={"0.9": broken})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"last\.ckpt: further_averages\.0\.9\.backbone\.weight is not finite"):
        load_checkpoint(saved)


def test_large_finite_values_are_no_reason(saved):
    save(saved, 8, state_dict={"weight": torch.full((4,), 3e38)})
    assert load_checkpoint(saved)["global_step"] == 8


def test_leftovers_of_killed_writers_are_removed(saved):
    (saved.parent / f"{TEMPORARY_PREFIX}last.ckpt-abc").write_bytes(b"half")
    save(saved, 9)
    assert names(saved.parent) == ["last.ckpt"]
    assert load_checkpoint(saved)["global_step"] == 9


def test_removal(saved):
    for _ in range(2):
        AtomicCheckpointIO().remove_checkpoint(saved)
        assert names(saved.parent) == []


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_payload_is_not_executed(tmp_path, writer):
    marker, path = tmp_path / "executed", tmp_path / "evil.ckpt"
    if writer == "torch":
        torch.save({"state_dict": Payload(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Payload(marker)}, protocol=2))
    with pytest.raises(ValueError, match=r"evil\.ckpt cannot be read safely: it holds \S+, and nothing but") as error:
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert "\n" not in str(error.value)
    assert "weights_only" in str(error.value)
    assert not any(word in str(error.value) for word in ("False", "allowlist", "Re-running"))
    assert not marker.exists()


def test_interrupted_file_keeps_its_old_content(tmp_path):
    path = tmp_path / "note"
    write_atomically(path, b"old")

    def interrupted(file):
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["note"]
