"""What can be wrong with a sweep, found before anything runs: (key of the sweep file, what is wrong with it)."""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dit.labels import require_choice
from eqvae.autoencoders.loading import SOURCE_KEYS, load_autoencoder
from eqvae.autoencoders.places import PACKAGED
from eqvae.commands import nearest
from eqvae.evaluation.features import require_fitting_weights
from eqvae.evaluation.generation import GENERATION_METRICS, measurable
from eqvae.evaluation.metric import EXTRACTORS
from eqvae.packaged import TRAINING, find_config
from eqvae.ranges import require_number
from eqvae.stream import divide_batch
from eqvae.training.cli import TrainCLI
from twostage.analysis.intervals import FIRST_LOOK, SEQUENTIAL_LEVELS
from twostage.analysis.records import START
from twostage.analysis.treatment import EQUIVARIANCE
from twostage.arm_checks import LARGEST_SEED, arm_problems
from twostage.configs import flatten, require_readable, resolved_config, value_at
from twostage.graph.node import STORE
from twostage.parts.contents import files_of
from twostage.parts.evaluation import REAL_LABELS
from twostage.parts.sizes import source_name
from twostage.sampling_checks import sampling_problems
from twostage.schema import ArmSettings, Evaluation, Start, Sweep, Trained, trained_parts

SINGLE_FILES = (".ckpt", ".safetensors", ".pt", ".pth")
"""Ends of the names of autoencoders in one file."""

Problem = tuple[str, str]


def problems(sweep: Sweep) -> list[Problem]:
    """(key, what is wrong with it) of a sweep that has all its keys."""
    if found := _list_problems(sweep):
        return found
    steps, start, executor = sweep.evaluation.at_steps, sweep.start, sweep.executor
    checks = [
        ("name", "must be one folder name", not sweep.name or Path(sweep.name).name != sweep.name),
        ("name", "is taken by the store of all sweeps", sweep.name == STORE),
        ("control", f"is none of autoencoders: {nearest(sweep.control, sweep.autoencoders)}",
         sweep.control not in sweep.autoencoders),
        ("autoencoders", "needs the control and at least one more arm", len(sweep.autoencoders) < 2),
        (f"autoencoders.{START}", "is the name of the common start in results", START in sweep.autoencoders),
        ("generators", "is empty", not sweep.generators),
        ("seeds", "is empty or repeats one: give different whole numbers, such as [0, 1, 2]",
         not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds)),
        ("until_decided", f"needs {FIRST_LOOK} to {max(SEQUENTIAL_LEVELS)} seeds, there are {len(sweep.seeds)}",
         sweep.until_decided and not FIRST_LOOK <= len(sweep.seeds) <= max(SEQUENTIAL_LEVELS)),
        ("racing", "stops arms at the looks of until_decided: set that to true",
         sweep.racing and not sweep.until_decided),
        ("smallest_speed_up", "is a rule of racing: set that to true, or leave this out",
         sweep.smallest_speed_up is not None and not sweep.racing),
        ("evaluation.at_steps", "must ascend from 1 or more", not steps or steps != sorted({*steps}) or steps[0] < 1),
        ("evaluation.sampling.seed", "is each of seeds in turn: leave it out", sweep.evaluation.sampling.seed != 0),
        ("evaluation.num_images", "needs at least 4", sweep.evaluation.num_images < 4),
        ("start", "give either autoencoder or config", bool(start.autoencoder) and bool(start.config)),
        ("executor.kind", "use local or submitit", executor.kind not in ("local", "submitit")),
        ("executor.cluster", "use slurm or local", executor.cluster not in ("slurm", "local")),
        ("executor.num_workers", "must not be negative", (executor.num_workers or 0) < 0),
    ]  # fmt: skip
    found = [(key, problem) for key, problem, wrong in checks if wrong] + list(_number_problems(sweep))
    found += _metric_problems(sweep.evaluation) + _label_problems(sweep.evaluation.labels)
    named = {"autoencoders": sweep.autoencoders, "generators": sweep.generators}
    found += [
        (f"{kind}.{name}", "must be one folder name")
        for kind, those in named.items()
        for name in those
        if Path(name).name != name or name in (".", "..")
    ]
    for key, part in trained_parts(sweep).items():
        found += _part_problems(key, part)
    for name, generator in sweep.generators.items():
        if not any(key.startswith(f"generators.{name}.") for key, _ in found):
            found += sampling_problems(name, generator, sweep.evaluation)
    if start.autoencoder is not None:
        found += _ready_problems("start.autoencoder", start.autoencoder)
    return found or list(arm_problems(sweep))


def _metric_problems(evaluation: Evaluation) -> list[Problem]:
    """What keeps the metrics from being measured, or the speed-up from being computed on one of them."""
    if evaluation.extractor not in EXTRACTORS:
        return [("evaluation.extractor", f"use one of {', '.join(EXTRACTORS)}")]
    if not set(evaluation.metrics) <= set(known := measurable(evaluation.extractor)):
        return [("evaluation.metrics", f"use some of {', '.join(known)}")]
    try:
        require_fitting_weights(evaluation.extractor, evaluation.extractor_weights)
    except ValueError as error:
        return [("evaluation.extractor_weights", str(error))]
    names = EXTRACTORS[evaluation.extractor]
    wanted = evaluation.metric or names.distance
    givers = {
        quantity.name: metric.name
        for metric in (GENERATION_METRICS[name] for name in known)
        for quantity in metric.quantities(names)
        if quantity.direction == "lower"
    }
    if wanted not in givers:
        return [("evaluation.metric", f"use one of {', '.join(givers)}")]
    if givers[wanted] not in evaluation.metrics:
        return [("evaluation.metrics", f"lacks {givers[wanted]}, which the speed-up is computed on")]
    return []


def _label_problems(how: str) -> list[Problem]:
    try:
        if how != REAL_LABELS:
            require_choice(how)
    except ValueError as error:
        return [("evaluation.labels", str(error))]
    return []


def _list_problems(sweep: Sweep) -> list[Problem]:
    """Entries of lists that are of another kind: OmegaConf lets lists, mappings and null through."""
    lists: list[tuple[str, Sequence[object], type]] = [("seeds", sweep.seeds, int)]
    lists.append(("evaluation.at_steps", sweep.evaluation.at_steps, int))
    lists.append(("evaluation.metrics", sweep.evaluation.metrics, str))
    return [
        (f"{key}[{place}]", f"must be {'a whole number' if kind is int else 'a name'}, got {value!r:.40}")
        for key, values, kind in lists
        for place, value in enumerate(values)
        if type(value) is not kind
    ]


def _number_problems(sweep: Sweep) -> Iterator[Problem]:
    """Numbers that nothing can be sampled or seeded with: found here, not at the end of a training."""
    about = sweep.evaluation
    numbers: list[tuple[str, float | None, dict[str, float]]] = [
        ("smallest_speed_up", sweep.smallest_speed_up, {"least": 1}),
        ("evaluation.grid_guidance_scale", about.grid_guidance_scale, {"least": 0}),
        ("evaluation.grid_images", about.grid_images, {"least": 1}),
        ("evaluation.num_resamples", about.num_resamples, {"least": 0}),
        *((f"seeds[{place}]", seed, {"least": 0, "most": LARGEST_SEED}) for place, seed in enumerate(sweep.seeds)),
    ]
    for key, number, limits in numbers:
        try:
            require_number("it", 1 if number is None else number, **limits)
        except ValueError as error:
            yield key, str(error).removeprefix("it ")


def _part_problems(key: str, part: Trained | Start) -> list[Problem]:
    assert part.config is not None, "what trains has one"
    try:
        config = resolved_config(part.config, part.overrides)
        require_readable(config)
    except ValueError as error:
        return [(f"{key}.config", str(error))]
    where = f"{key}.overrides" if part.overrides else f"{key}.config"
    if not isinstance(part, ArmSettings):
        return _batch_problems(where, config)
    found = _batch_problems(where, config) if part.autoencoder is None else []
    found += _held_out_problems(where, config)
    if value_at(config, "trainer.limit_val_batches") == 0:
        found.append((where, "trainer.limit_val_batches 0 would leave the autoencoder unmeasured: give 1 or more"))
    found += _ready_problems(f"{key}.autoencoder", part.autoencoder) if part.autoencoder is not None else []
    if part.treatment not in (None, EQUIVARIANCE):
        found.append((f"{key}.treatment", f"use {EQUIVARIANCE}, or leave it out"))
    if part.seed_offset < 0:
        found.append((f"{key}.seed_offset", "must be 0 or more"))
    if part.seed_offset and part.autoencoder is not None:
        found.append((f"{key}.seed_offset", "a ready autoencoder is not trained, and has no seed"))
    if part.at_step is not None:
        last = value_at(config, "trainer.max_steps")
        if part.autoencoder is not None:
            found.append((f"{key}.at_step", "a ready autoencoder has no steps"))
        elif not isinstance(last, int) or not 1 <= part.at_step <= last:
            found.append((f"{key}.at_step", f"must lie in 1 to trainer.max_steps, {last}"))
    return found


def _batch_problems(key: str, config: dict[str, Any]) -> list[Problem]:
    """A global batch that the devices which a config names, and its accumulation, do not divide."""
    size = value_at(config, "data.init_args.global_batch_size")
    accumulation = ("trainer.accumulate_grad_batches", "model.init_args.accumulate_batches")
    keys = ("trainer.devices", "trainer.num_nodes", *accumulation)
    counts = [value_at(config, name) or 1 for name in keys]
    if not all(isinstance(count, int) and count > 0 for count in (*counts, size)):
        return []  # not an explicit number: it is counted where the run starts
    try:
        divide_batch(size, counts[0] * counts[1], counts[2] * counts[3])
    except ValueError as error:
        return [(key, str(error))]
    return []


def _held_out_problems(key: str, config: dict[str, Any]) -> list[Problem]:
    """Samples that would be measured against images which were learned."""
    train, held_out = (value_at(config, f"data.init_args.{name}") for name in ("train", "validation"))
    if train is None:
        return []  # another data module
    if held_out is None:
        return [(key, "data.init_args.validation null would measure samples against training images: give others")]
    if _without_count(train) == _without_count(held_out):
        return [(key, "data.init_args.validation names the images of data.init_args.train: give others")]
    return []


def _without_count(source: dict[str, Any]) -> dict[str, Any]:
    """A source but for how many images of it are drawn: of procedural ones the shorter begins the longer."""
    arguments = source.get("init_args") or {}
    return source | {"init_args": {name: value for name, value in arguments.items() if name != "num_images"}}


def _ready_problems(key: str, source: Any) -> list[Problem]:
    """What keeps a ready autoencoder from being read: its mapping, or its folder."""
    name = source_name(source)
    if not name or (isinstance(source, dict) and not source.keys() <= SOURCE_KEYS):
        beside = ", ".join(sorted(SOURCE_KEYS - {"source"}))
        return [(key, f"must be a folder, file, packaged name or hub id, or a mapping of source and {beside}")]
    folder = Path(name) if os.path.exists(name) else Path(str(PACKAGED / name))
    if not os.path.isdir(folder):
        return []  # a single file, a hub id, or not there yet
    try:
        (folder / "config.json").read_bytes()
    except OSError as error:
        return [(key, f"the folder {folder} cannot be read: config.json: {error.strerror}")]
    if not any(folder.glob("*.safetensors")):
        return [(key, f"the folder {folder} has no .safetensors weights")]
    return []


def config_problems(sweep: Sweep) -> list[Problem]:
    """What the parser of `train.py` finds in the configs with their overrides; nothing is built."""
    found: dict[tuple[str, ...], str | None] = {}  # arms that differ in what follows the training have one config
    asked: dict[str, tuple[str, ...]] = {}
    for key, part in trained_parts(sweep).items():
        assert part.config is not None, "what trains has one"
        asked[key] = (str(part.config), *(f"--{name}={_text(value)}" for name, value in part.overrides.items()))
        if asked[key] not in found:
            found[asked[key]] = _read_by_parser(*asked[key])
    wrong = ((key, words[0], found[words]) for key, words in asked.items())
    return [(key, f"{config} with its overrides: {error}") for key, config, error in wrong if error is not None]


def _read_by_parser(config: str, *options: str) -> str | None:
    """What the parser of `train.py` says of a config, if anything is wrong with it."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),  # that this process has arguments of its own
        contextlib.suppress(SystemExit),  # after printing the config
    ):
        try:
            TrainCLI(["fit", "--config", str(find_config(config, TRAINING)), *options, "--print_config"])
        except ValueError as error:
            return str(error)
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def data_problems(sweep: Sweep) -> list[Problem]:
    """Ready autoencoders, and folders and files of the arms' images, that are not there."""
    arms = {f"autoencoders.{name}": arm for name, arm in sweep.autoencoders.items()}
    found = []
    for key, part in {"start": sweep.start, **arms}.items():
        if part.autoencoder is not None:
            found += [(f"{key}.autoencoder", problem) for problem in _unavailable(part.autoencoder)]
    generators = {f"generators.{name}": generator for name, generator in sweep.generators.items()}
    for key, part in (arms | generators).items():
        found += [(f"{key}.config", problem) for problem in _missing_data(part, {})]
    if sweep.generator_images:
        changed = [_missing_data(arm, sweep.generator_images) for arm in arms.values()]
        found += [("generator_images", problem) for problems in changed for problem in problems]
    return found


def _unavailable(source: str | dict[str, Any]) -> Iterator[str]:
    """That a ready autoencoder is not there, or is a single file that cannot be read, or does not tell its family."""
    name = source_name(source)
    if name is None or not _may_exist(name):
        yield f"nothing at {name}, and no packaged one of that name"
    elif os.path.isfile(name):
        try:
            load_autoencoder(source)
        except ValueError as error:
            yield str(error)


def _may_exist(source: str) -> bool:
    """Whether an autoencoder is here or, going by its form (owner/name), may be had from the hub."""
    if os.path.exists(source) or os.path.isdir(str(PACKAGED / source)):
        return True
    local = source.endswith(SINGLE_FILES) or source.startswith((".", "/")) or Path(source).parts[0] == "runs"
    return source.count("/") == 1 and not local


def _missing_data(part: Trained, changes: dict[str, Any]) -> Iterator[str]:
    for name, value in flatten(resolved_config(part.config, part.overrides | changes)["data"]):
        if name.endswith("init_args.root") and not _is_readable(Path(value)):
            yield f"{part.config}, data.{name}: no readable folder at {value}"
        is_here = isinstance(value, str) and ("://" not in value or value.startswith("file://"))
        if name.endswith("init_args.files") and is_here and not files_of(value):
            yield f"{part.config}, data.{name}: no file matches {value}"


def _is_readable(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(True for _ in folder.iterdir())
    except OSError:
        return False
