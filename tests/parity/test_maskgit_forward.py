"""Both MaskGITs against the public networks: logits from public weights, counts, norms, initial values."""

import pytest
import torch
from torch import nn

from dit.backbones import HaltonMaskGIT, MaskGIT, num_parameters
from dit.backbones.maskgit import MASKED
from dit.public.maskgit import our_name, read_public_maskgit
from tests.fixtures import load_fixture, model_weights, relative_error

FAMILIES = {"v1": MaskGIT, "v2": HaltonMaskGIT}
ROUNDING = 5e-5  # the fixture's deviations have four decimals


@pytest.fixture(params=FAMILIES)
def version(request):
    return request.param


@pytest.fixture
def fixture(version):
    """Tensors and facts of one version."""
    tensors, facts = load_fixture("maskgit_forward")
    if version not in facts:
        pytest.skip(f"the fixture has no {version}")
    return model_weights(tensors, f"{version}/"), facts[version]


def create(version: str, config: dict) -> nn.Module:
    """Our network of the sizes that the public arguments give."""
    side = config["img_size"] // config["f_factor"] if version == "v1" else config["input_size"]
    registers = {"num_registers": config["register"]} if version == "v2" else {}
    torch.manual_seed(0)
    return FAMILIES[version](
        input_size=side,
        num_codes=config["codebook_size"],
        hidden_size=config["hidden_dim"],
        depth=config["depth"],
        num_heads=config["heads"],
        mlp_ratio=config["mlp_dim"] / config["hidden_dim"],
        dropout=config["dropout"],
        num_classes=config["nclass"],
        **registers,
    )


def test_logits(version, fixture):
    tensors, facts = fixture
    config = facts["config"]
    model = read_public_maskgit(model_weights(tensors), "fixture", config["nclass"], config["heads"])
    assert isinstance(model, FAMILIES[version])
    hidden = torch.where(tensors["masked"], MASKED, tensors["x"])
    logits = model(hidden, torch.zeros(len(hidden)), tensors["y"], tensors["drop"]).flatten(2).transpose(1, 2)
    assert relative_error(logits, tensors["logits"]) < 1e-5
    shown = model(tensors["x"], torch.zeros(len(hidden)), tensors["y"], tensors["drop"]).flatten(2).transpose(1, 2)
    assert relative_error(shown, tensors["logits"]) > 1e-2  # what is hidden matters


def test_parameters_to_the_unit(version, fixture):
    _, facts = fixture
    assert num_parameters(create(version, facts["config"])) == facts["num_parameters"]


def test_every_norm_has_the_published_epsilon(version, fixture):
    _, facts = fixture
    model = create(version, facts["config"])
    expected = {our_name(name, type(model)): eps for name, eps in facts["layer_norm_eps"].items()}
    found = {name: each.eps for name, each in model.named_modules() if isinstance(each, nn.LayerNorm | nn.RMSNorm)}
    assert found == expected


def test_initial_deviations(version, fixture):
    """Constants are exact; the rest agrees within five standard errors of both draws."""
    _, facts = fixture
    parameters = dict(create(version, facts["config"]).named_parameters())
    expected = {our_name(name, FAMILIES[version]): std for name, std in facts["default_init_std"].items()}
    assert set(expected) == set(parameters)
    for name, std in expected.items():
        value = parameters[name].detach()
        # The deviation of n uniform or normal draws errs by at most std / sqrt(2 n), theirs as ours.
        error = 5 * std * value.numel() ** -0.5 + ROUNDING if std else 0
        assert float(value.std(correction=0)) == pytest.approx(std, abs=error), name
