"""What a training of an autoencoder leaves behind, and what is measured and cached after it."""

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eqvae.autoencoders import LatentStatistics, Normalization, load_autoencoder
from eqvae.autoencoders.base import Autoencoder
from eqvae.autoencoders.exporting import ORIGIN, read_record, remove_export, require_replaceable
from eqvae.precision import encoding
from eqvae.selection import describe_selection
from eqvae.training.run_folder import RunFolder


class ExportingModule(lightning.LightningModule):
    """Exports the autoencoder it has trained, and works on that export when it no longer trains.

    A run's folder decides: where a training has begun, `validate`, `test` and `predict` take what it exported, never
    what it started from. In any other folder they take the autoencoder that is named.

    Attributes:
        autoencoder: that is trained.
        start: `source` and `fingerprint` of what it starts from.
        export_folder: of the autoencoder folder; None: `autoencoder` in the trainer's root folder.
        num_normalization_images: training images on which the latent normalization is estimated.
    """

    autoencoder: Autoencoder
    start: dict[str, Any]
    export_folder: str | None
    num_normalization_images: int

    def export_path(self, root: Path) -> Path:
        """Where `fit` in a run folder leaves the autoencoder."""
        return Path(self.export_folder) if self.export_folder else Path(root) / "autoencoder"

    def remove_export(self, folder: Path) -> None:
        """Make room for the export of a new run."""
        remove_export(folder)

    def setup(self, stage: str) -> None:
        if stage == "fit":  # not after days of training
            require_replaceable(self.export_path(self.trainer.default_root_dir))

    def on_train_end(self) -> None:
        """Export the final (averaged) weights."""
        if self.trainer.is_global_zero and self.trainer.datamodule is not None:
            folder = self.export_path(self.trainer.default_root_dir)
            self.export(self.trainer.datamodule, folder, self.global_step)

    def export(self, data: Any, folder: Path, num_steps: int) -> None:
        """Estimate the normalization of the weights as they are, and write the autoencoder folder.

        Args:
            data: data module of the training images.
            num_steps: that were trained, kept in the folder's record.

        Raises:
            ValueError: as of `save_pretrained`.
        """
        self.autoencoder.normalization = self._estimate_normalization(data)
        self.autoencoder.save_pretrained(folder, {"start": self.start, "num_steps": num_steps})

    @torch.no_grad()
    def _estimate_normalization(self, data: Any) -> Normalization:
        statistics = LatentStatistics()
        self.autoencoder.eval()
        for batch in data.sequential_loader("train", limit=self.num_normalization_images):
            with encoding("float32", self.device):
                encoded = self.autoencoder.encode(batch["image"].to(self.device))
            if self.quantized:
                statistics.update(encoded.latents, torch.zeros_like(encoded.latents))
            else:
                statistics.update(encoded.mean, encoded.std)
        return statistics.normalization(describe_selection(statistics.num_images, len(data.sources["train"])))

    def take_export(self) -> None:
        """Before measuring or caching: take what this folder's run has exported.

        Raises:
            ValueError: if the run exported nothing yet, or the config names an autoencoder that is neither what it
                started from nor what it exported; for `predict` of a checkpoint.
        """
        root = Path(self.trainer.default_root_dir)
        folder, checkpoint = self.export_path(root), self.trainer.ckpt_path
        if checkpoint and self.trainer.predicting:
            raise ValueError("predict caches latents of what a run has exported: --ckpt_path cannot say otherwise")
        if checkpoint:
            rank_zero_info(f"autoencoder: the weights of {checkpoint}")
        elif folder.is_dir():
            self._take(load_autoencoder(folder), folder, root)
        elif RunFolder.of(self.trainer, self).has_run():
            raise ValueError(
                f"the run in {root} has exported no autoencoder to {folder}: finish it with fit --resume, or give "
                f"another trainer.default_root_dir to take {self.start['source']} as it is"
            )
        else:
            rank_zero_info(f"autoencoder: {self.start['source']}, no run has begun in {root}")

    def _take(self, exported: Autoencoder, folder: Path, root: Path) -> None:
        origin = (read_record(folder) or {}).get(ORIGIN, {})
        if not self._is_start(origin.get("start")) and self.start["fingerprint"] != exported.fingerprint():
            raise ValueError(
                f"the run in {root} made {folder} of {origin['start']['source']}, the config names "
                f"{self.start['source']}: name one of the two, or give another trainer.default_root_dir"
            )
        step = f" at step {origin['num_steps']}" if "num_steps" in origin else ""
        rank_zero_info(f"autoencoder: {folder}, which the run in {root} exported{step}")
        self.autoencoder = exported.to(self.device).eval()

    def _is_start(self, recorded: dict[str, Any] | None) -> bool:
        """Whether the named autoencoder is what a training started from; unknown ones and random weights are."""
        return (
            recorded is None
            or (isinstance(self.start["source"], dict) and "source" not in self.start["source"])
            or self.start["source"] == recorded["source"]
            or self.start["fingerprint"] == recorded["fingerprint"]
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["start"] = self.start

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        recorded = checkpoint.get("start", self.start)
        if self.trainer.training and all(self.start[name] != recorded[name] for name in recorded):
            raise ValueError(
                f"model.init_args.autoencoder {recorded['source']} -> {self.start['source']}: a run cannot change what "
                "it started from; give another trainer.default_root_dir to start anew"
            )
