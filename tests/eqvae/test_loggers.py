"""Loggers by name: where they write, what every run logs there, and images on all that take some."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers import wandb as wandb_logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eqvae.training.loggers import create_loggers, log_image
from eqvae.training.trackio_logger import TrackioLogger
from tests.tiny import STAGE_ONE, STAGE_TWO, train

GRID = torch.arange(3 * 4 * 6, dtype=torch.uint8).view(3, 4, 6)


class Recorder:
    """Keeps the calls of any method."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: self.calls.append((name, arguments, options))


@pytest.fixture
def trackio(monkeypatch):
    """The package trackio in small: (calls of `init`, its run)."""
    run, begun = Recorder(), []
    run.config = {}
    module = SimpleNamespace(init=lambda **options: begun.append(options) or run, Image=lambda image: image.size)
    monkeypatch.setitem(sys.modules, "trackio", module)
    return begun, run


@pytest.fixture
def wandb(monkeypatch):
    """The package wandb in small: (calls of `init`, its run)."""
    run, begun = Recorder(), []
    names = ("init", "Image", "define_metric", "run", "sdk")
    module = SimpleNamespace(**dict.fromkeys(names), Run=Recorder)
    module.init, module.Image = lambda **options: begun.append(options) or run, lambda image, **_: image.size
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(sys.modules, "wandb.sdk", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "wandb.sdk.lib", SimpleNamespace(RunDisabled=int))
    monkeypatch.setitem(sys.modules, "wandb.wandb_run", SimpleNamespace(Run=Recorder))
    monkeypatch.setattr(wandb_logger, "_WANDB_AVAILABLE", True)
    return begun, run


@pytest.fixture
def mlflow(monkeypatch):
    """A logger of MLflow that has begun a run, on a client that keeps what it is told."""
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    logger = MLFlowLogger.__new__(MLFlowLogger)
    logger._initialized, logger._run_id, logger._mlflow_client = True, "run-1", Recorder()
    return logger


def test_a_run_logs_its_settings_rate_speed_and_memory(tmp_path):
    settings = STAGE_ONE | {"trainer.max_steps": 4, "trainer.log_every_n_steps": 1, "trainer.limit_val_batches": 0}
    settings |= {"trainer.default_root_dir": tmp_path / "my-run", "model.init_args.warmup_steps": 2}
    monitor = "{class_path: eqvae.training.throughput.ThroughputMonitor, init_args: {window: 2}}"
    settings |= {"trainer.callbacks": f"[{monitor}]", "model.init_args.num_normalization_images": 4}
    run = train("fit", "--config", "configs/eqvae/tiny-shapes.yaml", settings, "--logger=csv,tensorboard")
    first, second = run.trainer.loggers
    assert (type(first), type(second)) == (CSVLogger, TensorBoardLogger)
    with open(tmp_path / "my-run" / "csv" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["optimizer/learning_rate"]) for row in rows if row["optimizer/learning_rate"]]
    assert rates == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.5e-3])
    measured = [row for row in rows if row["speed/images_per_second"]]
    assert len(measured) >= 2
    assert all(0.05 < float(row["speed/peak_memory_gb"]) < 1000 for row in measured)
    kept = yaml.unsafe_load((tmp_path / "my-run" / "csv" / "version_0" / "hparams.yaml").read_text())
    assert kept["model"]["init_args"]["warmup_steps"] == 2
    events = EventAccumulator(str(tmp_path / "my-run" / "version_0"))
    events.Reload()
    assert {"optimizer/learning_rate", "speed/images_per_second", "train/loss"} <= set(events.Tags()["scalars"])
    saved = yaml.safe_load((tmp_path / "my-run" / "csv" / "version_0" / "config.yaml").read_text())
    assert saved["logger"] == "csv,tensorboard"


def shown(folder, name):
    """(step, width) of the images of a run in TensorBoard; nothing where it has none."""
    events = EventAccumulator(str(folder / "version_0"))
    events.Reload()
    return [(image.step, image.width) for image in events.Images(name)] if name in events.Tags()["images"] else []


@pytest.mark.parametrize(("number", "steps"), [(2, [2, 4]), (0, [])])
def test_a_run_shows_what_it_learns(number, steps, cache, tmp_path):
    few = {"trainer.max_steps": 4, "trainer.limit_val_batches": 0}
    one = STAGE_ONE | few | {"model.init_args.num_normalization_images": 4}
    two = STAGE_TWO | few | {"data.init_args.cache": cache}
    recipes = {"panels/latents": ("eqvae/tiny-shapes", one), "preview/samples": ("dit/tiny-sit", two)}
    for name, (config, settings) in recipes.items():
        settings |= {"trainer.default_root_dir": tmp_path / Path(config).name}
        words = ["--logger=tensorboard", f"--previews={number}"]
        train("fit", "--config", f"configs/{config}.yaml", settings, *words)
        assert [step for step, width in shown(tmp_path / Path(config).name, name) if width > 100] == steps


def test_what_cannot_be_logged_to_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"--logger wand is none of tensorboard, csv, .*: did you mean wandb\?"):
        create_loggers("csv,wand", tmp_path)
    for name in ("wandb", "mlflow", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match=rf"--logger {name} needs the package {name}: pip install 'eqvae\[logg"):
            create_loggers(name, tmp_path)


def test_each_option_is_explained_by_its_own_help(capsys):
    with pytest.raises(SystemExit):
        train("fit", "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "--previews PREVIEWS how often in the run its loggers are shown images" in told
    assert "--logger NAMES in place of trainer.logger: one or more of tensorboard" in told


def test_images_go_to_every_logger_that_takes_them(tmp_path, wandb, trackio, mlflow):
    (tmp_path / "run-7").mkdir()
    loggers = [*create_loggers("tensorboard,csv,wandb,trackio", tmp_path / "run-7"), mlflow]
    log_image(loggers, "preview/samples", GRID, 30)
    loggers[0].finalize("success")
    events = EventAccumulator(str(tmp_path / "run-7" / "version_0"))
    events.Reload()
    (shown,) = events.Images("preview/samples")
    assert (shown.step, shown.width, shown.height) == (30, 6, 4)
    ((begun,), sent), ((started,), logged) = wandb, trackio
    assert (begun["name"], begun["project"], begun["dir"]) == ("run-7", "eqvae", str(tmp_path / "run-7"))
    assert [arguments for name, arguments, _ in sent.calls if name == "log"] == [
        ({"preview/samples": [(6, 4)], "trainer/global_step": 30},)
    ]
    assert (started["name"], started["project"], started["resume"]) == ("run-7", "eqvae", "allow")
    assert logged.calls == [("log", ({"preview/samples": (6, 4)},), {"step": 30})]
    ((name, (run_id, picture), options),) = mlflow._mlflow_client.calls
    assert (name, run_id, picture.size, options) == (
        "log_image",
        "run-1",
        (6, 4),
        {"key": "preview/samples", "step": 30},
    )
    assert picture.getpixel((1, 2)) == tuple(GRID[:, 2, 1].tolist())
    assert type(loggers[2]) is WandbLogger


def test_trackio_keeps_metrics_and_settings(tmp_path, trackio):
    _, run = trackio
    logger = TrackioLogger("a", "b", tmp_path)
    logger.log_hyperparams({"model": {"depth": 2}})
    logger.log_metrics({"loss": 1.0}, 3)
    logger.finalize("success")
    assert run.config == {"model/depth": 2}
    assert run.calls == [("log", ({"loss": 1.0},), {"step": 3}), ("finish", (), {})]
    assert (logger.name, logger.save_dir) == ("a", str(tmp_path))
