"""The options of a command that samples: those of `SamplingSettings`, and those of every sampler's own settings."""

import argparse

from dit.samplers import SAMPLERS, SamplingSettings
from eqvae.options import add_settings, given_settings


def add_sampling_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same parser with an option for every setting of sampling."""
    add_settings(parser, SamplingSettings, skip=("options",), choices={"sampler": SAMPLERS})
    for kind in _own_settings():
        names = [name for name, sampler in SAMPLERS.items() if sampler.settings is kind]
        add_settings(parser.add_argument_group(f"settings of {', '.join(names)}"), kind)
    return parser


def sampling_settings(arguments: argparse.Namespace) -> SamplingSettings:
    """The settings that the options of a command line say.

    Raises:
        ValueError: naming one that is out of range, or that the chosen sampler does not take.
    """
    options = {}
    for kind in _own_settings():
        given = given_settings(arguments, kind)
        kind(**given)  # refuses a value out of range, whichever sampler the checkpoint will take
        options |= given
    return SamplingSettings(**given_settings(arguments, SamplingSettings), options=options)


def _own_settings() -> list[type]:
    """Classes of settings that samplers have, each once."""
    return list(dict.fromkeys(sampler.settings for sampler in SAMPLERS.values()))
