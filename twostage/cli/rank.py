"""Rank the arms of many reports by their speed-up; those whose intervals overlap share a rank.

Reports are report.json files, their folders, or studies that come with the package. Only what was measured alike stands
in one table. Examples: runs/*/report/report.json, or demo runs/mine --output runs/ranks
"""

from twostage.cli.command import new_parser, start


def main() -> None:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("reports", nargs="+", metavar="REPORT", help="report.json of a sweep, its folder, or a published study")
    add("--output", default="runs/ranks", help="folder of ranks.html and ranks.json (default: runs/ranks)")
    add("--together", action="store_true", help="one table of all, also where controls, generators or images differ")
    add("--every-eval-ever", metavar="ORGANIZATION", help="also write records of Every Eval Ever, in the name of who "
        "measured")  # fmt: skip
    add("--hub-results", metavar="OWNER/DATASET:TASK", help="also write .eval_results files for a benchmark of the hub")
    start("rank", parser)
