"""Results for people and for files: conditions beside numbers, two results side by side."""

import math
import warnings
from importlib.metadata import version
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from eqvae.evaluation.metrics import find_metric
from eqvae.hashes import read_json, write_json

CONDITIONS = ("num_images", "num_reference", "num_generated", "image_size", "crop", "uint8_rule", "extractor",
              "extractor_weights", "features_reference", "features_generated", "score_order")  # fmt: skip
REFERENCE = ("fingerprint", "statistics", "images")  # of a result's `reference`, where it is kept
BACKEND = ("torch", "torch-fidelity", "torchmetrics", "lpips", "timm")
NOT_SHOWN = ("directions", "autoencoder_fingerprint")  # of a saved result: a column of the table; for programs
CENTER_CROP = "centre, ADM (box halving, then bicubic)"


def backend_versions() -> dict[str, str]:
    """Versions of the libraries that a number depends on."""
    return {name: version(name) for name in BACKEND}


def directions(result: dict) -> dict[str, str]:
    """Direction of each measured quantity that has one."""
    found = {name: find_metric(name).direction for name in _quantities(result)}
    return {name: direction for name, direction in found.items() if direction is not None}


def is_better(name: str, difference: float) -> bool | None:
    """Whether a quantity that changed by `difference` got better; None where neither direction is."""
    direction = find_metric(name).direction
    if difference == 0 or direction in (None, "open"):
        return None
    return (difference > 0) == (direction == "higher")


def result_table(result: dict) -> Table:
    """Quantity and value, a mean with its standard deviation over images where there is one; conditions below."""
    columns = (Column("quantity", no_wrap=True), "value", "better")
    table = Table(*columns, caption=_conditions([result]), caption_justify="left")
    for name in _quantities(result):
        table.add_row(name, _text(result, name), find_metric(name).direction or "")
    return table


def comparison_table(first: dict, second: dict, headings: tuple[str, str]) -> Table:
    """Two results and their difference, second - first, marked where it is better or worse."""
    columns = (Column("quantity", no_wrap=True), *headings, "difference", "")
    table = Table(*columns, caption=_conditions([first, second]), caption_justify="left")
    for name in _quantities(first | second):
        texts = [_text(each, name) if name in each else "" for each in (first, second)]
        change = difference(first, second, name)
        mark = {True: "[green]better[/]", False: "[red]worse[/]", None: ""}[is_better(name, change or 0.0)]
        table.add_row(name, *texts, "" if change is None else f"{change:+.4g}", mark)
    return table


def difference(first: dict, second: dict, name: str) -> float | None:
    """second - first of a measured quantity that both results have."""
    before, after = first.get(name), second.get(name)
    return after - before if isinstance(before, float) and isinstance(after, float) else None


def differences(first: dict, second: dict) -> dict[str, float]:
    """second - first of every quantity that both results have."""
    found = {name: difference(first, second, name) for name in first if not name.endswith("_std")}
    return {name: value for name, value in found.items() if value is not None}


def save_result(file: str | Path, result: dict) -> None:
    """Write a result of `evaluate.py --output`, with its hash.

    Raises:
        ValueError: naming a number in it that is not finite.
    """
    _require_finite(result, f"{file} is not written")
    write_json(Path(file), result)


def load_result(file: str | Path) -> dict:
    """A result that was saved with --output.

    Raises:
        ValueError: naming a file that holds none, is damaged, or whose numbers are not finite.
    """
    result = read_json(Path(file))
    of_autoencoder = "perceptual" in result  # which has an extractor, too
    if of_autoencoder or "extractor" not in result or not any(isinstance(value, float) for value in result.values()):
        raise ValueError(f"{file} is not a saved result of evaluate.py generation: give a file of its --output")
    _require_finite(result, str(file))
    for name, value in result.items():
        numbers = [value] if name.endswith("_std") else value if isinstance(value, list) else []
        if any(type(number) not in (int, float) for number in numbers):
            raise ValueError(f"{file}: {name} holds what is no number: measure again")
    return result


def _require_finite(result: dict, where: str) -> None:
    for name, value in result.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, dict):
                _require_finite(number, where)
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{where}: {name} is {number}, not a finite number: measure again")


def warn_of_different_conditions(first: dict, second: dict) -> None:
    """One warning that names every condition in which two results differ; distances depend on all of them."""
    unequal = [
        f"{name} {first.get(name)} and {second.get(name)}"
        for name in CONDITIONS
        if name in first | second and first.get(name) != second.get(name)
    ]
    before, now = first.get("reference"), second.get("reference")
    if isinstance(before, dict) and isinstance(now, dict):
        unequal += [
            f"reference {name} {str(before[name])[:12]} and {str(now[name])[:12]}"
            for name in REFERENCE
            if name in before and name in now and before[name] != now[name]
        ]
    if unequal:
        warnings.warn(f"these results do not compare: {'; '.join(unequal)}", stacklevel=2)


def _quantities(result: dict) -> list[str]:
    """Names of what was measured; standard deviations stand beside their means."""
    measured = [name for name, value in result.items() if isinstance(value, float | list)]
    return [name for name in measured if not (name.endswith("_std") and name.removesuffix("_std") in result)]


def _conditions(results: list[dict]) -> str:
    """One line per condition; both values where two results differ in it."""
    lines = []
    for name in dict.fromkeys(name for result in results for name in result):
        values = [result.get(name) for result in results]
        if name not in NOT_SHOWN and not any(isinstance(value, float | list) for value in values):
            texts = [_plain(value) for value in values]
            lines.append(f"{name}: {texts[0] if len(set(texts)) == 1 else ' | '.join(texts)}")
    return escape("\n".join(lines))


def _plain(value: object) -> str:
    """A condition in one line; what several keys have in common is said once."""
    if not isinstance(value, dict):
        return str(value)
    shared: dict[str, list[str]] = {}
    for key, entry in value.items():
        shared.setdefault(str(entry), []).append(str(key))
    separator = ", " if len(shared) == len(value) else "; "
    return separator.join(f"{', '.join(keys)} {entry}" for entry, keys in shared.items())


def _text(result: dict, name: str) -> str:
    value, spread = result[name], result.get(f"{name}_std")
    if not isinstance(value, float | list):  # measured in the other result alone
        return _plain(value)
    if isinstance(value, list):
        return " ".join(f"{entry:.3g}" for entry in value)
    return f"{value:.5g}" if spread is None else f"{value:.5g} ± {spread:.3g}"
