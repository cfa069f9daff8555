"""Paths, conversions, times and losses in closed form."""

import itertools
import math

import pytest
import torch

from dit.objectives import Diffusion, Flow, Objective, space_timesteps
from dit.objectives.paths import PATHS
from dit.samplers.ode import time_grid

PREDICTIONS = ("velocity", "noise", "score")
WEIGHTINGS = (None, "velocity", "likelihood")


def draws(batch=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, batch, 4, 6, 6, generator=generator, dtype=dtype)


@pytest.mark.parametrize("path", PATHS)
def test_path_derivatives(path):
    t, h = torch.linspace(0.01, 0.99, 99, dtype=torch.float64), 1e-6
    before, here, after = PATHS[path](t - h), PATHS[path](t), PATHS[path](t + h)
    torch.testing.assert_close((after.alpha - before.alpha) / (2 * h), here.alpha_derivative, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((after.sigma - before.sigma) / (2 * h), here.sigma_derivative, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("path", PATHS)
def test_paths_run_from_noise_to_data(path):
    ends = PATHS[path](torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends.alpha.tolist(), [0.0, 1.0], atol=0.007, rtol=0)  # vp keeps 0.00657 of the data
    torch.testing.assert_close(ends.sigma.tolist(), [1.0, 0.0], atol=0.002, rtol=0)  # and 0.001 of the noise


def test_variance_preserving_values():
    c = PATHS["vp"](torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64))
    assert c.alpha.tolist() == pytest.approx([0.0065716, 0.0586635, 0.2811829, 0.7236572], rel=1e-5)
    assert c.sigma[1:].tolist() == pytest.approx([0.9982778, 0.9596542, 0.6901596], rel=1e-6)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_conversions_recover_the_truth(path, prediction):
    """From any true prediction come the true velocity, noise and score, in float64."""
    noise, data = draws(dtype=torch.float64)
    t = torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)
    flow = Flow(path, prediction)
    x_t, velocity = flow.interpolate(noise, data, t)
    score = -noise / flow.coefficients(t, x_t).sigma
    given = {"velocity": velocity, "noise": noise, "score": score}[prediction]
    torch.testing.assert_close(flow.velocity(given, x_t, t), velocity, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.noise(given, x_t, t), noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.score(given, x_t, t), score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_noise_is_known_at_the_ends(path):
    noise, data = draws(2, torch.float64)
    flow, t = Flow(path), torch.tensor([0.0, 1.0], dtype=torch.float64)
    x_t, velocity = flow.interpolate(noise, data, t)
    torch.testing.assert_close(flow.noise(velocity, x_t, t), noise)


@pytest.mark.parametrize(("path", "prediction"), itertools.product(PATHS, PREDICTIONS))
def test_losses_vanish_at_the_truth_alone(path, prediction):
    noise, data = draws()
    for weighting in WEIGHTINGS:
        flow = Flow(path, prediction, weighting)
        t = flow.sample_times(torch.tensor([1e-7, 0.2, 0.8, 1 - 6e-8]))
        assert t.min() >= flow.interval[0]
        assert t.max() <= flow.interval[1]
        _, velocity = flow.interpolate(noise, data, t)
        sigma = flow.coefficients(t, data).sigma
        truth = {"velocity": velocity, "noise": noise, "score": -noise / sigma}[prediction]
        off = truth * 1.1
        loss = flow.training_terms(truth, noise, data, t)["loss"]
        wrong = flow.training_terms(off, noise, data, t)["loss"]
        assert loss.shape == (4,)
        assert wrong.isfinite().all()
        assert (loss < 1e-6 * wrong).all()


def test_uniform_times_are_uniform():
    uniform = torch.tensor([0.125, 0.5, 0.75])
    assert torch.equal(Flow().sample_times(uniform), uniform)
    assert Flow("linear", "noise").sample_times(uniform).tolist() == pytest.approx([0.12575, 0.5, 0.7495], rel=1e-6)


def test_logit_normal_times():
    """Quantiles go to quantiles: the median to sigmoid(mean), the 84th percentile to sigmoid(mean + std)."""
    flow = Flow(timesteps="logit_normal", logit_mean=-0.5, logit_std=2.0)
    t = flow.sample_times(torch.tensor([0.5, 0.8413447]))
    assert t.tolist() == pytest.approx([1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-1.5))], rel=1e-5)


def test_diffusion_times_are_equally_likely():
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    assert (Diffusion().sample_times(uniform).bincount() == 10).all()
    assert Diffusion().sample_times(torch.tensor([1 - 6e-8])).item() == 999


@pytest.mark.parametrize("objective", [Flow(), Diffusion(learn_sigma=False)])
def test_objectives_fit_the_module(objective):
    """They rebuild from their config, call the model as model(x_t, t, **conditions) and keep losses in float32."""
    assert isinstance(objective, Objective)
    assert type(objective)(**objective.config).config == objective.config
    noise, data = draws()
    seen = {}

    def model(x, t, **conditions):
        seen.update(conditions, x=x, t=t)
        return torch.zeros_like(x, dtype=torch.bfloat16)

    t = objective.sample_times(torch.tensor([0.1, 0.3, 0.5, 0.9]))
    terms = objective.loss_terms(model, data, noise, t, y=torch.arange(4))
    assert seen["y"].tolist() == [0, 1, 2, 3]
    assert torch.equal(seen["t"], t)
    assert terms["loss"].dtype == torch.float32
    target = noise if isinstance(objective, Diffusion) else data - noise
    torch.testing.assert_close(terms["loss"], target.square().flatten(1).mean(1))


@pytest.mark.parametrize(
    "wrong", [{"path": "cosine"}, {"prediction": "v"}, {"weighting": "snr"}, {"timesteps": "beta"}]
)
def test_unknown_flow_options(wrong):
    with pytest.raises(ValueError, match=f"flow {next(iter(wrong))} .* is unknown: use one of"):
        Flow(**wrong)


def test_posterior_is_bayes():
    """q(x_{t-1} | x_t, x_0) from the product of the two Gaussians, in float64."""
    diffusion, t = Diffusion(), torch.tensor([1, 300, 999])
    beta, product = diffusion.betas[t], diffusion.alphas_cumprod[t - 1]
    precision = (1 - beta) / beta + 1 / (1 - product)
    x_0, x_t = torch.tensor([0.7, -1.2, 0.4]), torch.tensor([-0.3, 0.9, 1.1])
    mean = ((1 - beta).sqrt() / beta * x_t + product.sqrt() / (1 - product) * x_0) / precision
    posterior = diffusion.q_posterior(x_0, x_t, t)
    torch.testing.assert_close(posterior.mean, mean.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior.log_variance, -precision.log().float(), rtol=1e-4, atol=1e-5)


def test_variational_bound_vanishes_at_the_truth():
    noise, data = draws(3)
    t = torch.tensor([1, 400, 999])
    truth = torch.cat((noise, -torch.ones_like(noise)), dim=1)  # -1: the variance's lower bound, the posterior's own
    terms = Diffusion().training_terms(truth, data, t, noise)
    assert (terms["vb"].abs() < 1e-4).all()
    assert (terms["mse"] == 0).all()


def test_variational_bound_trains_the_variance_alone():
    noise, data = draws(3)
    output = torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    terms = Diffusion().training_terms(output, data, torch.tensor([0, 10, 900]), noise)
    (gradient,) = torch.autograd.grad(terms["vb"].sum(), output, retain_graph=True)
    assert (gradient[:, :4] == 0).all()
    assert (gradient[:, 4:].flatten(1).abs().sum(1) > 0).all()
    (gradient,) = torch.autograd.grad(terms["mse"].sum(), output)
    assert (gradient[:, 4:] == 0).all()


def test_training_after_inference():
    """Tables first used in inference mode serve training afterwards: validation comes before the first step."""
    noise, data = draws()
    diffusion, t = Diffusion(), torch.tensor([0, 5, 500, 999])
    output = torch.zeros(4, 8, 6, 6, requires_grad=True)
    with torch.inference_mode():
        before = diffusion.training_terms(output, data, t, noise)["loss"].clone()
    after = diffusion.training_terms(output, data, t, noise)["loss"]
    after.sum().backward()
    assert torch.equal(before, after.detach())


@pytest.mark.parametrize("num_timesteps", [100, 1000, 4000])
def test_any_number_of_timesteps_ends_in_noise(num_timesteps):
    diffusion = Diffusion(num_timesteps)
    assert len(diffusion.betas) == diffusion.num_timesteps == num_timesteps
    assert 1e-5 < float(diffusion.alphas_cumprod[-1]) < 1e-4


def test_respaced_keeps_the_marginals():
    diffusion, timesteps = Diffusion(), space_timesteps(1000, 37)
    spaced = diffusion.respaced(timesteps)
    torch.testing.assert_close(spaced.alphas_cumprod, diffusion.alphas_cumprod[timesteps], rtol=1e-12, atol=0)
    assert diffusion.num_timesteps == 1000
    assert spaced.num_timesteps == 37


def test_timesteps_are_rounded_sums_of_strides():
    """The public rule, count by count; products of index and stride differ in 278 counts of 999."""
    unlike_products = 0
    for count in range(2, 1001):
        stride, place, expected = 999 / (count - 1), 0.0, []
        while len(expected) < count:
            expected.append(round(place))
            place += stride
        timesteps = space_timesteps(1000, count)
        assert timesteps == expected, count
        assert timesteps == sorted(set(timesteps))
        assert (timesteps[0], timesteps[-1]) == (0, 999)
        unlike_products += timesteps != [round(index * stride) for index in range(count)]
    assert unlike_products == 278
    assert set(range(1000)) - set(space_timesteps(1000, 999)) == {500}
    assert space_timesteps(3000, (999, 2, 999))[:999] == space_timesteps(1000, 999)


@pytest.mark.parametrize("spacing", [1, 0, 1001, (600, 10), "ddim333", "ddim", "250"])
def test_impossible_spacings(spacing):
    with pytest.raises(ValueError, match=r"^(num_inference_steps|timestep spacing)"):
        space_timesteps(1000, spacing)


def test_too_few_timesteps():
    with pytest.raises(ValueError, match="num_timesteps must be above 20, got 20"):
        Diffusion(20)


def test_cosine_loss_is_added_per_position():
    generator = torch.Generator().manual_seed(0)
    output, noise, data = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(3))
    t = torch.rand(3, generator=generator)
    plain, flow = Flow().training_terms(output, noise, data, t), Flow(cosine_weight=0.5)
    terms, velocity = flow.training_terms(output, noise, data, t), data - noise
    lengths = output.square().sum(1).sqrt() * velocity.square().sum(1).sqrt()
    expected = (1 - (output * velocity).sum(1) / lengths).mean((1, 2))
    torch.testing.assert_close(terms["velocity_cosine"], expected)
    torch.testing.assert_close(terms["loss"], plain["loss"] + 0.5 * expected)
    assert Flow(**flow.config).cosine_weight == 0.5
    with pytest.raises(ValueError, match="cosine_weight"):
        Flow(prediction="noise", cosine_weight=1.0)


def test_shifted_times_are_those_of_rae_and_of_the_samplers():
    """RAE counts noise as 1: t' = a t / (1 + (a - 1) t) with a = sqrt(C h w / 4096)."""
    a = math.sqrt(768 * 16 * 16 / 4096)
    uniform = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    noise_share = 1 - uniform
    published = a * noise_share / (1 + (a - 1) * noise_share)
    times = Flow(timestep_shift=1 / a).sample_times(uniform)
    torch.testing.assert_close(times, 1 - published, rtol=1e-12, atol=1e-12)
    grid = time_grid(0.0, 1.0, 4, 1 / a)
    torch.testing.assert_close(grid, Flow(timestep_shift=1 / a).sample_times(torch.linspace(0, 1, 5).double()))
    assert torch.equal(Flow().sample_times(uniform), uniform)
    with pytest.raises(ValueError, match="flow timestep_shift must be above 0"):
        Flow(timestep_shift=0.0)
