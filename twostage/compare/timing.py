"""What the parts of a comparison take on this machine: each is done once in small, as the sweep does it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from eqvae.cores import num_cores, threads_each
from eqvae.data import ImageSource
from eqvae.plugins import find_class
from twostage.compare.budget import GRID_IMAGES, SIZES, Costs, Rung, Work, affordable
from twostage.compare.contestants import Field
from twostage.compare.files import SWEEP, contents, write_files
from twostage.compare.images import Images
from twostage.graph.node import Node
from twostage.graph.store import Task, do_task, last_lines
from twostage.loading import load_sweep
from twostage.parts import run_node
from twostage.planner import Plan, plan

TUNING_STEPS, TRAINING_STEPS = 6, 12
FEW, MORE = 10, 40  # samples of two measurements, whose difference is what a sample takes
ENCODED = 96  # images, in batches of 32
LEAST_SHARE = 0.25  # of a measurement that its samples take: on a busy machine the difference may say nothing
LARGEST_SHARE = 0.1  # of the budget that timing takes: a size that would begin later is not timed
REPORT_SECONDS = 15.0  # to draw and write a report; on two slow cores


@dataclass(frozen=True)
class Taken:
    """What a part took: seconds in all, and of each of the steps or images that it reported, without the first."""

    seconds: float
    each: float


def take_times(field: Field, images: Images, work: Work, budget: float) -> Costs:
    """Seconds of every kind of part; of generators those sizes that the budget may hold.

    Raises:
        ValueError: with the reason of a part that fails, and the end of its log.
    """
    started = time.monotonic()
    with TemporaryDirectory(prefix="eqvae-timing-") as folder, _threads(work.num_workers):
        reading, small = _small_images(images, Path(folder))
        bench = _Bench(Path(folder), field, small)
        costs = replace(_of_the_smallest(bench, field, reading), look=_look(bench, work))
        for size in list(SIZES)[1:]:
            late = time.monotonic() - started > LARGEST_SHARE * budget
            if late or not affordable(size, work, costs, budget):
                break
            costs = _with_size(bench, costs, size)
    return costs


def choose_workers(num_arms: int) -> int:
    """Processes side by side: one per device or core, at most one per arm; 0, this process, where it would be one."""
    devices = torch.cuda.device_count()
    number = min(num_arms, devices or num_cores())
    return number if number > 1 else 0


@contextmanager
def _threads(num_workers: int) -> Iterator[None]:
    """Compute with as many threads as one of so many workers has."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, threads_each(num_workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Bench:
    """Parts of a comparison in small, done in a store of their own."""

    def __init__(self, folder: Path, field: Field, images: Images):
        self.folder, self.field, self.images = folder, field, images
        self.taken: dict[str, Taken] = {}
        self.arm = field.contestants[0].name

    def plan(self, size: str, num_images: int) -> Plan:
        folder = self.folder / f"{size}-{num_images}"
        folder.mkdir()
        rung = Rung(size, TRAINING_STEPS, num_images, 3)
        write_files(folder, contents(folder, self.field, self.images, rung, TUNING_STEPS, 0))
        return plan(load_sweep(folder / SWEEP, [], to_run=True), [0])

    def do(self, node: Node) -> Taken:
        """Do a part, after those that it needs."""
        for other in node.inputs.values():
            self.do(other)
        if node.address not in self.taken:
            self.taken[node.address] = self._do(node)
        return self.taken[node.address]

    def _do(self, node: Node) -> Taken:
        ticks: list[tuple[float, int]] = []
        task = Task.of(node, self.folder)
        started = time.perf_counter()

        def progress(done: int, total: int, images: int) -> None:
            ticks.append((time.perf_counter(), done if node.trains else images))

        outcome = do_task(task, run_node, progress)
        if outcome.state != "done":
            raise ValueError(
                f"timing {node.kind}: {outcome.error or outcome.state} ({' '.join(last_lines(task)[-2:])})"
            )
        steps = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(ticks) if b[1] > a[1]]
        return Taken(time.perf_counter() - started, median(steps) if steps else 0.0)


@dataclass(frozen=True)
class _Reading:
    """Seconds to open the training images and to read one, and to do both with the held-out ones that are read here."""

    opening: float
    train_image: float
    held_out: float


def _of_the_smallest(bench: _Bench, field: Field, reading: _Reading) -> Costs:
    """Costs with the smallest generator; the more expensive measurement first, for what comes first starts slowly."""
    size = next(iter(SIZES))
    more, few = bench.plan(size, MORE), bench.plan(size, FEW)
    branch = few.branch(bench.arm, 0)
    ready = [few.branch(each.name, 0).autoencoder for each in field.contestants if not each.is_trained]
    taken_over = bench.do(few.start or ready[0]).seconds
    tuning = bench.do(few.branch(field.trained[0].name, 0).autoencoder) if field.trained else Taken(0.0, 0.0)
    tuning_start = _start(tuning, TUNING_STEPS) + reading.opening if field.trained else 0.0
    encoding = bench.do(branch.latents)
    training = bench.do(branch.generators["sit"].training)
    reference = bench.do(more.reference).seconds
    samples = {count: _measure(bench, planned) for count, planned in ((MORE, more), (FEW, few))}
    least = LEAST_SHARE * samples[MORE] / (MORE + GRID_IMAGES)
    per_sample = max(least, (samples[MORE] - samples[FEW]) / (MORE - FEW))
    return Costs(
        ready=taken_over,
        diagnosis=bench.do(branch.diagnostics).seconds + reading.held_out,
        tuning_start=tuning_start,
        tuning_step=tuning.each,
        encoding_start=_start(encoding, ENCODED) + reading.opening,
        encoded_image=encoding.each + reading.train_image,
        reference_image=(reference + reading.held_out) / MORE,
        training_start=_start(training, TRAINING_STEPS),
        training_step={size: training.each},
        measuring_start=max(0.0, samples[FEW] - (FEW + GRID_IMAGES) * per_sample),
        sampled_image={size: per_sample},
        look=0.0,
        report=REPORT_SECONDS,
    )


def _with_size(bench: _Bench, costs: Costs, size: str) -> Costs:
    """The same costs, and those of one more size."""
    planned = bench.plan(size, FEW)
    training = bench.do(planned.branch(bench.arm, 0).generators["sit"].training)
    sampled = (_measure(bench, planned) - costs.measuring_start) / (FEW + GRID_IMAGES)
    larger = max(sampled, *costs.sampled_image.values())
    return replace(
        costs,
        training_step=costs.training_step | {size: max(training.each, *costs.training_step.values())},
        sampled_image=costs.sampled_image | {size: larger},
    )


def _measure(bench: _Bench, planned: Plan) -> float:
    evaluations = planned.branch(bench.arm, 0).generators["sit"].evaluations
    return bench.do(evaluations[TRAINING_STEPS]).seconds


def _start(taken: Taken, number: int) -> float:
    return max(0.0, taken.seconds - number * taken.each)


def _look(bench: _Bench, work: Work) -> float:
    """Seconds to plan a look and, where there are workers, to start one."""
    started = time.perf_counter()
    plan(load_sweep(bench.folder / f"{next(iter(SIZES))}-{FEW}" / SWEEP, []))
    if work.num_workers:
        subprocess.run([sys.executable, "-c", "import twostage.parts"], check=True)
    return 2 * (time.perf_counter() - started)  # and as much to gather what it left


def _small_images(images: Images, folder: Path) -> tuple[_Reading, Images]:
    """How long reading takes, and the first images of both sources, of one class, in files below the folder."""
    found, seconds = {}, {}
    for name, source, number in (("train", images.train, ENCODED), ("held_out", images.held_out, MORE)):
        started = time.perf_counter()
        opened: ImageSource = find_class(source["class_path"])(**source["init_args"])
        first = [opened[0][0]]
        opening = time.perf_counter() - started
        array = torch.stack(first + [opened[index][0] for index in range(1, number)])
        seconds[name] = opening, (time.perf_counter() - started - opening) / number
        np.savez(folder / f"{name}.npz", arr_0=np.ascontiguousarray(array.permute(0, 2, 3, 1).numpy()))
        settings = {"file": str(folder / f"{name}.npz"), "image_size": images.image_size}
        found[name] = {"class_path": "eqvae.data.npz.NpzSource", "init_args": settings}
    (opening, each), (held_out_opening, held_out_each) = seconds["train"], seconds["held_out"]
    reading = _Reading(opening, each, held_out_opening + MORE * held_out_each)
    return reading, Images(found["train"], found["held_out"], ENCODED, MORE, 1, images.image_size)
