"""What the packages' structure is in numbers: `python -m tests.structure` prints it as JSON.

Another checkout of the project may be named, to compare with: `python -m tests.structure FOLDER`.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from twostage.graph.code_version import OWN, ROOT, imported_files

LONG_FUNCTION = 40  # lines
RUN = 6  # lines that make a repeated run


def source_files(root: Path = ROOT) -> list[Path]:
    """All sources of the packages."""
    return [file for package in OWN for file in sorted((root / package).rglob("*.py"))]


def room(file: Path, root: Path = ROOT) -> str:
    """The folder directly below its package that a file lies in; a file that lies there itself is a room of its own."""
    parts = file.relative_to(root).with_suffix("").parts
    return "/".join(parts[:2] if parts[-1] != "__init__" else parts[:-1][:2])


def imports_between_rooms(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """{room: {other room: an import that leads there}}."""
    found: dict[str, dict[str, str]] = {}
    for file in source_files(root):
        for other in imported_files(file, root, dict.fromkeys(OWN, root)):
            if room(other, root) != room(file, root):
                about = f"{file.relative_to(root)} imports {other.relative_to(root)}"
                found.setdefault(room(file, root), {}).setdefault(room(other, root), about)
    return found


def circles(root: Path = ROOT) -> list[list[str]]:
    """Sets of rooms each of which imports, by whatever way, all the others."""
    edges = imports_between_rooms(root)

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for other in edges.get(waiting.pop(), {}):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return seen

    reach = {name: reached(name) for name in edges}
    found = {
        tuple(sorted(other for other in reach if other in reach[name] and name in reach[other]))
        for name in reach
        if name in reach[name]
    }
    return [list(names) for names in sorted(found)]


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def repeated_runs(root: Path = ROOT) -> int:
    """Runs of `RUN` lines of code, white space aside, that stand in more than one place."""
    places: dict[tuple[str, ...], int] = {}
    for file in source_files(root):
        lines = [line.strip() for line in file.read_text().splitlines()]
        lines = [line for line in lines if len(line) > 3 and not line.startswith(("#", "from ", "import "))]
        for start in range(len(lines) - RUN + 1):
            run = tuple(lines[start : start + RUN])
            places[run] = places.get(run, 0) + 1
    return sum(count > 1 for count in places.values())


def structure(root: Path = ROOT) -> dict:
    """Files, lines, long functions, repeated runs and circles."""
    about: dict = {}
    for package in OWN:
        files = sorted((root / package).rglob("*.py"))
        lines = {str(file.relative_to(root)): file.read_text().count("\n") for file in files}
        long = [
            f"{file.relative_to(root)}: {name}" for file in files for name, n in functions(file) if n > LONG_FUNCTION
        ]
        about[package] = {
            "files": len(files),
            "lines": sum(lines.values()),
            "longest_file": max(lines.items(), key=lambda item: item[1]) if lines else None,
            f"functions_over_{LONG_FUNCTION}_lines": long,
        }
    return about | {"repeated_runs": repeated_runs(root), "circles": circles(root)}


if __name__ == "__main__":
    print(json.dumps(structure(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT), indent=2))
