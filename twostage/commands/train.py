"""`train`: either stage, by LightningCLI."""

import sys
from collections.abc import Iterator

from eqvae.packaged import TRAINING, find_config
from eqvae.training.cli import CONFIG_OPTIONS, TrainCLI
from eqvae.training.messages import messages_printed
from twostage.commands.after_training import end_training


def run(typed: list[str]) -> None:
    """Do what the words of a command line say, and print what comes next."""
    sys.argv[1:] = with_paths(typed)  # where Lightning finds the words for a training's other processes, too
    with messages_printed():
        cli = TrainCLI()
    if cli.trainer.is_global_zero:
        end_training(cli, typed)


def with_paths(words: list[str]) -> Iterator[str]:
    """The words of a command line, each config in them by its path.

    Raises:
        ValueError: for the name of no packaged config, or of several.
    """
    before = ""
    for word in words:
        option, is_joined, given = word.partition("=")
        if before in CONFIG_OPTIONS:
            word = str(find_config(word, TRAINING))
        elif is_joined and option in CONFIG_OPTIONS:
            word = f"{option}={find_config(given, TRAINING)}"
        yield word
        before = word
