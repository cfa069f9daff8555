"""Names that a package passes on, each imported when it is first asked for: the package itself imports in no time."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def pass_on(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package, as Python asks modules for them (PEP 562).

    Args:
        package: its `__name__`.
        places: the module that has each name. No name may be that of a module in the package: once something imports
            this, the module stands in the name's place.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(places[name]), name)
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return get, names
