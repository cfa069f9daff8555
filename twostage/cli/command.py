"""From the words of a command line to what is done: the options are read first, what they ask for is imported then."""

import argparse
from importlib import import_module

from eqvae.commands import CommandParser, run_command
from eqvae.importing import importing


def new_parser(document: str | None) -> CommandParser:
    """A parser whose help shows the document of its command as it stands."""
    return CommandParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)


def start(name: str, parser: CommandParser) -> None:
    """Do what the command line asks of a command: `run` of `twostage.commands.NAME`, with its options.

    Errors and signals are dealt with as `eqvae.commands.run_command` says.
    """

    def read_and_do() -> None:
        arguments = parser.parse_args()
        with importing():
            command = import_module(f"twostage.commands.{name}")
        command.run(arguments)

    run_command(read_and_do)
