"""Which version of the code a kind of node runs: a hash of the source that matters to its result.

Comments, docstrings and formatting do not count; anything else in the files below does, so that a repaired formula
redoes what it touched.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).parents[2]

_AUTOENCODERS = ("eqvae/autoencoders", "eqvae/data", "eqvae/randomness.py")
_TRAINING = (*_AUTOENCODERS, "eqvae/module.py", "eqvae/equivariance.py", "eqvae/losses", "eqvae/training")
_MEASURING = (*_AUTOENCODERS, "eqvae/evaluation", "eqvae/equivariance.py", "eqvae/efficientnet.py")
_GENERATORS = ("dit/backbones", "dit/objectives", "dit/checkpoints.py", "eqvae/latents", "eqvae/randomness.py")

SOURCES: dict[str, tuple[str, ...]] = {
    "ready": ("eqvae/autoencoders",),
    "autoencoder": _TRAINING,
    "snapshot": _AUTOENCODERS,
    "diagnostics": _MEASURING,
    "latents": (*_AUTOENCODERS, "eqvae/latents"),
    "generator": (*_GENERATORS, "dit/module.py", "dit/data.py", "eqvae/training"),
    "reference": ("eqvae/data", "eqvae/evaluation", "eqvae/efficientnet.py"),
    "evaluation": (*_GENERATORS, "dit/samplers", "dit/generation.py", "eqvae/evaluation", "eqvae/autoencoders"),
}
"""Files and packages, by kind of node; the function of the kind itself belongs to each."""


@cache
def code_version(kind: str) -> str:
    """Hash of the source behind a kind of node."""
    files = sorted({file for where in SOURCES.get(kind, ()) for file in _files(PACKAGES / where)})
    digest = hashlib.sha256()
    for file in [*files, Path(__file__).parents[1] / "parts" / "nodes.py"]:
        digest.update(str(file.relative_to(PACKAGES)).encode() + b"\0" + _meaning(file).encode() + b"\0")
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@cache
def _meaning(file: Path) -> str:
    """The source without comments, docstrings and layout."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
