"""The benchmarks run at toy sizes, offline, and print what they promise. Their timings are not judged here."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
all_benchmarks, measure = importlib.import_module("all"), importlib.import_module("measure")
sys.path.remove(BENCHMARKS)

TINY = {
    "autoencoder_step": ["--channels", "32", "32", "--image-size", "32", "--batch-size", "1", "--repeats", "1"],
    "encoding": ["--channels", "32", "32", "--image-size", "32", "--num-images", "4", "--batch-size", "2"],
    "train_step": ["--input-size", "4", "--batch-size", "2", "--repeats", "1"],
    "sampling": ["--input-size", "4", "--batch-size", "1", "--num-inference-steps", "2", "--repeats", "1"],
    "latent_loading": ["--num-latents", "512", "--num-batches", "2", "--repeats", "1", "--num-workers", "0"],
    "predictors": ["--data", "shapes:24", "--repeats", "1"],
    "regularizers": ["--batch-size", "2", "--perceptual", "none", "--steps", "1", "--repeats", "1"],
    "distances": ["--num-features", "8", "--num-samples", "120", "--num-few", "6", "--repeats", "1"],
    "indexing": ["--num-images", "40", "--num-classes", "4", "--repeats", "1"],
    "ceilings": ["--gigabytes", "0.001", "--precision", "32"],
    "tiling": ["--channels", "8", "8", "--groups", "4", "--image-size", "64", "--tile-size", "32", "--repeats", "1"],
}
FLOAT32 = {name: ["--precision", "32"] for name in ("autoencoder_step", "encoding", "train_step", "sampling")}
POSITIVE = {
    "autoencoder_step": ("ratio", "ratio_of_structure", "tflops", "share_of_matmul_peak"),
    "encoding": ("ratio", "bare_images_per_second"),
    "train_step": ("ratio", "share_of_matmul_peak"),
    "sampling": ("ratio", "network_passes_per_image"),
    "latent_loading": ("cache_gigabytes",),
    "predictors": ("seconds_of_all", "peak_memory_gib"),
    "regularizers": ("steps",),
    "distances": ("frechet_ratio", "frechet_of_few_ratio", "kernel_distance_ratio", "precision_recall_ratio"),
    "indexing": ("num_images",),
    "ceilings": ("copy_gigabytes_per_second",),
    "tiling": ("relative_difference",),
}
REFERENCE = """
import torch

class Model(torch.nn.Module):
    in_channels = 4

    def __init__(self, input_size, num_classes):
        super().__init__()
        self.layer = torch.nn.Conv2d(4, 8, 1)

    def forward(self, x, t, y):
        return self.layer(x)

    def forward_with_cfg(self, x, t, y, scale):
        return self.layer(x)

DiT_models = {"DiT-S/2": Model}
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark at toy size in this process; returns what it printed to standard output."""
    monkeypatch.syspath_prepend("benchmarks")

    def run_benchmark(name: str, *options: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *TINY[name], *FLOAT32.get(name, []), *options])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return run_benchmark


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TINY if name != "train_step"])
def test_prints_one_json_object(run, name):
    require_report(run, name)


@pytest.mark.reliability(29)
@pytest.mark.slow
def test_a_report_says_what_it_was_taken_on(run, reached):
    values = require_report(run, "train_step")
    assert all(values[name] for name in ("threads", "precision", "batch_size", "torch", "python"))
    reached.says("device, dtype, batch and versions named")


def require_report(run, name: str) -> dict:
    """What a benchmark prints."""
    values = json.loads(run(name))
    assert values["benchmark"] == name
    assert values["device"]
    assert all(values[key] > 0 for key in POSITIVE[name])
    assert all_benchmarks.timings(values), "nothing that a later run could be compared with"
    return values


@pytest.mark.parametrize("name", ["train_step", "sampling"])
def test_a_reference_checkout_is_timed_in_the_same_run(run, name, tmp_path):
    (tmp_path / "models.py").write_text(REFERENCE)
    values = json.loads(run(name, "--reference", str(tmp_path)))
    assert values["ratio_to"] == "reference"
    # One convolution is faster than a transformer: the ratio is the reference's time over ours.
    assert values["ratio"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_step", "sampling"])
def test_token_generators_are_timed_like_the_others(run, name):
    values = json.loads(run(name, "--backbone", "MaskGIT-v2-tiny"))
    assert values["ratio"] > 0
    assert values["share_of_matmul_peak"] > 0


def test_a_folder_without_a_model_is_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("train_step", "--reference", str(tmp_path))
    assert "models.py does not exist" in capsys.readouterr().err


def test_make_bench_runs_each_of_them():
    planned = subprocess.run(["make", "-n", "bench", "PYTHON=python3"], capture_output=True, text=True).stdout
    assert "benchmarks/all.py" in planned
    assert sorted(TINY) == all_benchmarks.NAMES


def report_of(processor_seconds: float, spread: float = 1.1, **machine) -> dict:
    timing = {"seconds": 9.0, "processor_seconds": processor_seconds, "processor_spread": spread}
    about = {"benchmark": "distances", "device": "Xeon", "threads": 1, "torch": "2", "python": "3", "options": []}
    return about | {"frechet": timing} | machine


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (report_of(1.0), report_of(1.05), []),
        (report_of(1.0), report_of(1.2), ["distances, frechet: 1 s -> 1.2 s, spread 1.10"]),
        (report_of(1.0), report_of(0.5), ["distances, frechet: 1 s -> 0.5 s, spread 1.10"]),
        (report_of(1.0, spread=1.5), report_of(1.2), []),
        (report_of(1.0), report_of(9.0, threads=2), ["distances: nothing of these settings on this machine"]),
        ({}, report_of(9.0), ["distances: nothing of these settings on this machine"]),
    ],
)
def test_what_moved_by_more_than_the_spread_is_told(before, after, says):
    told = list(all_benchmarks.moved(before, after))
    assert len(told) == len(says)
    assert all(line.startswith(words) for line, words in zip(told, says, strict=True))


def test_the_last_run_is_kept_as_numbers_and_as_a_table(tmp_path, monkeypatch, capsys):
    """One benchmark runs twice, the second time three times as slow."""
    took = iter([1.0, 3.0, 3.0])
    answer = lambda *_, **__: SimpleNamespace(returncode=0, stdout=json.dumps(report_of(next(took))))  # noqa: E731
    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setattr(all_benchmarks, "LAST", tmp_path / "last.json")
    monkeypatch.setattr(all_benchmarks, "PAGE", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{all_benchmarks.BEGIN}{all_benchmarks.END}after\n")
    for record in (True, False, True):
        all_benchmarks.run(["distances"], [], record)
    assert capsys.readouterr().out.count("1 s -> 3 s") == 2
    page = (tmp_path / "README.md").read_text()
    assert page.count("| `distances` | frechet | 9 | 3 | 1.10 | Xeon, 1") == 1
    assert page.startswith("before\n")
    assert page.endswith("after\n")


def test_a_benchmark_that_fails_ends_all(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3, stdout=""))
    with pytest.raises(ValueError, match=r"benchmarks/indexing\.py failed with 3: run it alone"):
        all_benchmarks.run(["indexing"], [], False)


def test_the_kept_numbers_are_those_of_the_page():
    last, page = json.loads(all_benchmarks.LAST.read_text()), all_benchmarks.PAGE.read_text()
    assert set(last) <= set(TINY)
    for name, values in last.items():
        for timing in all_benchmarks.timings(values).values():
            assert any(f"`{name}" in line and f"{timing['seconds']:.3g}" in line for line in page.splitlines())


def test_other_work_lengthens_the_clock_and_not_the_processor_time(monkeypatch):
    """A step that sleeps, and one that computes for as long."""

    def compute() -> None:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    timed = measure.time_in_turns({"sleep": lambda: time.sleep(0.05), "compute": compute}, torch.device("cpu"), 3, 0)
    assert timed["sleep"]["seconds"] >= 0.05
    assert timed["sleep"]["processor_seconds"] < 0.03
    assert timed["compute"]["processor_seconds"] >= 0.04  # the system counts in hundredths
