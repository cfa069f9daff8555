"""How `DiTPipeline` is told the time: the first layer of its time embedding, and the schedule that goes with it.

The pipeline's sinusoids have the frequencies 10000^(-i / 127), DiT's 10000^(-i / 128). The layer behind them is
therefore solved for anew, so that it gives what the trained one gives at the timesteps that are sampled: exact for a
few, impossible for all. How many depends on how unlike the sinusoids of different timesteps are. Where they are too
much alike, the timesteps are spread out: the scheduler's are multiples of a larger stride, at which its stored betas
have the noise levels of the trained model's. It has as many as the steps divide, too, since the pipeline strides by
whole numbers of its own: 24 of 48 steps would visit others of 1000 timesteps than half of the 48. So about 100 steps of
1000 are possible. More are not: the lowest frequencies hardly differ over any range in which float32 still tells the
highest ones apart, and 256 sinusoids, some of them alike, cannot follow 125 timesteps. A model of the pipeline's own
frequencies (`frequency_divisor: 127`) needs none of this and is exact at every number of steps.
"""

from typing import NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from dit.backbones import DiT
from dit.backbones.embeddings import sinusoids
from dit.backbones.layers import linear
from dit.objectives import Diffusion
from dit.public.diffusers_layout import PIPELINE_DIVISOR
from dit.samplers import leading_timesteps

LARGEST_ERROR = 1e-4  # of the time embedding's first layer, relative
LARGEST_STRETCH = 8  # of the timesteps; beyond it float32 loses more than is won
RANK_TOLERANCE = 1e-9


class PipelineTime(NamedTuple):
    """The first layer's weights [D, 256], the scheduler, and the number of steps that they are exact for.

    So they are for its divisors; None is any number.
    """

    first_layer: Tensor
    scheduler: DDIMScheduler
    exact_steps: int | None


def pipeline_time(source: DiT, objective: Diffusion, num_inference_steps: int) -> PipelineTime:
    """What makes a pipeline of this number of steps visit the model's "leading" timesteps, and know them.

    Raises:
        ValueError: if there are too many steps for it, or more than timesteps.
    """
    timesteps = leading_timesteps(objective.num_timesteps, num_inference_steps)
    if source.config["frequency_divisor"] == PIPELINE_DIVISOR:
        return PipelineTime(linear(source.t_embedder.mlp, 0).weight, _own_scheduler(objective), None)
    wanted, errors = _first_outputs(source, timesteps), []
    stride = objective.num_timesteps // num_inference_steps
    for stretch in range(1, LARGEST_STRETCH + 1):
        shown = torch.arange(num_inference_steps) * stride * stretch
        weights, error = _solve(shown, wanted)
        if error <= LARGEST_ERROR:
            spread = _spread_scheduler(objective, timesteps, stride * stretch)
            evenly = stretch == 1 and objective.num_timesteps % num_inference_steps == 0  # so are all its divisors
            return PipelineTime(weights, _own_scheduler(objective) if evenly else spread, num_inference_steps)
        errors.append(error)
    raise ValueError(
        f"num_inference_steps {num_inference_steps}: diffusers' time embedding cannot follow so many timesteps "
        f"(error {min(errors):.1e}): use up to 100; or train with frequency_divisor {PIPELINE_DIVISOR}, which is exact "
        "at any number"
    )


@torch.no_grad()
def _first_outputs(source: DiT, timesteps: list[int]) -> Tensor:
    """[N, D] float64 of the trained first layer, without its bias."""
    waves = sinusoids(torch.tensor(timesteps), source.config["frequency_divisor"])
    return waves.double() @ linear(source.t_embedder.mlp, 0).weight.double().T


@torch.no_grad()
def _solve(timesteps: Tensor, wanted: Tensor) -> tuple[Tensor, float]:
    """Weights [D, 256] of least norm for the pipeline's sinusoids, and their relative error.

    The error is the larger one of two: of these sinusoids, and of those of times that are off by a rounding, as another
    device may have them.
    """
    waves = sinusoids(timesteps, PIPELINE_DIVISOR)
    solved = torch.linalg.lstsq(waves.double(), wanted, rcond=RANK_TOLERANCE, driver="gelsd").solution.float()
    rounded = sinusoids(timesteps * (1 + torch.finfo(torch.float32).eps), PIPELINE_DIVISOR)
    largest = wanted.abs().max().clamp_min(1e-12)
    error = max(float((each @ solved - wanted).abs().max() / largest) for each in (waves, rounded))
    return solved.T.contiguous(), error


def _own_scheduler(objective: Diffusion) -> DDIMScheduler:
    """That of the trained diffusion."""
    return DDIMScheduler(
        num_train_timesteps=objective.num_timesteps,
        beta_start=float(objective.betas[0]),
        beta_end=float(objective.betas[-1]),
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="leading",
    )


def _spread_scheduler(objective: Diffusion, timesteps: list[int], stride: int) -> DDIMScheduler:
    """One that has the noise levels of these timesteps at 0, stride, 2 stride, ..., and changes nowhere between."""
    betas = torch.zeros(len(timesteps) * stride, dtype=torch.float64)
    betas[::stride] = objective.respaced(timesteps).betas
    return DDIMScheduler(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="leading",
    )
