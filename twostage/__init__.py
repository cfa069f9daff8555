"""What compares two-stage experiments: autoencoders x generators x seeds, ending in a verdict and a report.

`loading` reads a sweep file (`schema`, `checks`), `plan` turns it into nodes of known kinds (`parts`), `graph` does
them, in worker processes or on a cluster, and skips what is done, `sweep` drives it, `analysis` draws conclusions,
`report` shows them.
"""

from twostage.dry_run import dry_run
from twostage.loading import load_sweep
from twostage.plan import plan
from twostage.report.report import terminal_table, write_report
from twostage.schema import Sweep
from twostage.sweep import run_sweep

__all__ = ["Sweep", "dry_run", "load_sweep", "plan", "run_sweep", "terminal_table", "write_report"]
