"""The steps of each part of the GPU day; see `gpu.py`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class StepSettings:
    """What all steps are made for.

    Args:
        device: "cuda", or "cpu" for a rehearsal.
        tiny: sizes that take seconds.
        reference: checkout of the public DiT or SiT.
        data: folder of CIFAR-10's parquet files.
        output: folder of the results.
    """

    device: str
    tiny: bool
    reference: str | None
    data: Path
    output: Path


@dataclass(frozen=True)
class Step:
    """One process.

    Args:
        name: unique in its part.
        command: words behind `python`.
        seconds: after which it is ended.
        tests: where pytest leaves its XML.
        returns: files that are copied to the results, by where they lie.
        folder: that it runs in; None: the checkout.
        resumes: whether it goes on where it was ended.
        reports: whether it prints a JSON object, without which it is not done.
    """

    name: str
    command: list[str]
    seconds: float
    tests: Path | None = None
    returns: dict[Path, Path] = field(default_factory=dict)
    folder: Path | None = None
    reports: bool = False
    resumes: bool = False

    @property
    def leaves(self) -> list[Path]:
        """Files of an earlier try that must not be taken for those of this one."""
        return [self.tests] if self.tests else []


NONE = "none"  # of its tests belongs to a rehearsal
TESTS = (  # name, file, which of its tests, those of a rehearsal, seconds
    ("waits", "test_waits.py", "", "SiT", 90),
    ("draws-losses-metrics", "test_parity.py", "", "keyed", 300),
    ("runs", "test_runs.py", "not recipe", "cache", 240),
    *((f"recipes-{mode}", "test_runs.py", f"recipe and {mode}", NONE, 180) for mode in ("bf16", "tf32")),
    ("recipes-32", "test_runs.py", "recipe and not bf16 and not tf32 and not compiled", NONE, 180),
    ("recipes-compiled", "test_runs.py", "recipe and compiled", NONE, 540),
)


def correct(settings: StepSettings) -> list[Step]:
    """All tests that are marked `gpu`; a rehearsal runs the same ones on the processor."""
    return [
        benchmark(settings, "ceilings", "ceilings", TINY_CEILINGS, [], 60),
        *(
            tests(settings, name, "correct", file, which, tiny, seconds)
            for name, file, which, tiny, seconds in TESTS
            if not (settings.tiny and tiny == NONE)
        ),
    ]


def tests(settings: StepSettings, name: str, part: str, file: str, which: str, tiny: str, seconds: float) -> Step:
    """The tests of a file that are marked `gpu`, on a processor those that are not."""
    xml = (settings.output / part / f"{name}.xml").absolute()
    marked = "gpu" if settings.device == "cuda" else "not gpu"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/cuda/{file}", "-m", marked]
    which = tiny if settings.tiny else which
    return Step(name, [*words, *(["-k", which] if which else []), f"--junitxml={xml}"], seconds, xml)


SD_VAE = ["--channels", "128", "256", "512", "512"]
STEP_OF_SD_VAE = [*SD_VAE, "--layers-per-block", "2", "--image-size", "256", "--batch-size", "16"]
TINY_CEILINGS = ["--gigabytes", "0.01", "--precision", "32"]
TINY_STEP = ["--channels", "32", "32", "--image-size", "32", "--batch-size", "1", "--repeats", "1"]
TINY_GENERATOR = ["--backbone", "SiT-S/2", "--input-size", "4", "--batch-size", "2", "--repeats", "1"]
TINY_CACHE = ["--channels", "32", "32", "--image-size", "32", "--num-images", "4", "--batch-size", "2"]
CACHE_OF_SD_VAE = [*SD_VAE, "--image-size", "256", "--num-images", "512", "--batch-size", "64", "--num-workers", "8"]
TINY_SAMPLES = ["--input-size", "4", "--batch-size", "1", "--num-inference-steps", "2", "--repeats", "1"]
STEP_OF_XL = ["--backbone", "SiT-XL/2", "--batch-size", "256", "--accumulate", "4"]
STEP_OF_B = ["--backbone", "SiT-B/2", "--batch-size", "256"]
# 40 guided passes of 64 images, four times in float32: 2.4 PFLOP, by its data sheet 2 minutes of an A100.
SAMPLES_OF_XL = ["--backbone", "SiT-XL/2", "--batch-size", "64", "--num-inference-steps", "10"]


def speed(settings: StepSettings) -> list[Step]:
    """Steps, sampling, encoding and memory at published sizes, what tells most first; compiled ones last."""
    public = ["--reference", settings.reference] if settings.reference else []

    def step(name: str, size: list[str], *more: str, seconds: float = 120) -> Step:
        words = [*more, *public]
        return benchmark(settings, name, "train_step", [*TINY_GENERATOR, *more], [*size, *words], seconds)

    def vae(name: str, *more: str, seconds: float = 120) -> Step:
        sizes = [*TINY_STEP, *more], [*STEP_OF_SD_VAE, *more]
        return benchmark(settings, name, "autoencoder_step", *sizes, seconds)

    steps = [
        benchmark(settings, "ceilings", "ceilings", TINY_CEILINGS, [], 60),
        step("sit-xl-2-bf16", STEP_OF_XL, "--precision", "bf16", "--profile"),
        step("sit-xl-2-tf32", STEP_OF_XL, "--precision", "tf32"),
        step("sit-b-2-bf16", STEP_OF_B, "--precision", "bf16"),
        *(vae(f"sd-vae-{how}", "--precision", how) for how in ("bf16", "tf32", "32")),
        *(vae(f"sd-vae-{how}-channels-last", "--precision", how, "--channels-last") for how in ("bf16", "tf32", "32")),
        benchmark(
            settings, "sampling", "sampling", TINY_SAMPLES, [*SAMPLES_OF_XL, "--precision", "bf16", *public], 240
        ),
        *(
            benchmark(settings, f"encoding-{how}", "encoding", TINY_CACHE, [*CACHE_OF_SD_VAE, "--precision", how], 120)
            for how in ("32", "bf16")
        ),
        tests(settings, "memory", "speed", "test_memory.py", "", "tiny", 240),
    ]
    if not settings.tiny:
        steps += [
            step("sit-xl-2-bf16-compiled", STEP_OF_XL, "--precision", "bf16", "--compile", seconds=240),
            step("sit-b-2-bf16-compiled", STEP_OF_B, "--precision", "bf16", "--compile", seconds=180),
            *(
                vae(f"sd-vae-{how}-compiled", "--precision", how, "--compile", seconds=300)
                for how in ("bf16", "tf32", "32")
            ),
        ]
    return steps


def benchmark(settings: StepSettings, name: str, script: str, tiny: list[str], full: list[str], seconds: float) -> Step:
    """A benchmark at one of two sizes; its report is the JSON object that it prints."""
    words = [*(tiny if settings.tiny else full), "--device", settings.device]
    return Step(name, [str(HERE / f"{script}.py"), *words], seconds, reports=True)


def sweep(settings: StepSettings) -> list[Step]:
    """The CIFAR-10 sweep with five seeds: it goes on where it was ended, and its report is kept with the results."""
    folder = (settings.output / "sweep").absolute()
    config, words = "cifar10", ["seeds=[0,1,2,3,4]", "executor.num_workers=4", "name=gpu"]
    if settings.tiny:
        config, words = "tiny-shapes", ["seeds=[0,1]", "name=gpu", "--dry-run"]
    elif not settings.data.is_dir():
        raise ValueError(f"--data {settings.data} does not exist: give the folder of CIFAR-10's parquet files")
    else:
        (folder / "shared").mkdir(parents=True, exist_ok=True)
        link = folder / "shared" / "data"  # where the recipe looks, seen from where the sweep runs
        link.unlink(missing_ok=True)  # of an earlier run, with other images perhaps
        link.symlink_to(settings.data.absolute())
    made = folder / "work/runs/gpu"
    returned = {
        made / name: folder.parent / f"gpu-sweep-{name}" for name in ("report.json", "report.html", "report.md")
    }
    command = [str(ROOT / "sweep.py"), "--config", config, *words]
    return [Step("cifar10", command, 535, returns=returned, folder=folder / "work", resumes=True)]


PARTS: dict[str, Callable[[StepSettings], list[Step]]] = {"correct": correct, "speed": speed, "sweep": sweep}
