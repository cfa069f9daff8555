"""Images of the generator while it trains, and metrics of them, the same numbers that are measured after it."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from dit.checkpoints import Generator
from dit.generation import SamplingSettings, generate_images, require_guidable
from dit.labels import choose_labels, names_path, score_order
from eqvae.autoencoders import load_autoencoder
from eqvae.data.sources import ImageSource
from eqvae.evaluation.feature_sets import as_reference, images_to_feature_set
from eqvae.evaluation.features import create_extractor, require_fitting_weights
from eqvae.evaluation.generation import feature_sets_to_generation_metrics, require_metrics
from eqvae.evaluation.image_grids import image_grid, save_png
from eqvae.evaluation.inputs import image_batches
from eqvae.processes import in_turns
from eqvae.training.averaging import ExponentialMovingAverage
from eqvae.training.loggers import log_image
from eqvae.training.sharding import full_tensor, is_sharded, plain_class
from eqvae.training.signals import stop_requested

NUM_UNASKED = 16  # images of a preview that no config asks for


class SamplePreviews(Callback):
    """Samples with the averaged weights every so many steps: `previews/step=NNNNNNN.png` in the run's folder.

    Image i starts from the same noise at every step, so that one sees it change. Grids also go to every logger that
    takes images, and with a reference metrics are logged, the Fréchet distance as `preview/fd_...`. They are those that
    `dit.measure_generation` finds of the images that `dit.sample` makes with the checkpoint of this step, bit for bit
    on a processor; of few images they are biased upward. Training is not touched: the run's weights are the same with
    and without previews.

    Args:
        every_n_steps: training steps between previews.
        num_images: in the grid.
        sampling: how images are sampled.
        labels: as of `dit.labels.choose_labels`.
        batch_size: images sampled at once.
        reference: real images to compare with; null measures nothing.
        num_reference_images: how many generated images and real ones, evenly spaced, are compared.
        metrics: what is measured, names of `eqvae.evaluation.generation.GENERATION_METRICS`.
        extractor, extractor_weights: whose features are compared, as of `create_extractor`.
        required: whether a run is refused whose autoencoder is not named or cannot be loaded; else it goes on without
            previews, after a warning.

    Raises:
        ValueError: if the reference has too few images, or for an unknown metric; when training begins, for an
            autoencoder that is not there.
    """

    def __init__(
        self,
        every_n_steps: int = 10_000,
        num_images: int = 50,
        sampling: SamplingSettings | None = None,
        labels: str = "balanced",
        batch_size: int = 50,
        reference: ImageSource | None = None,
        num_reference_images: int = 1000,
        metrics: Sequence[str] = ("fd",),
        extractor: str = "efficientnet_lite0",
        extractor_weights: str | None = None,
        required: bool = True,
    ):
        if every_n_steps < 1 or num_images < 1:
            raise ValueError(f"previews: {num_images} images every {every_n_steps} steps; both must be at least 1")
        if reference is not None and len(reference) < num_reference_images:
            raise ValueError(f"previews: the reference has {len(reference)} images, not {num_reference_images}")
        require_metrics(metrics, extractor)
        require_fitting_weights(extractor, extractor_weights)
        self.every_n_steps, self.num_images, self.batch_size = every_n_steps, num_images, batch_size
        self.sampling, self.labels = sampling or SamplingSettings(), labels
        self.reference, self.num_reference_images, self.metrics = reference, num_reference_images, tuple(metrics)
        self.extractor, self.extractor_weights = extractor, extractor_weights
        self.required = required
        self._autoencoder = self._real = None
        self._latest_step, self._can_decode = 0, False

    @classmethod
    def of_run(cls, every_n_steps: int) -> Self:
        """What a run shows whose config says nothing of previews: few images, and none where they cannot be made."""
        return cls(every_n_steps, NUM_UNASKED, batch_size=NUM_UNASKED, required=False)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._latest_step = trainer.global_step
        num_places = math.prod(trainer.datamodule.spec.shape[-2:])
        if not self.required:
            self._take_fewer_steps(pl_module, num_places)
        self._require_possible(pl_module, num_places)
        self._load_decoder(pl_module)
        self._can_decode = all(in_turns([self._autoencoder is not None]))

    def _take_fewer_steps(self, pl_module: Any, num_places: int) -> None:
        """No more than there are tokens, where nobody asked for so many."""
        if pl_module.objective.learns == "tokens":
            steps = min(self.sampling.num_inference_steps, num_places)
            self.sampling = dataclasses.replace(self.sampling, num_inference_steps=steps)

    def _require_possible(self, pl_module: Any, num_places: int) -> None:
        """Refuse settings that the first preview would stop at, days into a training.

        Raises:
            ValueError: for a sampler or labels that do not fit the generator, or guidance of one that has none.
        """
        self.sampling.spelled_out(pl_module.objective, num_places)
        require_guidable(pl_module.backbone, self.sampling.guidance_scale)
        self._labels(pl_module.backbone.config["num_classes"])

    @property
    def _count(self) -> int:
        """Images that a preview samples: of the grid, and those that are measured."""
        return max(self.num_images, self.num_reference_images if self.reference is not None else 0)

    def _load_decoder(self, pl_module: Any) -> None:
        try:
            if pl_module.autoencoder_source is None:
                raise ValueError("previews need the autoencoder that decodes: set model.init_args.autoencoder")
            with torch.random.fork_rng([]):  # networks that are built here draw from the global generators
                self._autoencoder = load_autoencoder(pl_module.autoencoder_source).freeze()
        except (ValueError, OSError) as error:
            if self.required:
                raise
            warnings.warn(f"training shows no samples: {error}", stacklevel=2)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if not self._can_decode or step == self._latest_step or step % self.every_n_steps:
            return  # an accumulated batch, or not due
        self._latest_step = step
        device = trainer.strategy.root_device
        # Keyed noise draws nothing from the global generators, but networks that are built here do.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            images = self._sample(trainer, pl_module, self._averaged_backbone(trainer, pl_module), device)
            if images is not None and trainer.is_global_zero:
                self._show(trainer, pl_module, images, device)

    def _averaged_backbone(self, trainer: Any, pl_module: Any) -> nn.Module:
        """With averaged weights, with the raw ones where nothing averages; whole in every process."""
        averages = [entry for entry in trainer.callbacks if isinstance(entry, ExponentialMovingAverage)]
        backbone = (averages[0].averaged_module if averages else pl_module).backbone
        if not is_sharded(backbone):
            return backbone
        whole = plain_class(backbone)(**backbone.config)
        whole.load_state_dict({name: full_tensor(value) for name, value in backbone.state_dict().items()})
        return whole.to(trainer.strategy.root_device)

    def _show(self, trainer: Any, pl_module: Any, images: Tensor, device: torch.device) -> None:
        grid, step = image_grid(images[: self.num_images]), trainer.global_step
        save_png(grid, Path(trainer.default_root_dir) / "previews" / f"step={step:07d}.png")
        log_image(trainer.loggers, "preview/samples", grid, step)
        if self.reference is None:
            return
        labels = self._labels(pl_module.backbone.config["num_classes"])[: self.num_reference_images]
        measured = self._measure(images[: self.num_reference_images], labels, device)
        for logger in trainer.loggers:
            logger.log_metrics({f"preview/{name}": value for name, value in measured.items()}, step)

    def _sample(self, trainer: Any, pl_module: Any, backbone: nn.Module, device: torch.device) -> Tensor | None:
        """uint8 images [N, 3, H, W], of which every process samples its share: none waits for another's.

        None where the run is told to end meanwhile, which must not wait for them either.
        """
        assert self._autoencoder is not None, "asked before"
        self._autoencoder.to(device)
        source, spec = pl_module.autoencoder_source, trainer.datamodule.spec
        precision = "bfloat16" if str(trainer.precision).startswith("bf16") else "float32"
        objective, step = pl_module.objective, trainer.global_step
        generator = Generator(backbone, objective, spec, source, step, precision=precision)
        labels = self._labels(generator.num_classes)
        was_training = backbone.training
        backbone.eval()
        try:
            share = (self.batch_size, trainer.global_rank, trainer.world_size)
            mine: list[Tensor] = []
            settings = (labels, self.sampling, *share)  # what is not finite is shown black: training is not touched
            for batch in generate_images(generator, self._autoencoder, *settings, require_finite=False):
                mine.append(batch)
                if stop_requested(trainer):
                    break
            if any(in_turns([stop_requested(trainer)])):
                return None
            return torch.cat(in_turns(mine))
        finally:
            backbone.train(was_training)

    def _labels(self, num_classes: int) -> Tensor:
        return choose_labels(self._count, num_classes, self.labels, self.sampling.seed)

    def _measure(self, images: Tensor, labels: Tensor, device: torch.device) -> dict[str, float]:
        """The metrics of generated images of these labels."""
        extractor = create_extractor(self.extractor, self.extractor_weights, device)
        if self._real is None:
            assert self.reference is not None, "measured where there is one"
            batches = image_batches(self.reference, self.num_reference_images)
            self._real = as_reference(images_to_feature_set(batches, extractor))
        generated = images_to_feature_set(images, extractor)
        order = score_order(labels) if names_path(self.labels) else "given"
        return feature_sets_to_generation_metrics(self._real, generated, self.extractor, self.metrics, order, device)
