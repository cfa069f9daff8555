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

from eqvae.evaluation.features import METRIC_NAMES
from twostage.configs import flatten
from twostage.graph.store import seconds_of
from twostage.parts.training import read_cost
from twostage.plan import TRAINING, Node, unique
from twostage.schema import Sweep

METRIC_LABELS = {
    "fd_efficientnet_lite0": "Fréchet distance (EfficientNet-Lite0)",
    "fid": "FID",
    "kid": "Kernel distance",
}
VERSIONS = ("torch", "lightning", "diffusers", "timm", "torch-fidelity", "numpy")


def collect(sweep: Sweep, nodes: list[Node], root: Path, folder: Path, command: str) -> dict:
    """The results dict of `twostage.report.report.write_report`; copies pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {node.name: node for node in nodes}
    metric = sweep.evaluation.metric or METRIC_NAMES[sweep.evaluation.extractor]
    return {
        "name": sweep.name,
        "title": sweep.title,
        "question": sweep.question,
        "commands": [command],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "hardware": _hardware(),
        "seconds": sum(seconds_of(node, root) for node in unique(nodes)),
        "control": sweep.control,
        "arms": [
            {"name": name, "label": arm.label, "description": arm.description}
            for name, arm in sweep.autoencoders.items()
        ],
        "generators": [{"name": name, "label": part.label} for name, part in sweep.generators.items()],
        "seeds": list(sweep.seeds),
        "metric": metric,
        "metric_label": METRIC_LABELS[metric],
        "autoencoders": _autoencoders(sweep, found, root),
        "curves": _curves(sweep, found, root),
        "pictures": _pictures(sweep, found, root, folder),
        "differences": _differences(sweep, found),
        "cost": _cost(nodes, root),
        "notes": _notes(sweep, metric),
    }


def _runs(sweep: Sweep) -> list[tuple[str, int]]:
    """(arm, seed) of every autoencoder of the sweep."""
    return [(arm, seed) for arm in sweep.autoencoders for seed in sweep.seeds]


def _autoencoders(sweep: Sweep, found: dict[str, Node], root: Path) -> list[dict]:
    rows = [("start", None, found["diagnostics-start"])] if "diagnostics-start" in found else []
    rows += [(arm, seed, found[f"diagnostics-{arm}-seed{seed}"]) for arm, seed in _runs(sweep)]
    return [
        {"arm": arm, "seed": seed, "metrics": _metrics(node.folder(root) / "metrics.json")}
        | _fine_tuning(node.inputs["autoencoder"], root)
        for arm, seed, node in rows
    ]


def _fine_tuning(autoencoder: Node, root: Path) -> dict[str, Any]:
    """Steps, images and seconds that went into an autoencoder from the common start on; None for a ready one."""
    training = autoencoder.inputs.get("training", autoencoder)
    if training.kind != "autoencoder" or not training.inputs:
        return {"num_steps": 0, "images_seen": None, "seconds": None, "device_seconds": None}
    num_steps = autoencoder.settings.get("at_step") or training.settings["config"]["trainer"]["max_steps"]
    return {"num_steps": num_steps} | _spent(training, num_steps, root)


def _spent(training: Node, num_steps: int, root: Path) -> dict[str, float]:
    """What a training had cost after so many steps, at its mean pace."""
    cost = read_cost(training.folder(root))
    seconds = cost["seconds_per_step"] * num_steps
    return {
        "images_seen": round(cost["images_per_step"] * num_steps),
        "seconds": seconds,
        "device_seconds": seconds * cost["num_devices"],
    }


def _metrics(path: Path) -> dict[str, Any]:
    """Equivariance errors nested by kind, the perceptual distance without its name."""
    metrics: dict[str, Any] = {}
    for name, value in json.loads(path.read_text()).items():
        if name.startswith("equivariance/"):
            _, kind, probe = name.split("/")
            metrics.setdefault(f"equivariance_{kind}", {})[probe] = value
        elif name.startswith("perceptual_"):
            metrics["perceptual"] = value
        elif name != "num_images":
            metrics[name] = value
    return metrics


def _curves(sweep: Sweep, found: dict[str, Node], root: Path) -> list[dict]:
    curves = []
    for name in sweep.generators:
        for arm, seed in _runs(sweep):
            trained = found[f"{name}-{arm}-seed{seed}"]
            points = [
                {"num_steps": step} | _spent(trained, step, root) | _measured(found, trained, step, root)
                for step in sweep.evaluation.at_steps
            ]
            curves.append({"arm": arm, "generator": name, "seed": seed, "points": points})
    return curves


def _measured(found: dict[str, Node], trained: Node, step: int, root: Path) -> dict[str, Any]:
    """Metrics of a point, without the spread of those that are means over subsets."""
    metrics = json.loads((found[f"metrics-{trained.name}-step{step}"].folder(root) / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if not name.endswith("_std")}


def _pictures(sweep: Sweep, found: dict[str, Node], root: Path, folder: Path) -> dict:
    first = sweep.seeds[0]
    panels = [("Common start", found["diagnostics-start"])] if "diagnostics-start" in found else []
    panels += [(arm.label, found[f"diagnostics-{name}-seed{first}"]) for name, arm in sweep.autoencoders.items()]
    pca = [{"label": label, "file": _copy(node, "panel.png", root, folder)} for label, node in panels]
    samples = [
        {
            "arm": arm,
            "generator": name,
            "seed": seed,
            "num_steps": step,
            "file": _copy(found[f"metrics-{name}-{arm}-seed{seed}-step{step}"], "grid.png", root, folder),
        }
        for name in sweep.generators
        for arm, seed in _runs(sweep)
        for step in sweep.evaluation.at_steps
        if seed == first or step == sweep.evaluation.at_steps[-1]
    ]
    return {"pca": pca, "samples": samples, "reference": _copy(found["reference"], "grid.png", root, folder)}


def _copy(node: Node, name: str, root: Path, folder: Path) -> str:
    target = folder / "pictures" / f"{node.name}-{name}"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(node.folder(root) / name, target)
    return str(target.relative_to(folder))


def _differences(sweep: Sweep, found: dict[str, Node]) -> list[dict]:
    """Every key in which what the arms' autoencoders are made from differs, as it was run."""
    flat = {arm: dict(flatten(_made_from(found, arm, sweep.seeds[0]))) for arm in sweep.autoencoders}
    keys = sorted(set().union(*flat.values()))
    rows = [{"key": key, "values": {arm: config.get(key, "—") for arm, config in flat.items()}} for key in keys]
    return [row for row in rows if len({json.dumps(value) for value in row["values"].values()}) > 1]


def _made_from(found: dict[str, Node], arm: str, seed: int) -> dict[str, Any]:
    """The resolved config of an arm, and the step or the ready autoencoder that it takes."""
    measured = found[f"diagnostics-{arm}-seed{seed}"]
    autoencoder = measured.inputs["autoencoder"]
    chosen = {name: autoencoder.settings[name] for name in ("at_step", "autoencoder") if name in autoencoder.settings}
    return measured.settings["config"] | chosen


def _cost(nodes: list[Node], root: Path) -> list[dict]:
    return [
        {
            "stage": node.kind if node.arm else node.name,
            "arm": node.arm,
            "seed": node.seed,
            "seconds": seconds_of(node, root),
        }
        | (_trained(node, root) if node.kind in TRAINING else {})
        for node in unique(nodes)
    ]


def _trained(node: Node, root: Path) -> dict[str, Any]:
    num_steps = node.settings["config"]["trainer"]["max_steps"]
    return {"num_steps": num_steps} | _spent(node, num_steps, root)


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _notes(sweep: Sweep, metric: str) -> list[str]:
    evaluation = sweep.evaluation
    return [
        f"{METRIC_LABELS[metric]} of {evaluation.num_images} samples of the averaged weights (guidance "
        f"{evaluation.guidance_scale:g}, 1 being none) against "
        f"{evaluation.num_images} held-out pictures: biased upward with so few samples, equally for all arms. "
        "Compare it within this report only.",
        "A seed sets the order of the pictures, transforms and posterior samples of the fine-tuning, and order, start "
        "weights, times and noise of the generator. Arms share all of it, and the start autoencoder is one for all.",
        f"Sample grids use the same starting noise in all arms and guidance {evaluation.grid_guidance_scale:g}.",
    ]
