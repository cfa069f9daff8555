"""The options of a command that samples: those of `SamplingSettings`, and those of every sampler's own settings."""

import argparse

from dit.samplers.own_settings import OWN_SETTINGS
from dit.samplers.settings import SamplingSettings
from eqvae.options import add_settings, given_settings


def add_sampling_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same parser with an option for every setting of sampling."""
    names = [name for kind in OWN_SETTINGS for name in kind.samplers]
    group = parser.add_argument_group("how they are sampled")
    add_settings(group, SamplingSettings, skip=("options",), choices={"sampler": names})
    for kind in OWN_SETTINGS:
        add_settings(parser.add_argument_group(f"settings of {', '.join(kind.samplers)}"), kind)
    return parser


def sampling_settings(arguments: argparse.Namespace) -> SamplingSettings:
    """The settings that the options of a command line say.

    Raises:
        ValueError: naming one that is out of range, or that the chosen sampler does not take.
    """
    options = {}
    for kind in OWN_SETTINGS:
        given = given_settings(arguments, kind)
        kind(**given)  # refuses a value out of range, whichever sampler the checkpoint will take
        options |= given
    return SamplingSettings(**given_settings(arguments, SamplingSettings), options=options)
