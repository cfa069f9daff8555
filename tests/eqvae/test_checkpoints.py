"""Checkpoints: whole or absent, verified, and never executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from eqvae.files import TEMPORARY_PREFIX, sha256_of_file, write_atomically
from eqvae.training.checkpoints import AtomicCheckpointIO, checksum_path, load_checkpoint

CHECKPOINT = {"state_dict": {"weight": torch.arange(1000.0)}, "global_step": 7, "loops": {"a": [1, 2]}}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    return path


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_round_trip_with_checksum_and_without_leftovers(saved):
    assert names(saved.parent) == ["last.ckpt", "last.ckpt.sha256"]
    assert checksum_path(saved).read_text() == sha256_of_file(saved)
    loaded = AtomicCheckpointIO().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["weight"], CHECKPOINT["state_dict"]["weight"])
    assert {k: loaded[k] for k in ("global_step", "loops")} == {"global_step": 7, "loops": {"a": [1, 2]}}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_flipped_byte_is_refused_by_name(saved, share):
    content = bytearray(saved.read_bytes())
    content[int(share * len(content))] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged") as error:
        AtomicCheckpointIO().load_checkpoint(saved)
    assert str(saved) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 1000])
def test_truncated_checkpoint_is_one_line_even_without_checksum(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"last\.ckpt") as error:
            load_checkpoint(saved)
        assert "\n" not in str(error.value)
        checksum_path(saved).unlink(missing_ok=True)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"^no checkpoint at .*absent\.ckpt$"):
        load_checkpoint(tmp_path / "absent.ckpt")


def test_folder_that_cannot_be_written_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "file" / "last.ckpt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_folder_raises(saved):
    saved.parent.chmod(0o500)
    try:
        with pytest.raises(OSError, match="last"):
            AtomicCheckpointIO().save_checkpoint(CHECKPOINT, saved)
    finally:
        saved.parent.chmod(0o700)
    assert load_checkpoint(saved)["global_step"] == 7


def test_failed_write_keeps_the_old_checkpoint(saved, monkeypatch):
    def full_disk(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"global_step": 8}, saved)
    assert load_checkpoint(saved)["global_step"] == 7
    assert not [name for name in names(saved.parent) if name.startswith(TEMPORARY_PREFIX)]


def test_leftovers_of_killed_writers_are_removed(saved):
    (saved.parent / f"{TEMPORARY_PREFIX}last.ckpt-abc").write_bytes(b"half")
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT | {"global_step": 9}, saved)
    assert names(saved.parent) == ["last.ckpt", "last.ckpt.sha256"]
    assert load_checkpoint(saved)["global_step"] == 9


def test_removal_takes_the_checksum_along(saved):
    AtomicCheckpointIO().remove_checkpoint(saved)
    assert names(saved.parent) == []
    AtomicCheckpointIO().remove_checkpoint(saved)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_payload_is_not_executed(tmp_path, writer):
    marker, path = tmp_path / "executed", tmp_path / "evil.ckpt"
    if writer == "torch":
        torch.save({"state_dict": Payload(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Payload(marker)}, protocol=2))
    with pytest.raises(ValueError, match=r"evil\.ckpt cannot be read safely") as error:
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert "\n" not in str(error.value)
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
