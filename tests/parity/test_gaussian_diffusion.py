"""The diffusion objective and its chains against the public DiT code, and ours against diffusers' schedulers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from dit.objectives import Diffusion, space_timesteps
from dit.samplers import ddim, ddpm
from tests.fixtures import load_fixture, relative_error

DIFFUSERS_BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False}


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("gaussian_diffusion")


@pytest.fixture(scope="module")
def diffusion():
    return Diffusion()


def analytic_model(x, t):
    """Noise and variance that the fixture's note writes down; t in timesteps of the full diffusion."""
    share = t.view(-1, 1, 1, 1) / 1000
    return torch.cat(((1.3 * x).sin() * (1 - 0.5 * share) - 0.2 * share, 0.5 * x.cos()), dim=1)


def test_betas(fixture, diffusion):
    tensors, _ = fixture
    assert relative_error(diffusion.betas, tensors["betas"]) < 1e-12
    # recipes: cumulative products of the published schedule
    products = diffusion.alphas_cumprod[[0, 499, 999]].tolist()
    assert products == pytest.approx([0.9999, 0.0785872, 4.03583e-5], rel=1e-5)


def test_q_sample(fixture, diffusion):
    tensors, _ = fixture
    assert relative_error(diffusion.q_sample(tensors["x0"], tensors["t"], tensors["noise"]), tensors["x_t"]) < 1e-6


def test_training_terms(fixture, diffusion):
    """At t = 0 the likelihood, beyond it the divergence."""
    tensors, _ = fixture
    assert tensors["t"].min() == 0
    terms = diffusion.training_terms(tensors["model_output"], tensors["x0"], tensors["t"], tensors["noise"])
    assert set(terms) == {"mse", "vb", "loss"}
    for name, value in terms.items():
        torch.testing.assert_close(value, tensors[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("clip", [False, True])
def test_reverse_step(fixture, diffusion, clip):
    """The fixture takes its reverse steps at x_t = x0."""
    tensors, _ = fixture
    reverse = diffusion.p_posterior(tensors["model_output"], tensors["x0"], tensors["t"], clip)
    prefix = f"p_mean_variance/clip={int(clip)}/"
    assert relative_error(reverse.mean, tensors[prefix + "mean"]) < 1e-5
    assert relative_error(reverse.log_variance, tensors[prefix + "log_variance"]) < 1e-5
    assert relative_error(reverse.log_variance.exp(), tensors[prefix + "variance"]) < 1e-5
    assert relative_error(reverse.predicted_x_0, tensors[prefix + "pred_xstart"]) < 1e-5


@pytest.mark.parametrize(
    ("name", "spacing"), [("250", 250), ("50", 50), ("ddim25", "ddim25"), ("10,15,20", (10, 15, 20))]
)
def test_respacing(fixture, diffusion, name, spacing):
    tensors, config = fixture
    timesteps = space_timesteps(1000, spacing)
    assert timesteps == config["timestep_map"][name]
    assert relative_error(diffusion.respaced(timesteps).betas, tensors[f"respaced_betas/{name}"]) < 1e-12


def test_ddpm_chain(fixture, diffusion):
    tensors, _ = fixture
    noise = tensors["ddpm10/noise"]
    latents = ddpm(
        analytic_model, tensors["ddpm10/x_T"], diffusion, space_timesteps(1000, 10), lambda step: noise[step]
    )
    assert relative_error(latents, tensors["ddpm10/out"]) < 1e-5


def test_ddim_chain(fixture, diffusion):
    tensors, _ = fixture
    latents = ddim(analytic_model, tensors["ddpm10/x_T"], diffusion, space_timesteps(1000, "ddim10"))
    assert relative_error(latents, tensors["ddim10/out"]) < 1e-5


def test_ddpm_is_that_of_diffusers(diffusion, monkeypatch):
    """50 steps with learned variance, the scheduler's noise being ours in its order of use."""
    noise = torch.randn(50, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = space_timesteps(1000, 50)
    scheduler = DDPMScheduler(variance_type="learned_range", **DIFFUSERS_BETAS)
    scheduler.set_timesteps(timesteps=timesteps[::-1])
    queue = iter(noise)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(queue))
    x = start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in scheduler.timesteps:
        x = scheduler.step(analytic_model(x, t.expand(2)), t, x).prev_sample
    ours = ddpm(analytic_model, start, diffusion, timesteps, noise.__getitem__)
    assert relative_error(ours, x) < 1e-4


def test_ddim_is_that_of_diffusers(diffusion):
    scheduler = DDIMScheduler(set_alpha_to_one=True, steps_offset=0, timestep_spacing="leading", **DIFFUSERS_BETAS)
    scheduler.set_timesteps(25)
    x = start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in scheduler.timesteps:
        x = scheduler.step(analytic_model(x, t.expand(2))[:, :4], t, x).prev_sample
    ours = ddim(analytic_model, start, diffusion, space_timesteps(1000, "ddim25"))
    assert relative_error(ours, x) < 1e-4
