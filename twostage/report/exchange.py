"""A report's numbers in the forms of others: Every Eval Ever's records, and evaluation results of the hub."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from eqvae.evaluation.metric import Metric
from eqvae.evaluation.metrics import find_metric
from twostage.analysis.comparison import is_number
from twostage.analysis.intervals import ERROR_RATE, Interval, interval_over_seeds
from twostage.analysis.leaderboard import SPEED_UP, LeaderboardRow
from twostage.analysis.records import SweepResults
from twostage.analysis.summary import MeasuredRow, summarize
from twostage.analysis.words import seeds_text, short_sentence

EVERY_EVAL_EVER = "0.2.2"
"""Version of eval.schema.json that the records follow (github.com/evaleval/every_eval_ever)."""

SHARES = ("precision", "recall")  # between 0 and 1; the form wants bounds of what it calls continuous, others have none
T_INTERVAL = "Student's t over seeds"


def every_eval_ever(results: SweepResults, organization: str) -> dict[str, dict[str, Any]]:
    """Records of Every Eval Ever, one for each arm and generator, by a name for its file.

    The model is the generator on the arm's latents. Scores are means over seeds at the last shared step of every metric
    with a known better direction, and the speed-up over the control, each with its standard error and interval.

    Args:
        organization: that made the measurements, which the form asks for.

    Raises:
        ValueError: for an organization without a name.
    """
    if not organization.strip():
        raise ValueError("Every Eval Ever asks for the organization that measured: give its name")
    summary = summarize(results)
    measured = {(row.arm, row.generator): row for row in summary.last_step}
    return {
        name: _record(results, row, name, measured.get((row.arm, row.generator)), organization)
        for name, row in _named(summary.leaderboard)
    }


def _record(
    results: SweepResults, row: LeaderboardRow, name: str, measured: MeasuredRow | None, organization: str
) -> dict[str, Any]:
    model = f"{_slug(organization)}/{results.name}-{name}"
    created = str(round(datetime.fromisoformat(results.created).timestamp()))
    return {
        "schema_version": EVERY_EVAL_EVER,
        "evaluation_id": f"{results.name}/{model.replace('/', '_')}/{created}",
        "evaluation_timestamp": created,
        "retrieved_timestamp": created,
        "source_metadata": {
            "source_name": results.title,
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "first_party",
        },
        "eval_library": {"name": "eqvae", "version": "unknown", "additional_details": results.versions},
        "model_info": {
            "name": f"{row.generator_label} on {row.arm_label}",
            "id": model,
            "developer": organization,
            "additional_details": {"control": str(row.is_control).lower(), "hardware": results.hardware},
        },
        "evaluation_results": list(_scores(results, row, measured)),
    }


def _scores(results: SweepResults, row: LeaderboardRow, measured: MeasuredRow | None) -> Iterator[dict[str, Any]]:
    """One for each metric, then the speed-up, unless it is only a bound."""
    for name, spread in measured.metrics.items() if measured else ():
        metric = find_metric(name)
        if metric.direction not in ("higher", "lower"):
            continue
        about = f"{metric.full_name} after {row.num_steps} training steps"
        uncertainty = _uncertainty(interval_over_seeds(list(spread.values.values())))
        yield _score(results, metric, name, about, spread.mean, uncertainty)
    verdict = row.verdict
    if verdict is None or not is_number(verdict.ratio) or verdict.kind != "value":
        return  # a bound is no score
    about = f"steps of the control / steps to the same {results.metric_label}; {short_sentence(verdict)}"
    uncertainty: dict[str, Any] = {"num_samples": verdict.num_seeds}
    if verdict.low is not None and verdict.high is not None:
        ends = {"lower": verdict.low, "upper": verdict.high, "confidence_level": 1 - verdict.level}
        uncertainty["confidence_interval"] = ends | {"method": f"{T_INTERVAL}, of the log"}
    yield _score(results, Metric(SPEED_UP, "Speed-up in steps", "higher"), SPEED_UP, about, verdict.ratio, uncertainty)


def _score(
    results: SweepResults, metric: Metric, name: str, about: str, value: float, uncertainty: dict[str, Any]
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "evaluation_description": about,
        "metric_id": f"eqvae.{name}",
        "metric_name": metric.full_name,
        "lower_is_better": metric.direction == "lower",
    }
    if name in SHARES:
        config |= {"score_type": "continuous", "min_score": 0.0, "max_score": 1.0}
    return {
        "evaluation_name": f"{results.name}: {metric.full_name}",
        "source_data": {"dataset_name": results.title, "source_type": "other"},
        "metric_config": config,
        "score_details": {"score": value, "uncertainty": uncertainty},
    }


def _uncertainty(interval: Interval) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": interval.num_seeds}
    if interval.sd is not None:
        error = interval.sd / math.sqrt(interval.num_seeds)
        found |= {"standard_deviation": interval.sd, "standard_error": {"value": error, "method": "over seeds"}}
    if interval.ends is not None:
        low, high = interval.ends
        ends = {"lower": low, "upper": high, "confidence_level": 1 - ERROR_RATE, "method": T_INTERVAL}
        found["confidence_interval"] = ends
    return found


def hub_results(results: SweepResults, benchmark: str, source: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Entries of `.eval_results/*.yaml` of a model repository of the hub, one for each arm and generator, by file name.

    The value is the sweep's metric, mean over seeds at the last shared step; the notes say steps, seeds and verdict.

    Args:
        benchmark: OWNER/DATASET:TASK, the benchmark on the hub and its task.
        source: address of the report, where it is public.

    Raises:
        ValueError: for another form of benchmark, or a huggingface-hub that does not know such results.
    """
    found = re.fullmatch(r"([\w.-]+/[\w.-]+):([\w.-]+)", benchmark)
    if found is None:
        raise ValueError(f"benchmark {benchmark!r}: give OWNER/DATASET:TASK, as OWNER/eval.yaml of the hub names them")
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:
        raise ValueError("results for the hub need a newer huggingface-hub: pip install -U huggingface-hub") from None
    entries = {}
    for name, row in _named(summarize(results).leaderboard):
        standing = row.columns.get(results.metric)
        if standing is None or standing.value is None:
            continue
        named = {"source_url": source, "source_name": results.title} if source else {}
        entry = EvalResultEntry(
            dataset_id=found[1], task_id=found[2], value=standing.value, date=results.created,
            notes=_notes(results, row), **named,
        )  # fmt: skip
        entries[name] = eval_result_entries_to_yaml([entry])
    return entries


def _notes(results: SweepResults, row: LeaderboardRow) -> str:
    lost = f", without seed {', '.join(map(str, row.missing_seeds))}, which has no value" if row.missing_seeds else ""
    seeds = f"{seeds_text(row.num_seeds)}{lost}"
    about = f"{results.metric_label}, {row.generator_label}, {row.num_steps} steps, {seeds}"
    return about if row.verdict is None else f"{about}; against the control {short_sentence(row.verdict)}"


def _named(rows: Iterable[LeaderboardRow]) -> Iterator[tuple[str, LeaderboardRow]]:
    """Rows with a file's name each, arm and generator."""
    found = list(rows)
    yield from zip(file_names(f"{row.arm}-{row.generator}" for row in found), found, strict=True)


def file_names(texts: Iterable[str]) -> list[str]:
    """A name for each text without signs that paths cannot have; with a number where it is taken."""
    taken: list[str] = []
    for text in texts:
        slug = _slug(text)
        numbered = (slug if count == 1 else f"{slug}-{count}" for count in itertools.count(1))
        taken.append(next(each for each in numbered if each not in taken))
    return taken


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text.strip())
