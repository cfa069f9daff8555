"""MaskGIT end to end: a VQ autoencoder, its token cache, training, resume, images, metrics, refusals."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from dit.checkpoints import load_generator
from dit.generation import SamplingSettings, generate_images, generate_latents
from dit.objectives import MaskedTokens
from eqvae.autoencoders import VQAutoencoder, load_autoencoder
from eqvae.data import ShapesSource
from eqvae.data.module import ImageBatches
from eqvae.latents import TokenCache
from eqvae.training.cli import TrainCLI
from tests.eqvae.test_autoencoders_vq import CONFIG
from tests.tiny import STAGE_TWO, options, stage_two

NUM_CODES, SIDE = CONFIG["num_vq_embeddings"], 8
STAGE_ONE = {
    "data.init_args.train.init_args.num_images": 48,
    "data.init_args.evaluation_batch_size": 16,
}
TINY = STAGE_TWO | {"model.init_args.backbone.init_args.num_codes": NUM_CODES}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


def train_autoencoder(steps: int) -> VQAutoencoder:
    """A few steps on shapes with the straight-through loss of VQ-GAN, without critic."""
    autoencoder = load_autoencoder(CONFIG)
    batches = ImageBatches(ShapesSource(steps * 8, 32))
    optimizer = torch.optim.Adam(autoencoder.parameters(), 2e-3)
    for step in range(steps):
        images = batches.get_batch(torch.arange(step * 8, step * 8 + 8), None)["image"]
        codes = autoencoder.encode(images)
        decoded = autoencoder.decode(codes.features + (codes.latents - codes.features).detach())
        codebook = (codes.latents - codes.features.detach()).square().mean()
        commitment = (codes.latents.detach() - codes.features).square().mean()
        loss = (decoded - images).abs().mean() + codebook + 0.25 * commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return autoencoder.freeze()


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vq") / "autoencoder"
    train_autoencoder(15).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokens(autoencoder) -> Path:
    """The token cache, written as the command line writes it."""
    folder = autoencoder.parent
    settings = STAGE_ONE | {"trainer.default_root_dir": folder, "model.init_args.autoencoder": autoencoder}
    cli = TrainCLI(["--config", "configs/eqvae/tiny-vq.yaml", *options(settings)], run=False, trainer_defaults=QUIET)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return folder / "latents"


def stage_two_tokens(folder: Path, tokens: Path, autoencoder: Path, overrides: dict | None = None) -> TrainCLI:
    places = {
        "trainer.default_root_dir": folder,
        "data.init_args.cache": tokens,
        "model.init_args.autoencoder": autoencoder,
    }
    args = ["--config", "configs/dit/tiny-maskgit.yaml", *options(TINY | places | (overrides or {}))]
    return TrainCLI(args, run=False, trainer_defaults=QUIET)


@pytest.fixture(scope="module")
def checkpoint(tokens, autoencoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    cli = stage_two_tokens(
        folder, tokens, autoencoder, {"trainer.max_steps": 60, "data.init_args.global_batch_size": 16}
    )
    cli.trainer.fit(cli.model, cli.datamodule)
    assert float(cli.trainer.callback_metrics["train/loss"]) < 0.7 * math.log(NUM_CODES), "nothing was learned"
    cli.trainer.save_checkpoint(folder / "end.ckpt")
    return folder / "end.ckpt"


def run(script: str, *words, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, words)])
    importlib.import_module(script).main()


def test_the_loss_on_held_out_tokens(tokens, autoencoder, tmp_path):
    """A network that knows nothing gives every token its share; with all hidden or few it is the same."""
    held_out = TokenCache(tokens.with_name("latents-validation"))
    cli = stage_two_tokens(tmp_path, tokens, autoencoder, {"data.init_args.num_validation_latents": 40})
    metrics = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)[0]
    assert (metrics["val/num_latents"], len(held_out)) == (40, 1000)
    assert metrics["val/loss"] == pytest.approx(math.log(NUM_CODES), rel=0.2)
    assert {f"val/loss_t{number}" for number in range(4)} < set(metrics)
    again = stage_two_tokens(
        tmp_path, tokens, autoencoder, {"model.init_args.seed": 3} | {"data.init_args.num_validation_latents": 40}
    )
    assert again.trainer.validate(again.model, again.datamodule, verbose=False)[0] == pytest.approx(metrics, rel=1e-6)


def test_predict_writes_tokens_in_use(tokens):
    cache = TokenCache(tokens)
    stored = cache.rows(torch.arange(len(cache)), "tokens")
    assert stored.shape == (48, SIDE, SIDE)
    assert len(stored.unique()) > 2, "the case is too easy"


def test_resumed_training_is_the_same_with_dropout(tokens, autoencoder, tmp_path):
    overrides = {"model.init_args.backbone.init_args.dropout": 0.2, "trainer.max_steps": 4}
    whole = stage_two_tokens(tmp_path / "whole", tokens, autoencoder, overrides)
    whole.trainer.fit(whole.model, whole.datamodule)

    class Stop(Exception):
        pass

    first = stage_two_tokens(tmp_path / "parts", tokens, autoencoder, overrides)
    step = first.model.training_step

    def stopping_step(batch, batch_idx):
        if first.trainer.global_step == 2:
            first.trainer.save_checkpoint(tmp_path / "two.ckpt")
            raise Stop
        return step(batch, batch_idx)

    first.model.training_step = stopping_step
    with pytest.raises(Stop):
        first.trainer.fit(first.model, first.datamodule)
    torch.rand(7)  # another process finds another generator
    second = stage_two_tokens(tmp_path / "parts", tokens, autoencoder, overrides)
    second.trainer.fit(second.model, second.datamodule, ckpt_path=tmp_path / "two.ckpt")
    for (name, expected), actual in zip(whole.model.state_dict().items(), second.model.state_dict().values()):
        assert torch.equal(actual, expected), name


@pytest.mark.parametrize("sampler", ["halton", "confidence"])
def test_an_image_does_not_depend_on_its_batch(checkpoint, autoencoder, sampler):
    generator, decoder = load_generator(checkpoint), load_autoencoder(autoencoder).freeze()
    assert isinstance(generator.objective, MaskedTokens)
    settings = SamplingSettings(sampler, 5, guidance_scale=2.0, guidance_schedule="linear")
    labels = torch.arange(6) % 10
    one, six = (
        torch.cat(list(generate_images(generator, decoder, labels, settings, batch_size=size))) for size in (1, 6)
    )
    difference = (one.int() - six.int()).abs()
    assert difference.max() <= 1
    assert (difference == 0).float().mean() >= 0.999
    codes = generate_latents(generator, torch.arange(6), labels, settings)
    assert codes.dtype == torch.int64
    assert codes.max() < NUM_CODES
    assert len({tuple(each.flatten().tolist()) for each in codes}) == 6


def test_scripts_sample_and_evaluate(checkpoint, tmp_path, monkeypatch):
    common = ["--checkpoint", checkpoint, "--num-images", 12, "--num-inference-steps", 4, "--npz"]
    cases = {
        "halton": ["--halton-shift", "--top-k", 8],
        "confidence": ["--sampler", "confidence", "--guidance-scale", 3, "--guidance-schedule", "linear"],
    }
    for name, words in cases.items():
        run("sample", *common, *words, "--output", tmp_path / name, monkeypatch=monkeypatch)
    about = {name: json.loads((tmp_path / name / "samples.json").read_text()) for name in cases}
    assert [about[name]["sampler"] for name in cases] == ["halton", "confidence"]
    assert about["halton"]["options"]["top_k"] == 8
    assert about["halton"]["options"]["halton_shift"]
    assert about["confidence"]["guidance_schedule"] == "linear"
    run(
        "evaluate", "generation", "--generated", tmp_path / "halton/samples.npz", "--reference", "shapes:12",
        "--output", tmp_path / "metrics.json", monkeypatch=monkeypatch,
    )  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["num_generated"] == 12
    assert metrics["fd_efficientnet_lite0"] > 0


def refuse(cli, pattern):
    with pytest.raises(ValueError, match=pattern) as error:
        cli.trainer.fit(cli.model, cli.datamodule)
    assert "\n" not in str(error.value)


def test_caches_and_generators_that_do_not_fit_are_refused(tokens, autoencoder, cache, tmp_path):
    refuse(
        stage_two_tokens(tmp_path, cache, autoencoder), r"MaskedTokens does not learn latents, but the cache .*latents"
    )
    refuse(stage_two(tmp_path, tokens), r"Flow does not learn tokens, but the cache .* holds them")
    objective = {"model.init_args.objective": "dit.objectives.Flow"}
    refuse(stage_two_tokens(tmp_path, cache, autoencoder, objective), "HaltonMaskGIT does not learn latents")
    codes = {"model.init_args.backbone.init_args.num_codes": NUM_CODES + 1}
    refuse(stage_two_tokens(tmp_path, tokens, autoencoder, codes), f"num_codes is 17, the cache .* has {NUM_CODES}")


def test_another_codebook_is_refused(checkpoint, autoencoder):
    generator, other = load_generator(checkpoint), load_autoencoder(autoencoder).freeze()
    with torch.no_grad():
        other.model.quantize.embedding.weight[0] += 1
    with pytest.raises(ValueError, match="the generator belongs to another autoencoder"):
        next(generate_images(generator, other, torch.zeros(1, dtype=torch.long), SamplingSettings()))
