"""Two-stage experiments: the plan of a sweep, its execution, the speed-up analysis and the report.

`plan` turns a YAML file into nodes with content addresses, `nodes` says what each kind does, `execution` runs them and
skips what is done, `results` gathers what they left, `speedup` and `summary` draw conclusions, `report` shows them.
"""

from pathlib import Path

from rich.console import Console

from dit.sweeps.execution import run_nodes
from dit.sweeps.plan import Sweep, load_sweep, plan
from dit.sweeps.report import comparison_table, write_report
from dit.sweeps.results import collect

__all__ = ["Sweep", "comparison_table", "load_sweep", "plan", "run_sweep", "write_report"]


def run_sweep(sweep: Sweep, command: str, console: Console) -> tuple[Path, dict]:
    """Do what is not yet done of a sweep and write its report.

    Args:
        command: how this sweep is run again, for the report.

    Returns:
        The path of report.html, and the results it shows.

    Raises:
        ValueError: naming the part that failed and its log.
    """
    root = Path(sweep.root) / sweep.name
    nodes = plan(sweep)
    run_nodes(nodes, root, sweep.num_workers, console)
    folder = root / "report"
    results = collect(sweep, nodes, root, folder, command)
    return write_report(folder, results), results
