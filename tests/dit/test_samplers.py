"""Samplers on problems with a known answer; pictures independent of their batch; guidance and its cost."""

import dataclasses
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
    Sampler,
    SamplingSettings,
    StochasticSettings,
    guide,
    image_noise,
    leading_timesteps,
    sample,
    step_noise,
)
from dit.samplers.ode import time_grid
from dit.samplers.sde import DIFFUSIONS, LAST_STEPS, stochastic_times
from dit.sampling_options import add_sampling_options, sampling_settings
from eqvae.commands import CommandParser

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
def test_batches_do_not_change_pictures(sampler):
    objective = objective_of(sampler)
    backbone = tiny_backbone(DiT if isinstance(objective, Diffusion) else SiT)

    def pictures(indices):
        noise, each_step = image_noise(indices, (4, 8, 8), seed=3), step_noise(indices, (4, 8, 8), seed=3)
        return sample(objective, guide(backbone, indices % 5, 2.0, 5), noise, sampler, 6, each_step)

    together = pictures(torch.arange(8))
    alone = torch.cat([pictures(torch.tensor([index])) for index in range(8)])
    tolerance = 1e-2 if sampler == "adaptive" else 1e-4  # the batch shares the adaptive solver's steps
    torch.testing.assert_close(alone, together, rtol=0, atol=tolerance * float(together.abs().max()))
    assert not torch.allclose(together[0], together[5])  # same label, another picture


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


def label_model(x, t, y):
    """Predicts its label in every channel, so that guidance is plain to see."""
    return torch.ones_like(x) * y.view(-1, 1, 1, 1)


def test_guidance_extrapolates():
    x, t, labels = torch.randn(2, 4, 2, 2), torch.full((2,), 0.5), torch.tensor([1, 2])
    everywhere = guide(label_model, labels, 3.0, null_label=5)(x, t)
    assert everywhere[:, :, 0, 0].tolist() == [[-7.0] * 4, [-4.0] * 4]  # 5 + 3 (y - 5)
    first = guide(label_model, labels, 3.0, null_label=5, channels="first3")(x, t)
    assert first[:, :, 0, 0].tolist() == [[-7.0, -7.0, -7.0, 1.0], [-4.0, -4.0, -4.0, 2.0]]


def test_guidance_leaves_the_variance():
    doubled = guide(lambda x, t, y: label_model(x, t, y).repeat(1, 2, 1, 1), torch.tensor([1]), 3.0, null_label=5)
    assert doubled(torch.zeros(1, 4, 1, 1), torch.zeros(1)).flatten().tolist() == [-7.0] * 4 + [1.0] * 4


@pytest.mark.parametrize(
    ("scale", "interval", "num_samples"),
    [(1.0, (0.0, 1.0), 20), (2.0, (0.0, 1.0), 40), (2.0, (0.3, 0.6), 28), (2.0, (2.0, 3.0), 20)],
)
def test_guidance_costs_only_where_it_acts(scale, interval, num_samples):
    """Ten Euler steps of two pictures at t = 0, 0.1, ... 0.9; four of them lie in the narrower interval."""
    backbone, (noise, _) = CountingModel(label_model), noises(2, (4, 2, 2))
    sample(Flow(), guide(backbone, torch.tensor([1, 2]), scale, 5, interval=interval), noise, "euler", 10)
    assert backbone.num_evaluations == 10
    assert backbone.num_samples == num_samples


def test_guidance_acts_on_timesteps_by_default():
    guided = guide(label_model, torch.tensor([1]), 2.0, 5)
    assert float(guided(torch.zeros(1, 1, 1, 1), torch.tensor([999]))) == -3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_scale": 2.0}, "null label"),
        ({"guidance_scale": 2.0, "null_label": 5, "channels": "three"}, "channels 'three' are unknown"),
    ],
)
def test_impossible_guidance(arguments, message):
    with pytest.raises(ValueError, match=message):
        guide(label_model, torch.tensor([1]), **arguments)


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
    seen = []
    sample(
        Flow(),
        lambda x, t: x,
        torch.zeros(1, 4, 2, 2),
        "euler",
        4,
        None,
        lambda *s: seen.append(s[2]),
        settings=FlowSettings(0.3),
    )
    assert seen == shifted[1:].tolist()


# Settings by name


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("heun", {"diffusion_norm": 2.0}, "sampler 'heun' takes no diffusion_norm: it takes timestep_shift"),
        ("ddim", {"timestep_spacing": "trailing"}, "timestep_spacing of sampler 'ddim': Invalid value 'trailing'"),
        ("euler", {"timestep_shift": "much"}, "timestep_shift of sampler 'euler': Value 'much'"),
        ("euler", {"timestep_shift": -1}, "timestep_shift must be above 0"),
        ("oiler", {}, "sampler 'oiler' is unknown: use one of euler"),
        (None, {"timestep_shfit": 1.0}, "timestep_shfit is taken by no sampler: did you mean timestep_shift"),
    ],
)
def test_impossible_options(sampler, options, message):
    with pytest.raises(ValueError, match=message) as error:
        SamplingSettings(sampler, options=options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("objective", [Flow(), Flow, Diffusion, MaskedTokens])
def test_settings_that_mean_the_same_are_spelled_out_alike(objective):
    """An unnamed sampler is the objective's own, an option that is not given its default, 1 is 1.0."""
    left_out = SamplingSettings().spelled_out(objective)
    sampler = SAMPLERS[left_out.sampler]
    assert tuple(left_out.options) == sampler.setting_names
    assert left_out == SamplingSettings(objective.default_sampler).spelled_out(objective)
    for name, value in left_out.options.items():
        whole = int(value) if isinstance(value, float) and value == int(value) else value
        assert SamplingSettings(options={name: whole}).spelled_out(objective) == left_out
    assert left_out.spelled_out(objective) == left_out
    other = next(name for name, each in SAMPLERS.items() if each.serves is not sampler.serves)
    with pytest.raises(ValueError, match=f"'{other}' does not fit a"):
        SamplingSettings(other).spelled_out(objective)


def test_no_setting_has_two_meanings():
    """Options of a command line and of a sweep are flat: a name belongs to one class of settings, and to no other."""
    kinds = {sampler.settings for sampler in SAMPLERS.values()} | {SamplingSettings}
    names = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    assert sorted(names) == sorted(set(names))


def test_a_new_sampler_is_one_object(monkeypatch):
    """Named in the registry it has options on the command line, is refused for others, and gets its settings."""

    @dataclasses.dataclass(frozen=True)
    class HalfwaySettings:
        """How far.

        Args:
            way: share of the way to zero.
        """

        way: float = 0.5

    def halfway(flow, model, x, num_inference_steps, step_noise, settings, callback):
        for step in range(num_inference_steps):
            x = x + settings.way * model(x, torch.full((len(x),), step))
            callback(step, x, step)
        return x

    monkeypatch.setitem(SAMPLERS, "halfway", Sampler("halfway", halfway, Flow, HalfwaySettings))
    parser = CommandParser()
    add_sampling_options(parser)
    words = ["--sampler", "halfway", "--way", "0.25", "--num-inference-steps", "2"]
    settings = sampling_settings(parser.parse_args(words)).spelled_out(Flow())
    assert settings == SamplingSettings("halfway", 2, options={"way": 0.25})
    assert "--way WAY" in parser.format_help()
    own = SAMPLERS["halfway"].build_settings(settings.options)
    end = sample(Flow(), lambda x, t: -x, torch.ones(1, 1, 1, 1), settings.sampler, 2, settings=own)
    assert float(end) == 0.75**2
    with pytest.raises(ValueError, match="'halfway' does not fit a Diffusion model"):
        settings.spelled_out(Diffusion())


def test_only_what_is_given_becomes_an_option():
    parser = CommandParser()
    add_sampling_options(parser)
    assert sampling_settings(parser.parse_args([])) == SamplingSettings()
    words = ["--guidance-interval", "0.2", "0.7", "--halton-shift", "--top-k", "3", "--uint8-rule", "truncate"]
    expected = SamplingSettings(guidance_interval=(0.2, 0.7), uint8_rule="truncate")
    expected = dataclasses.replace(expected, options={"halton_shift": True, "top_k": 3})
    assert sampling_settings(parser.parse_args(words)) == expected
