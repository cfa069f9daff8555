"""`rank`: many reports in one table, as a page, as JSON and in the forms of others."""

import argparse
from pathlib import Path

from eqvae.files import require_place
from twostage.commands.ending import end, look_at
from twostage.rank.boards import boards, read_reports
from twostage.rank.files import PAGE, ranks_table, write_every_eval_ever, write_hub_results, write_ranks
from twostage.report.exchange import every_eval_ever, hub_results


def run(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    require_place(folder / PAGE)
    reports = read_reports(arguments.reports)
    found = boards(reports, arguments.together)
    for report in reports:  # both before either is written
        if arguments.every_eval_ever is not None:
            every_eval_ever(report.results, arguments.every_eval_ever)
        if arguments.hub_results is not None:
            hub_results(report.results, arguments.hub_results)
    written = []
    if arguments.every_eval_ever is not None:
        written += write_every_eval_ever(folder, reports, arguments.every_eval_ever)
    if arguments.hub_results is not None:
        written += write_hub_results(folder, reports, arguments.hub_results)
    page = write_ranks(folder, found).resolve()
    print(ranks_table(found))
    if written:
        print(f"{len(written)} files for others below {folder}")
    end(page, look_at(page))
