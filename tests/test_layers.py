"""Who may import whom."""

import ast
from pathlib import Path

import pytest

from tests.structure import circles

ROOT = Path(__file__).parents[1]
NO_LIGHTNING = ("dit/backbones", "dit/objectives", "dit/samplers", "eqvae/losses", "eqvae/equivariance.py")


def imported_modules(path: Path) -> set[str]:
    """Top-level packages and dotted modules that a file names in import statements."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
    return found


def files(where: str) -> list[Path]:
    path = ROOT / where
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize(("package", "above"), [("eqvae", {"dit", "twostage"}), ("dit", {"twostage"})])
def test_no_package_imports_one_above_it(package, above):
    for path in files(package):
        assert not {name for name in imported_modules(path) if name.split(".")[0] in above}, path


@pytest.mark.parametrize("where", NO_LIGHTNING)
def test_mathematics_imports_no_lightning(where):
    assert files(where)
    for path in files(where):
        assert not {name for name in imported_modules(path) if name.split(".")[0] in ("lightning", "pytorch_lightning")}


def test_the_graph_knows_nothing_of_what_it_runs():
    """Only files, their hashes and locks from below; no library of machine learning, nothing else of this project."""
    allowed = {"eqvae.files", "eqvae.hashes", "eqvae.locks"}
    for path in files("twostage/graph"):
        for name in imported_modules(path):
            top = name.split(".")[0]
            assert top not in ("torch", "lightning", "diffusers", "timm", "numpy", "dit"), (path, name)
            assert top != "eqvae" or name in allowed, (path, name)
            assert top != "twostage" or name.startswith("twostage.graph"), (path, name)


def test_no_rooms_import_each_other_in_a_circle():
    assert circles() == []


def test_a_circle_of_rooms_is_found(tmp_path):
    for name, text in {
        "a/one": "from dit.b.two import x",
        "b/two": "import dit.c",
        "c": "from dit.a import one",
    }.items():
        path = tmp_path / "dit" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "dit/d.py").write_text("import dit.c")
    assert circles(tmp_path) == [["dit/a", "dit/b", "dit/c"]]


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "sweep"])
def test_a_script_at_the_top_only_calls_the_command_in_the_package(command):
    document, names, call = ast.parse((ROOT / f"{command}.py").read_text()).body
    assert isinstance(document, ast.Expr)
    assert ast.unparse(names) == f"from twostage.cli.{command} import main"
    assert ast.unparse(call) == "if __name__ == '__main__':\n    main()"
