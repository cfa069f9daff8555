"""Scaling and turning against the public EQ-VAE code: every key of the fixture."""

import torch

from eqvae.equivariance import SpatialTransform
from tests.fixtures import load_fixture


def test_every_transform():
    tensors, _ = load_fixture("eq_transforms")
    keys = [key for key in tensors if "/" in key]
    assert len(keys) == 48
    for key in keys:
        name, scale, turns = key.split("/")
        sy, sx = map(float, scale.split(","))
        transform = SpatialTransform((sy, sx), int(turns))
        assert transform.output_size(*tensors[name].shape[-2:]) == tensors[key].shape[-2:], key
        # The same kernel of the same library: 0 here. Another release may fuse a product: 1e-7 of values of some units.
        torch.testing.assert_close(transform(tensors[name]), tensors[key], rtol=1e-5, atol=1e-5, msg=key)
