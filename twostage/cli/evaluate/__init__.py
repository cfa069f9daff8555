"""`eqvae-evaluate`: one file per subcommand, which adds itself to the parser; `command` runs the one that is asked for.

What several of them share: `options` (of the command line) and `autoencoders` (measuring one, or two side by side).
"""

from twostage.cli.evaluate.command import main

__all__ = ["main"]
