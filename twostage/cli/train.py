"""Train either stage, or use what was trained, as a config says. Every key of it can be overridden as an option.

Stage 1, autoencoders: `fit` fine-tunes one and leaves its folder, `validate` measures it, `predict` writes the latent
cache of images. Stage 2, generators: `fit` trains one on a latent cache, `validate` and `test` give its loss.

Examples:
  fit --config tiny-shapes
  predict --config tiny-shapes
  fit --config tiny-sit --trainer.max_steps=500
  fit --config tiny-sit --print_config    every key with its value
  fit --config tiny-sit --resume --logger wandb
"""

import sys
import textwrap

from eqvae.commands import CommandParser, run_command
from eqvae.importing import importing
from eqvae.packaged import packaged_configs
from twostage.cli.command import new_parser

SUBCOMMANDS = {
    "fit": "train; of a run that is there already, see --resume and --overwrite",
    "validate": "losses and metrics of held-out images or latents",
    "test": "the same as validate, under the name that Lightning has for it",
    "predict": "stage 1: write the latent cache of images",
}


def main() -> None:
    run_command(_read_and_train)


def _read_and_train() -> None:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help") or not (words[0] in SUBCOMMANDS or words[0].startswith("-")):
        overview().parse_args(words)  # prints what there is, or raises what is wrong
    with importing():
        from twostage.commands.train import run  # here, because Lightning takes seconds, and an overview none

    run(words)


def overview() -> CommandParser:
    """A parser that knows the subcommands; their options are Lightning's to read."""
    parser = new_parser(__doc__)
    configs = (f"stage {stage}: {', '.join(packaged_configs((name,)))}" for name, stage in (("eqvae", 1), ("dit", 2)))
    lines = [textwrap.indent(textwrap.fill(each, 100, break_on_hyphens=False), "  ") for each in configs]
    parser.epilog = "\n".join(["packaged configs:", *lines, "", "all options, after some seconds: fit --help"])
    commands = parser.add_subparsers(required=True, dest="command")
    for name, text in SUBCOMMANDS.items():
        commands.add_parser(name, help=text)
    return parser
