"""Two-stage experiment: autoencoders x generators x seeds, ending in a report.

Example: sweep.py --config configs/sweeps/tiny-shapes.yaml evaluation.num_images=500
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from dit.sweeps import comparison_table, load_sweep, plan, run_sweep
from eqvae.training.cli import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="sweep file; its keys are explained in configs/sweeps")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan (parts, addresses, what is done) and stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of the sweep file to change")
    arguments = parser.parse_args()
    run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    sweep = load_sweep(arguments.config, arguments.overrides)
    console = Console()
    if arguments.dry_run:
        for node in plan(sweep):
            console.print(f"{node.address}  {node.name}  <- {', '.join(n.name for n in node.inputs.values()) or '-'}")
        return
    command = shlex.join(["python", "sweep.py", *sys.argv[1:]])
    report, results = run_sweep(sweep, command, console)
    print(comparison_table(results))
    print(f"\nreport: {Path(report).resolve()}")


if __name__ == "__main__":
    main()
