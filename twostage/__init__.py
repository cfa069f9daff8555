"""Two-stage experiments: the plan of a sweep, its execution, the speed-up analysis and the report.

`loading` reads a sweep file (`schema`, `checks`), `plan` turns it into nodes with content addresses, `nodes` says
what each kind does, `execution` runs them and skips what is done (`store`), in worker processes (`workers`) or on a
cluster (`cluster`), `results` gathers what they left, `speedup` and `summary` draw conclusions, `report` shows them.
"""

import os
import shutil
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from eqvae.files import write_atomically
from twostage.dry_run import dry_run
from twostage.graph.execution import run_nodes
from twostage.loading import load_sweep
from twostage.plan import Node, plan
from twostage.report.report import comparison_table, write_report
from twostage.report.results import collect
from twostage.schema import Sweep

__all__ = ["Sweep", "comparison_table", "dry_run", "load_sweep", "plan", "run_sweep", "write_report"]


def run_sweep(sweep: Sweep, command: str, console: Console, retry: bool = False) -> tuple[Path, dict]:
    """Do what is not yet done of a sweep and write its report.

    Args:
        command: how this sweep is run again, for the report.
        retry: also parts that failed in an earlier run.

    Returns:
        The path of report.html, and the results it shows.

    Raises:
        ValueError: for a folder that cannot be written; listing the parts that failed and their logs.
    """
    root = Path(sweep.root)
    nodes = plan(sweep)
    _record(sweep, nodes, root)
    run_nodes(nodes, root, sweep.executor, console, retry)
    folder = root / sweep.name / "report"
    results = collect(sweep, nodes, root, folder, command)
    return write_report(folder, results), results


def _record(sweep: Sweep, nodes: list[Node], root: Path) -> None:
    """The sweep's own folder: the file as it was read, and a link to each node by its name."""
    folder = root / sweep.name
    links = folder / "nodes"
    try:
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir(parents=True)
        write_atomically(folder / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.structured(sweep)).encode())
    except OSError as error:
        raise ValueError(f"root: {folder} cannot be written: {error.strerror}") from None
    for node in nodes:
        (links / node.name).symlink_to(os.path.relpath(node.folder(root), links), target_is_directory=True)
