"""Train fresh seeds of a published study, and say whether they agree with what it claims.

A study is the report.json of a sweep, or one that comes with the package. Example: demo --seeds 10 11
"""

from twostage.cli.command import new_parser, start
from twostage.verify.packaged import packaged_studies


def main() -> None:
    parser = new_parser(__doc__)
    names = ", ".join(packaged_studies())
    add = parser.add_argument
    add("study", help=f"report.json of a sweep, its folder, or a published study: {names}")
    add("--seeds", type=int, nargs="+", metavar="SEED", help="fresh seeds, none of them the study's (default: one, "
        "above those)")  # fmt: skip
    add("--retry", action="store_true", help="also do parts again that failed in an earlier run")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="where it runs: root=FOLDER, executor.num_workers=N")
    start("verify", parser)
