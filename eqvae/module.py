"""Stage 1: fine-tune an autoencoder, with or without equivariance regularization."""

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from eqvae.autoencoders import LatentStatistics, load_autoencoder
from eqvae.equivariance import Reconstruction, TransformDistribution, reconstruct
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.latents import create_cache_writer
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.training.nonfinite import FiniteGuard, OnNonFinite
from eqvae.training.randomness import keyed_normal
from eqvae.training.schedules import Decay, learning_rate_factor, set_learning_rate


class AutoencoderModule(lightning.LightningModule):
    """Fine-tunes a KL autoencoder with the loss of latent-diffusion, on transformed latents where a step draws one.

    One forward pass of the autoencoder serves generator and critic; gradients meet at the decoded image, so the
    perceptual network and the critic run backward once. `global_step` counts steps of the autoencoder alone.
    `fit` ends with an exported autoencoder folder, `predict` writes a latent cache.

    Args:
        autoencoder: what `load_autoencoder` takes: folder, hub id, packaged name, or a diffusers config to start from
            random weights.
        transforms: how a step draws its transform; null trains with the ordinary loss (the control).
        reconstruction: pixel and perceptual loss.
        adversarial: the critic and its weight; null trains without a critic.
        kl_weight: of the divergence from a standard normal, summed over the latent, mean over the batch.
        learning_rate: of Adam for both networks.
        betas: of Adam.
        warmup_steps: steps of linear warm-up.
        decay: "constant" or "cosine" to zero at max_steps.
        gradient_clip_norm: largest gradient norm of the autoencoder; null does not clip.
        accumulate_batches: batches whose gradients are averaged into one step.
        seed: of transforms, posterior samples and random weights.
        export_folder: where `fit` leaves the autoencoder; null: `autoencoder` in the trainer's root folder.
        num_normalization_images: training images on which the latent normalization is estimated.
        evaluation: what `validate` measures.
        cache_folder: where `predict` writes the latent cache; null: `latents` in the trainer's root folder.
        cache_dtype: "float16", "bfloat16" or "float32" of the stored latents.
        cache_content: "moments", of which every read draws a fresh sample, or one "sample" of half the size.
        on_nonfinite: "stop" or "skip" the update where a loss or gradient is not finite; see `FiniteGuard`.
    """

    def __init__(
        self,
        autoencoder: str | dict[str, Any],
        transforms: TransformDistribution | None = None,
        reconstruction: ReconstructionLoss | None = None,
        adversarial: AdversarialLoss | None = None,
        kl_weight: float = 1e-6,
        learning_rate: float = 4.5e-6,
        betas: tuple[float, float] = (0.5, 0.9),
        warmup_steps: int = 0,
        decay: Decay = "constant",
        gradient_clip_norm: float | None = None,
        accumulate_batches: int = 1,
        seed: int = 0,
        export_folder: str | None = None,
        num_normalization_images: int = 10_000,
        evaluation: AutoencoderEvaluation | None = None,
        cache_folder: str | None = None,
        cache_dtype: str = "float16",
        cache_content: str = "moments",
        on_nonfinite: OnNonFinite = "stop",
    ):
        super().__init__()
        self.automatic_optimization = False
        self.autoencoder = load_autoencoder(autoencoder, seed).train()
        self.transforms = transforms or TransformDistribution(probability=0.0, low_resolution_probability=0.0)
        self.reconstruction = reconstruction or ReconstructionLoss()
        self.adversarial = adversarial
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic = adversarial.create_critic() if adversarial else None
        self.kl_weight = kl_weight
        self.learning_rate, self.betas = learning_rate, tuple(betas)
        self.warmup_steps, self.decay = warmup_steps, decay
        self.gradient_clip_norm = gradient_clip_norm
        self.accumulate_batches = accumulate_batches
        self.seed = seed
        self.export_folder, self.num_normalization_images = export_folder, num_normalization_images
        self.evaluation = evaluation or AutoencoderEvaluation()
        self.cache_folder, self.cache_dtype, self.cache_content = cache_folder, cache_dtype, cache_content
        self.guard = FiniteGuard(on_nonfinite)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        networks = [self.autoencoder] if self.critic is None else [self.autoencoder, self.critic]
        return [torch.optim.Adam(net.parameters(), self.learning_rate, self.betas, foreach=True) for net in networks]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        images = batch["image"]
        factor = self.autoencoder.downsampling_factor
        latent_size = (images.shape[-2] // factor, images.shape[-1] // factor)
        draw = self.transforms.draw(self.seed, self.global_step, latent_size)
        latent_shape = (self.autoencoder.latent_channels, *latent_size)
        noise = keyed_normal(batch["key"], latent_shape, seed=self.seed, stream="posterior")
        result = reconstruct(self.autoencoder, images, draw, noise)
        with torch.autocast(self.device.type, enabled=False):
            terms = self._backward(result)
            critic_loss = self._backward_critic(result) if self._critic_active() else None
        if critic_loss is not None:
            terms["critic_loss"] = critic_loss
        self.guard.watch(batch, terms)
        if (batch_idx + 1) % self.accumulate_batches == 0:
            self._step()
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, sync_dist=True)
        self.log("train/loss", terms["nll"], prog_bar=True, sync_dist=True)

    def _critic_active(self) -> bool:
        return self.adversarial is not None and self.adversarial.active(self.global_step)

    def _backward(self, result: Reconstruction) -> dict[str, Tensor]:
        """Accumulate the autoencoder's gradients; returns what to log."""
        decoded, target = result.images.float(), result.target.float()
        leaf = decoded.detach().requires_grad_()
        terms = self.reconstruction(leaf, target)
        (image_grad,) = torch.autograd.grad(terms["nll"], leaf)
        if self._critic_active():
            self.critic.requires_grad_(False)
            loss = self.adversarial.generator_loss(self.critic(leaf))
            (gan_grad,) = torch.autograd.grad(loss, leaf)
            self.critic.requires_grad_(True)
            weight = self.adversarial.adaptive_weight(decoded, image_grad, gan_grad, self.autoencoder.last_layer)
            image_grad = image_grad + weight * gan_grad
            terms |= {"generator_loss": loss.detach(), "adaptive_weight": weight}
        terms["kl"] = result.posterior.kl().float().mean()
        # A scalar with these very gradients: Lightning's strategies hook into the backward pass of a scalar.
        surrogate = (decoded * image_grad).sum() + self.kl_weight * terms["kl"]
        self.manual_backward(surrogate / self.accumulate_batches)
        return {name: value.detach() for name, value in terms.items()}

    def _backward_critic(self, result: Reconstruction) -> Tensor:
        """Accumulate the critic's gradients on the same images, real and decoded, transformed alike."""
        real, fake = result.target.float(), result.images.detach().float()
        loss = self.adversarial.critic_loss(self.critic(real), self.critic(fake))
        self.manual_backward(loss / self.accumulate_batches)
        return loss.detach()

    def _step(self) -> None:
        step = self.global_step
        factor = learning_rate_factor(step, self.trainer.max_steps, self.warmup_steps, self.decay)
        optimizers = self.optimizers(use_pl_optimizer=True)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            set_learning_rate(optimizer, self.learning_rate * factor)
        if not self.guard.accepts(self, self.parameters()):
            for optimizer in optimizers:
                optimizer.zero_grad()  # without gradients a step changes nothing but is counted
        # The critic's raw optimizer: through Lightning's wrapper its steps would count as global steps, too.
        if self._critic_active():
            optimizers[1].optimizer.step()
            optimizers[1].optimizer.zero_grad()
        if self.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.autoencoder.parameters(), self.gradient_clip_norm)
        optimizers[0].step()
        optimizers[0].zero_grad()

    def on_train_end(self) -> None:
        """Estimate the normalization of the final (averaged) weights and write the autoencoder folder."""
        if self.trainer.is_global_zero and self.trainer.datamodule is not None:
            self.autoencoder.normalization = self._estimate_normalization()
            self.autoencoder.save_pretrained(self._output_folder(self.export_folder, "autoencoder"))

    @torch.no_grad()
    def _estimate_normalization(self):
        statistics = LatentStatistics()
        self.autoencoder.eval()
        for batch in self.trainer.datamodule.sequential_loader("train", limit=self.num_normalization_images):
            posterior = self.autoencoder.encode(batch["image"].to(self.device))
            statistics.update(posterior.mean, posterior.std)
        return statistics.normalization()

    def on_validation_start(self) -> None:
        self.evaluation.reset()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self.evaluation.update(self.autoencoder, batch["image"])

    def on_validation_epoch_end(self) -> None:
        for name, value in self.evaluation.compute().items():
            self.log(f"val/{name}", value, prog_bar=name == "psnr", rank_zero_only=True)

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def on_predict_start(self) -> None:
        folder = self._output_folder(self.cache_folder, "latents")
        options = {
            "dataset": self.trainer.datamodule.description(),
            "dtype": self.cache_dtype,
            "content": self.cache_content,
            "rank": self.global_rank,
            "num_replicas": self.trainer.world_size,
        }
        if not self.trainer.is_global_zero:
            self.trainer.strategy.barrier("cache opened")
        self._writer = create_cache_writer(folder, self.autoencoder, **options)
        if self.trainer.is_global_zero:
            self.trainer.strategy.barrier("cache opened")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._writer.add(batch)

    def on_predict_end(self) -> None:
        self._writer.finish(wait=self.trainer.strategy.barrier)

    def _output_folder(self, folder: str | None, name: str) -> Path:
        return Path(folder) if folder else Path(self.trainer.default_root_dir) / name
