"""Ranks as a page, as JSON and as a text table, and every report in the forms of others."""

# ruff: noqa: RUF001 (readers are shown the true signs: –)

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eqvae.files import write_atomically
from twostage.analysis.words import ends_text, size_text, verdict_text
from twostage.rank.boards import Board, Entry, Report
from twostage.report.exchange import every_eval_ever, file_names, hub_results
from twostage.report.figures import STYLE
from twostage.report.templating import environment, script_with_policy

WIDTH = 110
PAGE, DATA = "ranks.html", "ranks.json"


def write_ranks(folder: Path, boards: Sequence[Board]) -> Path:
    """Write ranks.html and ranks.json into `folder`; returns the path of the page, one file that loads nothing."""
    folder = Path(folder)
    script, policy = script_with_policy()
    page = environment(autoescape=True).get_template("ranks.html.jinja").render(
        boards=boards, policy=policy, script=Markup(script), chart_style=Markup(STYLE.read_text()),
        rank=rank_text, word=word, size=own_size, ends=ends_text,
    )  # fmt: skip
    content = json.dumps([asdict(board) for board in boards], indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / DATA, content.encode())
    write_atomically(folder / PAGE, page.encode())
    return folder / PAGE


def rank_text(entry: Entry, board: Board) -> str:
    """1, =2 where somebody shares it, – without an interval."""
    rank = entry.speed_up.rank
    if rank is None:
        return "–"
    return f"{'=' if sum(each.speed_up.rank == rank for each in board.entries) > 1 else ''}{rank}"


def ranks_table(boards: Sequence[Board]) -> str:
    """Plain text for the terminal."""
    written = io.StringIO()
    console = Console(file=written, width=WIDTH)
    for board in boards:
        table = Table(title=Text(board.title), title_justify="left", title_style="bold")
        for name in ("rank", "arm", "verdict", "speed-up", "seeds", "report"):
            table.add_column(name, justify="right" if name in ("rank", "speed-up", "seeds") else "left")
        for entry in board.entries:
            table.add_row(*map(Text, _cells(entry, board)))
        console.print(table)
    return written.getvalue()


def _cells(entry: Entry, board: Board) -> tuple[str, ...]:
    size = verdict_text(entry.verdict) if entry.verdict else own_size(entry)
    return rank_text(entry, board), entry.arm_label, word(entry), size, str(entry.num_seeds), entry.report


def word(entry: Entry) -> str:
    """The verdict's; "control", or "no value" of an arm that lost all its seeds."""
    if entry.verdict is not None:
        return entry.verdict.word
    return "control" if entry.is_control else "no value"


def own_size(entry: Entry) -> str:
    """The speed-up of an arm without an interval."""
    if entry.verdict is not None:
        return size_text(entry.verdict)
    return "1.00×" if entry.is_control else "–"


def write_every_eval_ever(folder: Path, reports: Sequence[Report], organization: str) -> list[Path]:
    """Records of Every Eval Ever, a file for each arm and generator of each report, below `folder`/every_eval_ever."""
    written = []
    for report, place in zip(reports, _places(reports), strict=True):
        for name, record in every_eval_ever(report.results, organization).items():
            path = Path(folder) / "every_eval_ever" / place / f"{name}.json"
            write_atomically(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False).encode())
            written.append(path)
    return written


def write_hub_results(folder: Path, reports: Sequence[Report], benchmark: str) -> list[Path]:
    """Files for `.eval_results` of model repositories on the hub, likewise below `folder`/eval_results."""
    written = []
    for report, place in zip(reports, _places(reports), strict=True):
        for name, entries in hub_results(report.results, benchmark).items():
            path = Path(folder) / "eval_results" / place / f"{name}.yaml"
            write_atomically(path, yaml.safe_dump(entries, sort_keys=False, allow_unicode=True).encode())
            written.append(path)
    return written


def _places(reports: Sequence[Report]) -> list[str]:
    """A folder's name for each report: the sweep's, with a number where several are called alike."""
    return file_names(report.results.name for report in reports)
