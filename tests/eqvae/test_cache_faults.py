"""Caches whose files were damaged, lost or made up: refused with the file's name, or written again."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from eqvae.data import ImageDataModule, ShapesSource
from eqvae.files import sha256_of_file
from eqvae.hashes import read_json, write_json
from eqvae.latents import FeatureCache, FeatureRows, LatentCache, ShardWriter, create_cache_writer, open_cache
from tests.eqvae.tiny import tiny_autoencoder

NUM_IMAGES, SHARD_ROWS = 48, 5  # ten shards, the last one short


def data_module(seed=0):
    return ImageDataModule(ShapesSource(NUM_IMAGES, 16, seed), evaluation_batch_size=7)


def open_writer(folder, seed=0):
    return create_cache_writer(folder, tiny_autoencoder(seed=seed), data_module().description(), shard_rows=SHARD_ROWS)


def watch(rows, encoded):
    """Note which images are encoded, flips aside."""
    encode = rows.encode

    def watched(images, index, suffix):
        encoded.extend([] if suffix else index.tolist())
        return encode(images, index, suffix)

    rows.encode = watched


def write(folder, seed=0):
    """A whole cache; returns which images were encoded."""
    writer, encoded = open_writer(folder, seed), []
    watch(writer.format, encoded)
    for batch in data_module().predict_dataloader():
        writer.add(batch)
    writer.finish()
    return encoded


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    write(folder)
    return folder


@pytest.fixture
def own(finished, tmp_path):
    """A cache that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "cache"))


def _flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[int(path.stem[-5:]) * 97 % len(content)] ^= 1 << int(path.stem[-1]) % 8
    path.write_bytes(content)


def _swap(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _other_dtype(path: Path, other: Path) -> None:
    save_file({name: value.float() for name, value in load_file(path).items()}, path)


DAMAGE = {
    "truncated": lambda path, other: path.write_bytes(path.read_bytes()[: -(int(path.stem[-1]) + 1) * 31]),
    "empty": lambda path, other: path.write_bytes(b""),
    "flipped": _flip,
    "missing": lambda path, other: path.unlink(),
    "swapped": _swap,
    "extra": lambda path, other: shutil.copy(path, path.with_stem(f"shard-1{path.stem[-4:]}")),
    "dtype": _other_dtype,
}


@pytest.mark.reliability(15, counts="shards")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("number", range(10))
def test_a_damaged_shard_is_refused_with_its_name_and_written_again(own, finished, damage, number):
    path, other = (own / f"shard-{each:05d}.safetensors" for each in (number, (number + 1) % 10))
    DAMAGE[damage](path, other)
    with pytest.raises(ValueError, match=r"latent shard .*shard-\d{5}\.safetensors") as error:
        LatentCache(own)
    assert "\n" not in str(error.value)
    named = [path.with_stem(f"shard-1{path.stem[-4:]}").name] if damage == "extra" else [path.name, other.name]
    assert any(name in str(error.value) for name in named)
    if damage not in ("missing", "extra"):
        assert (
            f"expected sha256 {read_json(own / 'manifest.json')['shards'][number]['sha256'][:12]}" in str(error.value)
            or damage == "swapped"
        )
    if damage == "extra":
        return  # another's file; a writer leaves it alone
    encoded = write(own)
    assert contents(own) == contents(finished)
    lost = [number, (number + 1) % 10] if damage == "swapped" else [number]
    needed = {index for index in range(NUM_IMAGES) if index // SHARD_ROWS in lost}
    assert needed <= set(encoded)
    assert len(encoded) < len(needed) + 14 * len(lost), "more than the batches with lost images was encoded"


def test_predict_says_which_shard_it_writes_again(own, capsys):
    (own / "shard-00003.safetensors").unlink()
    _flip(own / "shard-00007.safetensors", own)
    write(own)
    said = capsys.readouterr().out
    assert f"{own}/shard-00003.safetensors is missing: it is written again" in said
    assert f"{own}/shard-00007.safetensors is damaged: it is written again" in said
    LatentCache(own)


def test_a_shard_that_is_lost_while_the_others_are_written_is_no_success(tmp_path):
    writer = open_writer(tmp_path)
    for batch in data_module().predict_dataloader():
        writer.add(batch)
    (tmp_path / "shard-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard-00002\.safetensors is missing: run predict again"):
        writer.finish()
    assert not (tmp_path / "manifest.json").exists()
    writer._lock.release()
    write(tmp_path)
    LatentCache(tmp_path)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "unhashed", "lost"])
def test_a_damaged_journal_is_replaced_by_the_manifest_or_refused(own, finished, damage):
    journal = own / ".journal.json"
    content = journal.read_bytes()
    changed = {
        "flipped": content.replace(b'"count": 5', b'"count": 4', 1),
        "cut": content[:-30],
        "empty": b"",
        "unhashed": json.dumps({key: value for key, value in json.loads(content).items() if key != "sha256"}).encode(),
    }
    journal.write_bytes(changed[damage]) if damage in changed else journal.unlink()
    assert write(own) == [], "all shards are in the manifest"
    assert contents(own) == contents(finished)

    (own / "manifest.json").unlink()
    journal.write_bytes(changed[damage]) if damage in changed else journal.unlink()
    pattern = (
        "shards are in no journal" if damage == "lost" else r"\.journal\.json (is damaged|is no journal|has format)"
    )
    for _ in range(2):  # a refusal leaves no lock behind
        with pytest.raises(ValueError, match=pattern) as error:
            open_writer(own)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["manifest.json", ".journal.json"])
def test_files_of_an_earlier_release_say_cache_again(own, name):
    for each in ("manifest.json", ".journal.json"):
        content = read_json(own / each)
        (content.get("identity", content))["format_version"] = 1
        (own / each).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="format version 1, this release reads 2: cache again"):
        LatentCache(own) if name == "manifest.json" else open_writer(own)


OUTSIDE = ["../../outside.safetensors", "/etc/passwd", "shard-00000.safetensors/../x", "shard-0.safetensors"]
OUTSIDE += ["shard-00001.safetensors", "shard-00000.safetensors\x00", "", 7, None, ["shard-00000.safetensors"]]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_that_names_a_file_elsewhere_is_refused(own, name):
    shutil.copy(own / "shard-00000.safetensors", own.parent / "outside.safetensors")
    manifest = read_json(own / "manifest.json")
    manifest["shards"][0]["file"] = name
    write_json(own / "manifest.json", manifest)
    with pytest.raises(ValueError, match=r"manifest\.json is not a latent cache manifest \(.*shard") as error:
        LatentCache(own)
    assert "\n" not in str(error.value)
    journal = read_json(own / ".journal.json")
    journal["shards"][0]["file"] = name
    write_json(own / ".journal.json", journal)
    if name != "shard-00001.safetensors":
        with pytest.raises(ValueError, match=r"\.json is (no journal|not a latent cache manifest)"):
            open_writer(own)


def test_shards_that_changed_places_in_the_manifest_are_refused(own):
    """With their hashes, so that only what is in them tells."""
    manifest = read_json(own / "manifest.json")
    first, second = (own / entry["file"] for entry in manifest["shards"][:2])
    _swap(first, second)
    for entry in manifest["shards"][:2]:
        entry["sha256"] = sha256_of_file(own / entry["file"])
    write_json(own / "manifest.json", manifest)
    with pytest.raises(ValueError, match=r"shard-00000\.safetensors: its images are not 0 and the following"):
        LatentCache(own)


def test_a_lost_feature_shard_is_written_again(tmp_path):
    encoder = {"name": "x", "fingerprint": "y", "grid": 2, "width": 3}

    def write_features():
        rows = FeatureRows(lambda images: images[:, :, :2, :2].flatten(2).mT, encoder, "float32")
        writer, missing = ShardWriter(tmp_path, rows, data_module().description(), SHARD_ROWS), []
        for batch in data_module().predict_dataloader():
            missing += batch["index"][writer.missing(batch["index"])].tolist()
            writer.add(batch)
        writer.finish()
        return missing

    assert write_features() == list(range(NUM_IMAGES))
    before = contents(tmp_path)
    assert write_features() == []
    (tmp_path / "shard-00004.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard-00004\.safetensors is missing"):
        FeatureCache(tmp_path)
    assert write_features() == [20, 21, 22, 23, 24]
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match="is a cache of features, not of latents"):
        open_cache(tmp_path)
