"""What a fit settles before its first step: images too small for a network are refused there, not after five steps."""

import warnings

import lightning
import lpips
import pytest
import torch

from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.data import ImageDataModule
from eqvae.data.given import GivenSource
from eqvae.image_sizes import require_large_images
from eqvae.losses import AdversarialLoss, PatchCritic, ReconstructionLoss
from eqvae.losses.perceptual import SMALLEST_SIDES, EfficientNetDistance
from eqvae.module import AutoencoderModule
from eqvae.regularizers import (
    Equivariance,
    ExplicitEquivariance,
    LatentNoise,
    Regularizers,
    ScaleEquivariance,
    StayClose,
    TransformDistribution,
)
from tests.eqvae.test_objective import PIXELS, fit, images
from tests.tiny import TINY_AUTOENCODER, stage_one


def works(network, *sides) -> list[bool]:
    results = []
    for side in sides:
        try:
            results.append(bool(network(torch.rand(2, 3, side, side)).isfinite().all()))
        except RuntimeError:
            results.append(False)
    return results


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_the_critic_works_from_its_smallest_side_on(num_layers):
    critic = PatchCritic(num_layers, base_channels=2)
    side = critic.smallest_side
    assert works(critic.main, side - 1, side, side + 1) == [False, True, True]
    with pytest.raises(ValueError, match=f"below {side}: use larger images"):
        critic(torch.zeros(1, 3, side - 1, side))


@pytest.mark.parametrize("net", ["vgg", "alex", "squeeze"])
def test_lpips_works_from_its_smallest_side_on(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distance = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    side = SMALLEST_SIDES[f"lpips_{net}"]
    assert works(lambda x: distance(x, x.flip(-1)), side - 1, side, side + 1) == [False, True, True]


def test_the_packaged_distance_takes_a_single_pixel():
    distance = EfficientNetDistance()
    assert works(lambda x: distance(x, -x), SMALLEST_SIDES["efficientnet_lite0"]) == [True]


@pytest.mark.parametrize(
    ("size", "factor", "transforms", "drawn", "enough"),
    [
        ((64, 64), 8, TransformDistribution(), 16, 96),  # 8 rows of the latent, 2 in the smallest draw
        ((56, 56), 8, TransformDistribution(), 16, 96),
        ((64, 256), 8, TransformDistribution(probability=0.0), 16, 96),  # low resolution alone
        ((16, 16), 8, TransformDistribution(probability=0.0, low_resolution_probability=0.0), 16, 24),
        ((16, 32), 4, TransformDistribution(scale="none", low_resolution_probability=0.0), 16, 24),
    ],
)
def test_the_message_names_the_smallest_draw_and_what_would_do(size, factor, transforms, drawn, enough):
    with pytest.raises(
        ValueError, match=f"has a side of {drawn}, it needs 24: use images of at least {enough} "
    ) as error:
        require_large_images(size, factor, transforms.smallest_side, {"it": 24})
    assert "\n" not in str(error.value)
    require_large_images((enough, enough), factor, transforms.smallest_side, {"it": 24})
    require_large_images(size, factor, transforms.smallest_side, {"it": drawn})


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (
            {"adversarial": AdversarialLoss(num_layers=2, base_channels=2)},
            "side of 8, the critic of adversarial needs 12",
        ),
        ({"reconstruction": ReconstructionLoss(perceptual="none")}, None),
        (
            {"autoencoder": TINY_AUTOENCODER | {"padding_mode": "reflect"}, "side": 8},
            "side of 2, its padding_mode needs 4",
        ),
        ({"side": 31}, "both sides must be multiples of 2"),
    ],
)
def test_a_fit_refuses_before_its_first_step(options, pattern, monkeypatch):
    side = options.pop("side", 32)
    monkeypatch.setattr("tests.eqvae.test_objective.images", lambda: images(side=side))
    settings = {
        "autoencoder": TINY_AUTOENCODER,
        "transforms": TransformDistribution(),
        "reconstruction": PIXELS,
    } | options
    module = AutoencoderModule(**settings, learning_rate=1e-2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    if pattern is None:
        assert fit(module, steps=1).trainer.global_step == 1
        return
    with pytest.raises(ValueError, match=pattern):
        fit(module, steps=1)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


CRITIC_OF_12 = AdversarialLoss(num_layers=2, base_channels=2)
LOW_RESOLUTION = TransformDistribution(probability=0.5, low_resolution_probability=0.5)


@pytest.mark.parametrize("regularizer", [ScaleEquivariance(), ExplicitEquivariance()])
def test_what_the_critic_is_not_shown_may_be_too_small_for_it(regularizer):
    settings = {"adversarial": CRITIC_OF_12, "regularizers": [regularizer]}
    assert fit(AutoencoderModule(TINY_AUTOENCODER, None, PIXELS, **settings), steps=2).trainer.global_step == 2


@pytest.mark.parametrize(
    ("regularizer", "sides"),
    [
        (Equivariance(), (2, 2, 2)),
        (ScaleEquivariance(), (2, 2, 8)),  # its second pass is compared and not shown
        (ExplicitEquivariance(), (2, 8, 8)),  # its second pass is of the encoder alone
        (ExplicitEquivariance(LOW_RESOLUTION), (2, 2, 2)),
        (StayClose(), (8, 8, 8)),
    ],
)
def test_smallest_latents_by_who_sees_them(regularizer, sides):
    both = Regularizers([regularizer, LatentNoise()], load_autoencoder(TINY_AUTOENCODER))
    for each in (regularizer, both):
        found = (each.smallest_side((8, 12)), each.smallest_compared((8, 12)), each.smallest_shown((8, 12)))
        assert found == sides


def test_enough_is_enough_where_more_than_a_quarter_is_left_out():
    smallest = ScaleEquivariance([8]).smallest_side
    with pytest.raises(ValueError, match="use images of at least 96 pixels"):
        require_large_images((48, 48), 2, smallest, {"it": 12})
    require_large_images((96, 96), 2, smallest, {"it": 12})


@pytest.mark.parametrize(("height", "width", "wrong"), [(34, 32, 34), (32, 34, 34), (32, 36, None)])
def test_both_sides_must_fit_the_latents_that_are_exported(height, width, wrong, tmp_path):
    """FLUX.2 packs 2 x 2 latents: images that it trains on could not be encoded to raw latents when all is done."""
    config = {"_class_name": "AutoencoderKLFlux2", **MODEL_CLASSES["AutoencoderKLFlux2"].tiny}
    data = ImageDataModule(GivenSource(torch.rand(4, 3, height, width) * 2 - 1), global_batch_size=2)
    module = AutoencoderModule(config, None, PIXELS)
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    limits = {"max_steps": 1, "limit_val_batches": 0, "use_distributed_sampler": False}
    trainer = lightning.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, **limits, **options)
    if wrong is None:
        trainer.fit(module, data)
        assert load_autoencoder(tmp_path / "autoencoder").has_normalization
        return
    with pytest.raises(ValueError, match=f"image_size {wrong} is no multiple of 4"):
        trainer.fit(module, data)


def test_lpips_counts_where_it_is_weighed(monkeypatch):
    monkeypatch.setattr("eqvae.losses.reconstruction.create_perceptual", lambda name, weights: None)
    assert ReconstructionLoss(perceptual="lpips_vgg").smallest_side == 16
    assert ReconstructionLoss(perceptual="lpips_vgg", perceptual_weight=0.0).smallest_side == 1


def test_validation_images_too_small_for_ssim_are_refused_before_the_training(tmp_path):
    cli = stage_one(tmp_path, {"data.init_args.validation.init_args.image_size": 8})
    with pytest.raises(ValueError, match=r"validation images have 8 x 8 pixels, SSIM needs 11"):
        cli.trainer.fit(cli.model, cli.datamodule)
    assert cli.trainer.global_step == 0
    assert not (tmp_path / "autoencoder").exists()
