"""Feature extraction: independence of batches, sizes, torch-fidelity's own door, weights that cannot be had."""

import socket

import pytest
import torch
import torch_fidelity
from torch.utils.data import Dataset

from eqvae.evaluation import EXTRACTORS, create_extractor, frechet_distance, images_to_features
from eqvae.evaluation.features import GROUP, EfficientNetFeatures


def random_images(count, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


class Images(Dataset):
    """What torch-fidelity takes as input."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.reliability(28)
def test_features_are_the_same_to_the_last_bit_for_any_batches_and_threads(reached):
    images, extractor = random_images(GROUP + 13), create_extractor()
    together = images_to_features(images, extractor)
    assert together.shape == (GROUP + 13, 1280)
    assert together.dtype == torch.float32
    for size, num_threads in ((1, 1), (7, 2), (GROUP + 1, 2)):
        torch.set_num_threads(num_threads)
        try:
            features = images_to_features(images.split(size), extractor)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(features, together), f"batches of {size}, {num_threads} threads"
    reached.largest("batch 1 against N", 0)
    at_once = extractor(images)[0]  # in a batch of another size, which rounds otherwise on most processors
    assert (at_once - together).abs().max() < 1e-5 * together.abs().max()


@pytest.mark.parametrize(("side", "input_size"), [(16, 64), (64, 64), (65, 224)])
def test_input_size(side, input_size):
    images = random_images(2, side)
    expected = EfficientNetFeatures(input_size=input_size).eval()(images)[0]
    torch.testing.assert_close(create_extractor()(images)[0], expected)


def test_features_are_of_the_images_and_of_bytes():
    features = images_to_features(random_images(2), create_extractor())
    assert (features[0] - features[1]).abs().max() > 0.1
    with pytest.raises(AssertionError, match="uint8"):
        create_extractor()(random_images(2).float())


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_torch_fidelity_finds_the_extractor():
    real, generated = random_images(8), random_images(8, seed=1) // 2
    found = torch_fidelity.calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        feature_extractor="efficientnet_lite0",
        fid=True,
        cuda=False,
        cache=False,
        batch_size=4,
        num_workers=0,
        save_cpu_ram=True,
        verbose=False,
    )
    features = [images_to_features(images, create_extractor()) for images in (real, generated)]
    assert found["frechet_inception_distance"] == pytest.approx(frechet_distance(*features), rel=1e-3)


def test_names():
    names = {name: metrics.distance for name, metrics in EXTRACTORS.items()}
    expected = {"efficientnet_lite0": "fd_efficientnet_lite0", "inception_v3": "fid"}
    assert names == expected | {"dinov2_large": "fd_dinov2_large"}
    with pytest.raises(
        ValueError, match="'dino' is unknown: use one of efficientnet_lite0, inception_v3, dinov2_large"
    ):
        create_extractor("dino")


@pytest.mark.reliability(30)
def test_inception_without_weights_names_the_option(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="give a local file as extractor_weights") as error:
        create_extractor("inception_v3")
    assert "\n" not in str(error.value)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold torch-fidelity's Inception-v3"):
        create_extractor("inception_v3", str(tmp_path / "other.pth"))
