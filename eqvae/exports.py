"""What a training of an autoencoder leaves behind, and what is measured and cached after it.

A run's folder decides: where a training has begun, `validate`, `test` and `predict` take what it exported, never what
it started from. In any other folder they take the autoencoder that is named.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eqvae.autoencoders import Autoencoder, LatentStatistics, Normalization, load_autoencoder
from eqvae.autoencoders.exporting import ORIGIN, read_export_record, require_replaceable
from eqvae.autoencoders.places import public_source
from eqvae.precision import encoding
from eqvae.provenance import describe_data
from eqvae.ranges import require_number
from eqvae.selection import describe_selection
from eqvae.training.run_folder import RunFolder


@torch.no_grad()
def estimate_normalization(autoencoder: Autoencoder, data: Any, num_images: int) -> Normalization:
    """The normalization of an autoencoder's latents, which is left in evaluation mode.

    Args:
        data: data module of the training images.
        num_images: so many of them, evenly spaced.
    """
    statistics, device = LatentStatistics(), autoencoder.last_layer.device
    autoencoder.eval()
    for batch in data.sequential_loader("train", limit=num_images):
        with encoding("float32", device):
            moments = autoencoder.latent_moments(batch["image"].to(device))
        statistics.update(*moments)
    return statistics.normalization(describe_selection(statistics.num_images, len(data.sources["train"])))


class AutoencoderExport:
    """The folder that a training leaves its autoencoder in, and what it came from.

    Args:
        folder: of the autoencoder; None: `autoencoder` in the trainer's root folder.
        num_normalization_images: training images on which the latent normalization is estimated.
        start: the autoencoder that the training starts from.
        keeps_normalization: whether what is exported has the start's normalization, as published recipes leave it; one
            that is unknown is estimated.
    """

    def __init__(
        self, folder: str | None, num_normalization_images: int, start: Autoencoder, keeps_normalization: bool = False
    ):
        require_number("model.init_args.num_normalization_images", num_normalization_images, least=1)
        self.folder, self.num_normalization_images = folder, num_normalization_images
        self.keeps_normalization = keeps_normalization and start.has_normalization
        if keeps_normalization and not self.keeps_normalization:
            rank_zero_info("latent normalization: the start's is unknown, it will be estimated")
        self.start = {"source": start.source, "fingerprint": start.fingerprint()}
        self.start_constants = _constants(start)  # now: an export takes their place

    def path(self, root: str | Path) -> Path:
        """Where `fit` in a run folder leaves the autoencoder."""
        return Path(self.folder) if self.folder else Path(root) / "autoencoder"

    def require_place(self, root: str | Path) -> None:
        """Refuse what lies there and is no export, before days of training.

        Raises:
            ValueError: naming it.
        """
        require_replaceable(self.path(root))

    def write(
        self, autoencoder: Autoencoder, data: Any, folder: Path, num_steps: int, recipe: Mapping[str, Any]
    ) -> None:
        """Write the autoencoder folder, with the normalization of the weights as they are or the start's.

        Args:
            data: data module of the training images.
            num_steps: that were trained, kept in the folder's record.
            recipe: of the training, see `eqvae.provenance`; kept there, too.

        Raises:
            ValueError: as of `save_pretrained`.
        """
        if not self.keeps_normalization:
            autoencoder.normalization = estimate_normalization(autoencoder, data, self.num_normalization_images)
        autoencoder.save_pretrained(folder, self._origin(num_steps, recipe, describe_data(data)))

    def settle_normalization(self, autoencoder: Autoencoder, data: Any) -> None:
        """Estimate the normalization of an autoencoder that carries none, and say so; it is never guessed."""
        if autoencoder.has_normalization:
            return
        autoencoder.normalization = estimate_normalization(autoencoder, data, self.num_normalization_images)
        rank_zero_info(f"latent normalization: estimated, {autoencoder.normalization.method}")

    def _origin(self, num_steps: int, recipe: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """What the folder's record keeps; no folder of this machine is named."""
        start = {**self.start, **public_source(self.start["source"]), "normalization": self.start_constants}
        return {"start": start, "num_steps": num_steps, "recipe": dict(recipe), "data": dict(data)}

    def find(self, trainer: Any, module: Any) -> Autoencoder | None:
        """What this folder's run has exported, for measuring or caching; None takes the module's weights.

        Raises:
            ValueError: if the run exported nothing yet, or the config names an autoencoder that is neither what it
                started from nor what it exported; for `predict` of a checkpoint.
        """
        root = Path(trainer.default_root_dir)
        folder, checkpoint = self.path(root), trainer.ckpt_path
        if checkpoint and trainer.predicting:
            raise ValueError("predict caches latents of what a run has exported: --ckpt_path cannot say otherwise")
        if checkpoint:
            rank_zero_info(f"autoencoder: the weights of {checkpoint}")
        elif folder.is_dir():
            return self._read(folder, root)
        elif RunFolder.of(trainer, module).has_run():
            raise ValueError(
                f"the run in {root} has exported no autoencoder to {folder}: finish it with fit --resume, or give "
                f"another trainer.default_root_dir to take {self.start['source']} as it is"
            )
        else:
            rank_zero_info(f"autoencoder: {self.start['source']}, no run has begun in {root}")
        return None

    def _read(self, folder: Path, root: Path) -> Autoencoder:
        exported, origin = load_autoencoder(folder), (read_export_record(folder) or {}).get(ORIGIN, {})
        if not self._is_start(origin.get("start")) and self.start["fingerprint"] != exported.fingerprint():
            raise ValueError(
                f"the run in {root} made {folder} of {origin['start']['source']}, the config names "
                f"{self.start['source']}: name one of the two, or give another trainer.default_root_dir"
            )
        step = f" at step {origin['num_steps']}" if "num_steps" in origin else ""
        rank_zero_info(f"autoencoder: {folder}, which the run in {root} exported{step}")
        return exported

    def _is_start(self, recorded: dict[str, Any] | None) -> bool:
        """Whether the named autoencoder is what a training started from; unknown ones and random weights are."""
        source = self.start["source"]
        return (
            recorded is None
            or (isinstance(source, dict) and "source" not in source)
            or source == recorded["source"]
            or self.start["fingerprint"] == recorded["fingerprint"]
        )

    def require_start(self, recorded: dict[str, Any]) -> None:
        """Refuse to go on with a training that started from another autoencoder.

        Raises:
            ValueError: naming both.
        """
        if all(self.start[name] != recorded[name] for name in recorded):
            raise ValueError(
                f"model.init_args.autoencoder {recorded['source']} -> {self.start['source']}: a run cannot change what "
                "it started from; give another trainer.default_root_dir to start anew"
            )


def _constants(autoencoder: Autoencoder) -> dict[str, list[float]] | None:
    """The numbers of its normalization; None where that is unknown."""
    if not getattr(autoencoder, "has_normalization", False):  # anything that encodes and decodes may be trained
        return None
    normalization = autoencoder.normalization
    return {"shift": list(normalization.shift), "scale": list(normalization.scale)}
