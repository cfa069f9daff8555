"""Hashes of what a sweep trained and encoded with: its sweep file names configs by path, which may change later."""

import hashlib
import json
from typing import Any

from twostage.graph.node import Node
from twostage.planner import Branch, Plan

HASH_LENGTH = 32
SEEDS = (("seed_everything",), ("model", "init_args", "seed"), ("data", "init_args", "seed"))


def recipes(plan: Plan) -> dict[str, str]:
    """A hash of each recipe by its key in the sweep file: "start", "autoencoders.NAME", "generators.NAME".

    Of the config as the plan resolved it, with the contents of what it names, and without seeds and places: equal
    recipes have equal hashes in any folder.
    """
    first: dict[str, Branch] = {}
    for branch in plan.branches:
        first.setdefault(branch.arm, branch)
    found = {"start": [plan.start]} if plan.start else {}
    for arm, branch in first.items():
        found[f"autoencoders.{arm}"] = [branch.training or branch.autoencoder, branch.latents]
    trained = next(iter(first.values())).generators if first else {}
    found |= {f"generators.{name}": [each.training] for name, each in trained.items()}
    return {key: _hash([_recipe(node) for node in nodes]) for key, nodes in found.items()}


def _recipe(node: Node) -> Any:
    """What counts of a node's settings; paths of its own and of its inputs are placeholders there."""
    counted = node.settings if node.counted is None else node.counted
    if "config" not in counted:
        return counted
    return _without_places(_without_seeds(counted["config"]))


def _without_seeds(config: dict[str, Any]) -> dict[str, Any]:
    for path in SEEDS:
        config = _without(config, path)
    return config


def _without(values: Any, path: tuple[str, ...]) -> Any:
    """The same nested values without the one at a path."""
    if not isinstance(values, dict) or path[0] not in values:
        return values
    if len(path) == 1:
        return {key: value for key, value in values.items() if key != path[0]}
    return values | {path[0]: _without(values[path[0]], path[1:])}


def _without_places(value: Any) -> Any:
    """The same with data sets by their files alone, wherever they lie."""
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"data", "listing"}:
        return value["listing"]
    return {key: _without_places(inner) for key, inner in value.items()}


def _hash(content: Any) -> str:
    """Half a sha256, hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:HASH_LENGTH]
