"""Two-stage experiment: autoencoders x generators x seeds, ending in a report.

Example: --config tiny-shapes evaluation.num_images=500
"""

from eqvae.packaged import SWEEPS, packaged_configs
from twostage.cli.command import new_parser, start


def main() -> None:
    parser = new_parser(__doc__)
    names = ", ".join(packaged_configs(SWEEPS))
    add = parser.add_argument
    add("--config", required=True, help=f"path of a sweep file, or a packaged one of {names}, whose keys are explained "
        "where they stand")  # fmt: skip
    add("--dry-run", action="store_true", help="print the plan (parts, state, estimated cost) and stop")
    add("--retry", action="store_true", help="also do parts again that failed in an earlier run")
    add("--prune", action="store_true", help="when all is done and measured, keep one checkpoint of each training; a "
        "later measurement of another one trains it again")  # fmt: skip
    add("overrides", nargs="*", metavar="key=value", help="keys of the sweep file to change")
    start("sweep", parser)
