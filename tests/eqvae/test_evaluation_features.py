"""Feature extraction: independence of batches, sizes, torch-fidelity's own door, weights that cannot be had."""

import socket

import pytest
import torch
import torch_fidelity
from torch.utils.data import Dataset

from eqvae.evaluation import METRIC_NAMES, create_extractor, frechet_distance, images_to_features
from eqvae.evaluation.features import EfficientNetFeatures


def pictures(count, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


class Pictures(Dataset):
    """What torch-fidelity takes as input."""

    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index]


def test_features_do_not_depend_on_batches():
    images, extractor = pictures(12), create_extractor()
    together = images_to_features(images, extractor, batch_size=12)
    assert together.shape == (12, 1280)
    assert together.dtype == torch.float32
    scale = together.abs().max()
    for batches, batch_size in ((images, 1), (images.split(5), 100), (images.split(7), 3)):
        features = images_to_features(batches, extractor, batch_size)
        assert (features - together).abs().max() < 1e-5 * scale


@pytest.mark.parametrize(("side", "input_size"), [(16, 64), (64, 64), (65, 224)])
def test_input_size(side, input_size):
    images = pictures(2, side)
    expected = EfficientNetFeatures(input_size=input_size).eval()(images)[0]
    torch.testing.assert_close(create_extractor()(images)[0], expected)


def test_features_are_of_the_pictures_and_of_bytes():
    features = images_to_features(pictures(2), create_extractor())
    assert (features[0] - features[1]).abs().max() > 0.1
    with pytest.raises(AssertionError, match="uint8"):
        create_extractor()(pictures(2).float())


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_torch_fidelity_finds_the_extractor():
    real, generated = pictures(8), pictures(8, seed=1) // 2
    found = torch_fidelity.calculate_metrics(
        input1=Pictures(generated),
        input2=Pictures(real),
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
    assert METRIC_NAMES == {"efficientnet_lite0": "fd_efficientnet_lite0", "inception_v3": "fid"}
    with pytest.raises(ValueError, match="'dino' is unknown: use one of efficientnet_lite0, inception_v3"):
        create_extractor("dino")


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
