"""What a sweep does, as a graph of nodes with content addresses."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from eqvae.autoencoders.loading import PACKAGED
from eqvae.files import sha256_of_file
from twostage.configs import NODE, load_config
from twostage.graph.code_version import code_version
from twostage.schema import Arm, Evaluation, Generator, Part, Start, Sweep

STORE = "store"
ADDRESS_LENGTH = 12
TRAINING = ("autoencoder", "generator")
"""Kinds of nodes that train, and may do so on several devices."""


@dataclass(frozen=True)
class Node:
    """A piece of work: what, with which settings, after which others. Equal work has an equal address.

    Args:
        name: for people; no part of the address.
        kind: a function of `twostage.parts.nodes`.
        settings: plain values that determine the result; texts may start with `{node}` or `{role}`, for folders.
        inputs: nodes by the role they play.
        arm, seed: that it belongs to, for the report alone; None where all share it.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, "Node"] = field(default_factory=dict)
    arm: str | None = None
    seed: int | None = None

    @cached_property
    def address(self) -> str:
        """Of the settings, the addresses of the inputs, and the code that does this kind of work."""
        inputs = {role: node.address for role, node in self.inputs.items()}
        content = json.dumps([self.kind, code_version(self.kind), self.settings, inputs], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:ADDRESS_LENGTH]

    def folder(self, root: Path) -> Path:
        """Where its results lie, the same for every sweep below `root`."""
        return root / STORE / f"{self.kind}-{self.address}"


def plan(sweep: Sweep) -> list[Node]:
    """All nodes, inputs before those that need them; nodes of equal address are the same work.

    Raises:
        ValueError: naming a config that cannot be read.
    """
    first = next(iter(sweep.autoencoders.values()))
    start = _start(sweep.start)
    nodes = []
    if start is not None:
        nodes = [start, Node("diagnostics-start", "diagnostics", _measuring(first), {"autoencoder": start})]
    evaluation = _pictures(sweep.evaluation)
    reference = Node("reference", "reference", {"data": _measuring(first)["config"]["data"]} | evaluation)
    nodes.append(reference)
    for seed in sweep.seeds:
        for name, arm in sweep.autoencoders.items():
            autoencoders = _autoencoder(sweep, name, arm, seed, start)
            nodes += autoencoders
            nodes += _downstream(sweep, name, arm, seed, autoencoders[-1], reference)
    return nodes


def unique(nodes: list[Node]) -> list[Node]:
    """The nodes without repetitions of an address, the first of each kept."""
    return list({node.address: node for node in reversed(nodes)}.values())[::-1]


def _start(start: Start) -> Node | None:
    if start.autoencoder is not None:
        return _ready("start", start.autoencoder, None)
    if start.config is None:
        return None
    return Node("start", "autoencoder", {"config": _stage_one(start, 0, None), "at_steps": []})


def _ready(name: str, source: str, arm: str | None) -> Node:
    return Node(name, "ready", {"autoencoder": source, "files": _fingerprint(source)}, arm=arm)


def _autoencoder(sweep: Sweep, name: str, arm: Arm, seed: int, start: Node | None) -> list[Node]:
    """The nodes that make an arm's autoencoder, which is the last one's."""
    where = f"{name}-seed{seed}"
    if arm.autoencoder is not None:
        return [_ready(f"autoencoder-{where}", arm.autoencoder, name)]
    config = _stage_one(arm, seed, "{start}/autoencoder")
    shared = [_stage_one(other, seed, "{start}/autoencoder") == config for other in sweep.autoencoders.values()]
    steps = {other.at_step for other, same in zip(sweep.autoencoders.values(), shared) if same}
    settings = {"config": config, "at_steps": sorted(steps - {None})}
    trained = Node(f"autoencoder-{where}", "autoencoder", settings, {"start": start}, name, seed)
    if arm.at_step is None:
        return [trained]
    settings = {"config": config, "at_step": arm.at_step}
    inputs = {"training": trained, "start": start}
    return [trained, Node(f"snapshot-{where}", "snapshot", settings, inputs, name, seed)]


def _downstream(sweep: Sweep, name: str, arm: Arm, seed: int, autoencoder: Node, reference: Node) -> list[Node]:
    """What is done with an arm's autoencoder: diagnostics, cache, generators, measurements."""
    where = f"{name}-seed{seed}"
    source = {"autoencoder": autoencoder}
    nodes = [Node(f"diagnostics-{where}", "diagnostics", _measuring(arm), source, name, seed)]
    training_images_alone = {"model.init_args.cache_validation": False}
    pictures = replace(arm, overrides=arm.overrides | sweep.generator_pictures | training_images_alone)
    cache = Node(f"latents-{where}", "latents", _measuring(pictures), source, name, seed)
    nodes.append(cache)
    for generator_name, generator in sweep.generators.items():
        settings = {"config": _stage_two(generator, seed, sweep.evaluation), "at_steps": sweep.evaluation.at_steps}
        trained = Node(f"{generator_name}-{where}", "generator", settings, source | {"latents": cache}, name, seed)
        nodes.append(trained)
        inputs = source | {"generator": trained, "reference": reference}
        for step in sweep.evaluation.at_steps:
            measured = _samples(sweep, generator) | {"seed": seed, "at_step": step}
            nodes.append(Node(f"metrics-{trained.name}-step{step}", "evaluation", measured, inputs, name, seed))
    return nodes


def _stage_one(part: Part | Start, seed: int, start: str | None) -> dict[str, Any]:
    """Config of stage 1 with the sweep's seed and folders, `start` being what it starts from (None: its own)."""
    folders = {
        "model.init_args.export_folder": f"{NODE}/autoencoder",
        "model.init_args.cache_folder": f"{NODE}/latents",
    }
    folders |= {"model.init_args.autoencoder": start} if start else {}
    return load_config(part.config, part.overrides | _common(seed) | folders)


def _measuring(arm: Arm) -> dict[str, Any]:
    """Settings of work on a finished autoencoder; the seed is of no consequence there."""
    return {"config": _stage_one(arm, 0, "{autoencoder}/autoencoder")}


def _stage_two(generator: Generator, seed: int, evaluation: Evaluation) -> dict[str, Any]:
    return load_config(
        generator.config,
        generator.overrides
        | _common(seed)
        | {
            "trainer.max_steps": evaluation.at_steps[-1],
            "model.init_args.autoencoder": "{autoencoder}/autoencoder",
            "data.init_args.cache": "{latents}/latents",
            # Losses on different latents do not compare, and what training takes is timed.
            "data.init_args.validation_cache": None,
            "trainer.limit_val_batches": 0,
        },
    )


def _common(seed: int) -> dict[str, Any]:
    seeds = dict.fromkeys(("seed_everything", "model.init_args.seed", "data.init_args.seed"), seed)
    return seeds | {"trainer.default_root_dir": NODE}


def _pictures(evaluation: Evaluation) -> dict[str, Any]:
    """What determines the reference pictures and their features."""
    return {name: vars(evaluation)[name] for name in ("num_images", "grid_images", "extractor", "extractor_weights")}


def _samples(sweep: Sweep, generator: Generator) -> dict[str, Any]:
    """What determines a measurement of a generator's samples, apart from its seed and step."""
    names = ("sampler", "num_inference_steps", "guidance_scale", "grid_guidance_scale", "metrics")
    sampling = {name: vars(sweep.evaluation)[name] for name in names}
    own = {name: vars(generator)[name] for name in ("sampler", "num_inference_steps")}
    sampling |= {name: value for name, value in own.items() if value is not None}
    num_resamples = sweep.evaluation.num_resamples if len(sweep.seeds) == 1 else 0
    return _pictures(sweep.evaluation) | sampling | {"num_resamples": num_resamples}


def _fingerprint(source: str) -> dict[str, str] | None:
    """Hash of each file of a ready autoencoder, so that a changed one is new work; None where it is not here."""
    if Path(source).is_file():
        return {Path(source).name: sha256_of_file(Path(source))}
    folder = Path(source) if Path(source).is_dir() else Path(str(PACKAGED / source))
    if not folder.is_dir():
        return None
    return {path.name: sha256_of_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
