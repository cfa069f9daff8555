"""Masked tokens (MaskGIT, arXiv 2202.04200): hide some tokens, predict them all."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dit.backbones.maskgit import MASKED


class MaskedTokens:
    """Hides each token of a sample independently, with a share drawn per sample; cross-entropy over all tokens.

    Time is the share known of an arccos schedule: t in (0, 1) uniform, 0 hides everything, 1 nothing.

    Args:
        label_smoothing: share of the target spread evenly over all classes (v1: 0.1, v2: 0).

    Raises:
        ValueError: if the smoothing does not lie in [0, 1).
    """

    learns = "tokens"
    default_sampler = "halton"

    def __init__(self, label_smoothing: float = 0.0):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.config = {"label_smoothing": label_smoothing}

    def sample_times(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in (0, 1) [B] are the times."""
        return uniform

    def flow_time(self, t: Tensor) -> Tensor:
        """Times [B] are shares of the way from all hidden (0) to all known (1)."""
        return t

    def mask_ratio(self, t: Tensor) -> Tensor:
        """Share of hidden tokens at times t [B] in [0, 1]: arccos(t) / (pi / 2)."""
        return torch.acos(t) / (math.pi / 2)

    def hide(self, tokens: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Tokens [B, h, w] with `MASKED` in the places that the noise picks.

        Args:
            noise: [B, h, w] standard normal; a token is hidden where its quantile falls below the mask ratio.
            t: [B].
        """
        hidden = torch.special.ndtr(noise) < self.mask_ratio(t).view(-1, 1, 1)
        return torch.where(hidden, MASKED, tokens)

    def training_terms(self, model_output: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """{"loss": [B]}, the mean over all tokens, for logits [B, K + 1, h, w] and tokens [B, h, w]."""
        logits = model_output.movedim(1, -1).flatten(0, -2).float()  # of the backbones' memory layout: no copy
        loss = F.cross_entropy(logits, tokens.flatten(), reduction="none", label_smoothing=self.label_smoothing)
        return {"loss": loss.view(len(tokens), -1).mean(1)}

    def loss_terms(
        self, model: Callable[..., Tensor], data: Tensor, noise: Tensor, t: Tensor, **conditions: Tensor
    ) -> dict[str, Tensor]:
        """Terms of `model(hidden tokens, t, **conditions)` for tokens `data` [B, h, w]."""
        return self.training_terms(model(self.hide(data, noise, t), t, **conditions), data)
