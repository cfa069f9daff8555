"""Files with their hash inside: round trips, and every damage found."""

import json
import zipfile
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file

from eqvae.files import write_atomically
from eqvae.hashes import archive_is_sound, read_json, require_safetensors, seal_archive, write_json, write_safetensors

CONTENT = {"name": "größe", "shape": (2, 3), "nested": {"b": 1.5, "a": None}, "counts": {1: 2}}
TENSORS = {"mean": torch.arange(6.0).view(2, 3), "index": torch.arange(2)}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "last.ckpt"

    def write(file):
        torch.save(TENSORS, file)
        seal_archive(file)

    write_atomically(path, write)
    return path


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard.safetensors"
    write_safetensors(path, TENSORS, {"rows": "2"})
    return path


def flips(content: bytes, every: int = 1):
    """The content with one byte changed, at one place after the other."""
    for place in range(0, len(content), every):
        yield place, content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]


def test_json_comes_back_as_a_file_holds_it(tmp_path):
    write_json(tmp_path / "manifest.json", CONTENT)
    expected = {"name": "größe", "shape": [2, 3], "nested": {"b": 1.5, "a": None}, "counts": {"1": 2}}
    assert read_json(tmp_path / "manifest.json") == expected


def test_json_may_be_laid_out_anew(tmp_path):
    path = tmp_path / "manifest.json"
    write_json(path, CONTENT)
    before = read_json(path)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_json(path) == before


def test_no_changed_byte_of_a_json_file_changes_what_is_read(tmp_path):
    path = tmp_path / "manifest.json"
    write_json(path, CONTENT)
    intact, content = read_json(path), path.read_bytes()
    for _, damaged in flips(content):
        path.write_bytes(damaged)
        with suppress(ValueError):  # between two values a byte means nothing
            assert read_json(path) == intact


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b'{"sha256": 1}', b"\xff\xfe", b'{"a": 1}'])
def test_anything_but_a_json_object_with_its_hash_is_refused(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        read_json(path)


def test_safetensors_are_plain_ones_with_metadata(shard):
    assert require_safetensors(shard) == {"rows": "2"}
    loaded = load_file(shard)
    assert all(torch.equal(loaded[name], value) for name, value in TENSORS.items())


def test_every_changed_byte_of_safetensors_is_found(shard):
    content = shard.read_bytes()
    for _, damaged in flips(content):
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            require_safetensors(shard)


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_cut_safetensors_are_found(shard, keep):
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is damaged"):
        require_safetensors(shard)


def test_a_sealed_archive_loads_as_before(archive):
    assert archive_is_sound(archive) is True
    loaded = torch.load(archive, weights_only=True, mmap=True)
    assert all(torch.equal(loaded[name], value) for name, value in TENSORS.items())
    assert zipfile.ZipFile(archive).testzip() is None


def test_every_changed_byte_of_an_archive_is_found(archive):
    content = archive.read_bytes()
    undecided = []
    for place, damaged in flips(content):
        archive.write_bytes(damaged)
        if archive_is_sound(archive) is not False:
            undecided.append(place - len(content))
    prefix, length = range(-71, -64), range(-73, -71)  # of the comment itself: torch takes no other length
    assert set(undecided) <= {*prefix, *length}


def test_an_archive_of_others_carries_no_hash(tmp_path):
    torch.save(TENSORS, tmp_path / "other.pt")
    assert archive_is_sound(tmp_path / "other.pt") is None
    (tmp_path / "empty.pt").write_bytes(b"")
    assert archive_is_sound(tmp_path / "empty.pt") is None
