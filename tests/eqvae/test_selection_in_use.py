"""Whatever reads part of a sorted data set reads all of its classes, and says which part it read."""

import json
import sys

import numpy as np
import pytest
import torch

from eqvae.autoencoders import LatentStatistics
from eqvae.data.module import ImageBatches
from eqvae.evaluation import autoencoder as measurements
from eqvae.evaluation.autoencoder import AutoencoderEvaluation, LatentMetrics
from eqvae.evaluation.inputs import few_images, image_batches, reference_to_feature_set
from eqvae.selection import evenly_spaced
from tests.eqvae.tiny import tiny_autoencoder
from tests.tiny import PACKAGED, stage_one
from twostage.cli import evaluate

NUM_IMAGES, NUM_CLASSES = 400, 10


class Sorted:
    """Ten classes, one after the other, each of another brightness; a pixel tells the number of the image."""

    num_classes, class_names, image_size = NUM_CLASSES, None, 32

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        label = index * NUM_CLASSES // NUM_IMAGES
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(20 * label, 20 * label + 60, (3, 32, 32), generator=generator).byte()
        image[0, 0, 0], image[1, 0, 0] = index % 256, index // 256
        return image, label

    def fingerprint(self):
        return "sorted"


def numbers(images):
    """Which images these are, [N, 3, H, W] uint8."""
    return (images[:, 0, 0, 0].int() + 256 * images[:, 1, 0, 0].int()).tolist()


def test_normalization_is_that_of_all_classes(tmp_path):
    """The first 80 of 400 are the two darkest classes: their normalization is far off."""
    cli = stage_one(tmp_path, PACKAGED | {"trainer.max_steps": 1, "model.init_args.num_normalization_images": 80})
    cli.trainer.limit_val_batches = 0
    cli.datamodule.sources = dict.fromkeys(("train", "validation"), Sorted())
    cli.trainer.fit(cli.model, cli.datamodule)
    written = json.loads((tmp_path / "autoencoder" / "normalization.json").read_text())
    assert written["num_images"] == 80
    assert written["method"].endswith("images: 80 of 400, evenly spaced")

    def deviations_off(ids):
        shift, scale = normalization_of(ids)
        return float(((shift - whole[0]) * whole[1]).abs().max()), float((scale / whole[1]).log().abs().max())

    def normalization_of(ids):
        statistics = LatentStatistics()
        posterior = cli.model.autoencoder.encode(ImageBatches(Sorted()).get_batch(ids, None)["image"])
        statistics.update(posterior.mean, posterior.std)
        found = statistics.normalization()
        return torch.tensor(found.shift), torch.tensor(found.scale)

    with torch.no_grad():
        whole = normalization_of(torch.arange(NUM_IMAGES))
        shift_off, scale_off = deviations_off(evenly_spaced(80, NUM_IMAGES))
        prefix_shift_off, prefix_scale_off = deviations_off(torch.arange(80))
        chosen = normalization_of(evenly_spaced(80, NUM_IMAGES))
    torch.testing.assert_close(torch.tensor(written["shift"]), chosen[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.tensor(written["scale"]), chosen[1], rtol=1e-3, atol=1e-4)
    assert shift_off < 0.05 < 0.5 < prefix_shift_off
    assert scale_off < 0.05 < 0.3 < prefix_scale_off


def test_latent_metrics_measure_evenly_spaced_images(monkeypatch):
    """Equivariance errors and kept latents are of the whole stream, in whatever batches it comes."""
    measured = []
    monkeypatch.setattr(measurements, "equivariance_errors", lambda model, images: measured.append(images) or {})
    autoencoder, images = tiny_autoencoder(), ImageBatches(Sorted()).get_batch(torch.arange(NUM_IMAGES), None)["image"]
    for size in (100, 33):
        measured.clear()
        metrics = LatentMetrics(num_equivariance_images=30, num_latents=50, expected_images=NUM_IMAGES)
        for batch in images.split(size):
            metrics.update(autoencoder, batch)
        assert torch.equal(torch.cat(measured), images[evenly_spaced(30, NUM_IMAGES)])
        kept = torch.cat(metrics._latents)
        expected = autoencoder.encode(images[evenly_spaced(50, NUM_IMAGES)]).mean
        torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)
        assert metrics.selections()["latent_images"] == "50 of 400, evenly spaced"
    with pytest.raises(ValueError, match="more than the 400 expected images"):
        metrics.update(autoencoder, images[:1])
    unknown = LatentMetrics(num_equivariance_images=30, num_latents=50)
    unknown.update(autoencoder, images[:200])
    unknown.update(autoencoder, images[200:])
    assert unknown.selections()["latent_images"] == "all 400"


@pytest.mark.parametrize(
    "limit", [{"trainer.limit_val_batches": 3}, {"data.init_args.num_validation_images": 60, "trainer.devices": 1}]
)
def test_validation_reads_evenly_spaced_images(limit, tmp_path, monkeypatch, caplog):
    """Also where Lightning limits the batches; and of these the equivariance error takes evenly spaced ones."""
    seen, settings = [], {"data.init_args.evaluation_batch_size": 20, "trainer.limit_val_batches": 1.0}
    real = AutoencoderEvaluation.update
    monkeypatch.setattr(
        AutoencoderEvaluation,
        "update",
        lambda self, model, images: seen.append(((images + 1) * 127.5).round().byte()) or real(self, model, images),
    )
    cli = stage_one(tmp_path, settings | limit)
    cli.datamodule.sources = dict.fromkeys(("train", "validation"), Sorted())
    with caplog.at_level("INFO"):
        (metrics,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    assert metrics["val/num_images"] == 60
    assert numbers(torch.cat(seen)) == evenly_spaced(60, NUM_IMAGES).tolist()
    assert "validation images: 60 of 400, evenly spaced (those of the training: none held out)" in caplog.text
    _, latents = cli.model.evaluation._accumulated
    assert latents.selections()["equivariance_images"] == "4 of 60, evenly spaced"


def test_references_and_panels_are_of_the_whole_set(tmp_path):
    source, ids = Sorted(), evenly_spaced(60, NUM_IMAGES)
    assert numbers(torch.cat(list(image_batches(source, 60)))) == ids.tolist()
    assert numbers(((few_images(source, 6) + 1) * 127.5).round()) == evenly_spaced(6, NUM_IMAGES).tolist()
    stacked = torch.stack([source[index][0] for index in range(NUM_IMAGES)]).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "all.npz", arr_0=stacked)
    np.savez(tmp_path / "chosen.npz", arr_0=stacked[ids])
    options = {"image_size": 32, "extractor": "efficientnet_lite0", "cache": tmp_path / "kept"}
    part, about = reference_to_feature_set(str(tmp_path / "all.npz"), num_images=60, **options)
    assert about["images"] == "60 of 400, evenly spaced"
    whole, about = reference_to_feature_set(str(tmp_path / "chosen.npz"), **options)
    assert about["images"] == "all 60"
    torch.testing.assert_close(part.features, whole.features, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("reconstruction", {"images": "12 of 40, evenly spaced"}),
        ("latents", {"images": "12 of 40, evenly spaced", "equivariance_images": "all 12", "latent_images": "all 12"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_results_say_which_images_they_are_of(command, expected, tmp_path, monkeypatch):
    words = ["--autoencoder", "shapes-f4c8", "--data", "shapes:40", "--num-images", "12", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", command, *words, "--output", str(tmp_path / "result.json")])
    evaluate.main()
    result = json.loads((tmp_path / "result.json").read_text())
    assert {name: result[name] for name in expected} == expected
