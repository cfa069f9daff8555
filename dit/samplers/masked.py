"""Samplers of masked-token models: by confidence (MaskGIT, arXiv 2202.04200), and in Halton order (arXiv 2503.17076).

Both start with every token hidden and commit some in each step, for good. Time runs from 0 at the first step to 1 at
the last one. Two draws of `step_noise` serve each step: 2 i picks the codes of step i, 2 i + 1 its places.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from dit.backbones.maskgit import MASKED
from dit.objectives.masked import MaskedTokens
from dit.samplers.own_settings import TokenSettings
from dit.samplers.sampler import Callback, Model, Sampler, StepNoise
from dit.samplers.times import filled

KNOWN = {
    "arccos": lambda r: 1 - torch.acos(r.double()).to(r.dtype) / (math.pi / 2),  # rounded once, alike everywhere
    "cosine": lambda r: 1 - torch.cos(r * (math.pi / 2)),
    "linear": lambda r: r,
    "square": torch.square,
    "root": torch.sqrt,
}  # share of known tokens after a share r of the steps


@lru_cache
def halton_order(side: int) -> Tensor:
    """Row and column of all cells of a grid [side * side, 2], in the order in which Halton points first hit them.

    Point n = 1, 2, ... lies at the radical inverses of n in base 2 (row) and 3 (column).
    """
    hit: dict[tuple[int, int], None] = {}
    number = 0
    while len(hit) < side * side:
        number += 1
        hit.setdefault((_radical_cell(number, 2, side), _radical_cell(number, 3, side)))
    return torch.tensor(list(hit))


def _radical_cell(number: int, base: int, side: int) -> int:
    """floor(side * radical inverse of the number), in exact arithmetic."""
    numerator, denominator = 0, 1
    while number:
        number, digit = divmod(number, base)
        numerator, denominator = numerator * base + digit, denominator * base
    return side * numerator // denominator


def halton_totals(num_steps: int, num_tokens: int, schedule: str = "arccos") -> list[int]:
    """Known tokens after each step in Halton order: floor(known((i + 1) / N) n), at least i + 1; all at last.

    In float32, as the public code computes it, in which 1/3 of 144 or of 576 tokens is one less than a third of them.
    """
    ratios = torch.arange(1, num_steps + 1, dtype=torch.float32) / num_steps
    known = (KNOWN[schedule](ratios) * num_tokens).long().tolist()
    return [*(min(max(total, step + 1), num_tokens) for step, total in enumerate(known[:-1])), num_tokens]


def confidence_totals(
    num_steps: int, num_tokens: int, schedule: str = "arccos", counts: str = "proportional"
) -> list[int]:
    """Known tokens after each step of confidence sampling.

    "cumulative" is floor(known(i / (N - 1)) n), 0 after the first step. "proportional" commits in step i a share
    proportional to the mask ratio at 1 - i / (N - 1), rounded, at least 1; the last step takes what is left.
    """
    if num_steps == 1:
        return [num_tokens]
    if counts == "cumulative":
        known = KNOWN[schedule](torch.linspace(0, 1, num_steps))
        return [*(known[:-1] * num_tokens).int().tolist(), num_tokens]
    share = 1 - KNOWN[schedule](torch.linspace(1, 0, num_steps))
    each = (share / share.sum() * num_tokens).round().clamp_min(1).long()
    return [*each.cumsum(0)[:-1].clamp_max(num_tokens).tolist(), num_tokens]


def confidence(
    objective: MaskedTokens,
    model: Model,
    noise: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise,
    settings: TokenSettings,
    callback: Callback,
) -> Tensor:
    """Commit in each step the hidden tokens drawn with most confidence: log-probability plus fading Gumbel noise.

    Shapes as of `halton`.
    """
    totals = confidence_totals(num_inference_steps, noise[0].numel(), settings.schedule, settings.counts)

    def choose(step: int, tokens: Tensor, log_probability: Tensor) -> Tensor:
        first = totals[step - 1] if step else 0
        gumbel = -(-torch.special.log_ndtr(step_noise(2 * step + 1).flatten(1))).log()
        temperature = settings.gumbel_temperature * (1 - _time(step, num_inference_steps))
        score = (log_probability + temperature * gumbel).masked_fill(tokens != MASKED, -math.inf)
        return score.topk(totals[step] - first).indices

    return _commit(model, noise, totals, choose, step_noise, settings, callback)


def halton(
    objective: MaskedTokens,
    model: Model,
    noise: Tensor,
    num_inference_steps: int,
    step_noise: StepNoise,
    settings: TokenSettings,
    callback: Callback,
) -> Tensor:
    """Commit tokens in Halton order, which spreads each step's over the whole grid.

    The model maps tokens [B, h, w] and times [B] to logits [B, K + 1, h, w]. The noise [B, h, w] gives the shape, and
    where the order starts with `halton_shift`.

    Returns:
        Tokens [B, h, w] int64, `MASKED` where the model's logits were not finite.
    """
    num_tokens = noise[0].numel()
    totals = halton_totals(num_inference_steps, num_tokens, settings.schedule)
    rows, columns = halton_order(noise.shape[-1]).to(noise.device).unbind(1)
    order = rows * noise.shape[-1] + columns
    shift = (torch.special.ndtr(noise[:, 0, 0]) * num_tokens).long() * settings.halton_shift

    def choose(step: int, tokens: Tensor, log_probability: Tensor) -> Tensor:
        places = torch.arange(totals[step - 1] if step else 0, totals[step], device=noise.device)
        return order[(places + shift[:, None]) % num_tokens]

    return _commit(model, noise, totals, choose, step_noise, settings, callback)


def require_steps(
    objective: MaskedTokens, num_inference_steps: int, settings: TokenSettings, num_places: int | None
) -> None:
    """Refuse more steps than tokens, some of which would have nothing to commit."""
    if num_places is not None and num_inference_steps > num_places:
        raise ValueError(
            f"num_inference_steps {num_inference_steps} is more than the {num_places} tokens: use at most as many"
        )


def _commit(
    model: Model,
    noise: Tensor,
    totals: list[int],
    choose: Callable[[int, Tensor, Tensor], Tensor],
    step_noise: StepNoise,
    settings: TokenSettings,
    callback: Callback,
) -> Tensor:
    """Draw a code for every place, keep those at the places chosen [B, k], until all are known."""
    num_steps = len(totals)
    tokens = torch.full_like(noise, MASKED, dtype=torch.int64).flatten(1)
    for step, total in enumerate(totals):
        time = _time(step, num_steps)
        if total > (totals[step - 1] if step else 0):  # a step that commits nothing needs no model
            logits = model(tokens.view(noise.shape), filled(time, noise))
            codes, log_probability = draw_codes(logits, step_noise(2 * step), settings, step)
            places = choose(step, tokens, log_probability)
            tokens = tokens.scatter(1, places, codes.gather(1, places))
        callback(step, tokens.view(noise.shape), time)
    return tokens.view(noise.shape)


def draw_codes(logits: Tensor, noise: Tensor, settings: TokenSettings, step: int = 0) -> tuple[Tensor, Tensor]:
    """A code for every place and its log-probability, both [B, T]: the quantile of the noise in softmax(logits).

    `MASKED` where the logits are not finite.

    Args:
        logits: [B, K + 1, h, w]; the last class, the mask, is not drawn.
        noise: [B, h, w] standard normal.
    """
    factor = settings.inverse_temperature * (0.5 if step < settings.warmup_steps else 1.0)
    logits = logits.movedim(1, -1).flatten(1, 2)[..., :-1].float() * factor  # [B, T, K]
    if settings.top_k is not None and settings.top_k < logits.shape[-1]:
        smallest = logits.topk(settings.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -math.inf)
    log_probabilities = logits.log_softmax(-1)
    cumulative = log_probabilities.exp().cumsum(-1)
    quantile = torch.special.ndtr(noise.flatten(1))[..., None] * cumulative[..., -1:]
    codes = torch.searchsorted(cumulative, quantile).clamp_max(logits.shape[-1] - 1)
    drawn = codes.masked_fill(cumulative[..., -1:].isnan(), MASKED)
    return drawn[..., 0], log_probabilities.gather(-1, codes)[..., 0]


def _time(step: int, num_steps: int) -> float:
    return step / (num_steps - 1) if num_steps > 1 else 1.0


CONFIDENCE = Sampler(
    "confidence", confidence, MaskedTokens, TokenSettings, draws_noise=True, require_steps=require_steps
)
HALTON = Sampler("halton", halton, MaskedTokens, TokenSettings, draws_noise=True, require_steps=require_steps)
