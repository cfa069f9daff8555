"""Where a run is logged: trackers by name, in the run's folder and under its name, and images on all of them."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from eqvae.commands import not_among
from eqvae.extras import import_extra
from eqvae.training.trackio_logger import TrackioLogger

EXTRA = "loggers"
PROJECT = "eqvae"  # that runs are listed under, where the tracker's own variable names no other


def _wandb(folder: Path) -> Logger:
    return WandbLogger(folder.name, save_dir=folder, project=os.environ.get("WANDB_PROJECT", PROJECT))


def _mlflow(folder: Path) -> Logger:
    server = os.environ.get("MLFLOW_TRACKING_URI")
    if server is None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks for this where no server is named
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    return MLFlowLogger(experiment, folder.name, server, save_dir=str(folder / "mlruns"))


def _trackio(folder: Path) -> Logger:
    return TrackioLogger(folder.name, os.environ.get("TRACKIO_PROJECT", PROJECT), folder)


LOGGERS: dict[str, tuple[str | None, Callable[[Path], Logger]]] = {
    "tensorboard": (None, lambda folder: TensorBoardLogger(folder, name=None)),
    "csv": (None, lambda folder: CSVLogger(folder, name="csv")),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
    "trackio": ("trackio", _trackio),
}
"""Name to the package of the extra `loggers` that it needs, and what makes it for a run folder."""


def create_loggers(names: str, folder: str | Path) -> list[Logger]:
    """The loggers that `--logger` names, separated by commas.

    Args:
        folder: of the run, whose last part is the run's name.

    Raises:
        ValueError: for an unknown name, or with the pip command where a package is missing.
    """
    made = []
    for name in dict.fromkeys(name.strip() for name in names.split(",")):
        if name not in LOGGERS:
            raise ValueError(f"--logger {not_among(name or repr(name), list(LOGGERS))}")
        package, create = LOGGERS[name]
        if package is not None:
            import_extra(package, EXTRA, f"--logger {name}")
        made.append(create(Path(os.path.abspath(folder))))
    return made


def takes_images(logger: Any) -> bool:
    """Whether a logger shows images; nothing is begun there by asking."""
    return hasattr(type(logger), "log_image") or isinstance(logger, MLFlowLogger | TensorBoardLogger)


def log_image(loggers: Iterable[Any], name: str, image: Tensor, step: int) -> None:
    """Show an image on every logger that takes some.

    Args:
        loggers: those of the trainer; W&B's and trackio's have `log_image` themselves, as another's may, and those of
            MLflow and TensorBoard show it through their `experiment`.
        name: e.g. "preview/samples".
        image: uint8 [3, H, W].
        step: of the training.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    for logger in filter(takes_images, loggers):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, key=name, step=step)
        else:
            logger.log_image(name, [picture], step)
