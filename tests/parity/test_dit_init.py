"""Initial weights, position table and sizes against the public DiT."""

import pytest
import torch

from dit.backbones import DiT, create_backbone, num_parameters
from tests.fixtures import load_fixture, relative_error


def test_position_table():
    tensors, config = load_fixture("dit_init")
    assert relative_error(DiT(**config["config"]).pos_embed, tensors["pos_embed"]) < 1e-6


def test_initial_weights():
    """Zeros are exact; random parameters have the recipe's mean and deviation within five standard errors."""
    _, config = load_fixture("dit_init")
    torch.manual_seed(0)
    parameters = dict(DiT(**config["config"]).named_parameters())
    assert set(parameters) == set(config["stats"])
    for name, (mean, std) in config["stats"].items():
        value = parameters[name].detach()
        if std == 0:
            assert (value == mean).all(), name
            continue
        if name == "pos_embed":
            continue
        # Both draws, theirs and ours, err; the deviation of a uniform or normal draw errs by at most std / sqrt(2 n).
        error = 5 * std * (2 / value.numel()) ** 0.5
        assert float(value.mean()) == pytest.approx(mean, abs=error), name
        assert float(value.std()) == pytest.approx(std, abs=error), name


def test_parameter_counts():
    _, config = load_fixture("dit_init")
    for name, expected in config["params"].items():
        with torch.device("meta"):
            assert num_parameters(create_backbone(name)) == expected, name
