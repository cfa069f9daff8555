"""The words of a command line that name configs: `--config PATH`, `-c PATH`, `--config=PATH`."""

from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import OmegaConf

from eqvae.bases import load_config

OPTIONS = ("-c", "--config")
RESOLVED = "config"  # what the config of a run folder is called: no name of a recipe


def replace_configs(words: list[str], replaced: Callable[[str], str]) -> list[str]:
    """A command line with something else in place of each config's path."""
    return [f"{option}{replaced(path)}" if path else option for option, path in _split(words)]


def with_contents(words: list[str]) -> list[str]:
    """A command line with the content of each config, on top of its bases, in place of its path."""
    return replace_configs(words, lambda path: OmegaConf.to_yaml(load_config(path)))


def name_of_configs(words: list[str]) -> str | None:
    """The names of the configs of a command line, without those that a run folder has resolved."""
    names = [Path(path).stem for _, path in _split(words) if path]
    return " + ".join(name for name in names if name != RESOLVED) or None


def _split(words: list[str]) -> Iterator[tuple[str, str]]:
    """Each word as (what stands before a config's path, the path); a word that names no config has no path."""
    before = ""
    for word in words:
        option, is_joined, path = word.partition("=")
        if before in OPTIONS:
            yield "", word
        elif is_joined and option in OPTIONS:
            yield f"{option}=", path
        else:
            yield word, ""
        before = word
