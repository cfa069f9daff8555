"""What measures and samples computes in float32 proper on a GPU, where torch alone rounds convolutions to TF32."""

import pytest
import torch

from dit.backbones import DiT
from dit.generation import SamplingSettings, make_images
from eqvae.data import to_uint8
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.evaluation.features import create_extractor, images_to_features
from eqvae.evaluation.measuring import measure_latents, measure_reconstruction
from eqvae.precision import float32_products
from tests.dit.tiny import tiny_generator
from tests.eqvae.tiny import tiny_autoencoder

GPU = torch.device("cuda")


def switches() -> tuple[str, str]:
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.fixture
def convolutions(monkeypatch):
    """How each convolution would be computed on a GPU, while a trainer there has asked for TF32."""
    seen: list[tuple[str, str]] = []
    forward = torch.nn.Conv2d._conv_forward

    def noted(self, *inputs):
        seen.append(switches())
        return forward(self, *inputs)

    monkeypatch.setattr(torch.nn.Conv2d, "_conv_forward", noted)
    with float32_products("high", GPU):
        assert switches() == ("tf32", "tf32")
        yield seen


def validated(autoencoder, images):
    evaluation = AutoencoderEvaluation()
    evaluation.update(autoencoder, images)
    evaluation.compute()


def sampled(autoencoder, images):
    generator, settings = tiny_generator(DiT, autoencoder), SamplingSettings(num_inference_steps=2)
    make_images(generator, autoencoder, torch.arange(2), torch.zeros(2).long(), settings)


@pytest.mark.parametrize(
    "work",
    [
        validated,
        sampled,
        measure_reconstruction,
        lambda autoencoder, images: measure_latents(autoencoder, images, predictors="none"),
        lambda autoencoder, images: images_to_features(to_uint8(images), create_extractor()),
    ],
    ids=["validated", "sampled", "reconstruction", "latents", "features"],
)
def test_nothing_is_measured_or_sampled_in_tf32(work, convolutions):
    """Numbers of a GPU are to agree with a processor's to 1e-5, which factors of 10 bits do not."""
    work(tiny_autoencoder(), torch.rand(4, 3, 16, 16) * 2 - 1)
    assert convolutions
    assert set(convolutions) == {("ieee", "ieee")}
