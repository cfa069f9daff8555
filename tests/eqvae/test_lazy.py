"""Packages pass their names on without importing anything: in time, in types and by name they are the same."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from eqvae.lazy import pass_on

ROOT = Path(__file__).parents[2]
PACKAGES = ("eqvae", "dit")
HEAVY = ("torch", "lightning", "diffusers", "numpy", "matplotlib", "rich")


def test_importing_the_packages_imports_no_library():
    code = f"import sys, {', '.join(PACKAGES)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def declared(package: str) -> dict[str, str]:
    """Names that a type checker sees, and the modules they come from."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.asname or alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_what_types_say(package):
    module, expected = importlib.import_module(package), declared(package)
    assert module.__all__ == sorted(expected, key=lambda name: (not name[0].isupper(), name))
    for name, place in expected.items():
        assert getattr(module, name) is getattr(importlib.import_module(place), name), name
    assert set(expected) <= set(dir(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_that_of_a_module(package):
    """Which would take its place as soon as anything imports it."""
    modules = {path.stem for path in (ROOT / package).iterdir() if path.suffix in ("", ".py")}
    assert not modules & set(declared(package))


def test_an_unknown_name_is_no_attribute(monkeypatch):
    get, names = pass_on("eqvae", {"to_images": "eqvae.data.given"})
    with pytest.raises(AttributeError, match="module 'eqvae' has no attribute 'to_image'"):
        get("to_image")
    assert "to_images" in names()
