"""Latent caches: written, resumed, read, sampled, and refused where anything does not match."""

import errno
import json
import math
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from eqvae.autoencoders import LatentStatistics, Normalization
from eqvae.data import ImageDataModule, ShapesSource
from eqvae.hashes import read_json, write_json
from eqvae.latents import LatentCache, LatentSpec, create_cache_writer
from eqvae.latents.shards import shards_of_process
from eqvae.randomness import keyed_normal, keyed_uniform
from tests.eqvae.tiny import tiny_autoencoder

NUM_IMAGES, SHARD_ROWS = 24, 10


def data_module(num_images=NUM_IMAGES, seed=0):
    return ImageDataModule(ShapesSource(num_images, 16, seed), evaluation_batch_size=7)


def open_writer(folder, autoencoder, data=None, dtype="float32", shard_rows=SHARD_ROWS, **options):
    dataset = (data or data_module()).description()
    return create_cache_writer(folder, autoencoder, dataset, dtype, shard_rows=shard_rows, **options)


def write(folder, autoencoder, **options):
    writer = open_writer(folder, autoencoder, **options)
    for batch in (options.get("data") or data_module()).predict_dataloader():
        writer.add(batch)
    writer.finish()
    return folder


def abandon(writer):
    """What the system does for a killed process: its lock goes, nothing else happens."""
    writer._lock.release()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


@pytest.fixture(scope="module")
def autoencoder():
    result, statistics = tiny_autoencoder(), LatentStatistics()
    for batch in data_module().predict_dataloader():
        posterior = result.encode(batch["image"])
        statistics.update(posterior.mean, posterior.std)
    result.normalization = statistics.normalization()
    return result


@pytest.fixture(scope="module")
def finished(autoencoder, tmp_path_factory):
    """A cache that no test changes."""
    return write(tmp_path_factory.mktemp("cache"), autoencoder)


@pytest.fixture
def own(autoencoder, tmp_path):
    """A cache that a test may damage."""
    return write(tmp_path / "cache", autoencoder)


def test_moments_of_images_and_flips(finished, autoencoder):
    cache, source = LatentCache(finished), ShapesSource(NUM_IMAGES, 16)
    images = data_module().sequential_loader("train").dataset.dataset.get_batch(torch.arange(NUM_IMAGES), None)["image"]
    ids = torch.tensor([23, 0, 9, 10, 19, 20])
    for suffix, encoded in (("", images), ("_flip", images.flip(-1))):
        posterior = autoencoder.encode(encoded[ids])
        # Encoded in a batch of another size, whose sums may take another order: 6e-8 each, through ten layers.
        torch.testing.assert_close(cache.rows(ids, f"mean{suffix}"), posterior.mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(cache.rows(ids, f"log_std{suffix}").exp(), posterior.std, rtol=0, atol=1e-5)
    assert torch.equal(cache.rows(ids, "index"), ids)
    assert cache.rows(ids, "label").tolist() == [source[i][1] for i in ids.tolist()]


def test_manifest_describes_the_cache(finished, autoencoder):
    cache = LatentCache(finished)
    assert len(cache) == NUM_IMAGES
    assert cache.num_classes == 10
    assert [shard["count"] for shard in cache.manifest["shards"]] == [10, 10, 4]
    assert cache.spec == LatentSpec.of(autoencoder, (4, 4, 4))
    assert cache.manifest["rounding_error"] == 0.0
    assert not list(finished.glob(".incomplete-*"))


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_rounding_is_recorded(tmp_path, autoencoder, finished, dtype, bound):
    cache = LatentCache(write(tmp_path, autoencoder, dtype=dtype))
    ids = torch.arange(NUM_IMAGES)
    exact, rounded = LatentCache(finished).rows(ids, "mean"), cache.rows(ids, "mean")
    assert rounded.dtype == getattr(torch, dtype)
    error = float((rounded.float() - exact).norm() / exact.norm())
    assert 0 < error <= cache.manifest["rounding_error"] * 1.01
    assert cache.manifest["rounding_error"] < bound


def test_latents_of_flips_are_not_flipped_latents(finished):
    cache, ids = LatentCache(finished), torch.arange(NUM_IMAGES)
    mean, flipped = cache.rows(ids, "mean"), cache.rows(ids, "mean_flip")
    assert (flipped - mean.flip(-1)).norm() / mean.norm() > 0.01


def test_keyed_samples_do_not_depend_on_the_batch(finished):
    cache, ids, keys = LatentCache(finished), torch.randperm(NUM_IMAGES), torch.arange(100, 100 + NUM_IMAGES)
    whole = cache.get_batch(ids, keys, seed=3)
    for size in (1, 5):
        parts = [cache.get_batch(i, k, seed=3) for i, k in zip(ids.split(size), keys.split(size))]
        for name in whole:
            assert torch.equal(torch.cat([part[name] for part in parts]), whole[name]), name
    assert not torch.equal(cache.get_batch(ids, keys + 1, seed=3)["latents"], whole["latents"])
    assert not torch.equal(cache.get_batch(ids, keys, seed=4)["latents"], whole["latents"])


def test_samples_are_of_the_image_or_its_flip(finished):
    cache, keys = LatentCache(finished), torch.arange(4000)
    ids = torch.full((4000,), 12)
    normalize = cache.spec.normalization.normalize
    mean, flipped = (normalize(cache.rows(ids[:1], name)) for name in ("mean", "mean_flip"))
    latents = cache.get_batch(ids, keys)["latents"]
    distance = [(latents - centre).square().sum((1, 2, 3)) for centre in (mean, flipped)]
    is_flipped = distance[1] < distance[0]
    assert abs(int(is_flipped.sum()) - 2000) < 5 * 4000**0.5 / 2

    std = cache.rows(ids[:1], "log_std").exp() * torch.tensor(cache.spec.normalization.scale)[:, None, None]
    unflipped = cache.get_batch(ids, keys, flip=False)["latents"]
    torch.testing.assert_close(unflipped.mean(0), mean[0], rtol=0, atol=float(5 * std.max() / 4000**0.5))
    torch.testing.assert_close(unflipped.std(0), std[0], rtol=0.08, atol=0)


def test_sample_uses_the_moments_of_its_side(finished):
    cache, ids = LatentCache(finished), torch.arange(NUM_IMAGES)
    noise = keyed_normal(ids, (4, 4, 4), seed=0, stream="posterior")
    flipped = keyed_uniform(ids, seed=0, stream="flip") < 0.5
    sides = [cache.rows(ids, f"mean{s}") + cache.rows(ids, f"log_std{s}").exp() * noise for s in ("", "_flip")]
    expected = cache.spec.normalization.normalize(torch.where(flipped[:, None, None, None], sides[1], sides[0]))
    # Values below 4, whose last bit is 2.4e-7: product and sum may be fused on one side, two roundings of it.
    torch.testing.assert_close(cache.get_batch(ids, ids)["latents"], expected, rtol=0, atol=1e-6)


def test_without_keys_come_unflipped_means(finished):
    cache, ids = LatentCache(finished), torch.tensor([3, 22])
    expected = cache.spec.normalization.normalize(cache.rows(ids, "mean"))
    batch = cache.get_batch(ids, None)
    assert torch.equal(batch["latents"], expected)
    assert torch.equal(batch["index"], ids)


def test_normalized_samples_have_unit_deviation(finished):
    ids = torch.arange(NUM_IMAGES)
    latents = LatentCache(finished).get_batch(ids, ids, flip=False)["latents"]
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), rtol=0, atol=0.05)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=0.05)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_resumed_cache_is_byte_identical(tmp_path, autoencoder, finished, done):
    writer = open_writer(tmp_path, autoencoder)
    batches = list(data_module().predict_dataloader())
    for batch in batches[:done]:
        writer.add(batch)
    abandon(writer)
    (tmp_path / ".incomplete-shard-00001.safetensors-abc").write_bytes(b"half")
    with pytest.raises(ValueError, match="no finished latent cache"):
        LatentCache(tmp_path)

    resumed = open_writer(tmp_path, autoencoder)
    assert resumed.num_written == 7 * done // SHARD_ROWS * SHARD_ROWS
    for batch in batches:
        resumed.add(batch)
    resumed.finish()
    assert contents(tmp_path) == contents(finished)


def test_finished_cache_is_written_again_unchanged(own, autoencoder):
    before = contents(own)
    write(own, autoencoder)
    assert contents(own) == before


@pytest.mark.parametrize("change", ["autoencoder", "images", "dtype", "shard_rows"])
def test_folder_of_another_cache_is_refused(own, autoencoder, change):
    options = {
        "autoencoder": {"autoencoder": tiny_autoencoder(seed=1)},
        "images": {"data": data_module(seed=1)},
        "dtype": {"dtype": "float16"},
        "shard_rows": {"shard_rows": 5},
    }[change]
    before = contents(own)
    for _ in range(2):  # a refusal leaves no lock behind
        with pytest.raises(ValueError, match=r"holds a cache with another .*: remove it") as error:
            open_writer(own, **({"autoencoder": autoencoder} | options))
        assert "\n" not in str(error.value)
    assert contents(own) == before


def test_second_writer_is_refused(tmp_path, autoencoder):
    first = open_writer(tmp_path, autoencoder)
    with pytest.raises(
        ValueError, match=rf"^latent cache \S+ is in use by process {os.getpid()} on \S+, since .*: wait for it"
    ):
        open_writer(tmp_path, autoencoder)
    abandon(first)
    abandon(open_writer(tmp_path, autoencoder))


def test_incomplete_cache_cannot_be_finished(tmp_path, autoencoder):
    writer = open_writer(tmp_path, autoencoder)
    writer.add(next(iter(data_module().predict_dataloader())))
    with pytest.raises(ValueError, match="cached 0 of 24 images"):
        writer.finish()
    assert not (tmp_path / "manifest.json").exists()
    assert not list(tmp_path.glob("shard-*")), "a shard that is not full was written"
    abandon(writer)


def test_unknown_dtype(tmp_path, autoencoder):
    with pytest.raises(ValueError, match="cache dtype 'float8' is unknown"):
        open_writer(tmp_path, autoencoder, dtype="float8")


def refuse(folder, pattern):
    with pytest.raises(ValueError, match=pattern) as error:
        LatentCache(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_damaged_shard_is_refused(own):
    path = own / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refuse(own, r"shard-00001\.safetensors is damaged")
    path.unlink()
    refuse(own, r"shard-00001\.safetensors is missing")


def test_truncated_shard_is_refused_even_unverified(own):
    path = own / "shard-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"shard-00002\.safetensors cannot be read"):
        LatentCache(own, verify=False)


def test_manifest_missing_damaged_or_of_another_format(own):
    path = own / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format_version": 99}))
    refuse(own, "format version 99")
    write_json(path, {key: value for key, value in manifest.items() if key != "format_version"})
    refuse(own, "format version None")
    path.write_text("{")
    refuse(own, r"manifest\.json is damaged: .*: write the cache again")
    path.unlink()
    refuse(own, r"manifest\.json is missing")


def test_a_normalization_that_cannot_be_is_refused_with_the_manifest(own):
    path = own / "manifest.json"
    manifest = json.loads(path.read_text())
    for scale, pattern in (([math.nan] * 4, "finite numbers, got nan"), ([1.0] * 3, "shift has 4 numbers, scale 3")):
        latents = manifest["latents"] | {"normalization": manifest["latents"]["normalization"] | {"scale": scale}}
        write_json(path, manifest | {"latents": latents})
        refuse(own, rf"manifest\.json .*{pattern}")


def test_spec_refuses_another_autoencoder_or_normalization(finished, autoencoder):
    spec = LatentCache(finished).spec
    spec.require_autoencoder(autoencoder, "the cache")
    with pytest.raises(ValueError, match="the cache belongs to another autoencoder") as error:
        spec.require_autoencoder(tiny_autoencoder(seed=1), "the cache")
    assert "\n" not in str(error.value)
    renormalized = tiny_autoencoder()
    renormalized.normalization = Normalization((0.0,), (2.0,))
    with pytest.raises(ValueError, match="its latent normalization is another"):
        spec.require_autoencoder(renormalized, "the cache")


def test_cache_of_single_samples(finished, tmp_path, autoencoder):
    writer = open_writer(tmp_path, autoencoder, content="sample")
    for batch in data_module().predict_dataloader():
        writer.add(batch)
    writer.finish()
    cache, ids = LatentCache(tmp_path), torch.arange(NUM_IMAGES)
    moments = LatentCache(finished)
    for suffix in ("", "_flip"):
        noise = keyed_normal(ids, (4, 4, 4), seed=0, stream=f"cached{suffix}")
        expected = moments.rows(ids, f"mean{suffix}") + moments.rows(ids, f"log_std{suffix}").exp() * noise
        torch.testing.assert_close(cache.rows(ids, f"sample{suffix}"), expected, rtol=0, atol=1e-5)
    normalize = cache.spec.normalization.normalize
    assert torch.equal(cache.get_batch(ids, None)["latents"], normalize(cache.rows(ids, "sample")))
    assert torch.equal(cache.get_batch(ids, ids, flip=False)["latents"], normalize(cache.rows(ids, "sample")))
    flipped = (keyed_uniform(ids, seed=0, stream="flip") < 0.5)[:, None, None, None]
    expected = torch.where(flipped, cache.rows(ids, "sample_flip"), cache.rows(ids, "sample"))
    assert torch.equal(cache.get_batch(ids, ids)["latents"], normalize(expected))
    size = [sum(path.stat().st_size for path in folder.glob("shard-*")) for folder in (finished, tmp_path)]
    assert size[1] < 0.6 * size[0]
    with pytest.raises(ValueError, match="cache content 'codes' is unknown"):
        open_writer(tmp_path, autoencoder, content="codes")


def test_swapped_extra_and_wrong_dtype_shards_are_refused(own):
    first, second = own / "shard-00000.safetensors", own / "shard-00001.safetensors"
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    refuse(own, r"shard-00000\.safetensors is damaged \(expected sha256")
    first.write_bytes(content[0])
    second.write_bytes(content[1])
    (own / "shard-00007.safetensors").write_bytes(content[0])
    refuse(own, r"shard-00007\.safetensors is not in the manifest")
    (own / "shard-00007.safetensors").unlink()
    first.write_bytes(b"")
    refuse(own, r"shard-00000\.safetensors is damaged")
    halves = {name: value.half() if value.is_floating_point() else value for name, value in load_file(second).items()}
    save_file(halves, first)
    with pytest.raises(ValueError, match=r"shard-00000\.safetensors: mean is float16 .*manifest says float32"):
        LatentCache(own, verify=False)


@pytest.mark.reliability(19, counts="changes")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"image_size": 32}, "image_size"),
        ({"crop": "random"}, "crop"),
        ({"preprocessing_version": 99}, "preprocessing_version"),
        ({"fingerprint": "other files"}, "fingerprint"),
    ],
)
def test_a_cache_of_other_images_says_what_changed(finished, tmp_path, autoencoder, change, name):
    cache, description = LatentCache(finished), data_module().description()
    cache.require_images(description)
    with pytest.raises(ValueError, match=rf"was made of other images \({name}\): write it again"):
        cache.require_images(description | {"fingerprint": "also changed"} | change)
    abandon(create_cache_writer(tmp_path, autoencoder, description, "float32"))
    with pytest.raises(ValueError, match=rf"holds a cache with another dataset \({name}\): remove it"):
        create_cache_writer(tmp_path, autoencoder, description | change, "float32")


def test_full_disk_is_one_line_and_the_rest_goes_on(tmp_path, autoencoder, finished, monkeypatch):
    writer = open_writer(tmp_path, autoencoder)
    batches = list(data_module().predict_dataloader())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        writer.add(batches[0])
        with pytest.raises(ValueError, match=r"^no space for .*shard-00000\.safetensors \(\d+ bytes\): make room.*$"):
            writer.add(batches[1])
    abandon(writer)
    assert not list(tmp_path.glob(".incomplete-*"))
    write(tmp_path, autoencoder)
    assert contents(tmp_path) == contents(finished)


def full_disk(handle):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 7])
def test_every_shard_has_one_process(num_replicas):
    shards = [n for rank in range(num_replicas) for n in shards_of_process(101, 10, rank, num_replicas)]
    assert shards == list(range(11))


@pytest.mark.parametrize(("num_replicas", "done"), [(2, True), (3, True), (2, False), (3, False)])
def test_more_processes_go_on_with_what_one_has_written(num_replicas, done, tmp_path, autoencoder, finished):
    """The first one's journal forgot the shards of the others, which wrote theirs again, finished or not."""
    if done:
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    else:
        writer = open_writer(tmp_path, autoencoder)
        for batch in data_module().predict_dataloader():
            writer.add(batch)
        abandon(writer)
    writers = [open_writer(tmp_path, autoencoder, rank=rank, num_replicas=num_replicas) for rank in range(num_replicas)]
    assert [writer.num_written for writer in writers] == [len(writer.rows) for writer in writers]
    for writer in reversed(writers):
        writer.finish()
    assert contents(tmp_path) == contents(finished)


def test_of_two_records_of_a_shard_that_of_its_file_counts(tmp_path, autoencoder, finished):
    """As where a process wrote a damaged shard again, with other bits, and stopped."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / ".journal.json"
    journal = read_json(path)
    wrong = [entry | {"sha256": "0" * 64} for entry in journal["shards"]]
    for name in (".journal-1.json", ".journal-a.json"):
        write_json(tmp_path / name, journal | {"shards": wrong})
    writer = open_writer(tmp_path, autoencoder)
    assert writer.num_written == NUM_IMAGES
    writer.finish()
    assert contents(tmp_path) == contents(finished)
