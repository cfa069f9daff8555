"""Further seeds of a study: they stand behind its own, and only where they are its own kind."""

from dataclasses import replace

import pytest

from studies.pool import pooled
from tests.twostage.synthetic_sweep import changed
from twostage.analysis.records import Published, SweepResults
from twostage.analysis.summary import summarize


def parts() -> tuple[SweepResults, SweepResults]:
    """The first three of four seeds as a study, and the fourth as its verification."""
    whole = changed()
    study, fresh = (_with_seeds(whole, seeds) for seeds in ([0, 1, 2], [3]))
    published = Published("tiny", study.created, {}, "", study.seeds, study.curves)
    return study, replace(fresh, published=published)


def _with_seeds(results: SweepResults, seeds: list[int]) -> SweepResults:
    return replace(
        results,
        seeds=seeds,
        curves=[each for each in results.curves if each.seed in seeds],
        autoencoders=[each for each in results.autoencoders if each.seed is None or each.seed in seeds],
        cost=[each for each in results.cost if each.seed is None or each.seed in seeds],
    )


def test_a_study_and_its_further_seed_say_what_all_of_them_say():
    together, whole = pooled(*parts()), changed()
    assert together.seeds == whole.seeds
    assert summarize(together).comparisons == summarize(whole).comparisons
    assert len(together.autoencoders) == len(whole.autoencoders)


def test_seeds_of_another_study_or_start_are_refused():
    study, fresh = parts()
    with pytest.raises(ValueError, match="verify another study"):
        pooled(study, replace(fresh, published=None))
    with pytest.raises(ValueError, match="seed 2 is in both"):
        pooled(study, replace(fresh, seeds=[2, 3]))
    other = [replace(each, metrics={"psnr": 1.0}) if each.seed is None else each for each in fresh.autoencoders]
    with pytest.raises(ValueError, match="the common start has other numbers"):
        pooled(study, replace(fresh, autoencoders=other))
