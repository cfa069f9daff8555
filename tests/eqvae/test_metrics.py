"""The one table of metrics: what everything measured is called, which way is better, and what a new one needs."""

import pytest
import torch

from eqvae.evaluation import EXTRACTORS, ReconstructionMetrics, create_extractor, generation, latents, reconstruction
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.evaluation.feature_sets import images_to_feature_set
from eqvae.evaluation.generation import GENERATION_METRICS, GenerationMetric, feature_sets_to_generation_metrics
from eqvae.evaluation.metric import Metric
from eqvae.evaluation.metrics import METRICS, find_metric, in_order
from eqvae.evaluation.tables import directions, is_better
from tests.eqvae.tiny import tiny_autoencoder
from twostage import load_sweep

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")
PUBLISHED = {
    "psnr": ("PSNR (dB) ↑", "PSNR (dB)"),
    "ssim": ("SSIM ↑", "SSIM"),
    "perceptual": ("Perceptual ↓", "Perceptual"),
    "perceptual_lpips_vgg": ("Perceptual ↓", "Perceptual"),
    "rfd_efficientnet_lite0": ("rFD ↓", "Reconstruction Fréchet distance (EfficientNet-Lite0)"),
    "rfid": ("rFID ↓", "Reconstruction FID"),
    "intrinsic_dimension": ("Intrinsic dimension (TwoNN)", "Intrinsic dimension (TwoNN)"),
    "effective_rank": ("Effective rank", "Effective rank"),
    "high_frequency_share": ("High-frequency share", "High-frequency share"),
    "equivariance/latent/mean": ("Equivariance error ↓", "Equivariance error"),
    "fd_efficientnet_lite0": ("FD ↓", "Fréchet distance (EfficientNet-Lite0)"),
    "fid": ("FID ↓", "FID"),
    "sfd_efficientnet_lite0": ("sFD ↓", "Spatial Fréchet distance (EfficientNet-Lite0)"),
    "sfid": ("sFID ↓", "Spatial FID"),
    "is_efficientnet_lite0": ("Inception score (EfficientNet-Lite0) ↑", "Inception score (EfficientNet-Lite0)"),
    "is": ("Inception score ↑", "Inception score"),
    "kid": ("KID ↓", "Kernel distance"),
    "precision": ("Precision ↑", "Precision"),
    "recall": ("Recall ↑", "Recall"),
    "nobody_knows": ("nobody_knows", "nobody_knows"),
    "kid_std": ("kid_std", "kid_std"),
}
"""Heading and full name of what results hold, in the order of tables."""


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_names_of_everything_that_results_hold():
    assert {name: (find_metric(name).heading, find_metric(name).full_name) for name in PUBLISHED} == PUBLISHED
    once = [name for name in PUBLISHED if name not in ("perceptual_lpips_vgg", "kid_std")]
    assert in_order([["nobody_knows"], reversed(once[:-1])]) == once


def test_the_table_knows_what_is_measured():
    """Every number of a report on an autoencoder and on samples, so that none is shown without its direction."""
    evaluation = AutoencoderEvaluation(num_equivariance_images=2)
    evaluation.update(tiny_autoencoder(), images(8).float() / 127.5 - 1)
    extractor = create_extractor()
    sets = [images_to_feature_set(images(8, seed), extractor) for seed in (0, 1)]
    found = evaluation.compute() | feature_sets_to_generation_metrics(*sets, "efficientnet_lite0")
    unknown = {name for name in found if find_metric(name) == Metric(name, name)}
    assert unknown == {"num_images", "kid_std", "is_efficientnet_lite0_std"}
    given = [
        quantity.name
        for each in GENERATION_METRICS.values()
        for quantity in each.quantities(EXTRACTORS["inception_v3"])
    ]
    assert given == ["fid", "fid_inf", "sfid", "is", "kid", "precision", "recall"]


def test_what_needs_images_of_the_reference_is_left_out():
    extractor = create_extractor()
    real, generated = (images_to_feature_set(images(8, seed), extractor) for seed in (0, 1))
    real = type(real)(**(vars(real) | {"features": None, "spatial": None}))
    found = feature_sets_to_generation_metrics(real, generated, "efficientnet_lite0")
    assert set(found) == {"fd_efficientnet_lite0", "is_efficientnet_lite0", "is_efficientnet_lite0_std"}


def test_a_new_metric_of_samples_is_one_object(monkeypatch):
    """Named where it is computed, it is measured, told in tables, and chosen in a sweep."""
    spread = Metric("spread", "Spread", "lower", "Spread of the features")
    measured = GenerationMetric(
        "spread", lambda names: (spread,), lambda real, generated, order: (float(generated.features.std()),)
    )
    monkeypatch.setitem(generation.GENERATION_METRICS, "spread", measured)
    monkeypatch.setitem(METRICS, "spread", spread)  # what importing the table does
    sets = [images_to_feature_set(images(8, seed), create_extractor()) for seed in (0, 1)]
    found = feature_sets_to_generation_metrics(*sets, "efficientnet_lite0", ["spread"])
    assert found == {"spread": float(sets[1].features.std())}
    assert directions(found) == {"spread": "lower"}
    assert is_better("spread", -1.0)
    words = ["evaluation.metrics=[spread]", "evaluation.metric=spread"]
    assert load_sweep("configs/sweeps/tiny-shapes.yaml", words).evaluation.metric == "spread"
    with pytest.raises(ValueError, match=r"evaluation\.metrics: lacks spread, which the speed-up is computed on"):
        load_sweep("configs/sweeps/tiny-shapes.yaml", words[1:])


def test_a_speed_up_is_computed_on_what_falls():
    for metric, giver in (("sfd_efficientnet_lite0", "sfd"), ("kid", "kid")):
        words = [f"evaluation.metrics=[{giver}]", f"evaluation.metric={metric}"]
        assert load_sweep("configs/sweeps/tiny-shapes.yaml", words).evaluation.metric == metric
    with pytest.raises(ValueError, match=r"evaluation\.metric: use one of fd_efficientnet_lite0, .*_inf, sfd_.*, kid"):
        load_sweep("configs/sweeps/tiny-shapes.yaml", ["evaluation.metric=precision"])


def test_a_new_metric_of_reconstructions_or_latents_is_one_object(monkeypatch):
    worst = Metric(
        "worst", "Worst pixel", "lower", compute=lambda made, real: (made.int() - real.int()).abs().amax((1, 2, 3))
    )
    monkeypatch.setattr(reconstruction, "IMAGE_METRICS", (*reconstruction.IMAGE_METRICS, worst))
    metrics = ReconstructionMetrics(extractor=None, perceptual="none")
    metrics.update(torch.full((2, 3, 16, 16), 1 / 255), torch.full((2, 3, 16, 16), 3 / 255))  # levels 128, 129
    assert metrics.compute()["worst"] == 1
    mean = Metric("mean_latent", "Mean", compute=lambda values: float(values.mean()))
    monkeypatch.setattr("eqvae.evaluation.autoencoder.LATENT_METRICS", (*latents.LATENT_METRICS, mean))
    evaluation = AutoencoderEvaluation(perceptual="none", num_equivariance_images=1)
    autoencoder, real = tiny_autoencoder(), images(4).float() / 127.5 - 1
    evaluation.update(autoencoder, real)
    assert evaluation.compute()["mean_latent"] == pytest.approx(float(autoencoder.encode(real).mean.mean()), rel=1e-5)
