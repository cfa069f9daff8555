"""REPA as an option of stage 2: encoders, feature caches, loss, resume, and what is refused."""

import json
from functools import partialmethod

import pytest
import timm
import torch
from lightning.pytorch.callbacks import LambdaCallback
from safetensors.torch import save_file
from torch import nn
from torch._dynamo.testing import CompileCounter

from dit.alignment import ENCODERS, Alignment, Encoder, cosine_alignment, tokens_after
from dit.alignment.encoders import Preset
from dit.backbones import DiT, SiT
from dit.checkpoints import load_generator
from eqvae.data.module import ImageBatches
from eqvae.latents import FeatureCache, FeatureRows, LatentCache, ShardWriter
from eqvae.training.cli import TrainCLI
from tests.tiny import STAGE_ONE, options, stage_two

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
ALIGNED = {
    "model.init_args.alignment.encoder.name": "efficientnet_lite0",
    "model.init_args.alignment.depth": 1,
    "model.init_args.alignment.projector_width": 8,
}
BACKBONE = {"input_size": 8, "in_channels": 4, "hidden_size": 16, "depth": 3, "num_heads": 2, "num_classes": 10}


def write_features(folder, num_images=48, grid=4, encoder=None):
    overrides = {
        "trainer.default_root_dir": folder,
        "model.init_args.grid": grid,
        "model.init_args.dtype": "float32",
        "data.init_args.train.init_args.num_images": num_images,
        "data.init_args.evaluation_batch_size": STAGE_ONE["data.init_args.evaluation_batch_size"],
    }
    overrides |= {f"model.init_args.encoder.{key}": value for key, value in (encoder or {}).items()}
    args = ["--config", "configs/dit/tiny-repa-features.yaml", *options(overrides)]
    cli = TrainCLI(args, run=False, trainer_defaults=QUIET)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return folder / "features", cli.datamodule.sources["train"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("features"))


@pytest.fixture
def tiny_vit(monkeypatch, tmp_path):
    """A ViT of random weights for 4 x 4 tokens of 16 pixels, in a local file, registered as an encoder."""
    monkeypatch.setitem(ENCODERS, "tiny", Preset("vit_tiny_patch16_224", 192, 16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0).eval()
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    return network, tmp_path / "tiny.safetensors"


def test_tokens_of_a_vision_transformer(tiny_vit):
    network, file = tiny_vit
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    encoder = Encoder("tiny", str(file))
    tokens = encoder(images, grid=4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(tokens, network.forward_features(normalized)[:, 1:])
    assert encoder(images, grid=6).shape == (2, 36, 192)  # the position table is resampled
    assert encoder.fingerprint(4) != encoder.fingerprint(6)


def test_public_containers_are_opened(tiny_vit, tmp_path):
    network, file = tiny_vit
    weights = {f"module.base_encoder.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": weights | {"module.predictor.0.weight": torch.ones(1)}}, tmp_path / "moco.pth")
    images = torch.rand(1, 3, 64, 64)
    nested = Encoder("tiny", str(tmp_path / "moco.pth"))
    assert torch.equal(nested(images, 4), Encoder("tiny", str(file))(images, 4))


@pytest.mark.parametrize("name", ["dinov2_base", "clip_large", "mae_large"])
def test_preprocessing_of_images_of_256(name):
    images = torch.zeros(1, 3, 256, 256)
    images[..., 128:] = 1.0
    prepared = Encoder(name).preprocess(images, grid=16)
    mean, std = (torch.tensor(values) for values in ENCODERS[name].statistics)
    assert prepared.shape[-1] == {"mae_large": 256}.get(name, 224)
    torch.testing.assert_close(prepared[0, :, 0, 0], (0.5 - mean) / std)
    torch.testing.assert_close(prepared[0, :, 0, -1], (1.0 - mean) / std)


def test_efficientnet_tokens_lie_where_the_image_does(features):
    _, source = features
    encoder, images = Encoder("efficientnet_lite0"), ImageBatches(source).get_batch(torch.arange(2), None)["image"]
    tokens = encoder(images, grid=4)
    assert tokens.shape == (2, 16, encoder.width)
    changed = images.clone()
    changed[..., :16, :16] = -changed[..., :16, :16]
    difference = (encoder(changed, grid=4) - tokens).norm(dim=-1).mean(0).view(4, 4)
    assert difference[:2, :2].mean() > 1.5 * difference[2:, 2:].mean()


def test_cached_targets_are_those_of_the_images_and_flips(features):
    folder, source = features
    ids, flipped = torch.tensor([40, 3, 7]), torch.tensor([True, False, True])
    images = ImageBatches(source).get_batch(ids, None)["image"]
    images[flipped] = images[flipped].flip(-1)
    targets = FeatureCache(folder).targets(ids, flipped)
    # The cache was encoded in a batch of another size; fifty layers of float32, 2e-5 of features of a few units.
    torch.testing.assert_close(targets, Encoder("efficientnet_lite0")(images, 4), rtol=1e-3, atol=1e-4)


def aligned(folder, cache, features, overrides=None):
    return stage_two(folder, cache, ALIGNED | {"data.init_args.features": features[0]} | (overrides or {}))


def test_cached_and_online_targets_train_alike(features, cache, tmp_path):
    batches = []
    for name, images in (("cached", None), ("online", features[1])):
        cli = aligned(tmp_path / name, cache, features)
        if images is not None:
            cli.datamodule.features_folder, cli.datamodule.images = None, images
        cli.model.alignment.connect(cli.datamodule, 4)
        ids, keys = torch.arange(16), torch.arange(100, 116)
        cli.datamodule.trainer = cli.trainer
        batch = cli.datamodule._read_targets(ids, cli.datamodule.cache.get_batch(ids, keys)["flipped"])
        batches.append(cli.model.alignment.targets(batch, 4))
    torch.testing.assert_close(*batches, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["SiT", "DiT"])
def test_fit_with_images_is_a_fit_with_the_cache(family, features, cache, tmp_path):
    """Targets computed online train as those of the cache do, for flows and for diffusion; both learn to align."""
    settings = {
        "model.init_args.backbone.class_path": f"dit.backbones.{family}",
        "model.init_args.objective": f"dit.objectives.{'Flow' if family == 'SiT' else 'Diffusion'}",
        "model.init_args.objective.init_args.learn_sigma": "true",
        "model.init_args.backbone.init_args.learn_sigma": "true",
        "trainer.max_steps": 12,
        "trainer.log_every_n_steps": 1,
    }
    if family == "SiT":
        settings.pop("model.init_args.objective.init_args.learn_sigma")
    images = {
        "data.init_args.images": "eqvae.data.ShapesSource",
        "data.init_args.images.init_args.num_images": len(features[1]),
        "data.init_args.images.init_args.image_size": 32,
    }
    weights = []
    for name, targets in (("cached", {"data.init_args.features": features[0]}), ("online", images)):
        cli = stage_two(tmp_path / name, cache, ALIGNED | settings | targets)
        cosines = []
        cli.trainer.callbacks.append(
            LambdaCallback(
                on_train_batch_end=lambda trainer, *_, kept=cosines: kept.append(
                    trainer.callback_metrics["train/alignment"]
                )
            )
        )
        cli.trainer.fit(cli.model, cli.datamodule)
        logged = cli.trainer.callback_metrics
        torch.testing.assert_close(
            logged["train/loss"], logged["train/denoising_loss"] - 0.5 * logged["train/alignment"]
        )
        assert cosines[-1] > cosines[0] + 0.05
        weights.append(cli.model.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][key], value, rtol=1e-2, atol=1e-3, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_resume_is_exact_and_samples_need_no_projector(features, cache, tmp_path):
    callbacks = (
        "[{class_path: eqvae.training.averaging.ExponentialMovingAverage, init_args: {decay: 0.9}}, "
        "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
        f"{{dirpath: {tmp_path}/half, every_n_train_steps: 3, save_top_k: -1}}}}]"
    )
    whole = aligned(tmp_path / "whole", cache, features, {"trainer.callbacks": callbacks})
    whole.trainer.fit(whole.model, whole.datamodule)
    whole.trainer.save_checkpoint(tmp_path / "whole.ckpt")
    (half,) = (tmp_path / "half").glob("*step=0000003.ckpt")
    resumed = aligned(tmp_path / "resumed", cache, features, {"trainer.callbacks": callbacks})
    resumed.trainer.fit(resumed.model, resumed.datamodule, ckpt_path=str(half))
    assert any(name.startswith("projector.") for name in whole.model.state_dict())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    generator = load_generator(tmp_path / "whole.ckpt")
    assert not any("projector" in name for name in generator.backbone.state_dict())


@pytest.mark.parametrize("family", [DiT, SiT])
def test_gradients_reach_the_projector_and_the_blocks_up_to_the_depth(family):
    backbone = family(**BACKBONE)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.requires_grad else None
    alignment = Alignment(Encoder("efficientnet_lite0"), depth=2, projector_width=8)
    projector = alignment.create_projector(backbone, seed=0)
    with tokens_after(backbone, [2]) as tokens:
        backbone(torch.randn(2, 4, 8, 8), torch.tensor([1, 5]), torch.tensor([0, 1]))
    cosine_alignment(projector(tokens[2]), torch.randn(2, 16, 1280)).mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in projector.parameters())
    reached = [any(p.grad is not None and p.grad.any() for p in block.parameters()) for block in backbone.blocks]
    assert reached == [True, True, False]
    assert backbone.kept_tokens == {}


def test_loss_is_the_denoising_loss_less_the_cosine(features, cache, tmp_path):
    options = {"model.init_args.alignment.coefficient": 0.25, "trainer.log_every_n_steps": 1}
    cli = aligned(tmp_path, cache, features, options)
    cli.trainer.fit(cli.model, cli.datamodule)
    logged = cli.trainer.callback_metrics
    expected = logged["train/denoising_loss"] - 0.25 * logged["train/alignment"]
    torch.testing.assert_close(logged["train/loss"], expected)
    assert -1 <= logged["train/alignment"] <= 1


def test_refusals(features, cache, tiny_vit, tmp_path):
    latents = LatentCache(cache)
    with pytest.raises(ValueError, match="has encoder grid 4, the run 8"):
        FeatureCache(features[0]).require(latents, "efficientnet_lite0", 8, 1280)
    with pytest.raises(ValueError, match="has encoder name efficientnet_lite0, the run dinov2_base"):
        FeatureCache(features[0]).require(latents, "dinov2_base", 4, 768)
    with pytest.raises(ValueError, match=r"is of other images than .* \(num_images\)"):
        FeatureCache(write_features(tmp_path, num_images=16)[0]).require(latents, "efficientnet_lite0", 4, 1280)
    with pytest.raises(ValueError, match="is a latent cache, not one of features"):
        FeatureCache(cache)
    with pytest.raises(ValueError, match=r"alignment.depth is 9, the backbone has 3 blocks"):
        Alignment(Encoder("efficientnet_lite0"), depth=9).create_projector(SiT(**BACKBONE), 0)
    with pytest.raises(ValueError, match="encoder 'vgg' is unknown"):
        Encoder("vgg")
    with pytest.raises(ValueError, match="mocov3_base have no download"):
        Encoder("mocov3_base")(torch.zeros(1, 3, 64, 64), 4)
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot be read from .*bad.pth"):
        Encoder("tiny", str(tmp_path / "bad.pth")).fingerprint(4)


def test_features_of_other_weights_are_refused(tiny_vit, cache, tmp_path):
    """The same name, grid and width, but the weights were changed since."""
    network, file = tiny_vit
    write_features(tmp_path, encoder={"name": "tiny", "weights": file})
    recorded = FeatureCache(tmp_path / "features").encoder["fingerprint"]
    run = {
        "model.init_args.alignment.encoder.name": "tiny",
        "model.init_args.alignment.encoder.weights": file,
        "data.init_args.features": tmp_path / "features",
    }
    accepted = stage_two(tmp_path / "run", cache, ALIGNED | run)
    accepted.model.alignment.connect(accepted.datamodule, 4)
    assert accepted.model.alignment.encoder.fingerprint(4) == recorded
    with torch.no_grad():
        network.blocks[0].attn.qkv.weight.mul_(1.01)
    save_file(network.state_dict(), file)
    other = Encoder("tiny", str(file)).fingerprint(4)
    refused = stage_two(tmp_path / "run", cache, ALIGNED | run)
    with pytest.raises(
        ValueError, match=f"is of encoder weights {recorded[:12]}, the run has {other[:12]}: give"
    ) as line:
        refused.trainer.fit(refused.model, refused.datamodule)
    assert "\n" not in str(line.value)


def test_the_encoders_precision_is_recorded(tmp_path):
    """By default float32 whatever the trainer says; another one is part of what the features are known by."""
    images, encoder = torch.rand(2, 3, 32, 32) * 2 - 1, Encoder("efficientnet_lite0")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(images, 4), encoder(images, 4, "float32"))
        fast = encoder(images, 4, "bfloat16")
    assert fast.dtype == torch.float32
    assert not torch.allclose(fast, encoder(images, 4))
    dataset = {"fingerprint": "x", "num_images": 1, "num_classes": 1, "class_names": None}
    described = {"name": "x", "fingerprint": "x", "grid": 2, "width": 2}
    precise, other = (
        FeatureRows(lambda images: torch.zeros(1, 4, 2), described, encoding_precision=precision)
        for precision in ("float32", "bfloat16")
    )
    writer = ShardWriter(tmp_path, precise, dataset)
    writer.add({"index": torch.arange(1), "image": images[:1]})
    writer.finish()
    assert json.loads((tmp_path / "manifest.json").read_text())["encoding_precision"] == "float32"
    with pytest.raises(ValueError, match="holds a cache with another encoding_precision"):
        ShardWriter(tmp_path, other, dataset)


def test_damaged_features_are_refused(tmp_path):
    folder, _ = write_features(tmp_path, num_images=16)
    shard = folder / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"shard-00000.safetensors is damaged"):
        FeatureCache(folder)


def test_a_compiled_backbone_learns_the_same(features, cache, tmp_path, monkeypatch):
    torch._dynamo.reset()
    graphs = CompileCounter()
    monkeypatch.setattr(DiT, "compile", partialmethod(nn.Module.compile, backend=graphs, fullgraph=True))
    losses = []
    for compiled in (False, True):
        cli = aligned(tmp_path / str(compiled), cache, features, {"model.init_args.compile": compiled})
        cli.trainer.fit(cli.model, cli.datamodule)
        losses.append({name: float(value) for name, value in cli.trainer.callback_metrics.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert graphs.frame_count == 1, "tokens are kept without compiling anew at each step"
