"""Autoencoder folders and files that are not as they were: refused by name at once, or the same autoencoder."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from eqvae.autoencoders import load_autoencoder
from tests.eqvae.tiny import tiny_autoencoder
from tests.fuzzing.mutations import REFUSED, changed_bytes, changed_values, fuzzing, outcome

IMAGES = torch.linspace(-1, 1, 3 * 8 * 8).view(1, 3, 8, 8)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An export, and what a download is: the same without a record of hashes."""
    root = tmp_path_factory.mktemp("autoencoders")
    tiny_autoencoder(2).save_pretrained(root / "exported")
    shutil.copytree(root / "exported", root / "downloaded", ignore=shutil.ignore_patterns("normalization.json"))
    return root


def decoded(source: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized latents and reconstruction."""
    autoencoder = load_autoencoder(source).freeze()
    latents = autoencoder.encode(IMAGES).mean
    return autoencoder.normalization.normalize(latents), autoencoder.decode(latents)


def is_sound(found: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in found) and found[1].shape == IMAGES.shape


@fuzzing(80)
@given(draw=st.data())
def test_a_config_of_other_values_is_refused_or_decodes(folders, draw):
    """Of a downloaded folder, which has no hashes."""
    config = json.loads((folders / "downloaded/config.json").read_bytes())
    with TemporaryDirectory(dir=folders) as place:
        copy = Path(shutil.copytree(folders / "downloaded", Path(place) / "folder"))
        (copy / "config.json").write_text(json.dumps(draw.draw(changed_values(config))))
        found = outcome(lambda: decoded(copy), copy)
        assert found is REFUSED or is_sound(found)


@pytest.mark.parametrize("kind", ["exported", "downloaded"])
@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
@fuzzing(40)
@given(draw=st.data())
def test_a_folder_of_other_bytes_is_refused_or_decodes(kind, name, folders, draw):
    """Where hashes were recorded, only what was written."""
    with TemporaryDirectory(dir=folders) as place:
        copy = Path(shutil.copytree(folders / kind, Path(place) / "folder"))
        (copy / name).write_bytes(draw.draw(changed_bytes((copy / name).read_bytes())))
        found = outcome(lambda: decoded(copy), copy)
        if found is not REFUSED and kind == "exported":
            assert all(map(torch.equal, found, decoded(folders / kind)))


@fuzzing(40)
@given(draw=st.data())
def test_a_single_file_of_other_bytes_or_tensors_is_refused_or_decodes(folders, draw):
    autoencoder = load_autoencoder(folders / "exported")
    with TemporaryDirectory(dir=folders) as place:
        path = Path(place) / "file.safetensors"
        if draw.draw(st.booleans()):
            autoencoder.save_ldm(path)
            path.write_bytes(draw.draw(changed_bytes(path.read_bytes())))
        else:
            weights = load_file(folders / "exported" / WEIGHTS)
            name = draw.draw(st.sampled_from(sorted(weights)))
            changes = [lambda value: value[:1], lambda value: value[None], lambda value: value * torch.nan]
            weights[name] = draw.draw(st.sampled_from(changes))(weights[name]).contiguous()
            save_file(weights, path)
        found = outcome(lambda: decoded(path), path)
        if found is not REFUSED:
            assert all(map(torch.equal, found, decoded(folders / "exported")))
