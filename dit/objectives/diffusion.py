"""Gaussian diffusion with learned variance, in the exact conventions of DiT (Nichol and Dhariwal, 2021)."""

import copy
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dit.objectives.outputs import require_channels

FIRST_BETA_RATE, LAST_BETA_RATE = 0.1, 20.0  # betas times T
BIN_HALF_WIDTH = 1 / 255  # of a pixel value in [-1, 1]
OPEN_END = 0.999  # bins beyond it reach to infinity


class ReverseStep(NamedTuple):
    """One reverse step: q(x_{t-1} | x_t, x_0) or the model's, all [B, C, h, w] (or broadcastable)."""

    mean: Tensor
    log_variance: Tensor
    predicted_x_0: Tensor


def space_timesteps(num_timesteps: int, spacing: int | str | Sequence[int]) -> list[int]:
    """Timesteps that a shorter chain visits, ascending (Nichol and Dhariwal, 2021, section 4).

    Strides are added up one by one in float64, as the public code does: where the exact place lies half-way between two
    timesteps, the sum's rounding errors choose. 999 of 1000 timesteps leave out 500 this way, and not 499.

    Args:
        num_timesteps: of the full diffusion.
        spacing: how many, evenly spaced with rounding and both ends included; or a number for each of equal
            sections; or "ddimN" for N timesteps a whole number apart.

    Raises:
        ValueError: if there are too few timesteps for it.
    """
    if isinstance(spacing, str):
        return _strided_timesteps(num_timesteps, spacing)
    counts = [spacing] if isinstance(spacing, int) else list(spacing)
    if sum(counts) < 2:
        raise ValueError(f"num_inference_steps: a diffusion takes at least 2 timesteps, got {sum(counts)}")
    size, longer = divmod(num_timesteps, len(counts))
    timesteps, start = [], 0
    for section, count in enumerate(counts):
        length = size + (section < longer)
        if not 1 <= count <= length:
            raise ValueError(f"num_inference_steps: {count} of {length} diffusion timesteps, use 1 to {length}")
        stride = (length - 1) / (count - 1) if count > 1 else 1
        places = itertools.accumulate([stride] * (count - 1), initial=0.0)
        timesteps += [start + round(place) for place in places]
        start += length
    return timesteps


def _strided_timesteps(num_timesteps: int, spacing: str) -> list[int]:
    if not re.fullmatch("ddim[0-9]+", spacing):
        raise ValueError(f"timestep spacing {spacing!r} is none: give a number, numbers, or ddimN for a whole stride")
    count = int(spacing.removeprefix("ddim"))
    for stride in range(1, num_timesteps):
        timesteps = list(range(0, num_timesteps, stride))
        if len(timesteps) == count:
            return timesteps
    raise ValueError(f"timestep spacing {spacing!r}: no whole stride through {num_timesteps} timesteps gives it")


class Diffusion:
    """Predicts noise and, between its two bounds, the variance of the reverse step; linear betas.

    Args:
        num_timesteps: T, above 20; betas run from 0.1 / T to 20 / T, 1e-4 to 0.02 for the usual 1000.
        learn_sigma: the model predicts 2 C channels; without it the loss is the noise's mean squared error alone.

    Raises:
        ValueError: if T is so small that the last beta would reach 1.
    """

    learns = "latents"
    default_sampler = "ddpm"
    counts_timesteps = True  # whole numbers, where others' times lie in [0, 1]

    def __init__(self, num_timesteps: int = 1000, learn_sigma: bool = True):
        if num_timesteps <= LAST_BETA_RATE:
            raise ValueError(f"diffusion num_timesteps must be above {LAST_BETA_RATE:.0f}, got {num_timesteps}")
        self.learn_sigma = learn_sigma
        self.config = {"num_timesteps": num_timesteps, "learn_sigma": learn_sigma}
        first, last = FIRST_BETA_RATE / num_timesteps, LAST_BETA_RATE / num_timesteps
        self._set_betas(torch.linspace(first, last, num_timesteps, dtype=torch.float64))

    def _set_betas(self, betas: Tensor) -> None:
        """All tables, in float64."""
        alphas_cumprod = (1 - betas).cumprod(0)
        before = torch.cat((torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]))
        variance = betas * (1 - before) / (1 - alphas_cumprod)
        # The first posterior variance is zero; its logarithm borrows the second's.
        log_variance = torch.cat((variance[1:2], variance[1:])).log()
        self.num_timesteps, self.betas, self.alphas_cumprod = len(betas), betas, alphas_cumprod
        self._tables = {
            "signal": alphas_cumprod.sqrt(),
            "spread": (1 - alphas_cumprod).sqrt(),
            "x_0_from_x_t": alphas_cumprod.rsqrt(),
            "x_0_from_noise": (1 / alphas_cumprod - 1).sqrt(),
            "mean_from_x_0": betas * before.sqrt() / (1 - alphas_cumprod),
            "mean_from_x_t": (1 - before) * (1 - betas).sqrt() / (1 - alphas_cumprod),
            "lower_log_variance": log_variance,
            "upper_log_variance": betas.log(),
        }
        self._device_tables: dict[torch.device, dict[str, Tensor]] = {}

    def respaced(self, timesteps: list[int]) -> "Diffusion":
        """The diffusion that visits only these timesteps (ascending), its betas recomputed; t counts them from 0."""
        kept = self.alphas_cumprod[timesteps]
        before = torch.cat((torch.ones(1, dtype=torch.float64), kept[:-1]))
        spaced = copy.copy(self)
        spaced._set_betas(1 - kept / before)
        return spaced

    def tables_on(self, device: torch.device) -> dict[str, Tensor]:
        """All tables [T] float32 on a device, copied there once and together."""
        if device not in self._device_tables:
            copied = torch.stack(list(self._tables.values())).float().to(device)
            self._device_tables[device] = dict(zip(self._tables, copied, strict=True))
        return self._device_tables[device]

    def _at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Entries of a table at timesteps [B], float32, shaped to multiply `like`."""
        return self.tables_on(t.device)[name][t].view(-1, *[1] * (like.ndim - 1))

    def sample_times(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in (0, 1) [B] to integer timesteps [B]."""
        return (uniform.double() * self.num_timesteps).long().clamp_max(self.num_timesteps - 1)

    def flow_time(self, t: Tensor) -> Tensor:
        """Timesteps [B] as shares of the way from noise (0, the last timestep) to data (1, the first)."""
        return 1 - t / (self.num_timesteps - 1)

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy latents x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise, for timesteps t [B]."""
        return self._at("signal", t, x_0) * x_0 + self._at("spread", t, x_0) * noise

    def q_posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> ReverseStep:
        """The true reverse step."""
        mean = self._at("mean_from_x_0", t, x_0) * x_0 + self._at("mean_from_x_t", t, x_t) * x_t
        return ReverseStep(mean, self._at("lower_log_variance", t, x_0), x_0)

    def p_posterior(self, model_output: Tensor, x_t: Tensor, t: Tensor, clip: bool = False) -> ReverseStep:
        """The model's reverse step from its output, [B, 2 C, h, w] or [B, C, h, w] without learned variance.

        Args:
            clip: clamp the predicted x_0 to [-1, 1]; public latent models do not.
        """
        noise, log_variance = model_output.float(), self._at("lower_log_variance", t, x_t)
        if self.learn_sigma:
            noise, raw = noise.chunk(2, dim=1)
            share = (raw + 1) / 2  # 1 is the upper bound beta_t, 0 the lower
            log_variance = share * self._at("upper_log_variance", t, x_t) + (1 - share) * log_variance
        x_0 = self._at("x_0_from_x_t", t, x_t) * x_t - self._at("x_0_from_noise", t, x_t) * noise
        x_0 = x_0.clamp(-1, 1) if clip else x_0
        return ReverseStep(self.q_posterior(x_0, x_t, t).mean, log_variance, x_0)

    def training_terms(self, model_output: Tensor, x_0: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """`mse` of the noise, `vb` of the variance in bits per dimension, and `loss`, their sum; [B] each.

        The mean of the reverse step is detached in `vb`, so that it trains the variance alone.
        """
        require_channels(self, model_output, (2 if self.learn_sigma else 1) * x_0.shape[1])
        x_0, noise, output = x_0.float(), noise.float(), model_output.float()
        if not self.learn_sigma:
            mse = (output - noise).square().flatten(1).mean(1)
            return {"mse": mse, "loss": mse}
        predicted, raw = output.chunk(2, dim=1)
        mse = (predicted - noise).square().flatten(1).mean(1)
        frozen = torch.cat((predicted.detach(), raw), dim=1)
        vb = self._variational_bound(frozen, x_0, self.q_sample(x_0, t, noise), t)
        return {"mse": mse, "vb": vb, "loss": mse + vb}

    def _variational_bound(self, model_output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        true, model = self.q_posterior(x_0, x_t, t), self.p_posterior(model_output, x_t, t)
        divergence = _normal_kl(true, model).flatten(1).mean(1)
        likelihood = _discretized_log_likelihood(x_0, model).flatten(1).mean(1)
        return torch.where(t == 0, -likelihood, divergence) / math.log(2)

    def loss_terms(
        self, model: Callable[..., Tensor], data: Tensor, noise: Tensor, t: Tensor, **conditions: Tensor
    ) -> dict[str, Tensor]:
        """Terms of `model(x_t, t, **conditions)`."""
        x_t = self.q_sample(data, t, noise)
        return self.training_terms(model(x_t, t, **conditions), data, t, noise)


def _normal_kl(p: ReverseStep, q: ReverseStep) -> Tensor:
    difference = p.log_variance - q.log_variance
    return 0.5 * (-1 - difference + difference.exp() + (p.mean - q.mean).square() * (-q.log_variance).exp())


def _discretized_log_likelihood(x: Tensor, model: ReverseStep) -> Tensor:
    """log probability that the model gives to the bins of 1/127.5 around x, open beyond +-0.999."""
    inverse_std = (-0.5 * model.log_variance).exp()
    upper = _normal_cdf(inverse_std * (x - model.mean + BIN_HALF_WIDTH))
    lower = _normal_cdf(inverse_std * (x - model.mean - BIN_HALF_WIDTH))
    inside = torch.where(x > OPEN_END, 1 - lower, upper - lower)
    return torch.where(x < -OPEN_END, upper, inside).clamp_min(1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation that the public code uses, so that values agree."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
