"""Paths from noise (t = 0) to data (t = 1): x_t = alpha(t) data + sigma(t) noise (SiT, arXiv 2401.08740, section 2)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

VP_BETA_MIN, VP_BETA_MAX = 0.1, 20.0
VP_MARGIN = 1e-5  # how far variance-preserving paths stay from t = 1, where the slope of sigma is infinite


class Coefficients(NamedTuple):
    """alpha, sigma and their derivatives in t; each of the shape of t."""

    alpha: Tensor
    sigma: Tensor
    alpha_derivative: Tensor
    sigma_derivative: Tensor

    @property
    def alpha_ratio(self) -> Tensor:
        """alpha' / alpha: the drift of the forward process is this times x."""
        return self.alpha_derivative / self.alpha

    @property
    def score_factor(self) -> Tensor:
        """G in velocity = (alpha' / alpha) x + G score."""
        return self.alpha_ratio * self.sigma.square() - self.sigma * self.sigma_derivative

    @property
    def wronskian(self) -> Tensor:
        """alpha sigma' - alpha' sigma, nowhere zero on the paths: a velocity determines noise and data."""
        return self.alpha * self.sigma_derivative - self.alpha_derivative * self.sigma


def linear(t: Tensor) -> Coefficients:
    """Straight lines: alpha = t, sigma = 1 - t."""
    one = torch.ones_like(t)
    return Coefficients(t, 1 - t, one, -one)


def gvp(t: Tensor) -> Coefficients:
    """Generalized variance preserving: alpha = sin(pi t / 2), sigma = cos(pi t / 2)."""
    angle, rate = t * math.pi / 2, math.pi / 2
    return Coefficients(angle.sin(), angle.cos(), rate * angle.cos(), -rate * angle.sin())


def vp(t: Tensor) -> Coefficients:
    """Variance preserving diffusion with linear beta, its time turned: noise at t = 0.

    Later times than 1 - VP_MARGIN, where adaptive solvers may step, count as that one.
    """
    left, spread = (1 - t).clamp_min(VP_MARGIN), VP_BETA_MAX - VP_BETA_MIN
    log_alpha = -0.25 * left.square() * spread - 0.5 * left * VP_BETA_MIN
    log_alpha_derivative = 0.5 * left * spread + 0.5 * VP_BETA_MIN
    alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
    alpha_derivative = alpha * log_alpha_derivative
    return Coefficients(alpha, sigma, alpha_derivative, -alpha * alpha_derivative / sigma)


PATHS = {"linear": linear, "gvp": gvp, "vp": vp}
