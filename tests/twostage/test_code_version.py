"""A part's address follows every source file that the part reaches by import, and no other."""

import os
import re
import shutil
from contextlib import contextmanager

import pytest

from twostage import load_sweep, plan
from twostage.graph.code_version import OWN, ROOT, code_version, sources
from twostage.parts import PARTS
from twostage.parts.part import class_paths

CHANGED = "\nCHANGED_CONSTANT = 1\n"
LAZY = """
from library import pass_on
if TYPE_CHECKING:
    from pack.a import one
    from pack.b import two
__getattr__, __dir__ = pass_on(__name__, {"one": "pack.a", "two": "pack.b"})
"""


@pytest.fixture(scope="module")
def nodes():
    """One node of each kind; the autoencoder with a critic, the generator with REPA."""
    sweep = load_sweep(ROOT / "configs/sweeps/epochs.yaml", ["generators.sit.config=configs/dit/tiny-repa.yaml"])
    ready = "{label: R, config: configs/eqvae/tiny-shapes.yaml, autoencoder: shapes-f4c8}"
    demo = load_sweep(ROOT / "configs/sweeps/tiny-shapes.yaml", [f"autoencoders.ready={ready}"])
    return {node.kind: node for each in (demo, sweep) for node in plan(each).nodes}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The packages' sources in a folder of their own."""
    root = tmp_path_factory.mktemp("copy")
    for package in OWN:
        for file in (ROOT / package).rglob("*.py"):
            target = root / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return root


@contextmanager
def changed(files):
    """A constant more in each; then they are as before, with the time of their last change."""
    before = {file: (file.read_text(), file.stat().st_mtime_ns) for file in files}
    for file, (text, _) in before.items():
        file.write_text(text + CHANGED)
    yield
    for file, (text, modified) in before.items():
        file.write_text(text)
        os.utime(file, ns=(modified, modified))


def names(node):
    return [PARTS[node.kind].run.__module__, *class_paths(node.settings)]


@pytest.fixture(scope="module")
def reaching(nodes):
    """The files that each kind reaches, and of these the ones that are tried on it: every file on one of its kinds."""
    reached = {kind: {str(file.relative_to(ROOT)) for file in sources(names(nodes[kind]))} for kind in PARTS}
    tried = {kind: [] for kind in PARTS}
    for file in sorted(set().union(*reached.values())):
        kinds = [kind for kind in PARTS if file in reached[kind]]
        tried[min(kinds, key=lambda kind: len(tried[kind]))].append(file)
    return reached, tried


def test_every_kind_of_part_is_checked(nodes, reaching):
    assert set(nodes) == set(PARTS)
    assert all(len(files) > 5 for files in reaching[1].values())


@pytest.mark.parametrize("kind", PARTS)
def test_a_constant_in_any_reached_file_changes_the_address_and_in_any_other_file_does_not(nodes, copy, reaching, kind):
    node, folders = nodes[kind], dict.fromkeys(OWN, copy)
    reached, tried = (files[kind] for files in reaching)
    before = code_version(names(node), folders)
    assert node.version == before, "the copy is the code that made the node"
    # A package that only passes names on becomes a file of its own by a constant in it.
    files = {str(file.relative_to(copy)): file for file in copy.rglob("*.py") if file.name != "__init__.py"}
    others = [file for name, file in files.items() if name not in reached]
    assert len(others) > 20
    with changed(others):
        assert code_version(names(node), folders) == before
    for name in set(tried) & set(files):
        with changed([files[name]]):
            assert code_version(names(node), folders) != before, name


def test_what_parts_reach(nodes):
    reached = {kind: {str(file.relative_to(ROOT)) for file in sources(names(node))} for kind, node in nodes.items()}
    expected = {
        "generator": {"dit/alignment/objective.py", "dit/objectives/flow.py", "eqvae/training/averaging.py"},
        "autoencoder": {"eqvae/equivariance.py", "eqvae/losses/perceptual.py", "eqvae/stream.py"},
        "evaluation": {"dit/samplers/ode.py", "eqvae/data/images.py", "twostage/analysis/resampling.py"},
        "diagnostics": {"eqvae/evaluation/reconstruction.py", "eqvae/losses/perceptual.py"},
        "latents": {"eqvae/latents/writer.py"},
        "reference": {"eqvae/evaluation/features.py", "eqvae/data/module.py"},
        "ready": {"eqvae/autoencoders/loading.py"},
        "snapshot": {"eqvae/autoencoders/normalization.py"},
    }
    for kind, files in expected.items():
        assert files <= reached[kind], kind
    elsewhere = ("twostage/report/", "twostage/graph/workers.py", "twostage/sweep.py", "twostage/schema.py")
    assert not [name for files in reached.values() for name in files if name.startswith(elsewhere)]
    assert not [name for name in reached["reference"] if name.startswith("dit/")]


@pytest.fixture
def package(tmp_path):
    """A package of a few lines in a folder of its own."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / "pack" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def reached(root, *wanted):
    return [file.relative_to(root / "pack").as_posix() for file in sources(wanted, {"pack": root})]


def test_comments_docstrings_and_layout_do_not_count(package):
    texts = ('"""About."""\nx = 1  # one\n', '"""Else."""\n\n\nx = 1\n', "x = 2\n")
    versions = [code_version(["pack.a"], {"pack": package({"__init__.py": "", "a.py": text})}) for text in texts]
    assert versions[0] == versions[1] != versions[2]


def test_a_package_that_passes_names_on_is_followed_for_what_is_asked_of_it(package):
    root = package(
        {
            "__init__.py": '"""About."""\nfrom pack.a import one\nfrom .b import two as three\n__all__ = ["one"]\n',
            "a.py": "one = 1",
            "b.py": "two = 2",
            "c.py": "from pack import one",
            "d.py": "def f():\n    from pack import three\n",
            "e.py": "import pack",
            "f.py": "from . import b\nfrom .sub.deep import x",
            "g.py": "from pack import *",
            "sub/__init__.py": "REGISTRY = {}",
            "lazy/__init__.py": LAZY,
            "h.py": "from pack.lazy import two",
            "i.py": "import pack.lazy",
            "sub/deep.py": "from ..a import one\nif TYPE_CHECKING:\n    import pack.b",
        }
    )
    assert reached(root, "pack.c") == ["a.py", "c.py"]
    assert reached(root, "pack.d") == ["b.py", "d.py"]
    assert reached(root, "pack.e") == ["a.py", "b.py", "e.py"]
    assert reached(root, "pack.f") == ["a.py", "b.py", "f.py", "sub/deep.py"]
    assert reached(root, "pack.g") == ["a.py", "b.py", "g.py"]
    assert reached(root, "pack.h") == ["b.py", "h.py"]
    assert reached(root, "pack.i") == ["a.py", "b.py", "i.py"]
    assert reached(root, "pack.one", "pack.three") == ["a.py", "b.py"]
    assert reached(root, "pack.sub.REGISTRY") == ["sub/__init__.py"]
    assert reached(root, "torch.nn.Linear", "pack.missing") == []


def test_a_library_beside_the_packages_does_not_count(package):
    """As in the folder where pip installs all of them."""
    root = package({"__init__.py": "", "a.py": "import library\nfrom library.deep import x"})
    for name in ("__init__.py", "deep.py"):
        (root / "library").mkdir(exist_ok=True)
        (root / "library" / name).write_text("x = 1")
    assert reached(root, "pack.a", "library.deep") == ["a.py"]


def test_an_address_is_of_twelve_digits_and_follows_the_version(nodes):
    from dataclasses import replace

    node = nodes["latents"]
    assert re.fullmatch(r"[0-9a-f]{12}", node.address)
    assert replace(node, version="other").address != node.address
    assert replace(node, name="other").address == node.address
