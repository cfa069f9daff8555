"""Flows and their samplers against the public SiT code: every key of the fixture."""

import re

import pytest
import torch

from dit.objectives import Flow
from dit.samplers import StochasticSettings, sample
from dit.samplers.sde import noise_coefficient
from tests.fixtures import analytic_model, for_keys, load_fixture, relative_error

FORMS = {"inccreasing-decreasing": "increasing-decreasing"}  # as the public code spells it
SOLVERS = {"euler": ("euler", 1e-5), "midpoint": ("midpoint", 1e-5), "dopri5": ("adaptive", 1e-4)}
PATH = r"(?P<path>\w+)"


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("transport")


@pytest.fixture(scope="module")
def tensors(fixture):
    return fixture[0]


@pytest.fixture(scope="module")
def velocity(fixture):
    """The model that the fixture's note writes down."""
    formula = analytic_model(fixture[1]["note"])
    return lambda x, t: formula(x, t.view(-1, 1, 1, 1))


def number_in(note: str, pattern: str) -> float:
    found = re.search(pattern, note)
    assert found, f"no {pattern} in {note!r}"
    return float(found[1])


@for_keys("transport", rf"xt/{PATH}")
def test_interpolation(tensors, key, path):
    x_t, velocity = Flow(path.lower()).interpolate(tensors["x0"], tensors["x1"], tensors["t"])
    assert relative_error(x_t, tensors[key]) < 1e-6
    assert relative_error(velocity, tensors[f"ut/{path}"]) < 1e-5


@for_keys("transport", rf"loss/{PATH}/(?P<prediction>\w+)/(?P<weighting>\w+)")
def test_losses(tensors, key, path, prediction, weighting):
    flow = Flow(path.lower(), prediction, None if weighting == "None" else weighting)
    terms = flow.training_terms(tensors["model_output"], tensors["x0"], tensors["x1"], tensors["t"])
    torch.testing.assert_close(terms["loss"], tensors[key], rtol=1e-5, atol=0)


@for_keys("transport", rf"(?P<what>ode_drift|score)/{PATH}/(?P<prediction>\w+)")
def test_drift_and_score(tensors, key, what, path, prediction):
    flow = Flow(path.lower(), prediction)
    convert = flow.velocity if what == "ode_drift" else flow.score
    converted = convert(tensors["model_output"], tensors[f"xt/{path}"], tensors["t"])
    assert relative_error(converted, tensors[key]) < 1e-5


@for_keys("transport", rf"diffusion/{PATH}/(?P<form>[\w-]+)")
def test_diffusion_forms(tensors, key, path, form):
    settings = StochasticSettings(FORMS.get(form, form.lower()))
    coefficient = noise_coefficient(settings, Flow(path.lower()), tensors[f"xt/{path}"], tensors["t"])
    assert relative_error(coefficient, tensors[key]) < 1e-5


@for_keys("transport", rf"interval/{PATH}/(?P<prediction>\w+)")
def test_intervals(tensors, key, path, prediction):
    """The fixture holds how far training and sampling stay from the singular ends."""
    train_margin, sample_margin = tensors[key].tolist()
    flow = Flow(path.lower(), prediction)
    both_ends = path != "VP"
    assert flow.interval == pytest.approx((train_margin * both_ends, 1 - train_margin), abs=1e-12)
    assert flow.sampling_interval == pytest.approx((sample_margin * both_ends, 1 - sample_margin), abs=1e-12)


@for_keys("transport", rf"ode/{PATH}/(?P<prediction>\w+)/(?P<method>\w+)")
def test_ode(fixture, velocity, key, path, prediction, method):
    """The fixture's chains start at its x1; the model predicts what the key says."""
    tensors, about = fixture
    solver, tolerance = SOLVERS[method]
    flow, num_points = Flow(path.lower(), prediction), int(number_in(about["note"], r"ODE with (\d+) grid points"))
    latents = sample(flow, velocity, tensors["x1"], solver, num_points - 1)
    assert relative_error(latents, tensors[key]) < tolerance


@for_keys("transport", rf"sde/{PATH}/(?P<form>[\w-]+)/(?P<last_step>\w+)")
def test_sde(fixture, velocity, key, path, form, last_step):
    """The public code starts SBDM at an infinite drift, so its chains are NaN; ours start beside it."""
    tensors, about = fixture
    last_step_size = number_in(about["note"], r"last_step_size ([\d.]+)")
    settings = StochasticSettings(
        FORMS.get(form, form.lower()), last_step=last_step.lower(), last_step_size=last_step_size
    )
    noise = tensors[f"{key}/noise"]  # of the noisy steps
    num_steps = len(noise) if last_step == "None" else len(noise) + 1
    arguments = (tensors["x1"], "euler_maruyama", num_steps, lambda step: noise[step])
    latents = sample(Flow(path.lower()), velocity, *arguments, settings=settings)
    assert latents.isfinite().all()
    if path != "VP" and form == "SBDM":
        assert tensors[key].isnan().all()
    else:
        assert relative_error(latents, tensors[key]) < 1e-5
