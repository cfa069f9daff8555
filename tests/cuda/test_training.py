"""Both stages train, validate and predict on a CUDA device, and a step waits for it once: to know its losses finite."""

from contextlib import nullcontext
from itertools import cycle
from pathlib import Path
from unittest import mock

import lightning
import pytest
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from dit.alignment import Alignment, Encoder
from dit.alignment.cache_module import FeatureCacheModule
from dit.backbones import DiT, HaltonMaskGIT, MaskGIT, SiT
from dit.data import LatentDataModule
from dit.generation import SamplingSettings
from dit.module import GeneratorModule
from dit.objectives import Diffusion, Flow, MaskedTokens
from dit.previews import SamplePreviews
from eqvae.data import ImageDataModule, ShapesSource
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.panels import LatentPanels
from eqvae.regularizers import AffineTransforms, ExplicitEquivariance, LatentMasking, TransformDistribution
from eqvae.training.averaging import ExponentialMovingAverage
from eqvae.training.throughput import ThroughputMonitor
from tests.eqvae.test_objective import TINY_VQ
from tests.fake_cuda import CUDA, PRECISIONS, fake_cuda, fake_trainer
from tests.tiny import ONE_LEVEL, TINY_AUTOENCODER

KL, VQ = TINY_AUTOENCODER | ONE_LEVEL, TINY_VQ | ONE_LEVEL | {"_class_name": "VQModel"}
SIZES = {"input_size": 8, "hidden_size": 16, "depth": 1, "num_heads": 2, "num_classes": 10}
LATENTS = SIZES | {"patch_size": 4, "in_channels": 8}
TOKENS = SIZES | {"input_size": 16, "num_codes": 16}
IMPROVED = {"rms_norm": True, "swiglu": True, "rotary": True, "qk_norm": True, "learn_sigma": False}
CRITIC = {"num_layers": 1, "base_channels": 8}


class WaitsPerStep(Callback):
    """What the processor waited for from one step to the next, loading included; the first step sets things up."""

    def __init__(self, device):
        self.device, self.steps = device, []

    def on_train_batch_end(self, trainer, *_):
        self.steps.append(list(self.device.waits))
        self.device.waits.clear()


class EverythingOnTheDevice(Callback):
    """Weights, averages, gradients and optimizer state."""

    def on_train_start(self, trainer, module):
        assert {value.device for value in module.state_dict().values()} == {CUDA}

    def on_train_batch_end(self, trainer, module, *_):
        states = [state for optimizer in trainer.optimizers for state in optimizer.state.values()]
        assert all(value.device == CUDA for state in states for value in state.values() if value.ndim)
        average = next(each for each in trainer.callbacks if isinstance(each, ExponentialMovingAverage))
        assert {value.device for value in average.averaged_module.state_dict().values()} == {CUDA}
        assert {value.device for one in average.further_averages.values() for value in one.values()} == {CUDA}


def fit(folder, module, data, precision="32-true", callbacks=(), steps=2, exports=True, **options) -> list[list[str]]:
    """Waits of each step but the first; whether what was trained is exported at the end takes a quarter of the time."""
    with fake_cuda() as device:
        waits = WaitsPerStep(device)
        watched = [ExponentialMovingAverage([0.9, 0.5]), EverythingOnTheDevice(), *callbacks, waits]
        options = {"max_steps": steps, "limit_val_batches": 0, "callbacks": watched} | options
        with nullcontext() if exports else mock.patch.object(AutoencoderModule, "on_train_end"):
            fake_trainer(folder, precision, **options).fit(module(), data)
    return waits.steps[1:]


def images(**options) -> ImageDataModule:
    parts = {"train": ShapesSource(24, 32), "validation": ShapesSource(16, 32, seed=1)}
    return ImageDataModule(**parts, global_batch_size=4, evaluation_batch_size=8, **options)


def autoencoder(config=KL, transforms="released", **options) -> AutoencoderModule:
    options = {"reconstruction": ReconstructionLoss(perceptual="none"), "num_normalization_images": 8} | options
    evaluation = AutoencoderEvaluation(num_equivariance_images=4)
    return AutoencoderModule(config, transforms, gradient_clip_norm=1.0, evaluation=evaluation, **options)


AUTOENCODERS = {
    "ordinary": {"config": TINY_AUTOENCODER, "transforms": None},
    "released, with a critic": {"adversarial": AdversarialLoss(**CRITIC)},
    "paper, the critic shown the same": {"transforms": "paper", "adversarial": AdversarialLoss("vanilla", **CRITIC)},
    "before the critic's start": {"adversarial": AdversarialLoss(start_step=9, **CRITIC)},
    "perceptual": {"reconstruction": ReconstructionLoss(perceptual="efficientnet_lite0", pixel="mse")},
    "explicit": {"transforms": None, "regularizers": [ExplicitEquivariance(TransformDistribution(probability=1.0))]},
    "affine": {"transforms": None, "regularizers": [AffineTransforms(probability=1.0)]},
    "masked": {"transforms": None, "regularizers": [LatentMasking(ratios=(0.5,), probabilities=(1.0,))]},
    "decoder alone": {"trainable": "decoder"},
    "accumulated": {"accumulate_batches": 2},
    "VQ": {"config": VQ, "adversarial": AdversarialLoss(**CRITIC)},
}


@pytest.mark.parametrize("which", AUTOENCODERS)
def test_an_autoencoder_waits_once_a_step(which, tmp_path):
    steps = fit(tmp_path, lambda: autoencoder(**AUTOENCODERS[which]), images(), exports=which in ("ordinary", "VQ"))
    assert steps
    assert max(map(len, steps)) <= 1, steps


@pytest.mark.parametrize("config", [KL, VQ], ids=["kl", "vq"])
def test_an_autoencoder_trains_in_bf16(config, tmp_path):
    steps = fit(
        tmp_path,
        lambda: autoencoder(config, adversarial=AdversarialLoss(**CRITIC)),
        images(),
        "bf16-mixed",
        exports=False,
    )
    assert max(map(len, steps)) <= 1, steps


def latents(cache, **options) -> LatentDataModule:
    return LatentDataModule(str(cache), global_batch_size=4, verify=False, **options)


def cpu_trainer(folder: Path) -> lightning.Trainer:
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False)
    return lightning.Trainer(accelerator="cpu", default_root_dir=folder, **quiet)


@pytest.fixture(scope="module")
def token_cache(tmp_path_factory) -> Path:
    """A small token cache, made on the processor."""
    folder = tmp_path_factory.mktemp("tokens")
    cpu_trainer(folder).predict(autoencoder(VQ | TINY_VQ), images(), return_predictions=False)
    return folder / "latents"


GENERATORS = {
    "DiT": lambda: GeneratorModule(DiT(**LATENTS), Diffusion()),
    "SiT": lambda: GeneratorModule(SiT(**LATENTS), Flow()),
    "LightningDiT": lambda: GeneratorModule(
        SiT(**LATENTS, **IMPROVED), Flow(timesteps="logit_normal", cosine_weight=1)
    ),
    "checkpointing": lambda: GeneratorModule(SiT(**LATENTS, gradient_checkpointing=True), Flow("gvp", "noise")),
}
TOKEN_GENERATORS = {
    "MaskGIT v1": lambda: GeneratorModule(MaskGIT(**TOKENS), MaskedTokens(label_smoothing=0.1)),
    "MaskGIT v2": lambda: GeneratorModule(HaltonMaskGIT(**TOKENS), MaskedTokens()),
}


@pytest.mark.parametrize(("which", "precision"), zip(GENERATORS, cycle(PRECISIONS)))
def test_a_generator_of_latents_waits_once_a_step(which, precision, cache, tmp_path):
    steps = fit(tmp_path, GENERATORS[which], latents(cache), precision, gradient_clip_val=1.0)
    assert max(map(len, steps)) <= 1, steps


@pytest.mark.parametrize(("which", "precision"), zip(TOKEN_GENERATORS, cycle(PRECISIONS)))
def test_a_generator_of_tokens_waits_once_a_step(which, precision, token_cache, tmp_path):
    steps = fit(tmp_path, TOKEN_GENERATORS[which], latents(token_cache), precision, gradient_clip_val=1.0)
    assert max(map(len, steps)) <= 1, steps


def aligned() -> GeneratorModule:
    return GeneratorModule(SiT(**LATENTS), Flow(), alignment=Alignment(Encoder("efficientnet_lite0"), 1, 0.5, 8))


def test_an_aligned_generator_waits_once_a_step(cache, tmp_path):
    data = latents(cache, images=ShapesSource(48, 32))
    data.cache.require_images = lambda dataset: None  # the cache is of the same images under another name
    steps = fit(tmp_path, aligned, data, gradient_clip_val=1.0)
    assert max(map(len, steps)) <= 1, steps


def test_targets_are_cached_on_the_device_and_read_without_a_wait(cache, tmp_path):
    data = ImageDataModule(ShapesSource(48, 32), evaluation_batch_size=16)
    encoder = Encoder("efficientnet_lite0")
    with fake_cuda():
        module = FeatureCacheModule(encoder, grid=2)
        fake_trainer(tmp_path / "device").predict(module, data, return_predictions=False)
    assert (tmp_path / "device" / "features" / "manifest.json").is_file()
    encoder.release()
    cpu_trainer(tmp_path).predict(FeatureCacheModule(encoder, grid=2), data, return_predictions=False)
    features = latents(cache, features=str(tmp_path / "features"))
    features.features.require = lambda *_: None  # the cache is of the same images under another name
    features.features.require_fingerprint = lambda *_: None  # weights that left the device have no values
    steps = fit(tmp_path, aligned, features, "bf16-mixed")
    assert max(map(len, steps)) <= 1, steps


def test_a_logged_step_reads_all_its_values_at_once(cache, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    steps = fit(tmp_path, GENERATORS["DiT"], latents(cache), steps=4, logger=logger, log_every_n_steps=2)
    assert [len(waits) for waits in steps] == [2, 1, 2]
    monitored = fit(
        tmp_path, autoencoder, images(), steps=4, logger=logger, log_every_n_steps=2, callbacks=[ThroughputMonitor(2)]
    )
    assert [len(waits) for waits in monitored] == [2, 1, 2], monitored


def test_previews_and_panels_are_made_on_the_device(cache, tmp_path):
    previews = SamplePreviews(
        2, 2, SamplingSettings(num_inference_steps=2), reference=ShapesSource(8, 32), num_reference_images=4
    )
    module = lambda: GeneratorModule(SiT(**LATENTS), Flow(), autoencoder="shapes-f4c8")  # noqa: E731
    data = latents(cache)
    data.spec.__class__.require_autoencoder, kept = lambda *_: None, data.spec.__class__.require_autoencoder
    try:
        fit(tmp_path, module, data, callbacks=[previews], steps=2, logger=TensorBoardLogger(tmp_path))
    finally:
        data.spec.__class__.require_autoencoder = kept
    assert (tmp_path / "previews" / "step=0000002.png").is_file()
    fit(tmp_path, autoencoder, images(), callbacks=[LatentPanels(2, 2)], steps=2, logger=TensorBoardLogger(tmp_path))


@pytest.mark.parametrize(("config", "precision"), zip([KL, VQ], PRECISIONS, strict=True), ids=["kl", "vq"])
def test_an_autoencoder_is_validated_and_predicts_on_the_device(config, precision, tmp_path):
    with fake_cuda():
        module = autoencoder(config)
        trainer = fake_trainer(tmp_path, precision)
        (measured,) = trainer.validate(module, images(), verbose=False)
        trainer.predict(module, images(), return_predictions=False)
    assert {"val/psnr", "val/ssim", "val/effective_rank"} <= set(measured)
    assert (tmp_path / "latents" / "manifest.json").is_file()


def test_validation_within_a_fit_swaps_averages_on_the_device(cache, tmp_path):
    fit(tmp_path, autoencoder, images(), steps=2, limit_val_batches=1)
    data = latents(cache, validation_cache=f"{cache}-validation")
    fit(tmp_path, GENERATORS["SiT"], data, steps=2, limit_val_batches=1)
