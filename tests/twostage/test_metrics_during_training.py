"""Metrics while a generator trains are those that are measured of its checkpoint afterwards, bit for bit."""

import dataclasses
import json
import math
from functools import partial

import pytest
import torch

from dit import measure_generation
from dit.previews import SamplePreviews
from dit.samplers import SamplingSettings
from dit.sampling import sample
from eqvae.autoencoders import load_autoencoder
from eqvae.data import ShapesSource
from eqvae.evaluation import create_extractor
from eqvae.evaluation.feature_sets import as_reference, images_to_feature_set, write_feature_set
from eqvae.evaluation.generation import GENERATION_METRICS
from eqvae.evaluation.inputs import image_batches
from eqvae.hashes import write_safetensors
from tests.dit.test_previews import Metrics
from tests.tiny import stage_two
from twostage.parts import evaluation, reference
from twostage.parts.training import SaveAtSteps, checkpoint_at

pytestmark = pytest.mark.filterwarnings("ignore:.*(biased upward|is rough)")
COUNT, STEPS, NAMES = 24, (3, 6), tuple(GENERATION_METRICS)
REAL = partial(ShapesSource, COUNT, 32, seed=5)
HOW = {"num_inference_steps": 2, "guidance_scale": 1.5, "sampler": "euler"}


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    """A run's folder, and what its previews have measured by step."""
    folder = tmp_path_factory.mktemp("run")
    previews = SamplePreviews(
        3, 4, SamplingSettings(**HOW), reference=REAL(), num_reference_images=COUNT, metrics=NAMES, batch_size=7
    )
    found = Metrics()
    run = stage_two(folder, cache, callbacks=[previews, SaveAtSteps(folder, list(STEPS)), found])
    run.trainer.fit(run.model, run.datamodule)
    return folder, dict(found.logged)


@pytest.mark.parametrize("step", STEPS)
def test_previews_measure_what_is_measured_after_training(trained, step):
    folder, during = trained
    images = sample(checkpoint_at(folder, step), COUNT, **HOW)
    after = measure_generation(images, REAL(), metrics=NAMES)
    assert len(during[step]) >= 9
    assert during[step] == {name: after[name.removeprefix("preview/")] for name in during[step]}


def test_a_sweep_measures_the_same(trained, tmp_path, monkeypatch):
    """Of balanced classes; `labels: data` takes those of the real images, in their order."""
    folder, during = trained
    load_autoencoder("shapes-f4c8").save_pretrained(tmp_path / "autoencoder/autoencoder")
    labels = torch.tensor([REAL()[index][1] for index in range(COUNT)]).flip(0)  # in order they are the balanced ones
    real = as_reference(images_to_feature_set(image_batches(REAL()), create_extractor()))
    write_feature_set(tmp_path / "reference" / reference.FEATURES, real, {})
    write_safetensors(tmp_path / "reference" / reference.LABELS, {"label": labels})
    inputs = {"autoencoder": tmp_path / "autoencoder", "generator": folder, "reference": tmp_path / "reference"}
    about = {"num_images": COUNT, "grid_images": 4, "grid_guidance_scale": 1.0, "num_resamples": 0, "at_step": 6}
    about |= {"extractor": "efficientnet_lite0", "extractor_weights": None}
    about["sampling"] = json.loads(json.dumps(dataclasses.asdict(SamplingSettings(**HOW))))
    taken, generate = [], evaluation.generate_images
    monkeypatch.setattr(
        evaluation, "generate_images", lambda *given, **how: taken.append(given[2].tolist()) or generate(*given, **how)
    )
    for how, names in (("balanced", NAMES), ("data", ("fd",))):
        (tmp_path / how).mkdir()
        evaluation.run(tmp_path / how, about | {"labels": how, "metrics": names}, inputs, lambda *report: None)
    assert {f"preview/{name}": value for name, value in evaluation.result(tmp_path / "balanced").items()} == during[6]
    balanced = [index % REAL().num_classes for index in range(COUNT)]
    assert taken == [balanced, balanced[:4], labels.tolist(), balanced[:4]]
    orders, compute = [], evaluation.feature_sets_to_generation_metrics
    monkeypatch.setattr(
        evaluation, "feature_sets_to_generation_metrics", lambda *given: orders.append(given[4]) or compute(*given)
    )
    for kept in (labels, labels.sort().values):  # of class folders: a tenth of the images has a tenth of the classes
        write_safetensors(tmp_path / "reference" / reference.LABELS, {"label": kept})
        evaluation.run(tmp_path / "data", about | {"labels": "data", "metrics": ("score",)}, inputs, lambda *_: None)
    assert orders == ["given", "shuffled"]
    about["sampling"]["guidance_scale"] = about["grid_guidance_scale"] = 1e30  # what a diverged generator makes, too
    (tmp_path / "infinite").mkdir()
    evaluation.run(
        tmp_path / "infinite", about | {"labels": "balanced", "metrics": NAMES}, inputs, lambda *report: None
    )
    lost = evaluation.result(tmp_path / "infinite")
    assert set(lost) == {name for name in evaluation.result(tmp_path / "balanced") if not name.endswith("_std")}
    assert all(math.isnan(value) for value in lost.values())
    assert (tmp_path / "infinite" / evaluation.GRID).is_file()
