"""Images of a latent space in the log while an autoencoder trains."""

from typing import Any, Self

import torch
from lightning.pytorch.callbacks import Callback

from eqvae.equivariance import equivariance_errors
from eqvae.evaluation.image_grids import autoencoder_panel
from eqvae.training.loggers import log_image, takes_images


class LatentPanels(Callback):
    """Shows a few fixed validation images, their latents, and both under transformation, every so many steps.

    Logs the image `panels/latents`, and `panels/equivariance_latent` and `panels/equivariance_decoded`: the errors of
    these images, averaged over all probes. Without a logger that takes images nothing is
    drawn.

    Args:
        every_n_steps: steps between panels.
        num_images: so many validation images, evenly spaced.
    """

    def __init__(self, every_n_steps: int = 1000, num_images: int = 4):
        if every_n_steps < 1 or num_images < 1:
            raise ValueError(f"panels need every_n_steps and num_images >= 1, got {every_n_steps} and {num_images}")
        self.every_n_steps, self.num_images = every_n_steps, num_images
        self._last_step = 0

    @classmethod
    def of_run(cls, every_n_steps: int) -> Self:
        """What a run shows whose config says nothing of panels."""
        return cls(every_n_steps)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or step % self.every_n_steps or step == self._last_step:
            return  # a step of several batches ends once
        self._last_step = step
        if any(map(takes_images, trainer.loggers)):
            self._draw(trainer, pl_module, step)

    @torch.no_grad()
    def _draw(self, trainer: Any, pl_module: Any, step: int) -> None:
        autoencoder = pl_module.autoencoder
        was_training = autoencoder.training
        autoencoder.eval()
        try:
            images = next(iter(trainer.datamodule.sequential_loader("validation", self.num_images)))["image"]
            images = images.to(pl_module.device)
            log_image(trainer.loggers, "panels/latents", autoencoder_panel(autoencoder, images), step)
            found = equivariance_errors(autoencoder, images)
            means = {kind: float(torch.stack(list(errors.values())).mean()) for kind, errors in found.items()}
            for logger in trainer.loggers:
                logger.log_metrics({f"panels/equivariance_{kind}": mean for kind, mean in means.items()}, step)
        finally:
            autoencoder.train(was_training)
