"""Stage 1: fine-tune an autoencoder, with or without equivariance regularization."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from eqvae.autoencoders import CodebookLoss, load_autoencoder, source_file
from eqvae.autoencoders.exporting import remove_export
from eqvae.caching import CacheRun, LatentCaching, ReleasesCaches
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.exports import AutoencoderExport
from eqvae.image_sizes import require_large_images, require_large_validation_images, smallest_sides
from eqvae.latents.learned import IMAGES, require_learned_images
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.objective import USUAL_KL_WEIGHT, AutoencoderObjective, doubts, require_kl_weight
from eqvae.precision import require_float32_weights
from eqvae.provenance import describe_recipe
from eqvae.ranges import require_number
from eqvae.regularizers import (
    Action,
    Equivariance,
    LatentRegularizer,
    Pass,
    Reconstruction,
    Regularizers,
    StepKey,
    TransformDistribution,
    reconstruct,
)
from eqvae.starting import TrainingStart
from eqvae.stream import SequentialBatches
from eqvae.training.compiling import allow_two_passes_back, compile_network
from eqvae.training.data_module import data_module
from eqvae.training.gradients import Gradients
from eqvae.training.nonfinite import FiniteGuard, OnNonFinite
from eqvae.training.schedules import learning_rate_factor, require_schedule, set_learning_rate
from eqvae.training.step_logging import log_nothing, log_terms, means


class AutoencoderModule(lightning.LightningModule):
    """Fine-tunes an autoencoder with its published loss, and with what regularizers ask of its latents.

    One forward pass of the autoencoder serves generator and critic; gradients meet at the decoded image, so the
    perceptual network and the critic run backward once. `global_step` counts steps of the autoencoder alone.
    `fit` ends with an exported autoencoder folder, `predict` writes a latent cache with it.

    Args:
        autoencoder: what `load_autoencoder` takes: folder, hub id, packaged name, or a diffusers config to start from
            random weights.
        transforms: how a step of equivariance regularization draws its transform: settings, or a preset, "paper" or
            "released"; it stands before `regularizers`. Null trains without it (the control).
        reconstruction: pixel and perceptual loss.
        adversarial: the critic and its weight; null trains without a critic.
        kl_weight: weight of the divergence from a standard normal, summed over the latent, mean over the batch; above
            the default it is refused where latents have no spread, or do not train.
        codebook: what moves features and codebook of a VQ autoencoder; null takes VQ-GAN's.
        regularizers: what else is asked of latents, see `eqvae.regularizers`; they act in their order.
        trainable: "all", or "decoder", which leaves latents bit for bit as they are (sd-vae-ft-ema, -mse).
        learning_rate: of Adam for both networks, or "restored": that of the checkpoint of `optimizer_state`.
        scale_learning_rate: multiply it by devices x images per batch x accumulated batches, latent-diffusion's rule.
        optimizer_state: null starts Adam afresh. A training checkpoint of latent-diffusion or taming, or "autoencoder"
            for the file that the autoencoder comes from, goes on with its moments, the critic's included where the
            critic comes from there, too.
        betas: of Adam.
        warmup_steps: steps of linear warm-up.
        decay: of the learning rate, see `learning_rate_factor`: "constant", "cosine", "cosine_in_last_tenth", or a
            schedule of diffusers, "cosine_with_restarts:4" say.
        gradient_clip_norm: largest gradient norm of the autoencoder; null or 0 does not clip.
        accumulate_batches: batches whose gradients are averaged into one step.
        seed: of transforms, posterior samples and random weights.
        export_folder: where `fit` leaves the autoencoder; null: `autoencoder` in the trainer's root folder.
        normalization: of what is exported: "estimated" on training images, or "start", that of the autoencoder as it
            was, which EQ-VAE's code keeps and generators of the base model expect; an unknown one is estimated.
        num_normalization_images: training images, evenly spaced, on which the latent normalization is estimated.
        evaluation: what `validate` measures.
        cache: where and how `predict` writes latent caches.
        on_nonfinite: "stop" or "skip" the update where a loss or gradient is not finite; see `FiniteGuard`.
        compile: train encoder, decoder and critic compiled by `torch.compile`, see `compile_network`; weights and files
            are the same, values differ in their last bits. On a CPU it needs a C++ compiler, and Inductor makes a graph
            of its own for each of the first eight image sizes.
    """

    cache_run: CacheRun | None = None  # of `predict`

    config_name: str | None = None  # of the recipe, where the command line was given one

    in_place_of_trainers: ClassVar = {
        "gradient_clip_val": ("gradient_clip_norm", None),
        "accumulate_grad_batches": ("accumulate_batches", 1),
    }
    """Keys of the trainer that manual optimization does without: ours, and the trainer's default."""

    shown_by = "eqvae.panels.LatentPanels"  # `train.py fit --previews`; by name, since training does not depend on it

    def __init__(
        self,
        autoencoder: str | dict[str, Any],
        transforms: TransformDistribution | Literal["paper", "released"] | None = None,
        reconstruction: ReconstructionLoss | None = None,
        adversarial: AdversarialLoss | None = None,
        kl_weight: float = USUAL_KL_WEIGHT,
        codebook: CodebookLoss | None = None,
        regularizers: list[LatentRegularizer] | None = None,
        trainable: Literal["all", "decoder"] = "all",
        learning_rate: float | Literal["restored"] = 4.5e-6,
        scale_learning_rate: bool = False,
        optimizer_state: str | None = None,
        betas: tuple[float, float] = (0.5, 0.9),
        warmup_steps: int = 0,
        decay: str = "constant",
        gradient_clip_norm: float | None = None,
        accumulate_batches: int = 1,
        seed: int = 0,
        export_folder: str | None = None,
        normalization: Literal["estimated", "start"] = "estimated",
        num_normalization_images: int = 10_000,
        evaluation: AutoencoderEvaluation | None = None,
        cache: LatentCaching | None = None,
        on_nonfinite: OnNonFinite = "stop",
        compile: bool = False,
    ):
        super().__init__()
        if learning_rate != "restored":
            require_number("model.init_args.learning_rate", learning_rate, least=0)
        require_number("model.init_args.accumulate_batches", accumulate_batches, least=1)
        self.automatic_optimization = False
        self.autoencoder = load_autoencoder(autoencoder, seed).train()
        if normalization not in ("estimated", "start"):
            raise ValueError(f"model.init_args.normalization {normalization!r} is unknown: use estimated or start")
        keeps = normalization == "start"
        self.exporting = AutoencoderExport(export_folder, num_normalization_images, self.autoencoder, keeps)
        if trainable not in ("all", "decoder"):
            raise ValueError(f"trainable {trainable!r} is unknown: use all or decoder")
        self.autoencoder.require_trainable(trainable == "decoder")
        if trainable == "decoder":
            self.autoencoder.freeze_latents()
        asked = [] if transforms is None else [Equivariance(transforms)]
        self.regularizers = Regularizers([*asked, *(regularizers or [])], self.autoencoder)
        require_kl_weight(kl_weight, self.autoencoder, trainable)
        self.kl_weight = kl_weight
        self.reconstruction = reconstruction or ReconstructionLoss()
        self.adversarial = adversarial
        self.critic = adversarial.create_critic(seed) if adversarial else None
        origin = (source_file(autoencoder), adversarial and adversarial.critic_weights, optimizer_state)
        latent_loss = self.autoencoder.latent_loss(kl_weight, codebook)
        self.objective = AutoencoderObjective(
            self.reconstruction, latent_loss, self.regularizers, self.adversarial, self.critic
        )
        self.training_start = TrainingStart(*origin, learning_rate, scale_learning_rate)
        if self.critic is not None:
            self.training_start.load_critic(self.critic)
        self.learning_rate, self.betas = learning_rate, (betas[0], betas[1])  # the first batch settles the rate
        self.warmup_steps = warmup_steps
        require_schedule(decay, warmup_steps)
        self.decay = decay
        require_number("model.init_args.gradient_clip_norm", gradient_clip_norm or 0, least=0)
        self.gradient_clip_norm, self.accumulate_batches = gradient_clip_norm, accumulate_batches
        self.seed = seed
        self.evaluation = evaluation or AutoencoderEvaluation()
        self.cache = cache or LatentCaching()
        self.cache_plan = self.cache.plan
        self.guard = FiniteGuard(on_nonfinite)
        self.compiled = compile
        self.trainable = trainable

    def setup(self, stage: str) -> None:
        require_float32_weights(self.trainer.precision)
        if stage == "fit":
            self.exporting.require_place(self.trainer.default_root_dir)
        for split, source in getattr(data_module(self.trainer), "sources", {}).items():
            for side in source[0][0].shape[-2:]:
                self.autoencoder.require_image_size(side, f"data.init_args.{split}: image_size")

    def _trained(self) -> list[list[torch.nn.Parameter]]:
        """Parameters of each optimizer: the autoencoder's with the regularizers', and the critic's."""
        groups = [[*self.autoencoder.parameters(), *self.regularizers.parameters()]]
        return groups if self.critic is None else [*groups, list(self.critic.parameters())]

    def configure_callbacks(self) -> list[ReleasesCaches]:
        """None of a training, whose callbacks Lightning would put into another order for it."""
        return [ReleasesCaches()] if self.trainer.state.fn == TrainerFn.PREDICTING else []

    def configure_optimizers(self) -> list[torch.optim.Adam]:
        parameters = [[value for value in group if value.requires_grad] for group in self._trained()]
        optimizers = [torch.optim.Adam(values, betas=self.betas, fused=True) for values in parameters]
        self.training_start.restore_optimizers(optimizers, self.autoencoder, self.critic)
        for optimizer in optimizers:
            set_learning_rate(optimizer, self.training_start.base_learning_rate, step=0)  # `_step` sets it for each
        return optimizers

    def on_fit_start(self) -> None:
        self._begun = False
        self._accumulated_terms: list[dict[str, Tensor]] = []
        self.trainer.accumulate_grad_batches = self.accumulate_batches  # Lightning counts steps for loggers by it
        trained = sum(each.numel() for each in self.autoencoder.parameters() if each.requires_grad)
        rank_zero_info(f"{type(self.autoencoder).__name__}: {trained / 1e6:.3f} M trained parameters")
        rank_zero_info(self.regularizers.describe(self.critic is not None))
        losses = (self.reconstruction, self.adversarial)
        for doubt in doubts(*losses, self.autoencoder.num_codes, self.trainer.max_steps):
            rank_zero_warn(doubt)
        if self.compiled:
            self._compile()

    def _compile(self) -> None:
        encoder, decoder = self.autoencoder.networks
        asked_for = (self.autoencoder.last_layer, self.autoencoder.encoder_last_layer)
        any_size = any(each.resizes for each in self.regularizers)
        if any(each.adaptive for each in self.regularizers):
            allow_two_passes_back()
        compile_network(encoder, asked_for)
        for network in filter(None, (decoder, self.critic)):
            compile_network(network, asked_for, any_size)

    def on_train_start(self) -> None:
        self._gradients = [Gradients(group) for group in self._trained()]
        self.guard.begin(self)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if not self._begun:
            self._begin(batch["image"])
            self._begun = True

    def _begin(self, images: Tensor) -> None:
        """What the first images settle, before they are used."""
        amounts = (self.trainer.world_size, len(images), self.accumulate_batches)
        self.learning_rate = self.training_start.settle_learning_rate(*amounts)
        size, factor = (images.shape[-2], images.shape[-1]), self.autoencoder.posterior_factor
        networks = smallest_sides(self.autoencoder, self.regularizers, self.reconstruction, self.critic)
        for smallest_latent, sides in networks:
            require_large_images(size, factor, smallest_latent, sides)
        data = data_module(self.trainer)
        if data is not None and self.trainer.limit_val_batches:
            self.evaluation.require_images(data.count("validation"), "data.init_args.validation")
            require_large_validation_images(data.image_size("validation"), self.evaluation.smallest_sides)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        images = batch["image"]
        action = self._draw(batch)
        result = reconstruct(self.autoencoder, images, action, self._noise(batch))
        asked = action.terms(Pass(self.autoencoder, result, self.objective.distance))
        shown = self._shown_to_critic(batch, action, result) if self.objective.critic_active(self.global_step) else None
        with torch.autocast(self.device.type, enabled=False):
            surrogate, terms = self.objective.autoencoder_loss(self.autoencoder, result, asked, self.global_step)
            if self.critic is not None:
                terms["critic_loss"] = self.objective.critic_loss(shown)
                surrogate = surrogate + terms["critic_loss"]
        # One backward pass: the two losses share no parameter, and DDP waits for all parameters in each pass.
        loss, steps = surrogate / self.accumulate_batches, (batch_idx + 1) % self.accumulate_batches == 0
        if steps:
            self.manual_backward(loss)
        else:
            loss.backward()  # without telling DDP, which would average gradients that are not complete
        terms = {name: value.detach() for name, value in terms.items()}
        self.guard.watch(batch, terms)
        self._accumulated_terms.append(terms | {"loss": terms["nll"]})
        if steps:
            self._step()
            log_terms(self, means(self._accumulated_terms), shown="loss")
            self._accumulated_terms.clear()
        else:
            log_nothing(self.trainer)

    def _draw(self, batch: dict[str, Tensor], stream: str = "") -> Action:
        """What a pass of this step does."""
        _, height, width = self.autoencoder.posterior_shape(batch["image"])
        return self.regularizers.draw(
            StepKey(self.seed, self.global_step, (height, width), batch["key"], self.global_rank, stream)
        )

    def _noise(self, batch: dict[str, Tensor], stream: str = "posterior") -> Tensor | None:
        shape = self.autoencoder.posterior_shape(batch["image"])
        return self.autoencoder.posterior_noise(batch["key"], shape, self.seed, stream)

    @torch.no_grad()
    def _shown_to_critic(
        self, batch: dict[str, Tensor], action: Action, result: Reconstruction
    ) -> tuple[Tensor, Tensor]:
        """Images and reconstructions: those of the autoencoder's own pass, or of a second one with its own draw."""
        if not self.regularizers.fresh_for_critic:
            return result.target, result.images.detach()
        fresh = self._draw(batch, "critic")
        posterior = None if action.changes_input or fresh.changes_input else result.posterior
        noise = self._noise(batch, "critic posterior")
        shown = reconstruct(self.autoencoder, batch["image"], fresh, noise, posterior)
        return shown.target, shown.images

    def _step(self) -> None:
        step = self.global_step
        factor = learning_rate_factor(step, self.trainer.max_steps, self.warmup_steps, self.decay)
        assert not isinstance(self.learning_rate, str), "the first batch settles it"
        optimizers = self.optimizers(use_pl_optimizer=True)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            set_learning_rate(optimizer, self.learning_rate * factor, step)
        if not self.guard.accepts(self, [norm for gradients in self._gradients for norm in gradients.measure()]):
            for optimizer in optimizers:
                optimizer.zero_grad()  # without gradients a step changes nothing but is counted
        # The critic's raw optimizer: through Lightning's wrapper its steps would count as global steps, too.
        if self.objective.critic_active(self.global_step):
            optimizers[1].optimizer.step()
            optimizers[1].optimizer.zero_grad()
        if self.gradient_clip_norm:
            self._gradients[0].clip(self.gradient_clip_norm)
        optimizers[0].step()
        optimizers[0].zero_grad()

    def export_path(self, root: str | Path) -> Path:
        """Where `fit` in a run folder leaves the autoencoder."""
        return self.exporting.path(root)

    def cache_path(self, root: str | Path) -> Path:
        """Where `predict` in a run folder leaves its cache."""
        return self.cache.path(root)

    def remove_export(self, folder: Path) -> None:
        """Make room for the export of a new run."""
        remove_export(folder)

    def export(self, data: Any, folder: Path, num_steps: int) -> None:
        """Write the autoencoder folder, see `AutoencoderExport.write`."""
        self.exporting.write(self.autoencoder, data, folder, num_steps, describe_recipe(self, data))

    def on_fit_end(self) -> None:
        self.trainer.accumulate_grad_batches = 1  # Lightning refuses to begin with another

    def on_train_end(self) -> None:
        """Export the final (averaged) weights."""
        data = data_module(self.trainer)
        if self.trainer.is_global_zero and data is not None:
            self.export(data, self.export_path(self.trainer.default_root_dir), self.global_step)

    def _take_export(self) -> None:
        exported = self.exporting.find(self.trainer, self)
        if exported is not None:
            self.autoencoder = exported.to(self.device).eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["start"] = self.exporting.start
        checkpoint[IMAGES] = _learned_images(data_module(self.trainer))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.trainer.training:
            return
        if "start" in checkpoint:
            self.exporting.require_start(checkpoint["start"])
        self.require_images(checkpoint, data_module(self.trainer))

    def require_images(self, checkpoint: dict[str, Any], data: Any) -> None:
        """Refuse to go on from a checkpoint with other training images; errors as of `require_learned_images`."""
        require_learned_images(checkpoint, _learned_images(data), "data.init_args.train")

    def on_validation_start(self) -> None:
        if self.trainer.state.fn != TrainerFn.FITTING:
            self._take_export()
        self.evaluation.reset(self._expected_images())
        rank_zero_info(self.evaluation.describe())

    def _expected_images(self) -> int | None:
        """How many images this validation will read; None where a loader of another kind does not tell."""
        trainer = self.trainer
        loader, num_batches = trainer.val_dataloaders, trainer.num_val_batches
        if trainer.testing:
            loader, num_batches = trainer.test_dataloaders, trainer.num_test_batches
        batches = getattr(loader, "dataset", None)
        return batches.count_images(num_batches[0]) if isinstance(batches, SequentialBatches) else None

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluation.update(self.autoencoder, batch["image"])

    def on_validation_epoch_end(self) -> None:
        for name, value in self.evaluation.compute().items():
            self.log(f"val/{name}", value, prog_bar=name == "psnr", rank_zero_only=True)

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def on_predict_start(self) -> None:
        self._take_export()
        self.exporting.settle_normalization(self.autoencoder, data_module(self.trainer))
        self.cache_run = self.cache.begin(self.trainer, self.autoencoder)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        assert self.cache_run is not None, "begun before"
        self.cache_run.add(batch, dataloader_idx)

    def on_predict_end(self) -> None:
        assert self.cache_run is not None, "begun before"
        self.cache_run.finish()


def _learned_images(data: Any) -> dict[str, Any] | None:
    """What a data module says of its training images; None of one that does not tell."""
    return data.description("train") if hasattr(data, "description") else None
