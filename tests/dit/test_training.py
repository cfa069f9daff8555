"""Stage 2 end to end on a tiny cache: both objectives train, resume state is described, mismatches are refused."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dit.checkpoints import load_generator
from dit.generation import SamplingSettings, generate_images, generate_latents
from dit.labels import choose_labels
from eqvae.autoencoders import load_autoencoder
from tests.tiny import FLOAT16, STAGE_TWO, options, stage_two


@pytest.fixture(scope="module")
def checkpoint(cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    cli = stage_two(folder, cache)
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(folder / "end.ckpt")
    return folder / "end.ckpt"


def test_checkpoint_holds_the_average_and_rebuilds_the_generator(checkpoint):
    generator = load_generator(checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    assert generator.num_steps == STAGE_TWO["trainer.max_steps"]
    assert generator.backbone.config["hidden_size"] == STAGE_TWO["model.init_args.backbone.init_args.hidden_size"]
    for name, value in generator.backbone.state_dict().items():
        assert torch.equal(value, state["state_dict"][f"backbone.{name}"])


def test_an_image_does_not_depend_on_its_batch(checkpoint):
    generator, autoencoder = load_generator(checkpoint), load_autoencoder("shapes-f4c8").freeze()
    labels = choose_labels(8, generator.num_classes, "random")
    settings = SamplingSettings(num_inference_steps=3, guidance_scale=2.0)
    one = torch.cat(list(generate_images(generator, autoencoder, labels, settings, batch_size=1)))
    eight = torch.cat(list(generate_images(generator, autoencoder, labels, settings, batch_size=8)))
    difference = (one.int() - eight.int()).abs()
    assert difference.max() <= 1
    assert (difference == 0).float().mean() >= 0.999
    latents = generate_latents(generator, torch.tensor([5]), labels[5:6], settings)
    again = generate_latents(generator, torch.arange(8), labels, settings)[5:6]
    torch.testing.assert_close(latents, again, rtol=1e-4, atol=1e-5)


def test_another_autoencoder_is_refused(checkpoint, cache):
    generator, other = load_generator(checkpoint), load_autoencoder("shapes-f4c8").freeze()
    with torch.no_grad():
        other.model.decoder.conv_out.bias += 1
    with pytest.raises(ValueError, match="belongs to another autoencoder"):
        next(generate_images(generator, other, torch.zeros(1, dtype=torch.long), SamplingSettings()))


def test_a_backbone_that_does_not_fit_the_cache_is_refused(cache, tmp_path):
    cli = stage_two(tmp_path, cache, {"model.init_args.backbone.init_args.in_channels": 4})
    with pytest.raises(ValueError, match=r"backbone.in_channels is 4, the cache .* has 8"):
        cli.trainer.fit(cli.model, cli.datamodule)


def test_a_loss_that_is_not_finite_stops_before_the_update(cache, tmp_path):
    cli = stage_two(tmp_path, cache)
    with torch.no_grad():
        cli.model.backbone.final_layer.linear.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite at step 0"):
        cli.trainer.fit(cli.model, cli.datamodule)
    assert cli.trainer.global_step == 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_diffusion_trains_and_samples(cache, tmp_path, precision):
    from eqvae.training.cli import TrainCLI

    folders = {"trainer.default_root_dir": tmp_path, "data.init_args.cache": cache, "trainer.precision": precision}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    args = ["--config", "configs/dit/tiny-dit.yaml", *options(STAGE_TWO | folders)]
    cli = TrainCLI(args, run=False, trainer_defaults=quiet)
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "end.ckpt")
    generator = load_generator(tmp_path / "end.ckpt")
    settings = SamplingSettings(num_inference_steps=4)
    latents = generate_latents(generator, torch.arange(2), torch.tensor([0, 1]), settings)
    assert latents.shape == (2, *generator.spec.shape)
    assert latents.isfinite().all()


class GradientNorms(Callback):
    """The norm of the gradients that each step makes use of."""

    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, module):
        trainer.optimizers[0].register_step_post_hook(self._keep)

    def _keep(self, optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.seen.append(float(torch.nn.utils.get_total_norm(gradients)))


@pytest.mark.parametrize("clip", [None, 0.05])
def test_loss_scaling_changes_neither_gradients_nor_clipping(cache, tmp_path, clip):
    """Float16 rounds to 2^-11; some 30 roundings in a row of forward and backward pass err by 1.5 % at most."""
    norms = {}
    for name, precision in (("32-true", {}), ("16-mixed", FLOAT16)):
        limit = {} if clip is None else {"trainer.gradient_clip_val": clip}
        clear = {"trainer.gradient_clip_val": "null"}  # the recipe clips
        norms[name] = GradientNorms()
        run = stage_two(tmp_path / name, cache, clear | limit | precision, callbacks=[norms[name]])
        run.trainer.fit(run.model, run.datamodule)
        assert len(norms[name].seen) == run.trainer.global_step == STAGE_TWO["trainer.max_steps"]
    assert norms["16-mixed"].seen[:3] == pytest.approx(norms["32-true"].seen[:3], rel=0.015)
    if clip is not None:
        assert norms["16-mixed"].seen == pytest.approx([clip] * STAGE_TWO["trainer.max_steps"], rel=1e-4)


def test_clipping_at_0_is_none_and_below_it_is_refused(cache, tmp_path):
    def trained(value):
        cli = stage_two(tmp_path / str(value), cache, {"trainer.gradient_clip_val": value})
        cli.trainer.fit(cli.model, cli.datamodule)
        return cli.model.state_dict()

    without, at_0 = trained("null"), trained(0)
    assert all(torch.equal(value, at_0[name]) for name, value in without.items())
    with pytest.raises(ValueError, match=r"trainer\.gradient_clip_val must be at least 0"):
        trained(-1.0)


def test_weights_of_16_bits_are_refused(cache, tmp_path):
    cli = stage_two(tmp_path, cache, {"trainer.precision": "bf16-true"})
    with pytest.raises(ValueError, match=r"trainer\.precision bf16-true: use 32-true or bf16-mixed"):
        cli.trainer.fit(cli.model, cli.datamodule)
