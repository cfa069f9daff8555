"""What a sweep does, as a graph of nodes, and where each node stands in it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twostage.analysis.records import StoppedArm
from twostage.graph.node import Node
from twostage.parts import evaluation, generator, reference
from twostage.parts.autoencoder import AUTOENCODER, config, measuring_config
from twostage.parts.diagnostics import DIAGNOSTICS
from twostage.parts.evaluation import EVALUATION
from twostage.parts.generator import GENERATOR
from twostage.parts.latents import LATENTS
from twostage.parts.part import read_anew
from twostage.parts.ready import READY
from twostage.parts.reference import REFERENCE
from twostage.parts.snapshot import SNAPSHOT
from twostage.schema import ArmSettings, Start, Sweep

START_FOLDER = "{start}/autoencoder"


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator of a branch, and its measurements by training step."""

    training: Node
    evaluations: dict[int, Node]


@dataclass(frozen=True)
class Branch:
    """All that is done for one arm and one seed.

    Args:
        arm, seed: of the sweep.
        training: of the autoencoder; None where it was ready.
        autoencoder: the node that leaves it; the training itself, unless a snapshot is taken.
        diagnostics, latents: what is done with it.
        generators: by name.
    """

    arm: str
    seed: int
    training: Node | None
    autoencoder: Node
    diagnostics: Node
    latents: Node
    generators: dict[str, TrainedGenerator]

    def stage_one(self) -> Iterator[Node]:
        """The autoencoder and its measurement."""
        if self.training is not None and self.training is not self.autoencoder:
            yield self.training
        yield from (self.autoencoder, self.diagnostics)

    def nodes(self) -> Iterator[Node]:
        """Inputs before those that need them."""
        yield from self.stage_one()
        yield self.latents
        for each in self.generators.values():
            yield each.training
            yield from each.evaluations.values()


@dataclass(frozen=True)
class Plan:
    """The graph of a sweep.

    Args:
        reference: the real images that samples are compared with.
        branches: one per seed and arm.
        start, start_diagnostics: the common start of trained arms; None where there is none.
    """

    reference: Node
    branches: list[Branch] = field(default_factory=list)
    start: Node | None = None
    start_diagnostics: Node | None = None

    def placed(self) -> Iterator[tuple[Branch | None, Node]]:
        """Every node with the branch that it stands in (None: what all share), inputs before those that need them.

        Nodes of equal address are the same work in several places.
        """
        for node in (self.start, self.start_diagnostics, self.reference):
            if node is not None:
                yield None, node
        for branch in self.branches:
            for node in branch.nodes():
                yield branch, node

    @property
    def nodes(self) -> list[Node]:
        return [node for _, node in self.placed()]

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(branch.seed for branch in self.branches))

    def part(self, seeds: Collection[int], stopped: Iterable[StoppedArm] = ()) -> "Plan":
        """The same with some of its seeds, and of arms that were stopped with those that they had."""
        had = {each.arm: each.seeds for each in stopped}
        kept = [each for each in self.branches if each.seed in seeds and each.seed in had.get(each.arm, seeds)]
        return replace(self, branches=kept)

    def branch(self, arm: str, seed: int) -> Branch:
        return next(branch for branch in self.branches if (branch.arm, branch.seed) == (arm, seed))


def plan(sweep: Sweep, seeds: Sequence[int] | None = None) -> Plan:
    """The graph of a sweep.

    Args:
        seeds: some of the sweep's; None takes all.

    Raises:
        ValueError: naming a config that cannot be read.
    """
    read_anew()
    first = {"config": measuring_config(next(iter(sweep.autoencoders.values())))}
    start = _start(sweep.start)
    measured = DIAGNOSTICS.node("start/diagnostics", first, {"autoencoder": start}) if start else None
    settings = {"data": first["config"]["data"]} | reference.image_settings(sweep.evaluation)
    images = REFERENCE.node("reference/images", settings)
    steps = _asked_steps(sweep, START_FOLDER if start else None)
    branches: list[Branch] = []
    for seed in sweep.seeds if seeds is None else seeds:
        arms = {name: arm for name, arm in sweep.autoencoders.items() if arm.config}
        begun = START_FOLDER if start else None
        trained = {name: config(arm, seed + arm.seed_offset, begun) for name, arm in arms.items()}
        branches += [_branch(sweep, name, trained.get(name), steps, seed, start, images) for name in sweep.autoencoders]
    return Plan(images, branches, start, measured)


def _start(start: Start) -> Node | None:
    if start.autoencoder is not None:
        return READY.node("start/autoencoder", {"autoencoder": start.autoencoder})
    if start.config is None:
        return None
    return AUTOENCODER.node("start/autoencoder", {"config": config(start, 0, None), "at_steps": []})


def _asked_steps(sweep: Sweep, begun: str | None) -> dict[str, list[int]]:
    """Steps after which the training of each arm is kept: those of all arms that train alike, whatever their seeds."""
    arms = {name: arm for name, arm in sweep.autoencoders.items() if arm.config and arm.autoencoder is None}
    alike = {name: AUTOENCODER.node(name, {"config": config(arm, 0, begun)}).address for name, arm in arms.items()}
    asked: dict[str, set[int]] = {}
    for name, arm in arms.items():
        asked.setdefault(alike[name], set()).update([] if arm.at_step is None else [arm.at_step])
    return {name: sorted(asked[address]) for name, address in alike.items()}


def _branch(
    sweep: Sweep,
    name: str,
    trained: dict[str, Any] | None,
    steps: dict[str, list[int]],
    seed: int,
    start: Node | None,
    images: Node,
) -> Branch:
    """One arm with one seed; `trained` is its config with this seed, `steps` the kept ones of each arm's training."""
    where, arm = f"{name}/seed{seed}", sweep.autoencoders[name]
    training, autoencoder = _autoencoder(arm, where, trained, steps.get(name, []), start)
    source = {"autoencoder": autoencoder}
    diagnostics = DIAGNOSTICS.node(f"{where}/diagnostics", {"config": measuring_config(arm)}, source)
    training_images_alone = {"model.init_args.cache.validation": False}
    encoded = replace(arm, overrides=arm.overrides | sweep.generator_images | training_images_alone)
    latents = LATENTS.node(f"{where}/latents", {"config": measuring_config(encoded)}, source)
    generators = {
        each: _generator(sweep, each, where, seed, source | {"latents": latents}, images) for each in sweep.generators
    }
    return Branch(name, seed, training, autoencoder, diagnostics, latents, generators)


def _autoencoder(
    arm: ArmSettings, where: str, trained: dict[str, Any] | None, at_steps: list[int], start: Node | None
) -> tuple[Node | None, Node]:
    """The training of an arm's autoencoder, and the node that leaves it; they differ where a snapshot is taken."""
    if arm.autoencoder is not None:
        return None, READY.node(f"{where}/autoencoder", {"autoencoder": arm.autoencoder})
    begun = {"start": start} if start else {}
    counted = AUTOENCODER.node(f"{where}/autoencoder", {"config": trained, "at_steps": []}, begun)
    # What is kept on the way changes no training: a snapshot has a step made that is not there.
    training = replace(counted, settings={"config": trained, "at_steps": at_steps})
    if arm.at_step is None:
        return training, training
    settings: dict[str, Any] = {"config": trained, "at_step": arm.at_step}
    return training, SNAPSHOT.node(f"{where}/snapshot", settings, {"training": training} | begun)


def _generator(
    sweep: Sweep, name: str, where: str, seed: int, inputs: dict[str, Node], images: Node
) -> TrainedGenerator:
    part, steps = sweep.generators[name], sweep.evaluation.at_steps
    settings = {"config": generator.config(part, seed, steps[-1]), "at_steps": steps}
    training = GENERATOR.node(f"{where}/generators/{name}", settings, inputs)
    compared = {"autoencoder": inputs["autoencoder"], "generator": training, "reference": images}
    # Resamples are asked for of one seed alone. They count for nothing: it is not measured anew when others are added.
    resampled = {"num_resamples": sweep.evaluation.num_resamples} if len(sweep.seeds) == 1 else {}
    evaluations = {}
    measured = evaluation.settings(sweep.evaluation, part, seed, num_resamples=0)
    for step in steps:
        settings = measured | {"at_step": step}
        counted = EVALUATION.node(f"{where}/metrics/{name}/step{step}", settings, compared)
        evaluations[step] = replace(counted, settings=settings | resampled)
    return TrainedGenerator(training, evaluations)
