"""Gathers what the nodes of a finished sweep left into the results that the report is made of."""

import json
import os
import platform
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from dit.sweeps.execution import seconds_of
from dit.sweeps.plan import Node, Part, Sweep
from eqvae.evaluation.features import METRIC_NAMES

METRIC_LABELS = {"fd_efficientnet_lite0": "Fréchet distance (EfficientNet-Lite0)", "fid": "FID"}
VERSIONS = ("torch", "lightning", "diffusers", "timm", "torch-fidelity", "numpy")


def collect(sweep: Sweep, nodes: list[Node], root: Path, folder: Path, command: str) -> dict:
    """The results dict of `dit.sweeps.report.write_report`; copies pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {node.name: node for node in nodes}
    metric = METRIC_NAMES[sweep.evaluation.extractor]
    return {
        "name": sweep.name,
        "title": sweep.title,
        "question": sweep.question,
        "commands": [command],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "hardware": _hardware(),
        "seconds": sum(seconds_of(node, root) for node in nodes),
        "control": sweep.control,
        "arms": [
            {"name": name, "label": part.label, "description": part.description}
            for name, part in sweep.autoencoders.items()
        ],
        "generators": [{"name": name, "label": part.label} for name, part in sweep.generators.items()],
        "seeds": list(sweep.seeds),
        "metric": metric,
        "metric_label": METRIC_LABELS[metric],
        "autoencoders": _autoencoders(sweep, found, root),
        "curves": _curves(sweep, found, root),
        "pictures": _pictures(sweep, found, root, folder),
        "differences": _differences(sweep),
        "cost": _cost(nodes, root),
        "notes": _notes(sweep, metric),
    }


def _runs(sweep: Sweep):
    """(arm, part, seed) of every autoencoder that the sweep trains."""
    return [(arm, part, seed) for arm, part in sweep.autoencoders.items() for seed in sweep.seeds]


def _autoencoders(sweep: Sweep, found: dict[str, Node], root: Path) -> list[dict]:
    rows = [("start", None, found["start-measured"])]
    rows += [(arm, seed, found[f"autoencoder-{arm}-seed{seed}"]) for arm, _, seed in _runs(sweep)]
    return [
        {"arm": arm, "seed": seed, "seconds": seconds_of(node, root)} | _metrics(node.folder(root) / "metrics.json")
        for arm, seed, node in rows
    ]


def _metrics(path: Path) -> dict[str, Any]:
    """{"metrics", "num_steps"}, equivariance errors nested by kind, the perceptual distance without its name."""
    flat = json.loads(path.read_text())
    metrics: dict[str, Any] = {}
    for name, value in flat.items():
        if name.startswith("equivariance/"):
            _, kind, probe = name.split("/")
            metrics.setdefault(f"equivariance_{kind}", {})[probe] = value
        elif name.startswith("perceptual_"):
            metrics["perceptual"] = value
        elif name not in ("num_steps", "num_images"):
            metrics[name] = value
    return {"metrics": metrics, "num_steps": flat["num_steps"]}


def _curves(sweep: Sweep, found: dict[str, Node], root: Path) -> list[dict]:
    curves = []
    for name, generator in sweep.generators.items():
        for arm, _, seed in _runs(sweep):
            trained = found[f"{name}-{arm}-seed{seed}"]
            measured = json.loads((found[f"metrics-{trained.name}"].folder(root) / "points.json").read_text())
            seconds, steps = seconds_of(trained, root), sweep.evaluation.at_steps[-1]
            batch_size = resolved_config(generator)["data"]["init_args"].get("batch_size", 256)
            points = [
                point
                | {
                    "images_seen": point["num_steps"] * batch_size,
                    "seconds": seconds * point["num_steps"] / steps,
                }
                for point in measured
            ]
            curves.append({"arm": arm, "generator": name, "seed": seed, "points": points})
    return curves


def _pictures(sweep: Sweep, found: dict[str, Node], root: Path, folder: Path) -> dict:
    first = sweep.seeds[0]
    panels = [("Common start", found["start-measured"])]
    panels += [(part.label, found[f"autoencoder-{arm}-seed{first}"]) for arm, part in sweep.autoencoders.items()]
    pca = [{"label": label, "file": _copy(node, "panel.png", root, folder)} for label, node in panels]
    samples = [
        {
            "arm": arm,
            "generator": name,
            "seed": seed,
            "num_steps": step,
            "file": _copy(found[f"metrics-{name}-{arm}-seed{seed}"], f"grid-{step:07d}.png", root, folder),
        }
        for name in sweep.generators
        for arm, _, seed in _runs(sweep)
        for step in sweep.evaluation.at_steps
        if seed == first or step == sweep.evaluation.at_steps[-1]
    ]
    return {"pca": pca, "samples": samples, "reference": _copy(found["reference"], "grid.png", root, folder)}


def _copy(node: Node, name: str, root: Path, folder: Path) -> str:
    target = folder / "pictures" / f"{node.name}-{name}"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(node.folder(root) / name, target)
    return str(target.relative_to(folder))


def resolved_config(part: Part) -> dict:
    """A part's config file with its overrides, as plain values."""
    config = OmegaConf.load(part.config)
    for key, value in part.overrides.items():
        OmegaConf.update(config, key, value, merge=False)
    return OmegaConf.to_container(config, resolve=True)


def _differences(sweep: Sweep) -> list[dict]:
    """Every key in which the arms' resolved configs differ."""
    flat = {arm: dict(_flatten(resolved_config(part))) for arm, part in sweep.autoencoders.items()}
    keys = sorted(set().union(*flat.values()))
    rows = [{"key": key, "values": {arm: config.get(key, "—") for arm, config in flat.items()}} for key in keys]
    return [row for row in rows if len({json.dumps(value) for value in row["values"].values()}) > 1]


def _flatten(value: Any, prefix: str = ""):
    if not isinstance(value, dict) or not value:
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _flatten(inner, f"{prefix}.{key}" if prefix else key)


def _cost(nodes: list[Node], root: Path) -> list[dict]:
    return [
        {
            "stage": node.kind if node.arm else node.name,
            "arm": node.arm,
            "seed": node.settings.get("seed") if node.arm else None,
            "seconds": seconds_of(node, root),
        }
        for node in nodes
    ]


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _notes(sweep: Sweep, metric: str) -> list[str]:
    evaluation = sweep.evaluation
    return [
        f"{METRIC_LABELS[metric]} of {evaluation.num_images} unguided samples of the averaged weights against "
        f"{evaluation.num_images} held-out pictures: biased upward with so few samples, equally for all arms. "
        "Compare it within this report only.",
        "A seed sets the order of the pictures, transforms and posterior samples of the fine-tuning, and order, start "
        "weights, times and noise of the generator. Arms share all of it, and the start autoencoder is one for all.",
        f"Sample grids use the same starting noise in all arms and guidance {evaluation.grid_guidance_scale:g}; "
        "measurements use none.",
    ]
