"""Latent panels in the log, and measurements of an autoencoder that quantizes."""

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eqvae.autoencoders import Codes, VQAutoencoder
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation.autoencoder import AutoencoderEvaluation
from eqvae.evaluation.image_grids import autoencoder_panel, autoencoder_panels
from eqvae.panels import LatentPanels
from tests.eqvae.tiny import MixingAutoencoder, smooth_images
from tests.tiny import stage_one


class Rounding(MixingAutoencoder):
    """Quantizes to multiples of a half."""

    posterior_factor = 1

    def features(self, images):
        return super().encode(images).mean

    def quantize(self, features):
        return Codes(None, (features * 2).round() / 2, features)

    def encode(self, images):
        return self.quantize(self.features(images))

    posterior = VQAutoencoder.posterior
    latent_moments, transformed_decode = VQAutoencoder.latent_moments, VQAutoencoder.transformed_decode


@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_a_quantizing_autoencoder_is_measured_before_its_quantizer():
    autoencoder, images = Rounding(), smooth_images(16)
    errors = equivariance_errors(autoencoder, images)
    assert max(error.max() for error in errors["latent"].values()) < 1e-6
    assert errors["decoded"]["rotation 90"].min() > 1e-3  # what quantizing costs
    evaluation = AutoencoderEvaluation(perceptual="none")
    evaluation.update(autoencoder, images)
    report = evaluation.compute()
    assert report["equivariance/latent/rotation 90"] < 1e-6
    assert 5 < report["psnr"] < 30
    assert autoencoder_panel(autoencoder, images).shape[0] == 3


def test_panels_of_two_autoencoders_lie_below_each_other():
    one, other = Rounding(), Rounding(seed=1)
    images = smooth_images(16)
    panel = autoencoder_panels({"one": one, "other": other}, images)
    single = autoencoder_panel(one, images, "one")
    assert panel.shape == (3, 2 * single.shape[1], single.shape[2])
    assert torch.equal(panel[:, : single.shape[1]], single)


def test_panels_while_training(tmp_path):
    panels = LatentPanels(every_n_steps=2, num_images=2)
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    cli = stage_one(tmp_path, {"trainer.max_steps": 4, "trainer.limit_val_batches": 0})
    modes = []
    watch = LambdaCallback(
        on_train_batch_start=lambda trainer, module, *rest: modes.append(module.autoencoder.training)
    )
    cli.trainer.callbacks += [panels, watch]
    cli.trainer.loggers = [logger, CSVLogger(tmp_path, name="csv")]
    cli.trainer.fit(cli.model, cli.datamodule)
    assert modes == [True] * 4
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Images("panels/latents")] == [2, 4]
    tags = {tag for tag in events.Tags()["scalars"] if tag.startswith("panels/")}
    assert tags == {"panels/equivariance_latent", "panels/equivariance_decoded"}
    assert tags <= set((tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(","))
    with pytest.raises(ValueError, match="every_n_steps"):
        LatentPanels(every_n_steps=0)
