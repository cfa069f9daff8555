"""Flow matching along interpolants, in the exact conventions of SiT (arXiv 2401.08740)."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dit.objectives.outputs import require_channels
from dit.objectives.paths import PATHS, VP_MARGIN, Coefficients
from eqvae.ranges import require_number

SINGULAR_MARGIN = 1e-3  # how far noise and score predictions stay from the ends of linear and gvp paths


def shifted(share: Tensor, shift: float) -> Tensor:
    """s t / (1 + (s - 1) t) of times t in [0, 1]; a shift of 1 changes nothing."""
    return share if shift == 1 else shift * share / (1 + (shift - 1) * share)


class Flow:
    """A path, what the model predicts along it, and how times are weighted.

    Args:
        path: "linear", "gvp" or "vp".
        prediction: "velocity", "noise" or "score".
        weighting: of noise and score losses: null, "velocity" (G / sigma)^2 or "likelihood" G / sigma^2. A velocity
            loss is never weighted, as in the public code.
        timesteps: "uniform" (SiT), or "logit_normal": sigmoid of a normal (LightningDiT, Stable Diffusion 3).
        logit_mean, logit_std: of that normal.
        timestep_shift: s of t' = s t / (1 + (s - 1) t) of the drawn times. Below 1 moves them towards noise, as latents
            of many numbers ask for: RAE (arXiv 2510.11690) takes sqrt(4096 / (C h w)), 0.144 for 768 x 16 x 16, here
            and in sampling. Solvers with fixed steps take it from here where they are given none.
        cosine_weight: of the added loss 1 - cosine(predicted, true velocity) over the channels (LightningDiT).
    """

    learns = "latents"
    default_sampler = "heun"

    def __init__(
        self,
        path: Literal["linear", "gvp", "vp"] = "linear",
        prediction: Literal["velocity", "noise", "score"] = "velocity",
        weighting: Literal["velocity", "likelihood"] | None = None,
        timesteps: Literal["uniform", "logit_normal"] = "uniform",
        logit_mean: float = 0.0,
        logit_std: float = 1.0,
        cosine_weight: float = 0.0,
        timestep_shift: float = 1.0,
    ):
        require_number("flow timestep_shift", timestep_shift, above=0)
        for name, value, known in (
            ("path", path, tuple(PATHS)),
            ("prediction", prediction, ("velocity", "noise", "score")),
            ("weighting", weighting, (None, "velocity", "likelihood")),
            ("timesteps", timesteps, ("uniform", "logit_normal")),
        ):
            if value not in known:
                raise ValueError(f"flow {name} {value!r} is unknown: use one of {', '.join(map(str, known))}")
        if cosine_weight < 0 or (cosine_weight > 0 and prediction != "velocity"):
            raise ValueError(f"flow cosine_weight {cosine_weight} with prediction {prediction!r}: use 0, or velocity")
        self.cosine_weight, self.timestep_shift = cosine_weight, timestep_shift
        self.path, self.prediction, self.weighting = path, prediction, weighting
        self.timesteps, self.logit_mean, self.logit_std = timesteps, logit_mean, logit_std
        self.config = {
            "path": path,
            "prediction": prediction,
            "weighting": weighting,
            "timesteps": timesteps,
            "logit_mean": logit_mean,
            "logit_std": logit_std,
            "cosine_weight": cosine_weight,
            "timestep_shift": timestep_shift,
        }

    @property
    def interval(self) -> tuple[float, float]:
        """First and last time of training: the whole path where nothing is singular on it."""
        if self.path == "vp":
            return (0.0, 1.0 - VP_MARGIN)
        if self.prediction == "velocity":
            return (0.0, 1.0)
        return (SINGULAR_MARGIN, 1.0 - SINGULAR_MARGIN)

    @property
    def sampling_interval(self) -> tuple[float, float]:
        """First and last time of sampling; a variance-preserving path ends a little earlier than in training."""
        return (0.0, 1.0 - SINGULAR_MARGIN) if self.path == "vp" else self.interval

    def coefficients(self, t: Tensor, like: Tensor) -> Coefficients:
        """alpha, sigma and derivatives at times t [B], shaped to multiply `like` [B, ...]."""
        return PATHS[self.path](t.to(like.dtype).view(-1, *[1] * (like.ndim - 1)))

    def sample_times(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in (0, 1) [B] to times [B] in the interval."""
        first, last = self.interval
        if self.timesteps == "logit_normal":
            normal = torch.special.ndtri(uniform.double())
            uniform = torch.sigmoid(self.logit_mean + self.logit_std * normal).to(uniform.dtype)
        return first + (last - first) * shifted(uniform, self.timestep_shift)

    def flow_time(self, t: Tensor) -> Tensor:
        """Times [B] are shares of the way from noise (0) to data (1)."""
        return t

    def interpolate(self, noise: Tensor, data: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and the velocity dx_t/dt for noise and data [B, ...] at times t [B]."""
        c = self.coefficients(t, data)
        return c.alpha * data + c.sigma * noise, c.alpha_derivative * data + c.sigma_derivative * noise

    def training_terms(self, model_output: Tensor, noise: Tensor, data: Tensor, t: Tensor) -> dict[str, Tensor]:
        """{"loss": [B]}, the mean over elements, for a prediction made at x_t.

        With a `cosine_weight` also its terms "velocity_mse" [B] and "velocity_cosine" [B], the mean of 1 - cosine over
        positions.
        """
        require_channels(self, model_output, data.shape[1])
        output, noise, data = model_output.float(), noise.float(), data.float()
        if self.prediction != "velocity":
            c = self.coefficients(t, data)
            error = output - noise if self.prediction == "noise" else c.sigma * output + noise
            error = error * self._weight(c).sqrt()
            return {"loss": error.square().flatten(1).mean(1)}
        velocity = self.interpolate(noise, data, t)[1]
        loss = (output - velocity).square().flatten(1).mean(1)
        if self.cosine_weight == 0:
            return {"loss": loss}
        cosine = (1 - F.cosine_similarity(output, velocity, dim=1)).flatten(1).mean(1)
        return {"loss": loss + self.cosine_weight * cosine, "velocity_mse": loss, "velocity_cosine": cosine}

    def _weight(self, c: Coefficients) -> Tensor:
        if self.weighting is None:
            return torch.ones_like(c.sigma)
        factor = c.score_factor
        return (factor / c.sigma).square() if self.weighting == "velocity" else factor / c.sigma.square()

    def loss_terms(
        self, model: Callable[..., Tensor], data: Tensor, noise: Tensor, t: Tensor, **conditions: Tensor
    ) -> dict[str, Tensor]:
        """Terms of `model(x_t, t, **conditions)`."""
        x_t, _ = self.interpolate(noise, data, t)
        return self.training_terms(model(x_t, t, **conditions), noise, data, t)

    def velocity(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The velocity that a prediction at x [B, ...], t [B] stands for: the drift of the sampling ODE."""
        if self.prediction == "velocity":
            return prediction
        c = self.coefficients(t, x)
        return c.alpha_ratio * x + c.score_factor * self.score(prediction, x, t)

    def score(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The score (gradient of the log density of x_t) that a prediction stands for; infinite where sigma is 0."""
        if self.prediction == "score":
            return prediction
        return -self.noise(prediction, x, t) / self.coefficients(t, x).sigma

    def noise(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x [B, ...] at times t [B] that a prediction stands for; finite at both ends of every path."""
        if self.prediction == "noise":
            return prediction
        c = self.coefficients(t, x)
        if self.prediction == "score":
            return -c.sigma * prediction
        # Both sides of v = alpha' data + sigma' noise and x = alpha data + sigma noise, the data eliminated.
        return (c.alpha * prediction - c.alpha_derivative * x) / c.wronskian
