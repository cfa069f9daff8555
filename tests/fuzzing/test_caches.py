"""Caches whose manifest or journal is not what it was: refused by name, or read as if nothing had happened."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eqvae.autoencoders import load_autoencoder
from eqvae.data import ImageDataModule, ShapesSource
from eqvae.hashes import read_json, write_json
from eqvae.latents import FeatureCache, FeatureRows, ShardWriter, create_cache_writer, open_cache
from eqvae.latents.manifest import SHARD
from tests.eqvae.tiny import tiny_autoencoder
from tests.fuzzing.mutations import REFUSED, changed_bytes, changed_values, fuzzing, outcome

NUM_IMAGES, SHARD_ROWS = 7, 3
IDS = torch.arange(NUM_IMAGES)
KINDS = ("latents", "tokens", "features")
VQ = {"block_out_channels": [8, 8], "down_block_types": ["DownEncoderBlock2D"] * 2, "latent_channels": 4}
VQ |= {"up_block_types": ["UpDecoderBlock2D"] * 2, "norm_num_groups": 4, "num_vq_embeddings": 8, "vq_embed_dim": 4}


class Writing:
    """How each kind of cache is written."""

    def __init__(self):
        self.data = ImageDataModule(ShapesSource(NUM_IMAGES, 8), evaluation_batch_size=NUM_IMAGES)
        (self.batch,) = self.data.predict_dataloader()
        self.about = self.data.description()
        self.autoencoders = {"latents": tiny_autoencoder(), "tokens": load_autoencoder(VQ).freeze()}
        self.encoder = {"name": "x", "fingerprint": "f" * 64, "grid": 2, "width": 3}

    def write(self, kind: str, folder: Path) -> None:
        if kind == "features":
            rows = FeatureRows(lambda images: images[:, :, :2, :2].flatten(2).mT, self.encoder)
            writer = ShardWriter(folder, rows, self.about, SHARD_ROWS)
        else:
            writer = create_cache_writer(folder, self.autoencoders[kind], self.about, shard_rows=SHARD_ROWS)
        writer.add(self.batch)
        writer.finish()


@pytest.fixture(scope="module")
def writing():
    return Writing()


@pytest.fixture(scope="module")
def whole(writing, tmp_path_factory):
    """A cache of each kind."""
    root = tmp_path_factory.mktemp("whole")
    for kind in KINDS:
        writing.write(kind, root / kind)
    return root


def read(folder: Path) -> list[torch.Tensor]:
    """All that a training gets from a cache, sampled and not."""
    if "features" in folder.name:
        cache = FeatureCache(folder)
        return [cache.targets(IDS, flip == IDS % 2) for flip in (0, 1)]
    cache = open_cache(folder)
    batches = [cache.get_batch(IDS, keys) for keys in (None, IDS)]
    assert all(0 <= label < cache.num_classes for label in batches[0]["label"].tolist())
    assert cache.autoencoder_source is None or isinstance(cache.autoencoder_source, str | dict)
    return [batch[name] for batch in batches for name in ("latents", "label", "flipped")]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def may_differ(changed: dict, manifest: dict) -> bool:
    """Whether the normalization is another, which stands nowhere else in a cache."""
    latents = manifest.get("latents", {})
    return changed.get("latents", {}).get("normalization") != latents.get("normalization")


@pytest.mark.parametrize("kind", KINDS)
@fuzzing(60)
@given(draw=st.data())
def test_a_manifest_of_other_values_is_refused_or_means_the_same(kind, whole, draw):
    """Also with a hash that fits, as another program would write it."""
    folder = whole / kind
    manifest = read_json(folder / "manifest.json")
    changed = draw.draw(changed_values(manifest))
    with TemporaryDirectory(dir=whole) as place:
        copy = Path(shutil.copytree(folder, Path(place) / kind))
        write_json(copy / "manifest.json", changed)
        found = outcome(lambda: read(copy), copy)
        if found is not REFUSED:
            assert all(value.isfinite().all() for value in found)
            assert equal(found, read(folder)) or may_differ(changed, manifest)


@pytest.mark.parametrize("kind", KINDS)
@fuzzing(60)
@given(draw=st.data())
def test_a_manifest_of_other_bytes_is_refused_or_means_the_same(kind, whole, draw):
    folder = whole / kind
    with TemporaryDirectory(dir=whole) as place:
        copy = Path(shutil.copytree(folder, Path(place) / kind))
        (copy / "manifest.json").write_bytes(draw.draw(changed_bytes((folder / "manifest.json").read_bytes())))
        found = outcome(lambda: read(copy), copy)
        assert found is REFUSED or equal(found, read(folder))


def known_by(folder: Path) -> dict:
    """All of a manifest that anything is decided by: not how far latents were rounded, nor what nobody knows."""
    manifest = read_json(folder / "manifest.json")
    shards = [{key: shard[key] for key in SHARD} for shard in manifest["shards"]]
    return manifest | {"shards": shards, "rounding_error": None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", ".journal.json"])
@fuzzing(25)
@given(draw=st.data())
def test_a_cache_is_written_on_as_it_was_or_refused(kind, name, whole, writing, draw):
    """The writer reads either of them; what it then leaves is the cache that it would have written alone."""
    folder = whole / kind
    with TemporaryDirectory(dir=whole) as place:
        copy = Path(shutil.copytree(folder, Path(place) / kind))
        for other in {"manifest.json", ".journal.json"} - {name}:
            (copy / other).unlink()
        content = read_json(copy / name)
        if draw.draw(st.booleans()):
            write_json(copy / name, draw.draw(changed_values(content)))
        else:
            (copy / name).write_bytes(draw.draw(changed_bytes((copy / name).read_bytes())))
        if outcome(lambda: writing.write(kind, copy), copy) is not REFUSED:
            assert equal(read(copy), read(folder))
            assert known_by(copy) == known_by(folder)
