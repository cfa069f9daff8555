"""Flows and their samplers against the public SiT code: every key of the fixture."""

import pytest
import torch

from dit.objectives import Flow
from dit.samplers import StochasticSettings, adaptive, euler, euler_maruyama, midpoint
from tests.fixtures import load_fixture, relative_error

PATHS = {"Linear": "linear", "GVP": "gvp", "VP": "vp"}
PREDICTIONS = ("velocity", "noise", "score")
DIFFUSIONS = {
    "constant": "constant",
    "SBDM": "sbdm",
    "sigma": "sigma",
    "linear": "linear",
    "decreasing": "decreasing",
    "inccreasing-decreasing": "increasing-decreasing",
}
SOLVERS = {"euler": (euler, 1e-5), "midpoint": (midpoint, 1e-5), "dopri5": (adaptive, 1e-4)}


@pytest.fixture(scope="module")
def tensors():
    return load_fixture("transport")[0]


def analytic_velocity(x, t):
    """The model that the fixture's note writes down."""
    t = t.view(-1, 1, 1, 1)
    return (1.3 * x).sin() * (1 - 0.5 * t) - 0.2 * t


def keys_of(tensors, kind):
    """kind/path/two options; the noise of the chains lies one level deeper."""
    return [key for key in tensors if key.startswith(f"{kind}/") and key.count("/") == 3]


def test_every_key_is_compared(tensors):
    kinds = {key.split("/")[0] for key in tensors} - {"x0", "x1", "t", "model_output"}
    assert kinds == {"xt", "ut", "loss", "ode_drift", "score", "diffusion", "interval", "ode", "sde"}


@pytest.mark.parametrize("path", PATHS)
def test_interpolation(tensors, path):
    x_t, velocity = Flow(PATHS[path]).interpolate(tensors["x0"], tensors["x1"], tensors["t"])
    assert relative_error(x_t, tensors[f"xt/{path}"]) < 1e-6
    assert relative_error(velocity, tensors[f"ut/{path}"]) < 1e-5


def test_losses(tensors):
    keys = keys_of(tensors, "loss")
    assert len(keys) == 27
    for key in keys:
        _, path, prediction, weighting = key.split("/")
        flow = Flow(PATHS[path], prediction, None if weighting == "None" else weighting)
        terms = flow.training_terms(tensors["model_output"], tensors["x0"], tensors["x1"], tensors["t"])
        torch.testing.assert_close(terms["loss"], tensors[key], rtol=1e-5, atol=0, msg=key)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_drift_and_score(tensors, path, prediction):
    flow, x_t = Flow(PATHS[path], prediction), tensors[f"xt/{path}"]
    drift = flow.velocity(tensors["model_output"], x_t, tensors["t"])
    score = flow.score(tensors["model_output"], x_t, tensors["t"])
    assert relative_error(drift, tensors[f"ode_drift/{path}/{prediction}"]) < 1e-5
    assert relative_error(score, tensors[f"score/{path}/{prediction}"]) < 1e-5


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", DIFFUSIONS)
def test_diffusion_forms(tensors, path, form):
    settings = StochasticSettings(DIFFUSIONS[form])
    coefficient = settings.coefficient(Flow(PATHS[path]), tensors[f"xt/{path}"], tensors["t"])
    assert relative_error(coefficient, tensors[f"diffusion/{path}/{form}"]) < 1e-5


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_intervals(tensors, path, prediction):
    """The fixture holds how far training and sampling stay from the singular ends."""
    train_margin, sample_margin = tensors[f"interval/{path}/{prediction}"].tolist()
    flow = Flow(PATHS[path], prediction)
    both_ends = path != "VP"
    assert flow.interval == pytest.approx((train_margin * both_ends, 1 - train_margin), abs=1e-12)
    assert flow.sampling_interval == pytest.approx((sample_margin * both_ends, 1 - sample_margin), abs=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", SOLVERS)
def test_ode(tensors, path, method):
    """8 steps; the fixture's chains start at its x1."""
    solver, tolerance = SOLVERS[method]
    times = torch.linspace(*Flow(PATHS[path]).sampling_interval, 9, dtype=torch.float64)
    latents = solver(analytic_velocity, tensors["x1"], times)
    assert relative_error(latents, tensors[f"ode/{path}/velocity/{method}"]) < tolerance


def test_sde(tensors):
    """8 noisy steps, and the last one. The public code starts SBDM at an infinite drift, so its chains are NaN."""
    keys = keys_of(tensors, "sde")
    assert len(keys) == 18
    for key in keys:
        _, path, form, last_step = key.split("/")
        settings = StochasticSettings(DIFFUSIONS[form], last_step=last_step.lower())
        noise, num_steps = tensors[f"{key}/noise"], 8 if last_step == "None" else 9
        latents = euler_maruyama(
            Flow(PATHS[path]),
            analytic_velocity,
            tensors["x1"],
            num_steps,
            lambda step, noise=noise: noise[step],
            settings,
        )
        assert latents.isfinite().all(), key
        if path != "VP" and form == "SBDM":
            assert tensors[key].isnan().all(), key
        else:
            assert relative_error(latents, tensors[key]) < 1e-5, key
