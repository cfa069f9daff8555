"""Runs in trackio, the hub's local tracker, for which Lightning has no logger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from eqvae.extras import import_extra


class TrackioLogger(Logger):
    """Logs to trackio, which keeps its files where TRACKIO_DIR says; `trackio show` shows them.

    Args:
        name: of the run.
        project: that it is listed under.
        save_dir: of the run, for what is saved beside the log.
    """

    def __init__(self, name: str, project: str, save_dir: str | Path = "."):
        super().__init__()
        self._name, self.project, self._save_dir = name, project, str(save_dir)
        self._run: Any = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._name

    @property
    def save_dir(self) -> str:
        return self._save_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """trackio's run, which begins, or goes on, when it is first asked for."""
        if self._run is None:
            trackio = import_extra("trackio", "loggers", "trackio")
            self._run = trackio.init(project=self.project, name=self._name, resume="allow", embed=False)
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
        self.experiment.config.update(_flatten_dict(_convert_params(params)))

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """PIL images: the first under this name, further ones under numbers below it."""
        trackio = import_extra("trackio", "loggers", "trackio")
        for place, image in enumerate(images):
            self.experiment.log({f"{key}/{place}" if place else key: trackio.Image(image)}, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
