"""Two-stage experiment: autoencoders x generators x seeds, ending in a report.

Example: sweep.py --config configs/sweeps/tiny-shapes.yaml evaluation.num_images=500
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from eqvae.commands import CommandParser, run_command
from eqvae.plugins import plugin_options
from twostage import comparison_table, dry_run, load_sweep, run_sweep


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="sweep file; its keys are explained in configs/sweeps")
    parser.add_argument("--dry-run", action="store_true", help="print the plan (parts, state, estimated cost) and stop")
    parser.add_argument("--retry", action="store_true", help="also do parts again that failed in an earlier run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of the sweep file to change")
    run_command(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> None:
    sweep = load_sweep(arguments.config, arguments.overrides, to_run=not arguments.dry_run)
    console = Console()
    if arguments.dry_run:
        dry_run(sweep, console)
        return
    command = shlex.join(
        ["python", "sweep.py", *plugin_options(), *(word for word in sys.argv[1:] if word != "--retry")]
    )
    report, results = run_sweep(sweep, command, console, arguments.retry)
    print(comparison_table(results))
    print(f"\nreport: {Path(report).resolve()}")


if __name__ == "__main__":
    main()
