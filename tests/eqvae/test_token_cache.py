"""Token caches: written, resumed, read, refused; files and rules are those of latent caches."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.places import describe_place
from eqvae.data import ImageDataModule, ShapesSource
from eqvae.files import sha256_of_file
from eqvae.hashes import read_json, write_json
from eqvae.latents import (
    LatentCache,
    LatentSpec,
    TokenCache,
    TokenRows,
    TokenSpec,
    create_cache_writer,
    open_cache,
)
from eqvae.latents.tokens import MAX_CODES
from eqvae.randomness import keyed_uniform
from tests.eqvae.test_autoencoders_vq import tiny_vq
from tests.eqvae.tiny import tiny_autoencoder

NUM_IMAGES, SHARD_ROWS, CODES = 24, 10, 16


def data_module(seed=0):
    return ImageDataModule(ShapesSource(NUM_IMAGES, 16, seed), evaluation_batch_size=7)


def write(folder, autoencoder, seed=0, stop_after=None):
    data = data_module(seed)
    writer = create_cache_writer(folder, autoencoder, data.description(), shard_rows=SHARD_ROWS)
    for number, batch in enumerate(data.predict_dataloader()):
        if number == stop_after:
            writer._lock.release()  # what the system does for a killed process
            return folder
        writer.add(batch)
    writer.finish()
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


@pytest.fixture(scope="module")
def autoencoder():
    return tiny_vq().freeze()


@pytest.fixture(scope="module")
def finished(autoencoder, tmp_path_factory):
    """A cache that no test changes."""
    return write(tmp_path_factory.mktemp("cache"), autoencoder)


def test_tokens_of_images_and_flips(finished, autoencoder):
    cache = open_cache(finished)
    assert isinstance(cache, TokenCache)
    images = data_module().sequential_loader("train").dataset.dataset.get_batch(torch.arange(NUM_IMAGES), None)["image"]
    ids = torch.tensor([23, 0, 9, 10, 19, 20])
    for name, encoded in (("tokens", images), ("tokens_flip", images.flip(-1))):
        stored = cache.rows(ids, name)
        assert stored.dtype == torch.int64
        agreeing = (stored == autoencoder.encode(encoded[ids]).indices).float().mean()
        assert agreeing > 0.99, name  # another batch size may round a tie the other way
    assert len(cache.rows(torch.arange(NUM_IMAGES), "tokens").unique()) > 2, "the case is too easy"
    assert torch.equal(cache.rows(ids, "index"), ids)


def test_manifest_describes_the_cache(finished, autoencoder):
    cache = open_cache(finished)
    assert cache.spec == TokenSpec.of(autoencoder, (4, 4))
    assert cache.spec.num_codes == CODES
    assert LatentSpec.from_dict(cache.spec.to_dict()) == cache.spec
    assert cache.spec.backbone_config == {"num_codes": CODES, "input_size": 4}
    assert cache.manifest["dtype"] == "uint16"
    assert cache.manifest["autoencoder"] == describe_place(autoencoder.source, finished), "sample.py decodes with it"
    assert load_file(finished / "shard-00000.safetensors")["tokens"].dtype == torch.uint16
    assert [shard["count"] for shard in cache.manifest["shards"]] == [10, 10, 4]


def test_flips_are_keyed_by_position(finished):
    cache, ids, keys = open_cache(finished), torch.randperm(NUM_IMAGES), torch.arange(100, 100 + NUM_IMAGES)
    batch = cache.get_batch(ids, keys, seed=3)
    assert batch["latents"].shape == (NUM_IMAGES, 4, 4)
    flipped = keyed_uniform(keys, seed=3, stream="flip") < 0.5
    expected = torch.where(flipped[:, None, None], cache.rows(ids, "tokens_flip"), cache.rows(ids, "tokens"))
    assert torch.equal(batch["latents"], expected)
    assert 0 < flipped.sum() < NUM_IMAGES
    for keys_or_none, flip in ((None, True), (keys, False)):
        assert torch.equal(cache.get_batch(ids, keys_or_none, flip)["latents"], cache.rows(ids, "tokens"))


@pytest.mark.parametrize("done", [1, 2, 3])
def test_resumed_cache_is_byte_identical(tmp_path, autoencoder, finished, done):
    write(tmp_path, autoencoder, stop_after=done)
    with pytest.raises(ValueError, match="no finished latent cache"):
        open_cache(tmp_path)
    assert contents(write(tmp_path, autoencoder)) == contents(finished)


def test_folder_of_another_cache_is_refused(tmp_path, autoencoder):
    write(tmp_path, autoencoder)
    before = contents(tmp_path)
    for other, seed, name in ((tiny_vq(seed=1).freeze(), 0, "autoencoder_fingerprint"), (autoencoder, 1, "dataset")):
        with pytest.raises(ValueError, match=f"holds a cache with another {name}"):
            write(tmp_path, other, seed)
    with pytest.raises(ValueError, match="holds a cache with another autoencoder_fingerprint, moments, dtype"):
        create_cache_writer(tmp_path, tiny_autoencoder(), data_module().description(), shard_rows=SHARD_ROWS)
    assert contents(tmp_path) == before


def test_all_sixteen_bits_are_kept(tmp_path, autoencoder, monkeypatch):
    tokens = torch.arange(NUM_IMAGES * 16).view(NUM_IMAGES, 4, 4) * 170 % MAX_CODES
    monkeypatch.setattr(TokenRows, "encode", lambda self, images, index, suffix: {"tokens": images})
    writer = create_cache_writer(tmp_path, autoencoder, data_module().description(), shard_rows=SHARD_ROWS)
    writer.add({"image": tokens, "index": torch.arange(NUM_IMAGES), "label": torch.zeros(NUM_IMAGES).long()})
    writer.finish()
    assert tokens.max() > 1 << 15
    manifest = read_json(tmp_path / "manifest.json")
    manifest["latents"]["num_codes"] = MAX_CODES
    write_json(tmp_path / "manifest.json", manifest)
    assert torch.equal(open_cache(tmp_path).rows(torch.arange(NUM_IMAGES), "tokens"), tokens)


def test_more_codes_than_sixteen_bits_are_refused(tmp_path):
    large = load_autoencoder({"num_vq_embeddings": MAX_CODES + 1, "block_out_channels": [4], "norm_num_groups": 4})
    with pytest.raises(ValueError, match="has 65537 codes, token caches hold at most 65536"):
        create_cache_writer(tmp_path / "new", large, data_module().description())
    assert not (tmp_path / "new").exists()


def test_kinds_are_not_confused(finished, autoencoder, tmp_path):
    with pytest.raises(ValueError, match="is a cache of tokens, not of latents: give another cache"):
        LatentCache(finished)
    data = data_module()
    writer = create_cache_writer(tmp_path, tiny_autoencoder(), data.description(), "float32")
    for batch in data.predict_dataloader():
        writer.add(batch)
    writer.finish()
    assert type(open_cache(tmp_path)) is LatentCache
    with pytest.raises(ValueError, match="is a cache of latents, not of tokens"):
        TokenCache(tmp_path)


def test_damage_is_named(tmp_path, autoencoder):
    path = write(tmp_path, autoencoder) / "shard-00001.safetensors"
    shard = load_file(path)
    tokens = shard["tokens"].view(torch.int16).clone()
    tokens[3, 1, 2] = 70
    save_file(shard | {"tokens": tokens.view(torch.uint16)}, path)
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors is damaged"):
        open_cache(tmp_path)
    manifest = read_json(tmp_path / "manifest.json")
    manifest["shards"][1]["sha256"] = sha256_of_file(path)
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(ValueError, match=r"image 13 has token 70, the codebook ends at 15: write the cache again"):
        open_cache(tmp_path).get_batch(torch.tensor([2, 13]), None)


@torch.no_grad()
def test_tokens_decode_by_lookup(finished, autoencoder):
    cache = open_cache(finished)
    tokens = cache.rows(torch.arange(2), "tokens")
    images = cache.spec.decode(autoencoder, tokens)
    assert images.shape == (2, 3, 16, 16)
    torch.testing.assert_close(images, autoencoder.decode(autoencoder.lookup(tokens)))
