"""What every predictor promises, one test each for all of them."""

import inspect
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eqvae.evaluation.metrics import find_metric
from eqvae.evaluation.predictors import NEEDS, PREDICTORS
from eqvae.evaluation.predictors.measuring import choose_predictors, predict
from tests.eqvae.predictors.samples import normal, orthogonal, random_sample

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")
every_predictor = pytest.mark.parametrize("name", PREDICTORS)
LACKING = {
    "labels": {"labels": None},
    "masks": {"masks": None},
    "posterior": {"noise": None, "rate": None},
    "model": {"encode": None},
    "features": {"features": None},
}


def names_of(name):
    return [metric.name for metric in PREDICTORS[name].metrics()]


def changed(sample, **values):
    return replace(sample, _kept={}, **values)


def reordered(sample):
    order = torch.randperm(len(sample.latents), generator=torch.Generator().manual_seed(1))
    per_image = ("latents", "labels", "masks", "features")
    return changed(sample, **{name: getattr(sample, name)[order] for name in per_image}, images=sample.images.flip(0))


def relabelled(sample):
    return changed(sample, labels=7 - 2 * sample.labels)


def with_other_signs(sample):
    order, signs = torch.tensor([2, 0, 3, 1]), torch.tensor([1.0, -1, -1, 1])[:, None, None]
    parts = {"noise": sample.noise[order], "rate": sample.rate[order]}
    return changed(sample, latents=sample.latents[:, order] * signs, **parts)


def rotated(sample):
    latents = torch.einsum("ij,njhw->nihw", orthogonal(sample.latents.shape[1]), sample.latents)
    # Independent noise of each channel does not stay independent: only its mean over channels is the same.
    return changed(sample, latents=latents, noise=sample.noise.mean(0).expand_as(sample.noise))


def turned(sample):
    parts = {"masks": sample.masks.mT, "noise": sample.noise.mT}
    return changed(sample, latents=sample.latents.mT.contiguous(), **parts)


def scaled(sample):
    return changed(sample, latents=3 * sample.latents, noise=9 * sample.noise)


INVARIANCES = {
    "order": reordered,
    "labels": relabelled,
    "signs": with_other_signs,
    "rotation": rotated,
    "turn": turned,
    "scale": scaled,
}


@every_predictor
def test_random_latents_give_finite_numbers_under_their_names(name):
    values = PREDICTORS[name](random_sample())
    assert list(values) == names_of(name)
    assert all(key.startswith(f"{name}/") and type(value) is float for key, value in values.items())
    assert all(math.isfinite(value) for value in values.values())
    assert PREDICTORS[name](random_sample()) == values  # nothing is drawn that is not keyed


@pytest.mark.parametrize(
    ("name", "invariance"), [(name, each) for name in PREDICTORS for each in PREDICTORS[name].invariances]
)
def test_declared_invariances_hold(name, invariance):
    sample = random_sample()
    before, after = (PREDICTORS[name](each) for each in (sample, INVARIANCES[invariance](sample)))
    # Latents are float32: sums of another order differ by some 1e-7 of terms that may cancel down to a hundredth.
    assert after == pytest.approx(before, rel=1e-4, abs=1e-5)


@every_predictor
def test_what_it_needs_is_asked_for_in_one_line(name):
    assert set(PREDICTORS[name].needs) <= set(NEEDS) == set(LACKING)
    for need in PREDICTORS[name].needs:
        with pytest.raises(ValueError, match=f"^{name} needs .*{NEEDS[need].split()[0]}") as error:
            PREDICTORS[name](changed(random_sample(), **LACKING[need]))
        assert "\n" not in str(error.value)


@every_predictor
def test_latents_that_are_none_are_refused(name):
    sample = random_sample()
    for latents in (sample.latents[0], sample.latents[:2], sample.latents * torch.nan):
        with pytest.raises(ValueError, match=f"^{name} needs finite latents .* of three images at least"):
            PREDICTORS[name](changed(sample, latents=latents))


@pytest.mark.parametrize("name", [name for name in PREDICTORS if PREDICTORS[name].min_channels > 1])
def test_one_channel_is_refused_where_directions_count(name):
    sample = changed(random_sample(), latents=normal(60, 1, 8, 8), noise=None, rate=None)
    with pytest.raises(ValueError, match=f"^{name} compares directions in channel space, which one channel has not$"):
        PREDICTORS[name](sample)


@every_predictor
@pytest.mark.parametrize("count", [3, 5, 12])
@pytest.mark.filterwarnings("ignore:.*single image are left out")
def test_few_images_give_finite_numbers_or_one_line(name, count):
    values, refusal = {}, ""
    try:
        values = PREDICTORS[name](random_sample(count))
    except ValueError as error:
        refusal = str(error)
    assert bool(refusal) != bool(values)
    assert "\n" not in refusal
    assert all(math.isfinite(value) for value in values.values())


@every_predictor
def test_constant_latents_are_refused(name):
    sample = changed(random_sample(), latents=torch.full((60, 4, 8, 8), 0.3))
    with pytest.raises(ValueError, match=f"^{name} needs latents that vary, these are constant$"):
        PREDICTORS[name](sample)


@pytest.mark.parametrize("name", [name for name in PREDICTORS if PREDICTORS[name].min_side > 1])
def test_latents_too_small_are_refused(name):
    least = PREDICTORS[name].min_side
    sample = changed(random_sample(), latents=normal(60, 4, least - 1, least))
    with pytest.raises(ValueError, match=rf"^{name} needs latents of {least} x {least} at least, got \(60, 4, "):
        PREDICTORS[name](sample)


@every_predictor
def test_a_predictor_is_one_file_of_sixty_lines_that_names_its_source(name):
    predictor = PREDICTORS[name]
    module = inspect.getmodule(predictor.compute)
    assert len(inspect.getsource(module).splitlines()) <= 60
    assert module.__name__.endswith(f".{name}")
    assert predictor.label
    assert predictor.source
    assert set(predictor.quantities.values()) <= {"higher", "lower", "open"}
    assert set(predictor.invariances) <= set(INVARIANCES)


def test_the_table_of_metrics_has_every_quantity():
    assert find_metric("viv/of_white").direction == "lower"
    assert find_metric("lnc/above_chance").direction == "higher"
    for predictor in PREDICTORS.values():
        for quantity, direction in predictor.quantities.items():
            metric = find_metric(f"{predictor.name}/{quantity}")
            assert (metric.direction, metric.needs) == (direction, predictor.needs)
            assert metric.label == f"{predictor.label}, {quantity}"


def test_predictors_are_chosen_by_name():
    assert choose_predictors(["all"]) is None
    assert choose_predictors(["none"]) == []
    names = choose_predictors(["slope", "lnc", "slope"])
    assert names == ["slope", "lnc"]
    assert list(predict(random_sample(), names).values)[:4] == [*names_of("slope"), "lnc/above_chance"]
    for words in (["vvi"], ["viv", "all"], ["none", "viv"]):
        with pytest.raises(ValueError, match=r"predictor '(vvi|all|none)' is unknown: use all, none, or"):
            choose_predictors(words)


def test_all_leaves_out_what_the_sample_does_not_allow_and_says_why():
    sample = changed(random_sample(), masks=None, noise=None)
    values, left_out = predict(sample)
    assert set(left_out) == {"srss", "rate"}
    assert left_out["srss"] == "needs foreground masks, which the images do not come with"
    assert {key.split("/")[0] for key in values} == set(PREDICTORS) - set(left_out)
    with pytest.raises(ValueError, match="srss needs foreground masks"):
        predict(sample, ["viv", "srss"])


def test_what_several_predictors_need_is_computed_once():
    sample, calls = random_sample(), []
    for _ in range(2):
        sample.once("count", lambda: calls.append(1))
    assert calls == [1]


@every_predictor
def test_the_table_in_the_docs_has_each_quantity_and_its_direction(name):
    page = (Path(__file__).parents[3] / "docs/stage1.md").read_text().partition("## Predictors")[2]
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    marks = {"lower": " ↓", "higher": " ↑", "open": ""}
    told = [f"`{quantity}`{marks[direction]}" for quantity, direction in PREDICTORS[name].quantities.items()]
    assert row.split(" | ")[2].removesuffix(" |") == ", ".join(told)
