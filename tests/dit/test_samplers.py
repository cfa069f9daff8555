"""Samplers on problems with a known answer; images independent of their batch; what each step costs."""

import itertools

import pytest
import torch
from diffusers import DDIMScheduler

from dit.backbones import DiT, SiT
from dit.objectives import Diffusion, Flow, MaskedTokens
from dit.samplers import (
    SAMPLERS,
    AdaptiveSettings,
    CountingModel,
    DiffusionSettings,
    FlowSettings,
    SamplingSettings,
    StochasticSettings,
    guide,
    image_noise,
    leading_timesteps,
    sample,
    step_noise,
)
from dit.samplers.ode import time_grid
from dit.samplers.own_settings import DIFFUSIONS, LAST_STEPS
from dit.samplers.sde import stochastic_times

TINY = {"input_size": 8, "patch_size": 2, "hidden_size": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
MEAN, STD = 0.8, 0.3  # of the Gaussian data whose velocity, score and noise are known


def objective_of(sampler):
    return SAMPLERS[sampler].serves()


def gaussian_velocity(flow):
    """The exact velocity towards data N(MEAN, STD^2) along any path."""

    def model(x, t):
        c = flow.coefficients(t, x)
        variance = (c.alpha * STD).square() + c.sigma.square()
        slope = (c.alpha * c.alpha_derivative * STD**2 + c.sigma * c.sigma_derivative) / variance
        return c.alpha_derivative * MEAN + slope * (x - c.alpha * MEAN)

    return model


def gaussian_noise(diffusion):
    """The exact noise prediction for data N(MEAN, STD^2), with the variance's upper bound."""

    def model(x, t):
        product = diffusion.alphas_cumprod[t].float().view(-1, 1, 1, 1)
        variance = product * STD**2 + 1 - product
        return torch.cat(((1 - product).sqrt() * (x - product.sqrt() * MEAN) / variance, torch.ones_like(x)), dim=1)

    return model


def noises(num, shape=(1, 1, 1), seed=0):
    indices = torch.arange(num)
    return image_noise(indices, shape, seed), step_noise(indices, shape, seed)


def tiny_backbone(kind):
    model = kind(**TINY).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(std=0.15, generator=generator)
    return model


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_order_of_convergence(sampler, order):
    """dx/dt = (1 + t) x: x(1) = e^1.5. Twice the steps, 2^order less error."""
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def error(num_steps):
        end = sample(Flow(), lambda x, t: (1 + t.view(-1, 1, 1, 1)) * x, x, sampler, num_steps)
        return abs(float(end) - torch.e**1.5)

    assert error(64) / error(128) == pytest.approx(2**order, rel=0.05)


def test_adaptive_meets_its_tolerance():
    x, seen = torch.ones(2, 1, 1, 1, dtype=torch.float64), []
    final = sample(
        Flow(),
        lambda x, t: (1 + t.view(-1, 1, 1, 1)) * x,
        x,
        "adaptive",
        callback=lambda *call: seen.append(call),
        settings=AdaptiveSettings(1e-8, 1e-8),
    )
    torch.testing.assert_close(final, torch.full_like(x, torch.e**1.5), rtol=1e-6, atol=0)
    assert [step for step, _, _ in seen] == list(range(len(seen)))
    assert seen[0][2] == 0.0


@pytest.mark.parametrize("path", ["linear", "gvp", "vp"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "midpoint", "adaptive"])
def test_ode_carries_noise_to_gaussian_data(path, sampler):
    """The flow of a Gaussian is affine: x_1 = MEAN + STD x_0."""
    flow, (noise, _) = Flow(path), noises(64)
    latents = sample(flow, gaussian_velocity(flow), noise, sampler, 200)
    tolerance = 0.06 if sampler == "adaptive" else 0.03  # its last step interpolates over the singular end of vp
    torch.testing.assert_close(latents, MEAN + STD * noise, rtol=0, atol=tolerance)


@pytest.mark.parametrize("sampler", ["euler_maruyama", "stochastic_heun"])
@pytest.mark.parametrize("diffusion", DIFFUSIONS)
def test_sde_draws_gaussian_data(sampler, diffusion):
    """Whatever the noise on the way, the end has the data's mean and deviation."""
    flow, (noise, each_step) = Flow(), noises(8000)
    settings = StochasticSettings(diffusion, last_step="tweedie", last_step_size=0.01)
    latents = sample(flow, gaussian_velocity(flow), noise, sampler, 200, each_step, settings=settings)
    assert float(latents.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(latents.std()) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
def test_diffusion_draws_gaussian_data(sampler):
    diffusion, (noise, each_step) = Diffusion(), noises(8000)
    latents = sample(diffusion, gaussian_noise(diffusion), noise, sampler, 250, each_step)
    assert float(latents.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(latents.std()) == pytest.approx(STD, rel=0.05)


def test_second_order_needs_fewer_steps():
    """Against DDIM through all timesteps, which is the solution of the same equation."""
    diffusion, (noise, _) = Diffusion(), noises(64)
    model = CountingModel(gaussian_noise(diffusion))
    exact = sample(diffusion, gaussian_noise(diffusion), noise, "ddim", 1000)
    errors = {n: float((sample(diffusion, model, noise, "dpm_solver", n) - exact).abs().max()) for n in (10, 20)}
    by_ddim = float((sample(diffusion, gaussian_noise(diffusion), noise, "ddim", 20) - exact).abs().max())
    assert model.num_evaluations == 30
    assert errors[20] < 0.5 * errors[10]
    assert errors[20] < 0.75 * by_ddim


def test_callback_of_dpm_solver():
    diffusion, (noise, _), seen = Diffusion(), noises(2), []
    x = sample(diffusion, gaussian_noise(diffusion), noise, "dpm_solver", 5, callback=lambda *state: seen.append(state))
    assert [step for step, _, _ in seen] == list(range(5))
    assert [timestep for _, _, timestep in seen] == [999, 799, 599, 400, 200]
    assert torch.equal(seen[-1][1], x)


def test_leading_timesteps_are_those_of_the_pipeline():
    scheduler = DDIMScheduler(timestep_spacing="leading")
    for count in (1, 7, 50, 1000):
        scheduler.set_timesteps(count)
        assert leading_timesteps(1000, count) == scheduler.timesteps.flip(0).tolist()
    diffusion, (noise, _) = Diffusion(), noises(2)
    model = gaussian_noise(diffusion)
    even = sample(diffusion, model, noise, "ddim", 10)
    assert not torch.allclose(even, sample(diffusion, model, noise, "ddim", 10, settings=DiffusionSettings("leading")))


@pytest.mark.parametrize(
    ("objective", "sampler", "num_steps", "settings", "message"),
    [
        (Flow(), "euler", 5, DiffusionSettings("leading"), "'euler' takes FlowSettings, got DiffusionSettings"),
        (Flow(), "heun", 5, StochasticSettings(), "'heun' takes FlowSettings, got StochasticSettings"),
        (Diffusion(), "ddim", 1001, DiffusionSettings("leading"), "use 1 to 1000"),
    ],
)
def test_settings_of_other_samplers(objective, sampler, num_steps, settings, message):
    with pytest.raises(ValueError, match=message):
        sample(objective, lambda x, t: x, torch.zeros(1, 1, 1, 1), sampler, num_steps, settings=settings)


def test_without_noise_the_sde_is_the_ode():
    flow, (noise, each_step) = Flow("gvp"), noises(8)
    model = gaussian_velocity(flow)
    settings = StochasticSettings("constant", diffusion_norm=0.0, last_step="euler")
    times = [*stochastic_times(flow, settings, 10).tolist(), 1.0]
    by_euler = by_heun = noise
    for now, after in itertools.pairwise(times):
        start, end = (torch.full((8,), time) for time in (now, after))
        by_euler = by_euler + (after - now) * model(by_euler, start)
        slope = model(by_heun, start)
        guess = by_heun + (after - now) * slope
        by_heun = guess if after == 1.0 else by_heun + (after - now) / 2 * (slope + model(guess, end))
    for sampler, expected in (("euler_maruyama", by_euler), ("stochastic_heun", by_heun)):
        found = sample(flow, model, noise, sampler, 10, each_step, settings=settings)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("path", "prediction"), itertools.product(["linear", "gvp", "vp"], ["velocity", "noise", "score"])
)
def test_no_option_ends_in_nan(path, prediction):
    flow, (noise, each_step) = Flow(path, prediction), noises(2)

    def model(x, t):
        return (1.3 * x).sin()

    for sampler in ("euler", "heun", "midpoint", "adaptive"):
        assert sample(flow, model, noise, sampler, 8).isfinite().all(), sampler
    for sampler, diffusion, last_step in itertools.product(
        ("euler_maruyama", "stochastic_heun"), DIFFUSIONS, LAST_STEPS
    ):
        settings = StochasticSettings(diffusion, last_step=last_step)
        latents = sample(flow, model, noise, sampler, 8, each_step, settings=settings)
        assert latents.isfinite().all(), (sampler, diffusion, last_step)


@pytest.mark.parametrize("sampler", [name for name, each in SAMPLERS.items() if each.serves is not MaskedTokens])
def test_batches_do_not_change_images(sampler):
    objective = objective_of(sampler)
    backbone = tiny_backbone(DiT if isinstance(objective, Diffusion) else SiT)

    def images(indices):
        noise, each_step = image_noise(indices, (4, 8, 8), seed=3), step_noise(indices, (4, 8, 8), seed=3)
        return sample(objective, guide(backbone, indices % 5, 2.0, 5), noise, sampler, 6, each_step)

    together = images(torch.arange(8))
    alone = torch.cat([images(torch.tensor([index])) for index in range(8)])
    tolerance = 1e-2 if sampler == "adaptive" else 1e-4  # the batch shares the adaptive solver's steps
    torch.testing.assert_close(alone, together, rtol=0, atol=tolerance * float(together.abs().max()))
    assert not torch.allclose(together[0], together[5])  # same label, another image


COSTS = {"euler": 10, "heun": 20, "midpoint": 20, "euler_maruyama": 10, "stochastic_heun": 19, "ddpm": 10, "ddim": 10}


@pytest.mark.parametrize("sampler", COSTS)
def test_evaluations_and_callback(sampler):
    objective, (noise, each_step) = objective_of(sampler), noises(2)
    channels = 2 if isinstance(objective, Diffusion) else 1
    model, seen = CountingModel(lambda x, t: 0.1 * x.repeat(1, channels, 1, 1)), []
    latents = sample(objective, model, noise, sampler, 10, each_step, lambda step, x, t: seen.append((step, x, t)))
    assert model.num_evaluations == COSTS[sampler]
    assert model.num_samples == 2 * COSTS[sampler]
    assert [step for step, _, _ in seen] == list(range(10))
    assert torch.equal(seen[-1][1], latents)
    assert seen[-1][2] == (0 if isinstance(objective, Diffusion) else 1)


@pytest.mark.parametrize(
    ("objective", "sampler", "num_steps", "message"),
    [
        (Flow(), "ddpm", 10, "'ddpm' does not fit a Flow model: use one of euler, heun"),
        (Diffusion(), "heun", 10, "'heun' does not fit a Diffusion model: use one of ddpm, ddim, dpm_solver$"),
        (Flow(), "dpm++", 10, "'dpm\\+\\+' is unknown: use one of euler"),
        (Flow(), "euler", 0, "num_inference_steps must be at least 1"),
        (Diffusion(), "ddim", 1001, "1001 of 1000 diffusion timesteps"),
        (Diffusion(), "dpm_solver", 1000, "dpm_solver takes 1 to 999"),
        (Flow(), "euler_maruyama", 10, "give step_noise"),
    ],
)
def test_impossible_sampling(objective, sampler, num_steps, message):
    with pytest.raises(ValueError, match=message) as error:
        sample(objective, lambda x, t: x, torch.zeros(1, 1, 1, 1), sampler, num_steps)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"diffusion": "none"}, {"last_step": "heun"}, {"last_step_size": 1.0}])
def test_impossible_stochastic_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StochasticSettings(**wrong)


def test_noise_is_keyed():
    indices = torch.tensor([4, 9])
    assert torch.equal(image_noise(indices, (4, 2, 2), 0)[1:], image_noise(indices[1:], (4, 2, 2), 0))
    each_step = step_noise(indices, (4, 2, 2), 0)
    assert torch.equal(each_step(3), each_step(3))
    drawn = [image_noise(indices, (4, 2, 2), 0), image_noise(indices, (4, 2, 2), 1), each_step(0), each_step(1)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


def test_shifted_times():
    even, shifted = time_grid(0.0, 1.0, 4), time_grid(0.0, 1.0, 4, 0.3)
    assert even.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    torch.testing.assert_close(shifted, 0.3 * even / (1 - 0.7 * even))
    assert (time_grid(0.0, 0.9, 4, 0.3)[[0, -1]] - torch.tensor([0.0, 0.9])).abs().max() < 1e-7
    with pytest.raises(ValueError, match="timestep_shift must be above 0"):
        FlowSettings(0.0)
    assert visited(Flow(), FlowSettings(0.3)) == shifted[1:].tolist()


def test_times_are_shifted_as_in_training_unless_told_otherwise():
    trained, even = Flow(timestep_shift=0.3), visited(Flow(), None)
    assert visited(trained, None) == visited(Flow(), FlowSettings(0.3)) != even
    assert visited(trained, FlowSettings(1.0)) == even
    left_out = SamplingSettings("euler").spelled_out(trained)
    assert left_out.options == {"timestep_shift": 0.3}
    assert left_out.spelled_out(Flow()) == left_out, "what is written down stays"


def visited(flow, settings) -> list[float]:
    """Times after each of four steps of euler."""
    seen = []
    start = torch.zeros(1, 4, 2, 2)
    sample(flow, lambda x, t: x, start, "euler", 4, None, lambda *told: seen.append(told[2]), settings=settings)
    return seen
