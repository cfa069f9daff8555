"""Fréchet distance, precision and recall, TwoNN against closed formulae in float64."""

import pytest

from eqvae.evaluation import frechet_distance, intrinsic_dimension, precision_recall
from tests.fixtures import load_fixture


def test_frechet_distance():
    tensors, config = load_fixture("metrics")
    distance = frechet_distance(tensors["real"], tensors["fake"])
    assert distance == pytest.approx(config["frechet_distance"], rel=1e-6)


def test_precision_recall():
    tensors, config = load_fixture("metrics")
    precision, recall = precision_recall(tensors["real"], tensors["fake"], k=3)
    assert precision == pytest.approx(config["precision_k3"], abs=1e-6)
    assert recall == pytest.approx(config["recall_k3"], abs=1e-6)


@pytest.mark.parametrize(("method", "key"), [("twonn", "twonn_mle"), ("twonn_fit", "twonn_fit_discard10")])
def test_intrinsic_dimension(method, key):
    tensors, config = load_fixture("metrics")
    assert intrinsic_dimension(tensors["manifold"], method) == pytest.approx(config[key], rel=1e-6)
    assert intrinsic_dimension(tensors["manifold"]) == pytest.approx(config["twonn_mle"], rel=1e-6)
