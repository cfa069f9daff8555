"""`train`: either stage, by LightningCLI."""

import sys

from eqvae.packaged import TRAINING, find_config
from eqvae.training.cli import TrainCLI
from eqvae.training.config_words import replace_configs
from eqvae.training.messages import messages_printed
from twostage.commands.after_training import end_training


def run(typed: list[str]) -> None:
    """Do what the words of a command line say, and print what comes next."""
    sys.argv[1:] = with_paths(typed)  # where Lightning finds the words for a training's other processes, too
    with messages_printed():
        cli = TrainCLI()
    if cli.trainer.is_global_zero:
        end_training(cli, typed)


def with_paths(words: list[str]) -> list[str]:
    """The words of a command line, each config in them by its path.

    Raises:
        ValueError: for the name of no packaged config, or of several.
    """
    return replace_configs(words, lambda name: str(find_config(name, TRAINING)))
