"""What a sweep file says: its keys, read and checked before anything runs, with the line of every mistake."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dit.sweeps.configs import load_config, value_at
from eqvae.autoencoders.loading import PACKAGED
from eqvae.evaluation.features import METRIC_NAMES

SINGLE_FILES = (".ckpt", ".safetensors", ".pt", ".pth")
"""Ends of the names of autoencoders in one file."""


@dataclass
class Generator:
    """A generator: a config of `train.py` and what to change in it.

    Args:
        label: short name for people.
        config: YAML file of `train.py fit`.
        description: one sentence for the report.
        overrides: dotted key of that file -> value.
    """

    label: str = MISSING
    config: str = MISSING
    description: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Arm(Generator):
    """An autoencoder under comparison: trained from the start by its config, or ready.

    Args:
        autoencoder: a ready one (folder, packaged name or hub id), which is not trained; `config` then says on which
            pictures it is measured and which ones are encoded.
        at_step: take the weights after so many steps of the training instead of the last ones.
    """

    autoencoder: str | None = None
    at_step: int | None = None


@dataclass
class Start:
    """The autoencoder that trained arms start from: a ready one (`autoencoder`), or a config that trains it."""

    autoencoder: str | None = None
    config: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Evaluation:
    """When and how generators are measured.

    Args:
        at_steps: training steps whose averaged weights are sampled, ascending; the last one ends the training.
        num_images: generated pictures of each measurement, and real ones they are compared with.
        sampler, num_inference_steps: as in `sample.py`; null takes the objective's own sampler.
        grid_images: pictures of the sample grids.
        guidance_scale: guidance of the measurements; 1 is none.
        grid_guidance_scale: guidance of the grids, for people.
        extractor: features of the distances.
        extractor_weights: local weights of Inception-v3.
        metric: the speed-up is computed on it, lower is better; null takes the extractor's Fréchet distance.
        num_resamples: Fréchet distances of resampled pictures at each point, for the interval where there is one seed.
    """

    at_steps: list[int] = MISSING
    num_images: int = 1000
    sampler: str | None = None
    num_inference_steps: int = 25
    guidance_scale: float = 1.0
    grid_images: int = 40
    grid_guidance_scale: float = 1.0
    extractor: str = "efficientnet_lite0"
    extractor_weights: str | None = None
    metric: str | None = None
    num_resamples: int = 50


@dataclass
class Executor:
    """Where nodes run.

    Args:
        kind: "local", processes of this machine, or "submitit", jobs of a cluster.
        num_workers: local: processes side by side; 0 runs in this process; null: one per CUDA device, else one.
        cluster: submitit: "slurm", or "local" to try the same path on one machine.
        parameters: submitit: of every job, as `submitit.AutoExecutor.update_parameters` takes them.
        training_parameters: submitit: on top of them for jobs that train, such as several devices.
    """

    kind: str = "local"
    num_workers: int | None = None
    cluster: str = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)
    training_parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Sweep:
    """A sweep file.

    Args:
        name: of its folder below `root`.
        title, question: of the report.
        control: the arm that the others are compared with.
        start: common start of all trained arms.
        autoencoders: arms by name.
        generators: by name.
        generator_pictures: where generators learn from other pictures than autoencoders: what to change in the arms'
            configs when the generators' pictures are encoded, by dotted key.
        seeds: each with its own order, transforms, noise and start weights.
        root: folder of all sweeps and of the store that they share.
    """

    name: str = MISSING
    title: str = MISSING
    question: str = ""
    control: str = MISSING
    start: Start = field(default_factory=Start)
    autoencoders: dict[str, Arm] = MISSING
    generators: dict[str, Generator] = MISSING
    generator_pictures: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = MISSING
    evaluation: Evaluation = field(default_factory=Evaluation)
    executor: Executor = field(default_factory=Executor)
    root: str = "runs"


def load_sweep(path: str | Path, overrides: list[str]) -> Sweep:
    """Read and check a sweep file; `overrides` are `key=value` in OmegaConf's dotted notation.

    Raises:
        ValueError: naming the file, the line and the key that is unknown, missing or impossible.
    """
    if not Path(path).is_file():
        raise ValueError(f"no sweep file at {path}")
    places = Places(path, overrides)
    try:
        loaded = OmegaConf.load(path)
        if not OmegaConf.is_dict(loaded):
            raise ValueError(f"{places.of('')}: is a list, not keys with values")
        merged = OmegaConf.merge(OmegaConf.structured(Sweep), loaded, OmegaConf.from_dotlist(overrides))
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ValueError(f"{places.of(missing[0])}: lacks {', '.join(missing)}")
        OmegaConf.resolve(merged)
        sweep = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"{places.of(error.full_key or '')}: {str(error).splitlines()[0]}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"sweep file {path}, line {line}: {error.problem}") from None
    except RecursionError:
        raise ValueError(f"sweep file {path}: a list or an anchor contains itself") from None
    found = [f"{places.of(key)}: {key}: {problem}" for key, problem in problems(sweep)]
    if found:
        raise ValueError("; ".join(found))
    return sweep


def problems(sweep: Sweep) -> list[tuple[str, str]]:
    """(key, what is wrong with it) of a sweep that has all its keys."""
    steps, start, executor = sweep.evaluation.at_steps, sweep.start, sweep.executor
    metrics = (METRIC_NAMES.get(sweep.evaluation.extractor), "kid", None)
    trained = [name for name, arm in sweep.autoencoders.items() if arm.autoencoder is None]
    checks = [
        ("name", "must be one folder name", not sweep.name or Path(sweep.name).name != sweep.name),
        ("name", "is taken by the store of all sweeps", sweep.name == "store"),
        ("control", "is none of autoencoders", sweep.control not in sweep.autoencoders),
        ("autoencoders", "needs the control and at least one more arm", len(sweep.autoencoders) < 2),
        ("generators", "is empty", not sweep.generators),
        ("seeds", "is empty or repeats one", not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds)),
        ("evaluation.at_steps", "must ascend from 1 or more", not steps or steps != sorted({*steps}) or steps[0] < 1),
        ("evaluation.extractor", f"use one of {', '.join(METRIC_NAMES)}", metrics[0] is None),
        ("evaluation.metric", f"use {metrics[0]} or kid", sweep.evaluation.metric not in metrics),
        ("evaluation.num_images", "needs at least 4", sweep.evaluation.num_images < 4),
        ("start", "give either autoencoder or config", bool(start.autoencoder) and bool(start.config)),
        ("start", "give autoencoder or config: arms are trained from it",
         bool(trained) and not start.autoencoder and not start.config),
        ("executor.kind", "use local or submitit", executor.kind not in ("local", "submitit")),
        ("executor.cluster", "use slurm or local", executor.cluster not in ("slurm", "local")),
        ("executor.num_workers", "must not be negative", (executor.num_workers or 0) < 0),
    ]  # fmt: skip
    found = [(key, problem) for key, problem, wrong in checks if wrong]
    for key, part in parts(sweep).items():
        found += _part_problems(key, part)
    if start.autoencoder is not None:
        found += _folder_problems("start.autoencoder", start.autoencoder)
    return found


def parts(sweep: Sweep) -> dict[str, Generator | Start]:
    """Everything that has a config of `train.py`, by its key in the sweep file."""
    found: dict[str, Generator | Start] = {"start": sweep.start} if sweep.start.config else {}
    found |= {f"autoencoders.{name}": arm for name, arm in sweep.autoencoders.items()}
    return found | {f"generators.{name}": generator for name, generator in sweep.generators.items()}


def _part_problems(key: str, part: Generator | Start) -> list[tuple[str, str]]:
    try:
        config = load_config(part.config, part.overrides)
    except ValueError as error:
        return [(f"{key}.config", str(error))]
    if not isinstance(part, Arm):
        return []
    found = _folder_problems(f"{key}.autoencoder", part.autoencoder) if part.autoencoder is not None else []
    if part.at_step is not None:
        last = value_at(config, "trainer.max_steps")
        if part.autoencoder is not None:
            found.append((f"{key}.at_step", "a ready autoencoder has no steps"))
        elif not isinstance(last, int) or not 1 <= part.at_step <= last:
            found.append((f"{key}.at_step", f"must lie in 1 to trainer.max_steps, {last}"))
    return found


def _folder_problems(key: str, source: str) -> list[tuple[str, str]]:
    """What keeps a ready autoencoder from being read; of a hub id (owner/name) only loading can tell."""
    if source.endswith(SINGLE_FILES):
        return []  # looked for before anything runs (`check_data`): a plan can be made without it
    folder = Path(source) if Path(source).exists() else Path(str(PACKAGED / source))
    if not folder.exists() and source.count("/") == 1 and not source.startswith((".", "/", "runs/")):
        return []
    if not folder.is_dir():
        return [(key, f"no folder at {source}, and no packaged autoencoder of that name")]
    try:
        (folder / "config.json").read_bytes()
    except OSError as error:
        return [(key, f"the folder {folder} cannot be read: config.json: {error.strerror}")]
    if not any(folder.glob("*.safetensors")):
        return [(key, f"the folder {folder} has no .safetensors weights")]
    return []


class Places:
    """Where a key of a sweep stands: "sweep file F, line N", or "command line"."""

    def __init__(self, path: str | Path, overrides: list[str]):
        self.path = path
        self.overridden = [override.split("=", 1)[0] for override in overrides]

    def of(self, key: str) -> str:
        if any(key == other or key.startswith(f"{other}.") for other in self.overridden):
            return f"command line, {key}"
        return f"sweep file {self.path}, line {self._line(key)}"

    def _line(self, key: str) -> int:
        """Line of the deepest part of a dotted key that the file has; keys of `overrides` hold dots themselves."""
        node, line = yaml.compose(Path(self.path).read_text(), Loader=yaml.SafeLoader), 1
        while isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if key == name.value or key.startswith((f"{name.value}.", f"{name.value}[")):
                    key, node, line = key[len(name.value) + 1 :], value, name.start_mark.line + 1
                    break
            else:
                break
        return line
