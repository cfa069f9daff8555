"""Small files that are believed: normalizations, results, records of samples and of a sweep's parts."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqvae.autoencoders import Normalization
from eqvae.evaluation.sample_folders import read_samples_record
from eqvae.evaluation.tables import comparison_table, load_result, result_table, save_result
from eqvae.hashes import read_json, write_json
from eqvae.latents import LatentSpec
from tests.fuzzing.mutations import REFUSED, changed_bytes, changed_values, fuzzing, outcome
from twostage.parts import diagnostics, evaluation
from twostage.parts.training import read_cost

NORMALIZATION = {"shift": [0.1, -0.2, 0.0], "scale": [1.5, 0.7, 2.0], "method": "per channel", "num_images": 10}
SPEC = {"shape": [3, 4, 4], "downsampling_factor": 8, "autoencoder_fingerprint": "a" * 64}
RESULT = {
    "fid": 12.5,
    "kid": 0.01,
    "kid_std": 0.002,
    "curve": [1.0, 2.0],
    "num_reference": 100,
    "extractor": "inception_v3",
    "reference": {"images": "x", "cached": False},
    "versions": {"torch": "2.11"},
}
SAMPLES = {"num_images": 4, "part_size": 2, "finished": True, "images_sha256": "c" * 64, "uint8_rule": "round"}
FILES = {  # name, content and reader of what carries its own hash
    "result": (RESULT, load_result),
    "samples": (SAMPLES, lambda path: read_samples_record(path.parent)),
    "measurement": ({"fd_x": 3.5, "kid": 0.1, "resampled": [3.0, 4.0]}, lambda path: evaluation.result(path.parent)),
    "diagnostics": ({"psnr": 30.0, "equivariance/x": 0.1}, lambda path: diagnostics.result(path.parent)),
    "cost": (
        {"seconds": 3.5, "num_steps": 10, "images_seen": 100, "num_devices": 1},
        lambda path: read_cost(path.parent),
    ),
}
NAMES = {
    "result": "a.json",
    "samples": "samples.json",
    "measurement": "metrics.json",
    "diagnostics": "metrics.json",
    "cost": "cost.json",
}


def is_sound(normalization: Normalization) -> bool:
    numbers = [*normalization.shift, *normalization.scale]
    return all(map(math.isfinite, numbers)) and min(normalization.scale) > 0


@fuzzing(150)
@given(changed=changed_values(NORMALIZATION))
def test_a_normalization_is_finite_and_positive_or_refused(changed):
    found = outcome(lambda: Normalization.from_dict(changed), "shift", "scale", "method", "num_images", "normalization")
    assert found is REFUSED or is_sound(found)


@fuzzing(100)
@given(changed=changed_values(SPEC | {"normalization": NORMALIZATION}))
def test_a_latent_space_fits_itself_or_is_refused(changed):
    found = outcome(lambda: LatentSpec.from_dict(changed), "latents", *SPEC, *NORMALIZATION)
    if found is not REFUSED:
        assert all(side > 0 for side in found.shape)
        assert found.downsampling_factor > 0
        assert is_sound(found.normalization)
        assert len(found.normalization.scale) in (1, found.shape[0]) or found.kind == "tokens"


@pytest.mark.parametrize("hashed", [True, False])
@fuzzing(80)
@given(draw=st.data())
def test_an_exported_normalization_is_sound_or_refused_with_its_file(hashed, tmp_path, draw):
    """One of an earlier release has no hash."""
    path = tmp_path / "normalization.json"
    changed = draw.draw(changed_values(NORMALIZATION | {"files": {"config.json": "b" * 64}}))
    write_json(path, changed) if hashed else path.write_text(json.dumps(changed))
    found = outcome(lambda: Normalization.load(tmp_path), path)
    assert found is REFUSED or is_sound(found)
    path.write_bytes(draw.draw(changed_bytes(path.read_bytes())))
    found = outcome(lambda: Normalization.load(tmp_path), path)
    assert found is REFUSED or is_sound(found)


@pytest.mark.parametrize("kind", FILES)
@fuzzing(60)
@given(draw=st.data())
def test_a_record_of_other_bytes_is_refused_with_its_name_or_says_the_same(kind, tmp_path, draw):
    content, read = FILES[kind]
    path = tmp_path / NAMES[kind]
    write_json(path, content)
    whole = read(path)
    path.write_bytes(draw.draw(changed_bytes(path.read_bytes())))
    found = outcome(lambda: read(path), path)
    assert found is REFUSED or found == whole


@pytest.mark.parametrize("kind", FILES)
@fuzzing(80)
@given(draw=st.data())
def test_a_record_of_other_values_is_refused_with_its_name_or_can_be_shown(kind, tmp_path, draw):
    """Of another program, whose hash fits."""
    content, read = FILES[kind]
    path = tmp_path / NAMES[kind]
    write_json(path, draw.draw(changed_values(content)))
    found = outcome(lambda: read(path), path)
    if found is REFUSED:
        return
    assert isinstance(found, dict)
    if kind == "result":
        result_table(found)
        comparison_table(RESULT, found, ("a", "b"))
        save_result(Path(tmp_path / "again.json"), found)
    if kind in ("measurement", "diagnostics", "cost"):
        assert all(isinstance(value, float | int) for name, value in found.items() if name != "resampled")


@fuzzing(60)
@given(changed=changed_values({"a": [1, 2.5, {"b": None}], "c": "x"}))
def test_what_is_written_is_read_again(changed, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "again.json"
    write_json(path, changed)
    assert json.dumps(read_json(path)) == json.dumps(json.loads(json.dumps(_without_hash(changed))))


def _without_hash(content: dict) -> dict:
    return {key: value for key, value in content.items() if key != "sha256"}
