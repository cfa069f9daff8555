"""Files that run code when they are unpickled, given to everything that reads weights, arrays or statistics."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dit.checkpoints import load_generator
from dit.sample_files import SampleFolder
from eqvae.autoencoders import load_autoencoder
from eqvae.data import ImageDataModule, ShapesSource, open_source
from eqvae.evaluation.feature_sets import read_feature_set
from eqvae.evaluation.inputs import stored_statistics
from eqvae.latents import LatentCache, create_cache_writer
from eqvae.training.checkpoints import checkpoint_step, load_checkpoint
from eqvae.training.run_folder import RunFolder
from eqvae.weights import load_weights, read_optimizer_states, read_tensors
from tests.eqvae.tiny import tiny_autoencoder


class Payload:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Callable, argument: object):
        self.reduced = function, (argument,)

    def __reduce__(self):
        return self.reduced


def payloads(marker: Path) -> dict[str, Payload]:
    return {
        "touch": Payload(Path.touch, marker),
        "exec": Payload(exec, f"open({str(marker)!r}, 'w')"),
        "system": Payload(os.system, f"touch {marker}"),
    }


def torch_file(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(2), "evil": payload}, "global_step": 3}, buffer)
    return buffer.getvalue()


def legacy_file(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": payload, "global_step": 3}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def npz_file(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    objects = np.array([payload], dtype=object)
    np.savez(buffer, arr_0=objects, mu=objects, sigma=objects)
    return buffer.getvalue()


FORMATS = {
    "torch": torch_file,
    "legacy": legacy_file,
    "pickle": lambda payload: pickle.dumps({"state_dict": payload, "global_step": 3}, protocol=2),
    "npz": npz_file,
}
WEIGHTS = ("torch", "legacy", "pickle")


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def resume(folder: Path, content: bytes) -> None:
    written(folder, "checkpoints/last.ckpt", content)
    RunFolder(folder, folder / "checkpoints").first_checkpoint(None, resume=True, overwrite=False)


def autoencoder_folder(folder: Path, content: bytes) -> None:
    tiny_autoencoder().save_pretrained(folder)
    (weights,) = folder.glob("*.safetensors")
    weights.unlink()
    written(folder, "diffusion_pytorch_model.bin", content)
    load_autoencoder(folder)


def safetensors_in_a_folder(folder: Path, content: bytes) -> None:
    tiny_autoencoder().save_pretrained(folder)
    (weights,) = folder.glob("*.safetensors")
    weights.write_bytes(content)
    load_autoencoder(folder)


def latent_shard(folder: Path, content: bytes) -> None:
    data = ImageDataModule(ShapesSource(8, 16), evaluation_batch_size=8)
    writer = create_cache_writer(folder, tiny_autoencoder(), data.description(), "float32")
    for batch in data.predict_dataloader():
        writer.add(batch)
    writer.finish()
    written(folder, "shard-00000.safetensors", content)
    LatentCache(folder)


def sample_part(folder: Path, content: bytes) -> None:
    """A part that is damaged is sampled again."""
    samples = SampleFolder(folder, {"num_images": 5}, 5)
    written(folder, str(samples.path(range(5)).relative_to(folder)), content)
    assert SampleFolder(folder, {"num_images": 5}, 5).missing() == [range(5)]
    raise ValueError("safetensors: sampled again")


def kept_statistics(path: Path) -> None:
    """Statistics that are damaged are computed again."""
    assert read_feature_set(path, {}) is None
    raise ValueError("safetensors: computed again")


LOADERS = {  # name -> (suffix and formats of the file that it is given, or None and what is done with the bytes)
    "checkpoint": (".ckpt", WEIGHTS, load_checkpoint),
    "step of a checkpoint": (".ckpt", WEIGHTS, checkpoint_step),
    "generator": (".pt", WEIGHTS, load_generator),
    "autoencoder .ckpt": (".ckpt", WEIGHTS, load_autoencoder),
    "autoencoder .pt": (".pt", WEIGHTS, load_autoencoder),
    "autoencoder .pth": (".pth", WEIGHTS, load_autoencoder),
    "autoencoder .safetensors": (".safetensors", WEIGHTS, load_autoencoder),
    "autoencoder .pkl": (".pkl", WEIGHTS, load_autoencoder),
    "critic": (".ckpt", WEIGHTS, read_tensors),
    "optimizer": (".ckpt", WEIGHTS, read_optimizer_states),
    "extractor": (".pth", WEIGHTS, lambda path: load_weights("", str(path), "extractor_weights")),
    "images": (".npz", ("npz",), lambda path: open_source(str(path), 16)),
    "statistics": (".npz", ("npz",), lambda path: stored_statistics(str(path))),
    "resumed run": (None, WEIGHTS, resume),
    "autoencoder folder": (None, WEIGHTS, autoencoder_folder),
    "safetensors in a folder": (None, WEIGHTS, safetensors_in_a_folder),
    "latent shard": (None, WEIGHTS, latent_shard),
    "sample part": (None, WEIGHTS, sample_part),
    "kept statistics": (".safetensors", WEIGHTS, kept_statistics),
}


@pytest.mark.reliability(23)
@pytest.mark.parametrize("loader", LOADERS)
def test_no_loader_runs_what_a_file_says(loader, tmp_path, times, reached):
    suffix, formats, load = LOADERS[loader]
    marker, count = tmp_path / "executed", 0
    for kind, payload in list(payloads(marker).items())[: times(1, 3)]:
        for file_format in formats:
            content, folder = FORMATS[file_format](payload), tmp_path / f"{kind}-{file_format}"
            folder.mkdir()
            words = [folder, content] if suffix is None else [written(folder, f"file{suffix}", content)]
            message = refusal(load, words)
            assert not marker.exists(), f"{kind} in {file_format} ran: {message}"
            assert "weights_only=False" not in message
            assert "\n" not in message
            count += 1
    reached.count("files not run", count)


def refusal(load: Callable, words: list) -> str:
    """What a loader says; nothing where it takes the tensors of a file and leaves the rest."""
    try:
        load(*words)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.reliability(23)
@pytest.mark.parametrize("loader", ["checkpoint", "generator", "extractor", "autoencoder .pt", "resumed run"])
def test_the_message_names_what_is_safe(loader, tmp_path):
    suffix, _, load = LOADERS[loader]
    content = FORMATS["pickle"](payloads(tmp_path / "executed")["touch"])
    words = [tmp_path, content] if suffix is None else [written(tmp_path, f"file{suffix}", content)]
    message = refusal(load, words)
    assert "weights_only" in message or "safetensors" in message or "no intact checkpoint" in message


@pytest.mark.reliability(23)
def test_exports_are_safetensors_alone(tmp_path, reached):
    tiny_autoencoder().save_pretrained(tmp_path / "export")
    suffixes = {path.suffix for path in (tmp_path / "export").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".md", ".safetensors"}
    reached.says("exports: .json, .md and .safetensors")
