"""PSNR and SSIM of known differences, and what accumulates over batches."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from eqvae.autoencoders import load_autoencoder
from eqvae.bases import load_config
from eqvae.data import ShapesSource
from eqvae.data.images import to_float
from eqvae.evaluation import ReconstructionMetrics, batches, images_to_psnr, images_to_ssim
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.evaluation.measuring import measure_latents, measure_reconstruction
from eqvae.losses.perceptual import BACKBONE_URLS
from tests.eqvae.tiny import MixingAutoencoder, smooth_images
from tests.tiny import stage_one

IDENTICAL_PSNR = 100.0


def random_images(count, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 250, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_psnr_per_image():
    target = random_images(3)
    images = target.clone()
    images[1] += 5
    images[2, 0] += 3
    expected = [IDENTICAL_PSNR, 20 * math.log10(255 / 5), 20 * math.log10(255 / math.sqrt(3))]
    assert images_to_psnr(images, target).tolist() == pytest.approx(expected)


def test_ssim_by_its_definition():
    target, images = (
        random_images(2, 16),
        (random_images(2, 16).float() * 0.8 + 0.2 * random_images(2, 16, seed=1)).byte(),
    )
    window = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = (window[:, None] * window / window.sum() ** 2).flatten()

    def patches(images):
        return functional.unfold(functional.pad(images.double(), (5,) * 4, "reflect"), 11).view(2, 3, 121, 256)

    def mean(values):
        return torch.einsum("bcwp,w->bcp", values, window)

    x, y = patches(images), patches(target)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    ssim = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2)
    ssim = ssim / ((mean(x) ** 2 + mean(y) ** 2 + c1) * (variances + c2))
    # Ours in float32: variances are differences of squares up to 255^2 = 6.5e4, 4e-3 of rounding beside c2 = 58.
    torch.testing.assert_close(images_to_ssim(images, target).double(), ssim.mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert images_to_ssim(random_images(3), random_images(3)).tolist() == pytest.approx([1, 1, 1])
    with pytest.raises(ValueError, match="at least 11 x 11"):
        images_to_ssim(random_images(1, 8), random_images(1, 8))


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_metrics_do_not_depend_on_batches():
    images = to_float(random_images(7))
    reconstructions = images + 0.2 * to_float(random_images(7, seed=1))
    reports = []
    for batch_size in (7, 3):
        metrics = ReconstructionMetrics()
        for pair in zip(images.split(batch_size), reconstructions.split(batch_size), strict=True):
            metrics.update(*pair)
        reports.append(metrics.compute())
    assert set(reports[0]) == {
        "psnr", "ssim", "perceptual_efficientnet_lite0", "rfd_efficientnet_lite0", "num_images", "uint8_rule"
    }  # fmt: skip
    assert (reports[0]["num_images"], reports[0]["uint8_rule"]) == (7, "round")
    for name in ("psnr", "ssim", "perceptual_efficientnet_lite0", "rfd_efficientnet_lite0"):
        assert reports[1][name] == pytest.approx(reports[0][name], rel=1e-4)
        assert reports[0][name] > 0
    assert metrics.features()["real"].shape == (7, 1280)


@pytest.mark.parametrize("rule", ["round", "truncate"])
def test_metrics_are_of_bytes_and_report_the_spread(rule):
    """Both rules map the float of a level to that level, so less than half a level is no difference."""
    images = to_float(random_images(4))
    metrics = ReconstructionMetrics(extractor=None, perceptual="none", uint8_rule=rule)
    metrics.update(images + 0.1 / 127.5, images - 0.4 / 127.5)
    assert metrics.compute() == {"psnr": IDENTICAL_PSNR, "ssim": 1, "num_images": 4, "uint8_rule": rule}
    metrics.update(images[:1], images[:1] + 5 / 127.5)
    values = torch.tensor([IDENTICAL_PSNR] * 4 + [20 * math.log10(255 / 5)])
    assert metrics.compute()["psnr"] == pytest.approx(float(values.mean()), rel=1e-5)
    assert metrics.standard_deviations()["psnr"] == pytest.approx(float(values.std(correction=0)), rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_autoencoder_evaluation():
    """A lossless autoencoder that commutes with every transform; two images are too few for a dimension."""
    evaluation = AutoencoderEvaluation(num_equivariance_images=3)
    for _ in range(2):
        evaluation.update(MixingAutoencoder(), smooth_images(32))
    report = evaluation.compute()
    assert report["psnr"] == IDENTICAL_PSNR
    assert report["num_images"] == 4
    assert report["rfd_efficientnet_lite0"] == pytest.approx(0, abs=1e-3)
    assert all(value < 1e-6 for name, value in report.items() if name.startswith("equivariance/"))
    assert "intrinsic_dimension" not in report
    assert all(isinstance(value, float) for value in report.values())
    evaluation.reset()
    evaluation.update(MixingAutoencoder(), torch.cat((smooth_images(32), -smooth_images(32).flip(-1))))
    assert evaluation.compute()["intrinsic_dimension"] > 0


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_what_is_not_finite_has_no_values(tmp_path):
    """To uint8 it would be black: a diverged autoencoder had 5 dB."""
    autoencoder = load_autoencoder("shapes-f4c8").freeze()
    with torch.no_grad():
        autoencoder.last_layer.fill_(math.nan)
    images = to_float(random_images(4))
    evaluation = AutoencoderEvaluation()
    evaluation.update(autoencoder, images)
    report = evaluation.compute()
    for name in ("psnr", "ssim", "perceptual_efficientnet_lite0", "rfd_efficientnet_lite0"):
        assert math.isnan(report[name])
    assert math.isfinite(report["equivariance/latent/rotation 90"])
    with pytest.raises(ValueError, match="reconstructions are not finite: its training has diverged"):
        measure_reconstruction(autoencoder, images)
    for parameter in autoencoder.parameters():
        parameter.fill_(math.nan)
    evaluation.reset()
    evaluation.update(autoencoder, images)
    assert math.isnan(evaluation.compute()["effective_rank"])
    with pytest.raises(ValueError, match="latents are not finite: its training has diverged"):
        measure_latents(autoencoder, images)
    metrics = ReconstructionMetrics(extractor=None, perceptual="none")
    metrics.update(images, images.clone().index_fill_(0, torch.tensor([1]), math.inf))
    assert math.isnan(metrics.compute()["psnr"])


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_large_images_pass_an_autoencoder_in_smaller_batches(monkeypatch):
    """A hundred of 512 x 512 pixels would take SD-VAE 27 GB for one tensor."""
    sizes = [batches.images_at_once(side, side) for side in (32, 128, 256, 512, 2048)]
    assert sizes == [100, 100, 25, 6, 1]
    autoencoder, images, taken = load_autoencoder("shapes-f4c8").freeze(), ShapesSource(12, 32, 1), []
    whole = [measure(autoencoder, images) for measure in (measure_reconstruction, measure_latents)]
    encode = autoencoder.latent_moments
    monkeypatch.setattr(autoencoder, "latent_moments", lambda batch: taken.append(len(batch)) or encode(batch))
    monkeypatch.setattr(batches, "PIXELS_AT_ONCE", 5 * 32**2)
    parts = [measure(autoencoder, images) for measure in (measure_reconstruction, measure_latents)]
    assert set(taken) == {5, 2}
    for name in ("psnr", "ssim", "rfd_efficientnet_lite0"):
        assert parts[0][name] == pytest.approx(whole[0][name], rel=1e-4)
    measured = ("rate/nats", "reconstruction/psnr", "interpolation/excess", "distortion/log_spread")
    for name in (*measured, "effective_rank", "equivariance/latent/rotation 90", "equivariance/scale_weighted"):
        assert parts[1][name] == pytest.approx(whole[1][name], rel=1e-4)


def test_one_image_is_refused_before_it_is_measured():
    autoencoder = load_autoencoder("shapes-f4c8").freeze()
    for images, count in (("shapes:1:1", None), ("shapes:5:1", 1)):
        with pytest.raises(ValueError, match="one image: the Fréchet distance of reconstructions takes at least 2"):
            measure_reconstruction(autoencoder, images, num_images=count)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_published_metrics_are_taken_where_their_weights_are_at_hand(hub):
    """Else the packaged network measures, under its own name, and one line says so."""
    published = {"extractor": "published", "perceptual": "published"}
    without = AutoencoderEvaluation(**published)
    assert without.networks == {"extractor": "efficientnet_lite0", "perceptual": "efficientnet_lite0"}
    assert without.describe() == (
        "measured with extractor efficientnet_lite0, perceptual efficientnet_lite0 (published weights are not at hand: "
        "evaluation.extractor_weights, evaluation.perceptual_weights_file)"
    )
    given = AutoencoderEvaluation(**published, extractor_weights="inception.pth")
    assert given.networks == {"extractor": "inception_v3", "perceptual": "efficientnet_lite0"}
    (hub / Path(URL_INCEPTION_V3).name).touch()
    (hub / Path(BACKBONE_URLS["vgg"]).name).touch()
    downloaded = AutoencoderEvaluation(**published)
    assert downloaded.describe() == "measured with extractor inception_v3, perceptual lpips_vgg"
    assert without.networks["extractor"] == "efficientnet_lite0", "one run measures one thing from start to end"
    named = AutoencoderEvaluation("inception_v3", perceptual="none")
    assert named.networks == {"extractor": "inception_v3", "perceptual": "none"}


def test_validation_says_what_it_measures_with(hub, tmp_path, caplog):
    published = {f"model.init_args.evaluation.{name}": "published" for name in ("extractor", "perceptual")}
    cli = stage_one(tmp_path, published)
    with caplog.at_level("INFO"):
        (metrics,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    assert "measured with extractor efficientnet_lite0, perceptual efficientnet_lite0 (published" in caplog.text
    assert {"val/rfd_efficientnet_lite0", "val/perceptual_efficientnet_lite0"} < set(metrics)
    assert "val/rfid" not in metrics


@pytest.mark.parametrize("name", ["eq-*", "sd-*"])
def test_recipes_of_published_autoencoders_measure_as_published(name):
    paths = list(Path("configs/eqvae").glob(f"{name}.yaml"))
    assert len(paths) >= 3
    for path in paths:
        evaluation = load_config(path).model.init_args.evaluation
        assert (evaluation["extractor"], evaluation["perceptual"]) == ("published", "published"), path
