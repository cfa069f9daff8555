"""Packages that only some users need: imported where they are used, and missed in one line."""

import importlib
from types import ModuleType


def import_extra(package: str, extra: str, needed_by: str) -> ModuleType:
    """A package of one of the extras of setup.cfg.

    Args:
        package: as it is imported.
        extra: that installs it.
        needed_by: what asks for it, as the user wrote it.

    Raises:
        ValueError: with the pip command, if it is not installed or breaks at its import.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        install = f"pip install 'eqvae[{extra}]'"
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise ValueError(f"{needed_by} needs the package {package}: {install}") from None
        raise ValueError(f"{needed_by}: the package {package} cannot be imported ({error}): {install}") from None
