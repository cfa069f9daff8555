"""Stage 2: train a generator on frozen latents."""

from functools import cached_property
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from dit.alignment import Alignment, cosine_alignment, tokens_after
from dit.backbones import DiT
from dit.backbones.flops import num_multiply_adds, num_parameters
from dit.backbones.interface import Backbone, config_of
from dit.checkpoints import describe_generator
from dit.decoder import choose_autoencoder
from dit.following import follow_cache
from dit.objectives import Objective
from dit.validation import VALIDATION_SEED, ValidationLoss
from eqvae.devices import seed_default_generator
from eqvae.latents import LatentSpec
from eqvae.latents.learned import IMAGES, require_learned_images
from eqvae.precision import TRAINER_PRECISIONS, require_float32_weights
from eqvae.randomness import fold_keys, keyed_normal, keyed_uniform
from eqvae.ranges import require_number
from eqvae.training.data_module import data_module
from eqvae.training.gradients import Gradients
from eqvae.training.nonfinite import FiniteGuard, OnNonFinite, loss_scaler
from eqvae.training.schedules import learning_rate_factor, require_schedule, set_learning_rate
from eqvae.training.sharding import is_sharded, plain_class, shard
from eqvae.training.step_logging import log_terms

SCALED = "16-mixed"  # float16 with loss scaling, whose losses here are no sums over pixels


class GeneratorModule(lightning.LightningModule):
    """Trains a backbone with an objective; knows nothing of images.

    Time, noise and dropped labels of a sample are functions of (seed, position in the stream), so neither resuming
    nor the number of devices changes them. The autoencoder is only named here, for whoever samples, and compared with
    the cache before anything is learned.

    Args:
        backbone: `forward(x [B, C, h, w] (tokens: [B, h, w]), t [B], y [B], drop_labels [B]) -> prediction`.
        objective: what is learned (`dit.objectives`).
        autoencoder: folder or hub id that made the latents; sampling decodes with it. Null: the one that the cache
            names.
        learning_rate: of AdamW.
        betas: of AdamW.
        weight_decay: of AdamW.
        warmup_steps: steps of linear warm-up.
        decay: of the learning rate, see `learning_rate_factor`: "constant", "cosine", "cosine_in_last_tenth", or a
            schedule of diffusers, "cosine_with_restarts:4" say.
        seed: of times, noise and dropped labels.
        on_nonfinite: "stop" or "skip" the update where a loss or gradient is not finite; see `FiniteGuard`.
        alignment: pull tokens of a block towards features of a frozen encoder (REPA); null does not.
        compile: train a backbone that `torch.compile` has compiled, which takes a minute at the first step; weights,
            keys and checkpoints are the same, values differ in their last bits. On a CPU it needs a C++ compiler.
    """

    is_measured_by_checkpoint = True  # `train.py validate` without one takes the run's newest

    shown_by = "dit.previews.SamplePreviews"  # `train.py fit --previews`; by name, since training does not depend on it

    def __init__(
        self,
        backbone: nn.Module,
        objective: Objective,
        autoencoder: str | dict[str, Any] | None = None,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        decay: str = "constant",
        seed: int = 0,
        on_nonfinite: OnNonFinite = "stop",
        alignment: Alignment | None = None,
        compile: bool = False,
    ):
        super().__init__()
        require_number("model.init_args.learning_rate", learning_rate, least=0)
        self.backbone = backbone
        self.objective = objective
        self.autoencoder_source = autoencoder
        self.learning_rate, self.betas, self.weight_decay = learning_rate, (betas[0], betas[1]), weight_decay
        self.warmup_steps = warmup_steps
        require_schedule(decay, warmup_steps)
        self.decay = decay
        self.seed = seed
        self.guard = FiniteGuard(on_nonfinite)
        self.alignment = alignment
        self.compiled = compile
        self.projector = alignment.create_projector(backbone, seed) if alignment else None

    @staticmethod
    def settle(model: Any, data: Any) -> None:
        """Sizes of the backbone that the config leaves to the cache, before anything is built; a line says them."""
        if line := follow_cache(model, data):
            rank_zero_info(line)

    def setup(self, stage: str) -> None:
        require_float32_weights(self.trainer.precision, (*TRAINER_PRECISIONS, SCALED))
        require_number("trainer.gradient_clip_val", self.trainer.gradient_clip_val or 0, least=0)
        data, config = data_module(self.trainer), config_of(self.backbone)
        found = data.spec.backbone_config | {"num_classes": data.num_classes}
        for part, fits in (
            (self.objective, self.objective.learns == data.spec.kind),
            (self.backbone, set(found) <= set(config)),
        ):
            if not fits:
                raise ValueError(
                    f"{type(part).__name__} does not learn {data.spec.kind}, but the cache {data.cache_folder} holds "
                    "them: choose another cache, or another backbone and objective"
                )
        for name, value in found.items():
            if config[name] != value:
                raise ValueError(
                    f"backbone.{name} is {config[name]}, the cache {data.cache_folder} has {value}: set "
                    f"model.init_args.backbone.init_args.{name} to that, or give another cache"
                )
        self.autoencoder_source = choose_autoencoder(self.autoencoder_source, data.cache)
        if self.alignment is not None:
            assert isinstance(self.backbone, DiT), "others have no projector"
            self.alignment.connect(data, self.backbone.side)

    def configure_model(self) -> None:
        if self.device_mesh is not None and not is_sharded(self):  # under FullyShardedStrategy
            for network in (self.backbone, self.projector):
                if network is not None:
                    shard(network, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.parameters(), self.learning_rate, self.betas, weight_decay=self.weight_decay, fused=True
        )

    def on_train_start(self) -> None:
        self.gradients = Gradients(self.parameters())
        self.guard.begin(self)

    def on_fit_start(self) -> None:
        if self.compiled:
            self.backbone.compile()
        if self.flops_per_image:
            rank_zero_info(
                f"{plain_class(self.backbone).__name__}: {num_parameters(self.backbone) / 1e6:.3f} M parameters, "
                f"{self.flops_per_image / 2e9:.3f} G multiply-adds per image, "
                f"{self.backbone.num_tokens} tokens"
            )

    @cached_property
    def flops_per_image(self) -> int | None:
        """Floating-point operations of one forward pass of one image, where they are known."""
        return 2 * num_multiply_adds(self.backbone) if isinstance(self.backbone, Backbone) else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if (scaler := loss_scaler(self.trainer)) is not None:
            scaler.unscale_(optimizer)  # Lightning leaves this to fused optimizers, which would do it after clipping
        if not self.guard.accepts(self, self.gradients.measure()):
            optimizer.zero_grad()  # without gradients the step changes nothing but is counted
        factor = learning_rate_factor(self.global_step, self.trainer.max_steps, self.warmup_steps, self.decay)
        set_learning_rate(optimizer, self.learning_rate * factor, self.global_step)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm. Not Lightning's way: its mixed precision refuses a fused optimizer."""
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(f"trainer.gradient_clip_algorithm {gradient_clip_algorithm!r}: only norm is supported")
        if gradient_clip_val:  # 0 clips nothing, as in Lightning
            self.gradients.clip(gradient_clip_val)

    def loss_terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms of the objective per sample, [B] each, for keyed time, noise and dropped labels."""
        latents, keys = batch["latents"], batch["key"]
        times = self.objective.sample_times(keyed_uniform(keys, seed=self.seed, stream="time"))
        noise = keyed_normal(keys, tuple(latents.shape[1:]), seed=self.seed, stream="noise")
        probability = config_of(self.backbone)["class_dropout_prob"]
        dropped = keyed_uniform(keys, seed=self.seed, stream="label-dropout") < probability
        conditions = {"y": batch["label"], "drop_labels": dropped}
        if self.alignment is None:
            return self.objective.loss_terms(self.backbone, latents, noise, times, **conditions)
        assert isinstance(self.backbone, DiT), "others have no projector"
        assert self.projector is not None
        depth = self.alignment.depth
        with tokens_after(self.backbone, [depth]) as tokens:
            terms = self.objective.loss_terms(self.backbone, latents, noise, times, **conditions)
        targets = self.alignment.targets(batch, self.backbone.side)
        cosine = cosine_alignment(self.projector(tokens[depth]), targets)
        loss = terms["loss"] - self.alignment.coefficient * cosine
        return terms | {"loss": loss, "denoising_loss": terms["loss"], "alignment": cosine}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        # Dropout draws from torch's own generator: seeded anew, it does not depend on how often a run was resumed.
        seed_default_generator(self.device, int(fold_keys(self.seed, batch["first_key"])))
        terms = self.loss_terms(batch)
        self.guard.watch(batch, {"loss": terms["loss"]})
        log_terms(self, terms, shown="loss")
        return terms["loss"].mean()

    def on_validation_epoch_start(self) -> None:
        self._validation = ValidationLoss()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The objective's own loss, without alignment, on held-out latents; labels are never dropped."""
        latents = batch["latents"]
        times = self.objective.sample_times(batch["uniform"])
        noise = keyed_normal(batch["index"], tuple(latents.shape[1:]), seed=VALIDATION_SEED, stream="validation-noise")
        kept = torch.zeros_like(batch["label"], dtype=torch.bool)
        conditions = {"y": batch["label"], "drop_labels": kept}
        terms = self.objective.loss_terms(self.backbone, latents, noise, times, **conditions)
        self._validation.update(terms, self.objective.flow_time(times))

    def on_validation_epoch_end(self) -> None:
        for name, value in self._validation.compute().items():  # every process has read all latents
            self.log(f"val/{name}", value, prog_bar=name == "loss", sync_dist=False)

    on_test_epoch_start, test_step, on_test_epoch_end = (
        on_validation_epoch_start,
        validation_step,
        on_validation_epoch_end,
    )

    def predict_step(self, *args: Any) -> None:
        raise ValueError("stage 2 has no predict: images come from sample.py --checkpoint")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        recorded, data = checkpoint.get("generator", {}).get("latents"), data_module(self.trainer)
        where = f"data.init_args.cache {data.cache_folder}"
        if recorded is not None and LatentSpec.from_dict(recorded) != data.spec:
            raise ValueError(
                f"{where} holds other latents than the run has learned so far (shape, autoencoder or normalization): a "
                "run cannot change them"
            )
        require_learned_images(checkpoint, data.cache.manifest["dataset"], where)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data = data_module(self.trainer)
        checkpoint["generator"] = describe_generator(self.backbone, self.objective, data.spec, self.autoencoder_source)
        checkpoint[IMAGES] = data.cache.manifest["dataset"]
        if self.alignment is not None:
            checkpoint["alignment"] = self.alignment.description()
