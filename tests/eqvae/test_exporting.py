"""Exported folders: whole or not at all, over nothing but an earlier export, damaged files found by name."""

import json
import os

import pytest
import torch
from diffusers import AutoencoderKL

from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.autoencoders.exporting import read_export_record, remove_export
from eqvae.files import TEMPORARY_PREFIX, sha256_of_file
from tests.eqvae.tiny import tiny_autoencoder

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    tiny_autoencoder().save_pretrained(tmp_path / "autoencoder", {"num_steps": 7})
    return tmp_path / "autoencoder"


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_the_record_has_the_hash_of_every_file_and_its_own(folder):
    record = read_export_record(folder)
    assert sorted(record["files"]) == ["config.json", WEIGHTS]
    assert record["card"] == sha256_of_file(folder / "README.md")
    assert all(sha256_of_file(folder / name) == sha256 for name, sha256 in record["files"].items())
    assert record["origin"] == {"num_steps": 7}
    assert "sha256" in json.loads((folder / "normalization.json").read_text())
    assert AutoencoderKL.from_pretrained(folder).config.latent_channels == 4


def test_an_earlier_export_is_replaced_whole(folder):
    other = tiny_autoencoder(seed=1)
    other.save_pretrained(folder)
    assert load_autoencoder(folder).fingerprint() == other.fingerprint()
    assert names(folder.parent) == ["autoencoder"]


def test_an_export_without_hashes_is_replaced_too(folder):
    """As earlier versions wrote it: no hashes, no card."""
    (folder / "README.md").unlink()
    (folder / "normalization.json").write_text(json.dumps(Normalization().to_dict()))
    assert load_autoencoder(folder)
    tiny_autoencoder(seed=1).save_pretrained(folder)
    assert "files" in read_export_record(folder)


@pytest.mark.parametrize("place", ["autoencoder", "elsewhere"])
def test_what_no_export_wrote_is_never_touched(folder, place):
    folder = folder.parent / place
    folder.mkdir(exist_ok=True)
    (folder / "precious.txt").write_text("years of work")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for write in (tiny_autoencoder(seed=1).save_pretrained, remove_export):
        with pytest.raises(ValueError, match=rf"{folder} holds precious\.txt, which no export wrote") as error:
            write(folder)
        assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_card_that_was_edited_is_kept_and_does_not_count_as_damage(folder):
    with open(folder / "README.md", "a") as card:
        card.write("Written by hand.")
    assert load_autoencoder(folder)
    with pytest.raises(ValueError, match=r"holds README\.md, which no export wrote"):
        tiny_autoencoder(seed=1).save_pretrained(folder)
    assert (folder / "README.md").read_text().endswith("Written by hand.")


def test_a_downloaded_autoencoder_is_no_export(folder):
    (folder / "normalization.json").unlink()
    with pytest.raises(ValueError, match=r"holds README\.md, which no export wrote"):
        tiny_autoencoder(seed=1).save_pretrained(folder)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "autoencoder").write_text("")
    with pytest.raises(ValueError, match="is no folder"):
        tiny_autoencoder().save_pretrained(tmp_path / "autoencoder")


def test_a_failed_export_leaves_the_earlier_one(folder, monkeypatch):
    before = load_autoencoder(folder).fingerprint()

    def full_disk(*_, **__):
        raise OSError(28, os.strerror(28), "weights")

    other = tiny_autoencoder(seed=1)
    monkeypatch.setattr(other.model, "save_pretrained", full_disk)
    with pytest.raises(ValueError, match=rf"{folder} cannot be written: .*No space left"):
        other.save_pretrained(folder)
    assert load_autoencoder(folder).fingerprint() == before
    assert names(folder.parent) == ["autoencoder"]


def test_what_a_killed_export_left_is_swept(folder):
    leftover = folder.parent / f"{TEMPORARY_PREFIX}autoencoder-abc"
    leftover.mkdir()
    (leftover / "config.json").touch()
    tiny_autoencoder(seed=1).save_pretrained(folder)
    assert names(folder.parent) == ["autoencoder"]


def test_weights_that_are_not_finite_are_not_exported(folder):
    broken = tiny_autoencoder()
    with torch.no_grad():
        broken.last_layer.view(-1)[3] = float("nan")
    with pytest.raises(ValueError, match=r"is not written: decoder\.conv_out\.weight is not finite"):
        broken.save_pretrained(folder)
    assert load_autoencoder(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "normalization.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    if damage == "flip":
        place = len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "truncate":
        path.write_bytes(content[:-10])
    else:
        path.unlink()
    if (name, damage) == ("normalization.json", "remove"):
        assert load_autoencoder(folder).normalization == Normalization(), "as any other folder"
        return
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
        load_autoencoder(folder)
    assert "\n" not in str(error.value)
