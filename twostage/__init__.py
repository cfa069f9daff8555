"""What compares two-stage experiments: autoencoders x generators x seeds, ending in a verdict and a report.

`loading` reads a sweep file (`schema`, `checks`), `planner` turns it into nodes of known kinds (`parts`), `graph` does
them, in worker processes or on a cluster, and skips what is done, `sweep` drives it, `analysis` draws conclusions,
`report` shows them. Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from eqvae.lazy import pass_on

if TYPE_CHECKING:
    from twostage.loading import load_sweep
    from twostage.plan_table import dry_run
    from twostage.planner import plan
    from twostage.report.report import terminal_table, write_report
    from twostage.schema import Sweep
    from twostage.sweep import run_sweep

__all__ = ["Sweep", "dry_run", "load_sweep", "plan", "run_sweep", "terminal_table", "write_report"]

__getattr__, __dir__ = pass_on(
    __name__,
    {
        "load_sweep": "twostage.loading",
        "dry_run": "twostage.plan_table",
        "plan": "twostage.planner",
        "terminal_table": "twostage.report.report",
        "write_report": "twostage.report.report",
        "Sweep": "twostage.schema",
        "run_sweep": "twostage.sweep",
    },
)
