"""Which fine-tunings are a treatment: `python -m studies.treatment_report STARTS TREATMENTS` prints a Markdown table.

A fine-tuning is one if it does what the paper's does (EQ-VAE, table 1): both errors fall to 0.65 of the start's or less
(SD-VAE: 0.89 to 0.56 and 0.69 to 0.43), PSNR stays within 0.3 dB of the same number of steps of the ordinary loss, and
the Fréchet distance of reconstructions is no worse than the start's.
"""

import argparse
from pathlib import Path

from studies.start_measures import mean_of
from studies.start_search import read_results

LARGEST_RATIO = 0.65  # of the errors to the start's
LARGEST_LOSS = 0.3  # dB of PSNR below the control
RFD = "rfd_efficientnet_lite0"
COLUMNS = (
    "fine-tuning", "rotation", "scale", "ratio", "standardized ratio", "whitened ratio", "PSNR", "to control", "rFD",
    "TwoNN", "HF", "treated",
)  # fmt: skip


def chain(line: dict, lines: list[dict]) -> list[dict]:
    """A fine-tuning and those it continues, the first one last."""
    before = next((other for other in lines if other["name"] == line["start"]), None)
    return [line] if before is None else [line, *chain(before, lines)]


def control_of(line: dict, lines: list[dict]) -> dict | None:
    """The fine-tuning with the ordinary loss from the same start, with otherwise the same settings."""
    plan = _plan(line, lines)
    return next((other for other in lines if other["factor"] == "control" and _plan(other, lines) == plan), None)


def _plan(line: dict, lines: list[dict]) -> tuple:
    links = chain(line, lines)
    kept = [{key: str(value) for key, value in link["settings"].items() if "transforms" not in key} for link in links]
    return line["base"], links[-1]["start"], kept


def ratios(line: dict, start: dict, basis: str) -> tuple[float, float]:
    """Rotation and scale error over the start's, in a basis of `studies.start_measures`."""
    pairs = ((mean_of(each["errors"][basis], kind) for each in (line, start)) for kind in ("rotation", "scale"))
    return tuple(after / before for after, before in pairs)


def failures(line: dict, start: dict, control: dict | None) -> list[str]:
    """What keeps a fine-tuning from being a treatment; nothing if it is one."""
    found = [
        f"{kind} {ratio:.2f}"
        for kind, ratio in zip(("rotation", "scale"), ratios(line, start, "raw"), strict=True)
        if ratio > LARGEST_RATIO
    ]
    if control is None:
        found.append("no control")
    elif control["psnr"] - line["psnr"] > LARGEST_LOSS:
        found.append(f"PSNR {line['psnr'] - control['psnr']:+.2f} dB")
    if line[RFD] > start[RFD]:
        found.append(f"rFD {line[RFD] / start[RFD] - 1:+.0%}")
    return found


def to_markdown(starts: dict[str, dict], lines: list[dict]) -> str:
    """A row for each start and below it for each fine-tuning of it, in the order in which they were run."""
    codes = ["perplexity"] if any("perplexity" in line for line in lines) else []  # of codebooks alone
    columns = [*COLUMNS[:-1], *codes, COLUMNS[-1]]
    rows = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    roots = [chain(line, lines)[-1]["start"] for line in lines]
    for root in dict.fromkeys(roots):
        start = starts[Path(root).name]
        rows.append(_row(f"start `{start['name']}`", start, ["", "", ""], "", ""))
        rows += [_tuned_row(line, start, lines) for line, its in zip(lines, roots, strict=True) if its == root]
    return "\n".join(rows) + "\n"


def _tuned_row(line: dict, start: dict, lines: list[dict]) -> str:
    if "failed" in line:
        return f"| `{line['name']}` | failed: {line['failed']} |{' |' * (len(COLUMNS) - 2)}"
    bases = ("raw", "standardized", "whitened")
    shown = ["/".join(f"{ratio:.2f}" for ratio in ratios(line, start, basis)) for basis in bases]
    if line["factor"] == "control":
        return _row(f"`{line['name']}`", line, shown, "", "control")
    control = control_of(line, [other for other in lines if "failed" not in other])
    against = "" if control is None else f"{line['psnr'] - control['psnr']:+.2f}"
    reasons = failures(line, start, control)
    return _row(f"`{line['name']}`", line, shown, against, "no: " + ", ".join(reasons) if reasons else "yes")


def _row(name: str, line: dict, shown: list[str], against: str, verdict: str) -> str:
    cells = [name, f"{line['rotation']:.2f}", f"{line['scale']:.2f}", *shown, f"{line['psnr']:.2f}", against]
    cells += [f"{line[RFD]:.0f}", f"{line['intrinsic_dimension']:.1f}", f"{line['high_frequency_share']:.2f}"]
    cells += [f"{line['perplexity']:.0f}", verdict] if "perplexity" in line else [verdict]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("starts", type=Path, help="results.jsonl of the start search")
    parser.add_argument(
        "treatments", type=Path, help="results.jsonl of the treatment search; starts in it are passed over"
    )
    arguments = parser.parse_args()
    starts = {line["name"]: line for line in read_results(arguments.starts)}
    tuned = [line for line in read_results(arguments.treatments) if "start" in line]
    print(to_markdown(starts, tuned), end="")


if __name__ == "__main__":
    main()
