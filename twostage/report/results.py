"""Gathers what the nodes of a finished sweep left into the results that the report is made of."""

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from eqvae.evaluation.metric import EXTRACTORS
from eqvae.evaluation.metrics import find_metric
from twostage.analysis.records import (
    START,
    Arm,
    AutoencoderMeasurement,
    Curve,
    Difference,
    GeneratorEntry,
    Panel,
    Point,
    SampleGrid,
    StageCost,
    StoppedArm,
    SweepResults,
)
from twostage.analysis.treatment import EQUIVARIANCE
from twostage.configs import flatten, resolved_config, value_at
from twostage.graph.execution import other_libraries
from twostage.graph.node import Node, unique
from twostage.graph.store import record_of
from twostage.libraries import installed_libraries
from twostage.parts import diagnostics, evaluation, reference
from twostage.parts.training import read_cost
from twostage.planner import Branch, Plan
from twostage.report.recipes import recipes
from twostage.schema import ArmSettings, Sweep

IMAGES = "images"  # folder of the report's images
PLACES = ("root", "executor")
"""Keys of a sweep file that say where it runs, and change no number."""


def collect(
    sweep: Sweep, plan: Plan, root: Path, folder: Path, command: str, stopped: Sequence[StoppedArm] = ()
) -> SweepResults:
    """The results of a finished sweep; copies images into `folder`.

    Args:
        stopped: arms of which the plan has not all seeds.

    Raises:
        ValueError: naming a file of the results that is damaged.
    """
    gathered = _Gathered(plan, root, folder)
    return replace(
        measured(sweep, plan, root, command, stopped),
        panels=list(gathered.panels(sweep)),
        samples=list(gathered.samples(sweep)),
        reference_grid=gathered.copied(plan.reference, reference.GRID),
    )


def measured(sweep: Sweep, plan: Plan, root: Path, command: str, stopped: Sequence[StoppedArm] = ()) -> SweepResults:
    """The same without images; nothing is written."""
    metric = sweep.evaluation.metric or EXTRACTORS[sweep.evaluation.extractor].distance
    gathered = _Gathered(plan, root, root)
    return SweepResults(
        name=sweep.name,
        title=sweep.title,
        question=sweep.question,
        commands=[command],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version()} | installed_libraries(),
        hardware=_hardware(),
        seconds=sum(record_of(node, root)["seconds"] for node in unique(plan.nodes)),
        control=sweep.control,
        arms=arms_of(sweep),
        generators=[GeneratorEntry(name, part.label) for name, part in sweep.generators.items()],
        seeds=plan.seeds,
        metric=metric,
        metric_label=find_metric(metric).full_name,
        autoencoders=list(gathered.autoencoders()),
        curves=list(gathered.curves()),
        max_seeds=len(sweep.seeds) if sweep.until_decided else None,
        differences=_differences(sweep, plan),
        cost=list(gathered.costs()),
        notes=_notes(sweep, metric) + _library_notes(plan, root),
        sweep=_as_read(sweep),
        stopped=list(stopped),
        recipes=recipes(plan),
    )


def arms_of(sweep: Sweep) -> list[Arm]:
    """Arms in their order, with what each is meant to be given."""
    return [Arm(name, arm.label, arm.description, _treatment(arm)) for name, arm in sweep.autoencoders.items()]


def _treatment(arm: ArmSettings) -> str | None:
    """As the sweep file says, or what a training with transforms is for."""
    if arm.treatment is not None or arm.autoencoder is not None:
        return arm.treatment
    transforms = value_at(resolved_config(arm.config, arm.overrides), "model.init_args.transforms")
    return EQUIVARIANCE if transforms is not None else None


def measured_autoencoders(plan: Plan, root: Path, seed: int) -> list[AutoencoderMeasurement]:
    """The start's measurement and those of all arms in one seed, whatever else of the plan is done."""
    return list(_Gathered(plan, root, root).autoencoders(seed))


def _as_read(sweep: Sweep) -> dict[str, Any]:
    """A sweep file's keys, but for where it ran: what `verify` runs again."""
    keys = OmegaConf.to_container(OmegaConf.structured(sweep))
    assert isinstance(keys, dict), "a sweep is a mapping"
    kept = {str(key): value for key, value in keys.items() if key not in PLACES}
    return json.loads(json.dumps(kept))  # without tuples, which JSON does not have


class _Gathered:
    """What the nodes of a plan left below a root; images are copied into the report's folder."""

    def __init__(self, plan: Plan, root: Path, folder: Path):
        self.plan, self.root, self.folder = plan, root, Path(folder)

    def autoencoders(self, seed: int | None = None) -> Iterator[AutoencoderMeasurement]:
        """The common start's measurement, where there is one, then the arms', of all seeds or of one."""
        if self.plan.start_diagnostics is not None:
            yield self._measured(START, None, self.plan.start_diagnostics, None)
        for branch in sorted(self.plan.branches, key=lambda branch: self._order(branch.arm)):
            if seed in (None, branch.seed):
                yield self._measured(branch.arm, branch.seed, branch.diagnostics, branch)

    def _order(self, arm: str) -> int:
        return list(dict.fromkeys(branch.arm for branch in self.plan.branches)).index(arm)

    def _measured(self, arm: str, seed: int | None, node: Node, branch: Branch | None) -> AutoencoderMeasurement:
        metrics, errors = _by_kind(diagnostics.result(node.folder(self.root)))
        return AutoencoderMeasurement(arm, seed, metrics, errors, **self._fine_tuning(branch))

    def _fine_tuning(self, branch: Branch | None) -> dict[str, Any]:
        """Steps, images and seconds that went into an autoencoder, from the common start on where there is one.

        Nothing for a ready one.
        """
        if branch is None or branch.training is None:
            return {}
        steps = branch.autoencoder.settings.get("at_step")
        steps = steps or branch.training.settings["config"]["trainer"]["max_steps"]
        return {"num_steps": steps} | self._spent(branch.training, steps)

    def _spent(self, training: Node, num_steps: int) -> dict[str, float]:
        """What a training had cost after so many steps, at its mean pace."""
        cost = read_cost(training.folder(self.root))
        seconds = cost["seconds_per_step"] * num_steps
        return {
            "images_seen": round(cost["images_per_step"] * num_steps),
            "seconds": seconds,
            "device_seconds": seconds * cost["num_devices"],
        }

    def curves(self) -> Iterator[Curve]:
        """By generator, arm and seed."""
        names = list(dict.fromkeys(name for branch in self.plan.branches for name in branch.generators))
        for name in names:
            for branch in sorted(self.plan.branches, key=lambda branch: (self._order(branch.arm), branch.seed)):
                generator = branch.generators[name]
                points = [self._point(step, generator.training, node) for step, node in generator.evaluations.items()]
                yield Curve(branch.arm, name, branch.seed, points)

    def _point(self, step: int, training: Node, measured: Node) -> Point:
        """Without the spread of metrics that are means over subsets."""
        found = evaluation.result(measured.folder(self.root))
        resampled = found.pop("resampled", [])
        resampled = resampled if len(self.plan.seeds) == 1 else []  # with several seeds nobody asks for it
        metrics = {name: value for name, value in found.items() if not name.endswith("_std")}
        return Point(step, metrics, **self._spent(training, step), resampled=resampled)

    def panels(self, sweep: Sweep) -> Iterator[Panel]:
        """Latents as colours: of the start, and of each arm in the first seed."""
        if self.plan.start_diagnostics is not None:
            yield Panel("Common start", self.copied(self.plan.start_diagnostics, diagnostics.PANEL))
        for name, arm in sweep.autoencoders.items():
            branch = self.plan.branch(name, sweep.seeds[0])
            yield Panel(arm.label, self.copied(branch.diagnostics, diagnostics.PANEL))

    def samples(self, sweep: Sweep) -> Iterator[SampleGrid]:
        """Every grid of the first seed, and the last one of the others."""
        for branch in self.plan.branches:
            for name, generator in branch.generators.items():
                for step, node in generator.evaluations.items():
                    if branch.seed == self.plan.seeds[0] or step == sweep.evaluation.at_steps[-1]:
                        file = self.copied(node, evaluation.GRID)
                        yield SampleGrid(branch.arm, name, branch.seed, step, file)

    def copied(self, node: Node, name: str) -> str:
        """The image of a node, copied into the report's folder under the node's address; its path there."""
        target = self.folder / IMAGES / f"{node.kind}-{node.address}-{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(node.folder(self.root) / name, target)
        return str(target.relative_to(self.folder))

    def costs(self) -> Iterator[StageCost]:
        """Of every part, shared ones once, under the first arm and seed that has them.

        Of a training at its mean pace, which interruptions do not spoil.
        """
        seen: set[str] = set()
        for branch, node in self.plan.placed():
            if node.address in seen:
                continue
            seen.add(node.address)
            place = {"arm": branch.arm, "seed": branch.seed} if branch else {}
            stage = node.kind if branch else node.name
            if not node.trains:
                yield StageCost(stage, record_of(node, self.root)["seconds"], **place)
                continue
            steps = node.settings["config"]["trainer"]["max_steps"]
            spent = self._spent(node, steps)
            yield StageCost(stage, spent["seconds"], **place, num_steps=steps, images_seen=spent["images_seen"])


def _by_kind(measured: dict[str, float]) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """Metrics, the perceptual distance without its name, and equivariance errors by space and probe."""
    metrics: dict[str, float | None] = {}
    errors: dict[str, dict[str, float | None]] = {}
    for name, value in measured.items():
        if name.startswith("equivariance/"):
            _, space, probe = name.split("/")
            errors.setdefault(space, {})[probe] = value
        elif name.startswith("perceptual_"):
            metrics["perceptual"] = value
        elif name != "num_images":
            metrics[name] = value
    return metrics, errors


def _differences(sweep: Sweep, plan: Plan) -> list[Difference]:
    """Every key in which what the arms' autoencoders are made from differs, as it was run."""
    flat = {arm: dict(flatten(_made_from(plan.branch(arm, sweep.seeds[0])))) for arm in sweep.autoencoders}
    keys = sorted(set().union(*flat.values()))
    rows = [Difference(key, {arm: config.get(key, "—") for arm, config in flat.items()}) for key in keys]
    return [row for row in rows if len({json.dumps(value) for value in row.values.values()}) > 1]


def _made_from(branch: Branch) -> dict[str, Any]:
    """The resolved config of an arm, and the step or the ready autoencoder that it takes."""
    settings = branch.autoencoder.settings
    chosen = {name: settings[name] for name in ("at_step", "autoencoder") if name in settings}
    return branch.diagnostics.settings["config"] | chosen


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _notes(sweep: Sweep, metric: str) -> list[str]:
    about, generators = sweep.evaluation, sweep.generators.values()
    scales = {part.label: evaluation.sampling_of(about, part).guidance_scale for part in generators}
    guidance = ", ".join(f"{label} {scale:g}" for label, scale in scales.items())
    guidance = f"{next(iter(scales.values())):g}" if len(set(scales.values())) == 1 else guidance
    has_start = bool(sweep.start.autoencoder or sweep.start.config)
    of_distance = metric.removeprefix("s") in {names.distance for names in EXTRACTORS.values()}  # pooled or spatial
    bias = "biased upward with so few samples, equally for all arms. " if of_distance else ""
    shifted = [arm.label for arm in sweep.autoencoders.values() if arm.seed_offset]
    other_seeds = f"; of {', '.join(shifted)} the fine-tuning has other seeds, by design" if shifted else ""
    common_start = ", and the start autoencoder is one for all" if has_start else ""
    return [
        f"{find_metric(metric).full_name} of {about.num_images} samples of the averaged weights (guidance "
        f"{guidance}, 1 being none) against {about.num_images} held-out images, evenly spaced: "
        f"{bias}Compare it within this report only.",
        "A seed sets the order of the images, transforms and posterior samples of the fine-tuning, and order, start "
        f"weights, times and noise of the generator. Arms share all of it{common_start}{other_seeds}.",
        f"Sample grids use the same starting noise in all arms and guidance {about.grid_guidance_scale:g}.",
    ]


def _library_notes(plan: Plan, root: Path) -> list[str]:
    installed = installed_libraries()
    return [
        f"{count} parts were made with {name} {there}, the others with {installed[name]}."
        for (name, there), count in sorted(other_libraries(plan.nodes, root, installed).items())
    ]
