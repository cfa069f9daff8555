"""What a sweep does, as a graph of nodes with content addresses, read from its YAML file."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

PLAN_VERSION = 1  # part of every address: raise it when nodes change what they compute


@dataclass
class Part:
    """An autoencoder arm or a generator: a config of `train.py` and what to change in it.

    Args:
        label: short name for people.
        description: one sentence for the report.
        config: YAML file of `train.py fit`.
        overrides: dotted key of that file -> value.
    """

    label: str = MISSING
    config: str = MISSING
    description: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Start:
    """The autoencoder that every arm starts from: a ready one (`autoencoder`), or a config that trains it."""

    autoencoder: str | None = None
    config: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Evaluation:
    """When and how generators are measured.

    Args:
        at_steps: training steps whose averaged weights are sampled, ascending; the last one ends the training.
        num_images: generated pictures of each measurement, and real ones they are compared with.
        sampler, num_inference_steps: as in `sample.py`, without guidance; null takes the objective's own sampler.
        grid_images: pictures of the sample grids.
        grid_guidance_scale: guidance of the grids, for people; measurements are unguided.
        extractor: features of the distances.
        extractor_weights: local weights of Inception-v3.
    """

    at_steps: list[int] = MISSING
    num_images: int = 1000
    sampler: str | None = None
    num_inference_steps: int = 25
    grid_images: int = 40
    grid_guidance_scale: float = 1.0
    extractor: str = "efficientnet_lite0"
    extractor_weights: str | None = None


@dataclass
class Sweep:
    """A sweep file.

    Args:
        name: of its folder below `root`.
        title, question: of the report.
        control: the arm that the others are compared with.
        start: common start of all arms.
        autoencoders: arms by name.
        generators: by name.
        seeds: each gives every arm and generator its own order, transforms, noise and start weights of the generator.
        evaluation: of the generators.
        num_workers: processes that train side by side; each takes its share of the cores.
        root: folder of all sweeps' runs.
    """

    name: str = MISSING
    title: str = MISSING
    question: str = ""
    control: str = MISSING
    start: Start = field(default_factory=Start)
    autoencoders: dict[str, Part] = MISSING
    generators: dict[str, Part] = MISSING
    seeds: list[int] = MISSING
    evaluation: Evaluation = field(default_factory=Evaluation)
    num_workers: int = 1
    root: str = "runs"


@dataclass(frozen=True)
class Node:
    """A piece of work: what, with which settings, after which others. Equal work has an equal address.

    Args:
        name: for people, and the start of its folder's name.
        kind: a function of `dit.sweeps.nodes`.
        settings: plain values that determine the result, with the text of config files.
        inputs: nodes by the role they play.
        arm: that it belongs to, for the report alone; None where all arms share it.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, "Node"] = field(default_factory=dict)
    arm: str | None = None

    @property
    def address(self) -> str:
        inputs = {role: node.address for role, node in self.inputs.items()}
        content = json.dumps([PLAN_VERSION, self.kind, self.settings, inputs], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    def folder(self, root: Path) -> Path:
        return root / f"{self.name}-{self.address}"


def load_sweep(path: str | Path, overrides: list[str]) -> Sweep:
    """Read and check a sweep file; `overrides` are `key=value` in OmegaConf's dotted notation.

    Raises:
        ValueError: naming the file and the key that is unknown, missing or impossible.
    """
    if not Path(path).is_file():
        raise ValueError(f"no sweep file at {path}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Sweep), OmegaConf.load(path), OmegaConf.from_dotlist(overrides))
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise ValueError(f"sweep file {path} lacks {', '.join(sorted(missing))}")
        sweep = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"sweep file {path}: {str(error).splitlines()[0]}") from None
    _check(sweep, path)
    return sweep


def _check(sweep: Sweep, path: str | Path) -> None:
    steps, start = sweep.evaluation.at_steps, sweep.start
    problems = {
        "control: is none of autoencoders": sweep.control not in sweep.autoencoders,
        "autoencoders: needs the control and at least one more arm": len(sweep.autoencoders) < 2,
        "generators: is empty": not sweep.generators,
        "seeds: is empty or repeats one": not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds),
        "evaluation.at_steps: must ascend from 1 or more": not steps or steps != sorted({*steps}) or steps[0] < 1,
        "start: give either autoencoder or config": (start.autoencoder is None) == (start.config is None),
    }
    parts = {f"autoencoders.{k}": v.config for k, v in sweep.autoencoders.items()}
    parts |= {f"generators.{k}": v.config for k, v in sweep.generators.items()}
    parts |= {"start": start.config} if start.config else {}
    problems |= {f"{key}.config: no file at {config}": not Path(config).is_file() for key, config in parts.items()}
    found = [problem for problem, true in problems.items() if true]
    if found:
        raise ValueError(f"sweep file {path}, {'; '.join(found)}")


def plan(sweep: Sweep) -> list[Node]:
    """All nodes, inputs before those that need them."""
    start = _start(sweep)
    nodes = [start] if isinstance(start, Node) else []
    source = {"start": start} if isinstance(start, Node) else {}
    packaged = None if isinstance(start, Node) else start
    first = next(iter(sweep.autoencoders.values()))
    nodes.append(Node("start-measured", "measure", _train(first) | {"autoencoder": packaged}, source))
    settings = _train(first) | {"autoencoder": packaged} | _measured(sweep.evaluation)
    reference = Node("reference", "reference", settings, source)
    nodes.append(reference)
    for seed in sweep.seeds:
        for arm, part in sweep.autoencoders.items():
            where = f"{arm}-seed{seed}"
            settings = _train(part) | {"seed": seed, "autoencoder": packaged}
            tuned = Node(f"autoencoder-{where}", "autoencoder", settings, source, arm)
            cache = Node(f"latents-{where}", "latents", settings, {"autoencoder": tuned}, arm)
            nodes += [tuned, cache]
            for name, generator in sweep.generators.items():
                settings_g = _train(generator) | {"seed": seed, "at_steps": sweep.evaluation.at_steps}
                inputs = {"autoencoder": tuned, "latents": cache}
                trained = Node(f"{name}-{where}", "generator", settings_g, inputs, arm)
                inputs = {"autoencoder": tuned, "generator": trained, "reference": reference}
                settings_e = {"seed": seed, "at_steps": sweep.evaluation.at_steps} | _measured(sweep.evaluation)
                nodes += [trained, Node(f"metrics-{name}-{where}", "evaluation", settings_e, inputs, arm)]
    return nodes


def _start(sweep: Sweep) -> Node | str:
    if sweep.start.autoencoder is not None:
        return sweep.start.autoencoder
    part = Part(label="start", config=sweep.start.config, overrides=sweep.start.overrides)
    return Node("start", "autoencoder", _train(part) | {"seed": 0, "autoencoder": None})


def _train(part: Part) -> dict[str, Any]:
    """What determines a run of `train.py`: the file with its text, and the overrides."""
    return {"config": part.config, "text": Path(part.config).read_text(), "overrides": dict(part.overrides)}


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    return {key: value for key, value in vars(evaluation).items() if key != "at_steps"}
