"""Scaling and turning against the public EQ-VAE code: every key of the fixture."""

import pytest
import torch

from eqvae.equivariance import SpatialTransform
from tests.fixtures import for_keys, load_fixture


@pytest.fixture(scope="module")
def tensors():
    return load_fixture("eq_transforms")[0]


@for_keys("eq_transforms", r"(?P<name>\w+)/(?P<vertical>[\d.]+),(?P<horizontal>[\d.]+)/(?P<turns>\d+)")
def test_transform(tensors, key, name, vertical, horizontal, turns):
    transform = SpatialTransform((float(vertical), float(horizontal)), int(turns))
    assert transform.output_size(*tensors[name].shape[-2:]) == tensors[key].shape[-2:]
    # The same kernel of the same library: 0 here. Another release may fuse a product: 1e-7 of values of some units.
    torch.testing.assert_close(transform(tensors[name]), tensors[key], rtol=1e-5, atol=1e-5)
