"""Who may import whom."""

import ast
import re
from pathlib import Path

import pytest

from tests.structure import circles, imports_between_rooms

ROOT = Path(__file__).parents[1]
NO_LIGHTNING = (
    "dit/backbones",
    "dit/objectives",
    "dit/samplers",
    "eqvae/autoencoders",
    "eqvae/equivariance.py",
    "eqvae/losses",
    "eqvae/regularizers",
)
FAMILIES = {
    *("KLAutoencoder", "VQAutoencoder", "PointAutoencoder", "FeatureAutoencoder", "PackedAutoencoder"),
    *("FrameAutoencoder", "PointFrameAutoencoder", "AutoencoderKL", "VQModel"),
    *("quantize", "quantized", "is_quantized"),
}


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


def words(path: Path) -> set[str]:
    """Names and attributes that code uses, and texts that it asks attributes by."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name | ast.alias):
            found.add(node.id if isinstance(node, ast.Name) else node.name.split(".")[-1])
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("hasattr", "getattr"):
            found |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    return found


@pytest.mark.parametrize("package", ["eqvae", "dit", "twostage"])
def test_nobody_asks_of_which_family_an_autoencoder_is(package):
    """The interface answers; only `dit/exchange.py` names the class that another library's pipeline decodes with."""
    inside = ROOT / "eqvae/autoencoders"
    asked = {path: words(path) & FAMILIES for path in files(package) if not path.is_relative_to(inside)}
    found = {str(path.relative_to(ROOT)): names for path, names in asked.items() if names}
    assert found == ({"dit/exchange.py": {"AutoencoderKL"}} if package == "dit" else {})


def test_the_graph_knows_nothing_of_what_it_runs():
    """What the machine has and keeps, and how to import, from below; no library of machine learning, nothing else."""
    allowed = {"eqvae.cores", "eqvae.files", "eqvae.hashes", "eqvae.heap", "eqvae.importing", "eqvae.locks"}
    for path in files("twostage/graph"):
        for name in imported_modules(path):
            top = name.split(".")[0]
            assert top not in ("torch", "lightning", "diffusers", "timm", "numpy", "dit"), (path, name)
            assert top != "eqvae" or name in allowed, (path, name)
            assert top != "twostage" or name.startswith("twostage.graph"), (path, name)


ABOVE_TRAINING = ("module", "panels", "exports", "starting", "caching", "autoencoders", "equivariance", "regularizers")
ABOVE_TRAINING += ("losses", "evaluation", "data", "latents")


def test_the_floor_of_training_knows_nothing_of_what_is_trained():
    above = {f"eqvae.{name}" for name in ABOVE_TRAINING}
    for path in files("eqvae/training"):
        assert not {name for name in imported_modules(path) if ".".join(name.split(".")[:2]) in above}, path


def test_the_ground_floor_stands_on_itself():
    """Files of `eqvae` that both stages, and those who do not train, stand on: no room of theirs is above them."""
    ground = (
        "devices",
        "errors",
        "files",
        "hashes",
        "locks",
        "network",
        "precision",
        "randomness",
        "records",
        "weights",
    )
    ground += ("selection", "stream", "plain_yaml", "processes", "lazy")
    for name in ground:
        for imported in imported_modules(ROOT / f"eqvae/{name}.py"):
            top, *rest = imported.split(".")
            assert top not in ("dit", "twostage", "lightning"), (name, imported)
            assert top != "eqvae" or rest[0] in ground, (name, imported)


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


COMMANDS = ("train", "sample", "evaluate", "sweep", "compare", "verify", "rank", "export", "view")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_at_the_top_only_calls_the_command_in_the_package(command):
    document, names, call = ast.parse((ROOT / f"{command}.py").read_text()).body
    assert isinstance(document, ast.Expr)
    assert ast.unparse(names) == f"from twostage.cli.{command} import main"
    assert ast.unparse(call) == "if __name__ == '__main__':\n    main()"


def test_the_documented_rooms_are_there_and_import_only_what_stands_above_them():
    text = (ROOT / "docs/architecture.md").read_text()
    documented = re.findall(r"^\| `([\w/]+)` \|", text, re.MULTILINE)
    folders = {
        str(path.parent.relative_to(ROOT))
        for package in ("eqvae", "dit", "twostage")
        for path in ROOT.glob(f"{package}/*/__init__.py")
    }
    assert set(documented) == folders
    edges = imports_between_rooms()
    for place, name in enumerate(documented):
        below = set(documented[place + 1 :]) & set(edges.get(name, {}))
        assert not below, f"{name} imports {', '.join(sorted(below))}, which the table has below it"
