"""Two-stage experiments: the plan of a sweep, its execution, the speed-up analysis and the report.

`schema` reads a sweep file, `plan` turns it into nodes with content addresses, `nodes` says what each kind does,
`execution` runs them and skips what is done (`store`), in worker processes (`workers`) or on a cluster (`cluster`),
`results` gathers what they left, `speedup` and `summary` draw conclusions, `report` shows them.
"""

import os
import shutil
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from dit.sweeps.checks import check_configs, check_data
from dit.sweeps.estimates import dry_run
from dit.sweeps.execution import run_nodes
from dit.sweeps.plan import Node, plan
from dit.sweeps.report import comparison_table, write_report
from dit.sweeps.results import collect
from dit.sweeps.schema import Sweep, load_sweep
from eqvae.training.files import write_atomically

__all__ = ["Sweep", "comparison_table", "dry_run", "load_sweep", "plan", "run_sweep", "write_report"]


def run_sweep(sweep: Sweep, command: str, console: Console, retry: bool = False) -> tuple[Path, dict]:
    """Do what is not yet done of a sweep and write its report.

    Args:
        command: how this sweep is run again, for the report.
        retry: also parts that failed in an earlier run.

    Returns:
        The path of report.html, and the results it shows.

    Raises:
        ValueError: before anything runs, for a config or data that cannot be read; afterwards, listing the parts that
            failed and their logs.
    """
    check_configs(sweep)
    check_data(sweep)
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
