"""Dose and response: the sweep of a start, its line, and what the lines say together."""

import json
import math
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from omegaconf import OmegaConf

from studies.dose import CONTROL, EQ, found, sweep_of
from studies.dose_report import NUMBERS, Line, draw, gains, half_width, tables
from studies.start_search import candidate_config, read_table
from tests.twostage.synthetic_sweep import METRIC, changed, with_metric
from twostage.loading import load_sweep

TABLE = Path(__file__).parents[2] / "studies/dose.yaml"


def line(name: str, error: float, gain: tuple[float, float], **changes) -> dict:
    """Of a start whose gain is told by its error."""
    errors = {"rotation 90": error, "scale 0.50": error}
    arms = {
        arm: {"rotation": share * error, "scale": share * error, "psnr": 20.0} for arm, share in changes["left"].items()
    }
    return {
        "name": name,
        "base": changes.get("base", "scenes"),
        "rotation": error,
        "scale": error,
        "errors": {"standardized": errors},
        "thumbnail_share": {"centred": 1 - error},
        "psnr": 20.0 + error**2,
        "predictors": {
            "high_frequency/half_of_white": math.sin(7 * error),
            "viv/of_white": math.cos(5 * error),
            "dimension/twonn_of_white": 1 / (1 + error),
        },
        "gain": {"0": gain[0], "1": gain[1]},
        "change": {"0": -0.02, "1": -0.04},
        "bound": changes.get("bound", False),
        "arms": arms,
    }


def lines(slope: float) -> list[dict]:
    """Eight starts whose gain rises with their error, each seed .02 off."""
    noise = (0.01, -0.02, 0.015, 0.0, -0.01, 0.02, -0.005, -0.01)
    return [
        line(
            f"start-{i}", error, (slope * error + off + 0.02, slope * error + off - 0.02), left={CONTROL: 1.0, EQ: 0.5}
        )
        for i, (error, off) in enumerate(zip(np.linspace(0.2, 1.2, 8), noise, strict=True))
    ]


def test_the_sweep_of_a_start_differs_in_the_transforms_alone(tmp_path):
    table = read_table(str(TABLE))
    name = table["candidates"][0]["name"]
    content = sweep_of(table, tmp_path / name)
    control, treated = (content["autoencoders"][arm] for arm in (CONTROL, EQ))
    assert control["config"] == treated["config"] == str(tmp_path / name / "config.yaml")
    differing = {key for key, value in treated["overrides"].items() if control["overrides"][key] != value}
    assert differing == {"model.init_args.transforms"}
    (tmp_path / name).mkdir()
    OmegaConf.save(candidate_config(table, table["candidates"][0], tmp_path), tmp_path / name / "config.yaml")
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps(content))
    sweep = load_sweep(path, [])
    assert sweep.start.autoencoder == str(tmp_path / name / "autoencoder")
    assert len(sweep.seeds) == 2


def test_a_line_has_the_gain_and_errors_of_the_sweep():
    results = changed((2.0, 1.5))
    kept = json.loads(json.dumps(found(results)))
    assert kept["gain"] == pytest.approx({"0": math.log(2.0), "1": math.log(1.5)}, rel=1e-6)
    assert not kept["bound"]
    assert kept["change"]["0"] == pytest.approx(-0.25 * math.log(2.0))
    assert kept["arms"][EQ]["rotation"] < kept["arms"][CONTROL]["rotation"]
    control = next(curve for curve in kept["curves"] if curve["arm"] == CONTROL and curve["seed"] == 0)
    assert control["fd"]["1600"] == results.curves[0].points[-1].metrics[METRIC]


def test_intervals_of_starts_share_the_variance_between_seeds():
    both = [
        line("one", 0.3, (0.1, 0.3), left={CONTROL: 1, EQ: 1}),
        line("two", 0.4, (0.0, 0.4), left={CONTROL: 1, EQ: 1}),
    ]
    variance = mean([np.var([0.1, 0.3], ddof=1), np.var([0.0, 0.4], ddof=1)])
    assert half_width(both) == pytest.approx(4.302653 * math.sqrt(variance / 2))  # t with 2 degrees of freedom


def test_the_line_of_a_number_that_tells_nothing_is_the_mean():
    up = np.array([0.1, 0.4, 0.4, 0.1])
    level = Line.through(np.array([1.0, 2.0, 3.0, 4.0]), up)
    assert level.slope == pytest.approx(0)
    assert level.low < 0 < level.high
    assert level.p == pytest.approx(1)


def test_a_slope_that_was_put_in_is_found():
    given = lines(0.3)
    assert gains(given) == pytest.approx([0.3 * each["rotation"] for each in given], abs=0.021)
    across = np.array([each["rotation"] for each in given])
    found_line = Line.through(across, gains(given))
    assert found_line.low < 0.3 * across.std(ddof=1) < found_line.high
    assert found_line.p < 1e-4
    text = tables(given).splitlines()
    assert text[2].startswith("| `start-7` |"), "the largest gain first"
    (row,) = (row for row in text if row.startswith("| equivariance error |"))
    assert f"| {math.exp(found_line.slope):.2f} (" in row
    assert row.endswith("| 0.000 | 0.000 |")
    assert all(any(row.startswith(f"| {name} |") for row in text) for name in NUMBERS)


def test_a_start_that_failed_is_named_and_not_counted():
    given = lines(0.3)
    text = tables([*given, {"name": "broken", "failed": "the loss is not finite"}])
    assert text.startswith(tables(given))
    assert text.endswith("- `broken` failed: the loss is not finite")


def test_an_unresolved_speed_up_counts_as_none_and_is_marked():
    flat = with_metric(changed((1.0, 1.0)), lambda curve, point: 100.0 + point.num_steps)
    kept = found(flat)
    assert kept["gain"] == {"0": 0.0, "1": 0.0}
    assert kept["bound"]


def test_the_figure_is_drawn_with_bounds_hollow(tmp_path):
    draw([*lines(0.3), line("bound", 0.5, (0.1, 0.2), left={CONTROL: 1, EQ: 0.7}, bound=True)], tmp_path / "dose.png")
    assert (tmp_path / "dose.png").stat().st_size > 10_000
