"""The loss on held-out latents: the same noise and times at every step and in every run, told apart by time."""

import math

import torch
from torch import Tensor

NUM_STRATA = 4  # equal parts of time whose losses are told apart, from noise to data
VALIDATION_SEED = 0  # of noise and posterior samples; no setting, so that runs of any seed compare


def stratified(count: int) -> Tensor:
    """Numbers in (0, 1) [count] for the times of so many samples: the midpoints of `count` equal strata, each once.

    Sample i takes stratum i g mod count with g near count / golden ratio, so that the samples of each class, which lie
    together in a sorted set, are spread evenly over time, too. Source: Niederreiter, 1992, rank-1 lattices.
    """
    step = max(1, round(count * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, count) > 1:
        step -= 1
    return ((torch.arange(count) * step % count).double() + 0.5).div(count).float()


class ValidationLoss:
    """Accumulates loss terms and times of samples, then gives their means."""

    def __init__(self):
        self._terms: dict[str, list[Tensor]] = {}
        self._times: list[Tensor] = []

    def update(self, terms: dict[str, Tensor], times: Tensor) -> None:
        """Add terms [B] and flow times [B] in [0, 1], 0 being noise."""
        for name, values in terms.items():
            self._terms.setdefault(name, []).append(values.detach().float())
        self._times.append(times)

    def compute(self) -> dict[str, Tensor]:
        """The mean of each term, `num_latents`, and `loss_t0` ... `loss_t3`: the mean loss in each quarter of time.

        A quarter without samples is left out.
        """
        terms = {name: torch.cat(parts).cpu().double() for name, parts in self._terms.items()}
        stratum = (torch.cat(self._times).cpu() * NUM_STRATA).long().clamp(0, NUM_STRATA - 1)
        means = {name: values.mean() for name, values in terms.items()}
        for number in stratum.unique().tolist():
            means[f"loss_t{number}"] = terms["loss"][stratum == number].mean()
        means["num_latents"] = torch.tensor(float(len(stratum)))
        return {name: value.float() for name, value in means.items()}
