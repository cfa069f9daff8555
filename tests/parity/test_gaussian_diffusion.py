"""The diffusion objective and its chains against the public DiT code, and ours against diffusers' schedulers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from dit.objectives import Diffusion, space_timesteps
from dit.samplers import DiffusionSettings, leading_timesteps, sample
from tests.fixtures import analytic_model, for_keys, load_fixture, relative_error

DIFFUSERS_BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False}


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("gaussian_diffusion")


@pytest.fixture(scope="module")
def tensors(fixture):
    return fixture[0]


@pytest.fixture(scope="module")
def diffusion(tensors):
    return Diffusion(len(tensors["betas"]))


def analytic_noise_and_variance(note: str, num_timesteps: int):
    """The model that the fixture's note writes down, of t in timesteps of the full diffusion."""
    formula = analytic_model(note.replace("f(x,t)", "f(x,s)"))  # s is the share t / T
    return lambda x, t: formula(x, t.view(-1, 1, 1, 1) / num_timesteps)


MODEL = analytic_noise_and_variance("f(x,t)=concat(sin(1.3x)*(1-0.5s)-0.2s, 0.5cos(x))", 1000)


def test_betas(tensors, diffusion):
    assert relative_error(diffusion.betas, tensors["betas"]) < 1e-12


def test_cumulative_products_of_the_published_schedule():
    products = Diffusion(1000).alphas_cumprod[[0, 499, 999]].tolist()
    assert products == pytest.approx([0.9999, 0.0785872, 4.03583e-5], rel=1e-5)


def test_q_sample(tensors, diffusion):
    assert relative_error(diffusion.q_sample(tensors["x0"], tensors["t"], tensors["noise"]), tensors["x_t"]) < 1e-6


def test_training_terms(tensors, diffusion):
    """At t = 0 the likelihood, beyond it the divergence."""
    terms = diffusion.training_terms(tensors["model_output"], tensors["x0"], tensors["t"], tensors["noise"])
    assert set(terms) == {"mse", "vb", "loss"}
    for name, value in terms.items():
        torch.testing.assert_close(value, tensors[name], rtol=1e-5, atol=0)


@for_keys("gaussian_diffusion", r"p_mean_variance/clip=(?P<clip>[01])/mean")
def test_reverse_step(tensors, diffusion, key, clip):
    """The fixture takes its reverse steps at x_t = x0."""
    reverse = diffusion.p_posterior(tensors["model_output"], tensors["x0"], tensors["t"], clip == "1")
    prefix = key.removesuffix("mean")
    assert relative_error(reverse.mean, tensors[key]) < 1e-5
    assert relative_error(reverse.log_variance, tensors[prefix + "log_variance"]) < 1e-5
    assert relative_error(reverse.log_variance.exp(), tensors[prefix + "variance"]) < 1e-5
    assert relative_error(reverse.predicted_x_0, tensors[prefix + "pred_xstart"]) < 1e-5


@for_keys("gaussian_diffusion", r"respaced_betas/(?P<name>[\w,]+)")
def test_respacing(fixture, diffusion, key, name):
    tensors, config = fixture
    counts = [int(part) for part in name.split(",") if part.isdigit()]
    timesteps = space_timesteps(diffusion.num_timesteps, counts or name)
    assert timesteps == config["timestep_map"][name]
    assert relative_error(diffusion.respaced(timesteps).betas, tensors[key]) < 1e-12


@for_keys("gaussian_diffusion", r"ddpm(?P<count>\d+)/out")
def test_ddpm_chain(fixture, diffusion, key, count):
    tensors, config = fixture
    chain = f"ddpm{count}"
    model = analytic_noise_and_variance(config[chain], diffusion.num_timesteps)
    noise = tensors[f"{chain}/noise"]
    latents = sample(diffusion, model, tensors[f"{chain}/x_T"], "ddpm", int(count), lambda step: noise[step])
    assert relative_error(latents, tensors[key]) < 1e-5


@for_keys("gaussian_diffusion", r"ddim(?P<count>\d+)/out")
def test_ddim_chain(fixture, diffusion, key, count):
    """From the start and with the model of the ancestral chain."""
    tensors, config = fixture
    chain = next(name for name in config if name.startswith("ddpm"))
    model = analytic_noise_and_variance(config[chain], diffusion.num_timesteps)
    settings, num_timesteps = DiffusionSettings("leading"), diffusion.num_timesteps
    assert leading_timesteps(num_timesteps, int(count)) == space_timesteps(num_timesteps, f"ddim{count}")
    latents = sample(diffusion, model, tensors[f"{chain}/x_T"], "ddim", int(count), settings=settings)
    assert relative_error(latents, tensors[key]) < 1e-5


def test_ddpm_is_that_of_diffusers(monkeypatch):
    """50 steps with learned variance, the scheduler's noise being ours in its order of use."""
    noise = torch.randn(50, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = space_timesteps(1000, 50)
    scheduler = DDPMScheduler(variance_type="learned_range", **DIFFUSERS_BETAS)
    scheduler.set_timesteps(timesteps=timesteps[::-1])
    queue = iter(noise)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(queue))
    x = start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in scheduler.timesteps:
        x = scheduler.step(MODEL(x, t.expand(2)), t, x).prev_sample
    ours = sample(Diffusion(), MODEL, start, "ddpm", 50, noise.__getitem__)
    assert relative_error(ours, x) < 1e-4


def test_ddim_is_that_of_diffusers():
    scheduler = DDIMScheduler(set_alpha_to_one=True, steps_offset=0, timestep_spacing="leading", **DIFFUSERS_BETAS)
    scheduler.set_timesteps(25)
    x = start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in scheduler.timesteps:
        x = scheduler.step(MODEL(x, t.expand(2))[:, :4], t, x).prev_sample
    ours = sample(Diffusion(), MODEL, start, "ddim", 25, settings=DiffusionSettings("leading"))
    assert relative_error(ours, x) < 1e-4
