"""The keys of a sweep file."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from dit.samplers.settings import SamplingSettings
from twostage.graph.executor import Executor


@dataclass
class Trained:
    """What is trained: a config of `train.py` and what to change in it.

    Args:
        label: short name for people.
        config: YAML file of `train.py fit`, or the name of a packaged one.
        description: one sentence for the report.
        overrides: dotted key of that file -> value.
    """

    label: str = MISSING
    config: str = MISSING
    description: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class GeneratorSettings(Trained):
    """A generator.

    Args:
        sampling: keys of `evaluation.sampling` that differ for this one; another sampler begins with its own defaults.
    """

    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass
class ArmSettings(Trained):
    """An autoencoder under comparison: trained from the start by its config, or ready.

    Args:
        autoencoder: a ready one (folder, single file, packaged name or hub id), which is not trained; `config` then
            says on which images it is measured and which ones are encoded. A mapping gives `source`, and what
            `load_autoencoder` takes beside it: `family` or `config` of a single file, `padding_mode`.
        at_step: take the weights after so many steps of the training instead of the last ones.
        seed_offset: added to the sweep's seed where the autoencoder is trained; its generators keep that seed. Two arms
            that differ in nothing else are what a method that finds differences is to be tried on.
        treatment: "equivariance" of a ready one that was fine-tuned for it: whether it was given is checked. A trained
            one whose config has `transforms` is checked in any case.
    """

    autoencoder: Any = None
    at_step: int | None = None
    seed_offset: int = 0
    treatment: str | None = None


@dataclass
class Start:
    """The autoencoder that trained arms start from: a ready one (`autoencoder`, as of an arm), or a config of it."""

    autoencoder: Any = None
    config: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Evaluation:
    """When and how generators are measured.

    Args:
        at_steps: training steps whose averaged weights are sampled, ascending; the last one ends the training.
        num_images: generated images of each measurement, and real ones they are compared with.
        sampling: how the samples that are measured are made; each seed of the sweep is also that of its samples.
        labels: classes of the samples: "balanced" (equally many images of each), "random", "data" (those of the real
            images that they are compared with), class numbers separated by commas, or the path of given ones, see
            `dit.labels.choose_labels`.
        grid_images: images of the sample grids, of balanced classes.
        grid_guidance_scale: guidance of the grids, for people.
        extractor: features of the distances, a name of `eqvae.evaluation.EXTRACTORS`.
        extractor_weights: local weights of Inception-v3 or DINOv2.
        metrics: what is measured, names of `eqvae.evaluation.generation.GENERATION_METRICS`: "fd" (Fréchet distance),
            "fd_inf" (that of infinitely many samples, extrapolated; 10 seconds for 1,000 images), "sfd" (on spatial
            features), "score" (Inception score), "kid", "precision_recall".
        metric: one of which lower is better, by its name in results; the speed-up is computed on it. Null takes the
            extractor's Fréchet distance.
        num_resamples: Fréchet distances of resampled images at each point, for the small print where there is only one
            seed.
    """

    at_steps: list[int] = MISSING
    num_images: int = 1000
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings(num_inference_steps=25))
    labels: str = "balanced"
    grid_images: int = 40
    grid_guidance_scale: float = 1.0
    extractor: str = "efficientnet_lite0"
    extractor_weights: str | None = None
    metrics: list[str] = field(default_factory=lambda: ["fd", "kid", "precision_recall"])
    metric: str | None = None
    num_resamples: int = 50


@dataclass
class Sweep:
    """A sweep file.

    Args:
        name: of its folder below `root`.
        title, question: of the report.
        control: the arm that the others are compared with.
        start: common start of all trained arms; without one each starts from what its config names, or from random
            weights, which are the seed's.
        autoencoders: arms by name.
        generators: by name.
        generator_images: where generators learn from other images than autoencoders: what to change in the arms'
            configs when the generators' images are encoded, by dotted key.
        seeds: each with its own order, transforms, noise and start weights.
        until_decided: take the seeds one by one, from the third on, until every verdict stands; each look then has a
            stricter level, so that all together err no more often. False takes all seeds at once.
        racing: stop an arm at a look where it is hopeless: another arm is faster with every generator
            (`twostage.analysis.racing`). The seeds that are left are not trained on it.
        smallest_speed_up: with `racing`, an arm is hopeless, too, that is for certain not so many times faster than the
            control. Null asks for no size.
        root: folder of all sweeps and of the store that they share.
    """

    name: str = MISSING
    title: str = MISSING
    question: str = ""
    control: str = MISSING
    start: Start = field(default_factory=Start)
    autoencoders: dict[str, ArmSettings] = MISSING
    generators: dict[str, GeneratorSettings] = MISSING
    generator_images: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = MISSING
    until_decided: bool = False
    racing: bool = False
    smallest_speed_up: float | None = None
    evaluation: Evaluation = field(default_factory=Evaluation)
    executor: Executor = field(default_factory=Executor)
    root: str = "runs"


def trained_parts(sweep: Sweep) -> dict[str, Trained | Start]:
    """Everything that has a config of `train.py`, by its key in the sweep file."""
    found: dict[str, Trained | Start] = {"start": sweep.start} if sweep.start.config else {}
    found |= {f"autoencoders.{name}": arm for name, arm in sweep.autoencoders.items()}
    return found | {f"generators.{name}": generator for name, generator in sweep.generators.items()}
