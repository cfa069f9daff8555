"""Which version of the code a piece of work runs: a hash of every source file that it reaches by import.

The way is that of Python's import statements, wherever in a file they stand (but under `TYPE_CHECKING`, where none
runs). A package's `__init__` that only passes names on is a signpost: it is followed for the names that are asked of it
and counts for nothing itself, whether it imports them at once or by `eqvae.lazy.pass_on`, whose names a type checker's
imports tell. Comments, docstrings and layout do not count; anything else does, so that a repaired
formula redoes whatever may depend on it.
"""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the folder of our packages
OWN: dict[str, Path] = dict.fromkeys(("eqvae", "dit", "twostage"), ROOT)
"""The folder that holds each package whose sources count; all others are libraries."""


def code_version(names: Iterable[str], folders: Mapping[str, Path] = OWN) -> str:
    """Hexadecimal hash of the sources behind some modules, or names in them.

    Args:
        names: dotted, of modules ("dit.module") or of what is defined in or passed on by one ("dit.data.LatentCache");
            what is in none of the packages is a library, and does not count here.
        folders: the folder that holds each package or module whose sources count.
    """
    digest, found = hashlib.sha256(), _reached(names, folders)
    for name, file in sorted((str(file.relative_to(folder)), file) for file, folder in found.items()):
        digest.update(f"{name}\0".encode() + _read(file).meaning.encode() + b"\0")
    return digest.hexdigest()


def sources(names: Iterable[str], folders: Mapping[str, Path] = OWN) -> list[Path]:
    """The files that importing these names runs or may run, sorted; arguments as of `code_version`."""
    return sorted(_reached(names, folders))


def _reached(names: Iterable[str], folders: Mapping[str, Path]) -> dict[Path, Path]:
    """The same files, each with the folder of its package."""
    waiting, seen, files = list(names), set(), {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        file, rest = _resolve(name, folders)
        if file is None:
            continue
        folder, source = folders[name.split(".")[0]], _read(file)
        if source.passes_on is None:
            files[file] = folder
            waiting += _absolute(source.imports, file, folder)
        elif rest:
            waiting += _absolute([source.passes_on[rest]] if rest in source.passes_on else [], file, folder)
        else:
            waiting += _absolute(source.passes_on.values(), file, folder)
    return files


def imported_files(file: Path, folder: Path = ROOT, folders: Mapping[str, Path] = OWN) -> list[Path]:
    """The files that the import statements of one lead to, one step far, sorted.

    Args:
        folder: the one that holds its package.
    """
    found = {_resolve(name, folders)[0] for name in _absolute(_read(file).imports, file, folder)}
    return sorted(file for file in found if file is not None)


def _resolve(name: str, folders: Mapping[str, Path]) -> tuple[Path | None, str]:
    """The file that a dotted name leads to, and the first name within it; None where it is of no such package."""
    parts = name.split(".")
    if parts[0] not in folders:
        return None, ""
    for count in range(len(parts), 0, -1):
        place = os.path.join(folders[parts[0]], *parts[:count])
        for file in (f"{place}.py", os.path.join(place, "__init__.py")):
            if os.path.isfile(file):
                return Path(file), parts[count] if count < len(parts) else ""
    return None, ""


def _absolute(names: Iterable[str], file: Path, folder: Path) -> Iterator[str]:
    """Names with their leading dots replaced by the packages that these mean in `file`."""
    package = file.parent.relative_to(folder).parts
    for name in names:
        bare = name.lstrip(".")
        dots = len(name) - len(bare)
        yield name if not dots else ".".join([*package[: len(package) - dots + 1], *filter(None, [bare])])


class _Source:
    """A source file.

    Args:
        text: its content.
        is_package: whether it is the `__init__` of one.
    """

    def __init__(self, text: str, is_package: bool):
        tree = ast.parse(text)
        later: dict[str, str] = {}  # name here -> dotted name, of imports that only a type checker sees
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = _without_docstring(node.body)
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                later |= {here: name for each in node.body for here, name in _imported(each).items()}
                node.body = [ast.Pass()]
        self.meaning = ast.unparse(tree)
        self.imports = [name for node in ast.walk(tree) for name in _imported(node).values()]
        self.passes_on: dict[str, str] | None = None  # of a package that does nothing else: name here -> dotted name
        if is_package and all(map(_only_passes_on, tree.body)):
            now = {here: name for node in tree.body for here, name in _imported(node).items()}
            self.passes_on = now | (later if any(map(_is_lazy, tree.body)) else {})


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    value = first.value if isinstance(first, ast.Expr) else None
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return (body[1:] or [ast.Pass()]) if is_text else body


def _only_passes_on(node: ast.stmt) -> bool:
    """Whether a statement of a package imports names, says which it has (`__all__`), or does nothing."""
    is_list = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)] == ["__all__"]
    is_nothing = isinstance(node, ast.Pass) or (isinstance(node, ast.If) and isinstance(node.body[0], ast.Pass))
    return isinstance(node, ast.Import | ast.ImportFrom) or is_list or is_nothing or _is_lazy(node)


def _is_lazy(node: ast.stmt) -> bool:
    """Whether a statement is `__getattr__, __dir__ = pass_on(...)`: names are imported when they are used."""
    return isinstance(node, ast.Assign) and ast.unparse(node).startswith("__getattr__, __dir__ = pass_on(")


def _imported(node: ast.AST) -> dict[str, str]:
    """Name here -> dotted name, of an import statement."""
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name: alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return {}
    dots = "." * node.level
    within = f"{dots}{node.module}." if node.module else dots
    names = {alias.asname or alias.name: within + alias.name for alias in node.names}
    return {here: within.removesuffix(".") if name.endswith("*") else name for here, name in names.items()}


def _read(file: Path) -> _Source:
    about = file.stat()
    return _parsed(file, about.st_mtime_ns, about.st_size)


@cache
def _parsed(file: Path, modified: int, size: int) -> _Source:
    """A plan asks for the same files for every node; a file that was changed meanwhile is read again."""
    return _Source(file.read_text(), file.name == "__init__.py")
