"""Fréchet distance, precision and recall, TwoNN against closed formulae in float64."""

import re

import pytest

from eqvae.evaluation import frechet_distance, intrinsic_dimension, precision_recall
from eqvae.evaluation.latents import DISCARDED_SHARE
from tests.fixtures import load_fixture


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("metrics")


def numbers_in(config, pattern):
    """The number in each name of this form."""
    found = [int(match[1]) for name in config if (match := re.fullmatch(pattern, name))]
    assert found, f"the fixture has no {pattern}"
    return found


def test_frechet_distance(fixture):
    tensors, config = fixture
    distance = frechet_distance(tensors["real"], tensors["fake"])
    assert distance == pytest.approx(config["frechet_distance"], rel=1e-6)


def test_precision_recall(fixture):
    tensors, config = fixture
    for k in numbers_in(config, r"precision_k(\d+)"):
        precision, recall = precision_recall(tensors["real"], tensors["fake"], k=k)
        assert precision == pytest.approx(config[f"precision_k{k}"], abs=1e-6)
        assert recall == pytest.approx(config[f"recall_k{k}"], abs=1e-6)


def test_intrinsic_dimension(fixture):
    tensors, config = fixture
    assert intrinsic_dimension(tensors["manifold"], "twonn") == pytest.approx(config["twonn_mle"], rel=1e-6)
    assert intrinsic_dimension(tensors["manifold"]) == pytest.approx(config["twonn_mle"], rel=1e-6)


def test_fitted_intrinsic_dimension(fixture):
    """Ours discards a tenth, as published."""
    tensors, config = fixture
    assert DISCARDED_SHARE * 100 in numbers_in(config, r"twonn_fit_discard(\d+)")
    expected = config[f"twonn_fit_discard{round(DISCARDED_SHARE * 100)}"]
    assert intrinsic_dimension(tensors["manifold"], "twonn_fit") == pytest.approx(expected, rel=1e-6)
