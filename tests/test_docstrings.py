"""What docstrings say under Args is there: an argument of the function or the constructor, or a field of the class."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("eqvae", "dit", "twostage") for path in (ROOT / package).rglob("*.py"))
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented_arguments(docstring: str) -> list[str]:
    """Names before the colons of the section Args, of which several may share a line."""
    _, _, section = docstring.partition("Args:\n")
    section = re.split(r"^\w+:$", section, maxsplit=1, flags=re.MULTILINE)[0]
    named = re.findall(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*):", section, re.MULTILINE)
    return [name.strip(" *") for names in named for name in names.split(",")]


def arguments_of(node: Documented) -> set[str]:
    """Names of the arguments of a function; of a class those of its constructor and its annotated fields."""
    if isinstance(node, ast.ClassDef):
        fields = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
        made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        return fields.union(*map(arguments_of, made))
    own = node.args
    further = [each for each in (own.vararg, own.kwarg) if each is not None]
    return {each.arg for each in (*own.posonlyargs, *own.args, *own.kwonlyargs, *further)}


def unknown_arguments(source: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(source)):
        # A class that takes over another's constructor, and adds no field, tells nothing of its arguments here.
        if isinstance(node, Documented) and (known := arguments_of(node)):
            for name in documented_arguments(ast.get_docstring(node) or ""):
                if name not in known:
                    yield node.name, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_arguments_exist(path):
    assert list(unknown_arguments(path.read_text())) == []


def test_an_argument_that_is_gone_is_found():
    source = 'def f(a, b):\n    """Adds.\n\n    Args:\n        a, c: numbers.\n            d: deeper.\n    """'
    assert list(unknown_arguments(source)) == [("f", "c")]
    source = 'class C:\n    """Holds.\n\n    Args:\n        a: number.\n        b: another.\n    """\n\n    a: int\n'
    assert list(unknown_arguments(source)) == [("C", "b")]
