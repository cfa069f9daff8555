"""A public REPA checkpoint is loaded as a generator of ours: the fixture's weights, its velocity, and REPA's chain."""

from itertools import pairwise

import pytest
import torch

from dit.backbones import SiT
from dit.checkpoints import load_generator
from dit.objectives import Flow
from dit.samplers import guide, sample
from tests.fixtures import load_fixture, model_weights, relative_error

STEPS, SCALE = 8, 1.8


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("repa_forward")


@pytest.fixture(params=[None, "ema", "model"])
def generator(request, fixture, tmp_path):
    weights, config = model_weights(fixture[0]), fixture[1]["config"]
    torch.save({request.param: weights, "steps": 4} if request.param else weights, tmp_path / "repa.pt")
    return load_generator(tmp_path / "repa.pt", num_heads=config["num_heads"])


def test_velocity_is_turned_once(generator, fixture):
    tensors, note = fixture
    with torch.no_grad():
        velocity = generator.backbone(tensors["x"], 1 - tensors["t"], tensors["y"])
    assert relative_error(-velocity, tensors["out"]) < 1e-5
    assert isinstance(generator.objective, Flow)
    assert generator.num_classes == note["config"]["num_classes"]
    assert generator.spec.normalization.scale == (0.18215,)
    assert not any("projector" in name for name in generator.backbone.state_dict())


def test_chain_is_that_of_repa(generator, fixture):
    """Euler with guidance in REPA's own time, 1 to 0, on the weights as they are in the file."""
    tensors, _ = fixture
    model = SiT(**generator.backbone.config).eval()
    model.load_state_dict({key: value for key, value in model_weights(tensors).items() if "projectors" not in key})
    start, labels = torch.randn(tensors["x"].shape, generator=torch.Generator().manual_seed(0)), tensors["y"]
    null = torch.full_like(labels, generator.num_classes)
    x = start
    with torch.no_grad():
        for now, after in pairwise(torch.linspace(1, 0, STEPS + 1).tolist()):
            conditional, unconditional = (model(x, torch.full((len(x),), now), y) for y in (labels, null))
            x = x + (after - now) * (unconditional + SCALE * (conditional - unconditional))
        guided = guide(generator.backbone, labels, SCALE, generator.num_classes)
        ours = sample(generator.objective, guided, start, "euler", STEPS)
    assert relative_error(start, x) > 0.1  # the chain went somewhere
    assert relative_error(ours, x) < 1e-5


def test_a_file_without_the_first_projector_is_refused(fixture, tmp_path):
    tensors, note = fixture
    weights = {key.replace("projectors.0.", "projectors.9."): value for key, value in model_weights(tensors).items()}
    torch.save(weights, tmp_path / "repa.pt")
    with pytest.raises(ValueError, match=r"repa.pt: these are no weights of REPA: projectors.0 is missing"):
        load_generator(tmp_path / "repa.pt", num_heads=note["config"]["num_heads"])
