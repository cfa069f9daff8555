"""Losses and metrics take tensors of a CUDA device; losses never wait for it."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from dit.alignment import Encoder
from dit.alignment.cknna import cknna
from dit.alignment.measure import measure_alignment
from dit.alignment.projectors import TrainedProjector
from eqvae.autoencoders import CodebookLoss, Codes, LatentStatistics, codebook_usage, load_autoencoder
from eqvae.equivariance import SpatialTransform, equivariance_errors
from eqvae.evaluation import (
    create_extractor,
    effective_rank,
    features_to_statistics,
    frechet_distance,
    high_frequency_share,
    images_to_psnr,
    images_to_ssim,
    intrinsic_dimension,
    kernel_distance,
    precision_recall,
    radial_power_spectrum,
)
from eqvae.evaluation.autoencoder import LatentMetrics
from eqvae.evaluation.distances import inception_score
from eqvae.evaluation.feature_sets import images_to_feature_set
from eqvae.evaluation.image_grids import autoencoder_panel
from eqvae.evaluation.reconstruction import ReconstructionMetrics
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.regularizers import Draw, reconstruct
from eqvae.regularizers.explicit import explicit_error
from tests.dit.tiny import tiny_generator
from tests.eqvae.test_objective import TINY_VQ
from tests.fake_cuda import CUDA, fake_cuda
from tests.tiny import ONE_LEVEL, TINY_AUTOENCODER

KL, VQ = TINY_AUTOENCODER | ONE_LEVEL, TINY_VQ | ONE_LEVEL | {"_class_name": "VQModel"}


@pytest.fixture
def device():
    with fake_cuda() as device:
        yield device


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, device=CUDA)


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory) -> str:
    """Random weights in place of torchvision's."""
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_1().state_dict(), path)
    return str(path)


@pytest.mark.parametrize("pixel", ["l1", "mse"])
@pytest.mark.parametrize("perceptual", ["none", "efficientnet_lite0", "lpips_squeeze"])
def test_reconstruction_losses_do_not_wait(device, pixel, perceptual, squeezenet):
    file = squeezenet if perceptual.startswith("lpips") else None
    loss = ReconstructionLoss(pixel, perceptual, perceptual_weights_file=file, log_variance=0.3)
    images, target = normal(2, 3, 32, 32).requires_grad_(), normal(2, 3, 32, 32)
    for _ in range(2):  # the network is copied at its first use
        device.waits.clear()
        terms = loss(images, target)
        torch.autograd.grad(terms["nll"], images)
    assert not device.waits
    assert {value.device for value in terms.values()} == {CUDA}


@pytest.mark.parametrize("kind", ["hinge", "vanilla"])
def test_the_critics_losses_do_not_wait(device, kind):
    loss = AdversarialLoss(kind, num_layers=1, base_channels=4)
    critic, last = loss.create_critic().to(CUDA), nn.Parameter(normal(3, 3, 3, 3))
    device.waits.clear()  # of the critic's way there
    images = nn.functional.conv2d(normal(2, 3, 16, 16), last, padding=1)
    weight = loss.adaptive_weight(images, normal(2, 3, 16, 16), normal(2, 3, 16, 16), last)
    total = weight * loss.generator_loss(critic(images)) + loss.critic_loss(critic(images), critic(images.detach()))
    total.backward()
    assert total.device == CUDA
    assert not device.waits


def test_losses_on_latents_do_not_wait(device):
    autoencoder, images = load_autoencoder(KL).to(CUDA), normal(2, 3, 16, 16)
    device.waits.clear()  # of the autoencoder's way there
    indices = torch.zeros(2, 4, 4, dtype=torch.long, device=CUDA)
    loss = CodebookLoss()(Codes(indices, normal(2, 4, 4, 4), normal(2, 4, 4, 4)))
    usage = codebook_usage(indices, 16)
    transform = SpatialTransform((0.5, 0.5), 1)
    explicit = explicit_error(autoencoder, autoencoder.encode(images).mean, images, transform)
    kinds = [reconstruct(autoencoder, images, Draw(kind, transform)) for kind in ("equivariance", "low_resolution")]
    assert {value.device for value in (loss, explicit, *usage.values(), *(each.images for each in kinds))} == {CUDA}
    assert not device.waits


@pytest.mark.parametrize("config", [KL, VQ], ids=["kl", "vq"])
def test_autoencoders_are_measured_on_the_device(device, config, squeezenet):
    autoencoder, images = load_autoencoder(config).freeze().to(CUDA), normal(4, 3, 32, 32)
    metrics = LatentMetrics(4, 4)
    metrics.update(autoencoder, images)
    assert {"effective_rank", "equivariance/latent/rotation 90"} <= set(metrics.compute())
    assert len(metrics.curves()["shift"]) == 4
    decoded = autoencoder.decode(normal(4, 4, 32, 32))
    for perceptual in ("efficientnet_lite0", "lpips_squeeze"):
        pairs = ReconstructionMetrics(perceptual=perceptual, perceptual_weights_file=squeezenet)
        pairs.update(images, decoded)
        assert pairs.compute()["num_images"] == 4
    assert autoencoder_panel(autoencoder, images).dtype == torch.uint8


@pytest.fixture
def any_kernel(monkeypatch):
    """The fake device computes no values, so that no two rows differ, which the measure of neighbours refuses."""
    monkeypatch.setattr("dit.alignment.cknna.NEGLIGIBLE", -1.0)


def test_values_per_image_stay_on_the_device(device):
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device=CUDA)
    errors = equivariance_errors(load_autoencoder(KL).freeze().to(CUDA), normal(2, 3, 32, 32))
    values = [images_to_psnr(images, images), images_to_ssim(images, images), *errors["latent"].values()]
    assert {(value.device, value.shape) for value in values} == {(CUDA, (2,))}


def test_sets_of_features_come_from_the_device(device):
    images = [torch.zeros(4, 3, 32, 32, dtype=torch.uint8)] * 2
    found = images_to_feature_set(images, create_extractor(device=CUDA))
    assert found.features.shape == (8, 1280)
    assert found.features.device.type == "cpu"


@pytest.mark.parametrize(
    "measure",
    [
        features_to_statistics,
        lambda x: frechet_distance(x, x),
        lambda x: kernel_distance(x, x, num_subsets=2),
        lambda x: precision_recall(x, x),
        inception_score,
        lambda x: cknna(x, x, 3),
        lambda x: intrinsic_dimension(torch.rand(8, 3)),
        lambda x: effective_rank(normal(8, 4, 2, 2)),
        lambda x: high_frequency_share(normal(8, 4, 4, 4)),
        lambda x: radial_power_spectrum(normal(8, 4, 4, 4)),
    ],
)
def test_distances_take_features_from_the_device(device, any_kernel, measure):
    assert measure(normal(8, 6)) is not None


def test_the_latent_normalization_is_estimated_on_the_device(device):
    statistics = LatentStatistics()
    statistics.update(normal(2, 4, 3, 3), normal(2, 4, 3, 3))
    normalization = statistics.normalization()
    assert normalization.normalize(normal(2, 4, 3, 3)).device == CUDA
    device.waits.clear()
    assert normalization.denormalize(normal(2, 4, 3, 3)).device == CUDA
    assert not device.waits


def test_alignment_is_measured_on_the_device(device, any_kernel):
    autoencoder = load_autoencoder(TINY_AUTOENCODER | {"block_out_channels": [8, 8]}).freeze()
    encoder = Encoder("efficientnet_lite0")
    generator = tiny_generator(autoencoder=autoencoder, input_size=16, patch_size=8)
    generator.spec = type(generator.spec)((4, 16, 16), 2, None, generator.spec.normalization)
    generator.backbone.to(CUDA)
    projector = TrainedProjector(nn.Sequential(nn.Linear(16, 1280)).to(CUDA), 1, encoder.name)
    batch = {"image": torch.zeros(6, 3, 32, 32), "label": torch.zeros(6).long(), "index": torch.arange(6)}
    report = measure_alignment(generator, autoencoder.to(CUDA), encoder, [batch], projector, neighbours=2)
    assert len(report["levels"][0]["cknna"]) == 2
