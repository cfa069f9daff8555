"""The interface of regularizers: what a step draws, how several compose, parameters of their own, YAML."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eqvae.autoencoders import Term, load_autoencoder
from eqvae.equivariance import SpatialTransform
from eqvae.module import AutoencoderModule
from eqvae.randomness import keyed_normal, keyed_uniform
from eqvae.regularizers import (
    Action,
    Draw,
    Equivariance,
    ExplicitEquivariance,
    LatentRegularizer,
    Pass,
    Passes,
    Regularizers,
    StepKey,
    TransformDistribution,
    reconstruct,
)
from eqvae.training.cli import TrainCLI
from tests.eqvae.test_objective import PIXELS, TINY_VQ, fit, images
from tests.eqvae.tiny import tiny_autoencoder
from tests.tiny import TINY_AUTOENCODER

ALWAYS = TransformDistribution(probability=1.0)
HALF = SpatialTransform((0.5, 0.5))
CONFIGS = pytest.mark.parametrize("config", [TINY_AUTOENCODER, TINY_VQ], ids=["kl", "vq"])


class Noise(Action):
    def __init__(self, key: StepKey):
        self.key = key

    def on_latents(self, latents: Tensor) -> Tensor:
        where = {"seed": self.key.seed, "stream": f"{self.key.stream} noise"}
        keys = self.key.images
        share = keyed_uniform(keys, **where).view(-1, 1, 1, 1)
        noise = keyed_normal(keys, tuple(latents.shape[1:]), **where)
        return (1 - share) * latents + share * noise


class LatentNoise(LatentRegularizer):
    """As a denoising decoder has it: a share of noise for each image, the image itself as target."""

    name = "noise"

    def draw(self, key: StepKey) -> Action:
        return Noise(key)


class SmallScale(Action):
    def terms(self, step: Pass) -> list[Term]:
        decoded = step.autoencoder.transformed_decode(step.result.latents, HALF).images
        return [Term("scale", step.distance(decoded, HALF(step.result.encoded)), 0.25)]


class ScaleEquivariance(LatentRegularizer):
    """A second decoder pass beside the first."""

    name = "scale"

    def draw(self, key: StepKey) -> Action:
        return SmallScale()

    def extra_passes(self) -> Passes:
        return Passes(decoder=1.0)


class Masked(Action):
    def __init__(self, token: Tensor):
        self.token = token

    def on_latents(self, latents: Tensor) -> Tensor:
        return torch.cat((self.token.expand(len(latents), -1, 1, latents.shape[-1]), latents[:, :, 1:]), dim=2)


class MaskedRow(LatentRegularizer):
    """A learned token in the place of the first row."""

    name = "mask"

    def prepare(self, autoencoder) -> None:
        self.token = torch.nn.Parameter(torch.zeros(1, autoencoder.latent_channels, 1, 1))

    def draw(self, key: StepKey) -> Action:
        return Masked(self.token)


def key(step: int = 0, stream: str = "", size: tuple[int, int] = (8, 8)) -> StepKey:
    return StepKey(3, step, size, torch.arange(4), stream=stream)


@CONFIGS
def test_none_is_the_ordinary_loss(config):
    autoencoder = load_autoencoder(config).freeze()
    noise = autoencoder.posterior_noise(torch.arange(4), autoencoder.latent_shape(images()), 0, "posterior")
    action = Regularizers([], autoencoder).draw(key())
    result = reconstruct(autoencoder, images(), action, noise)
    latents = autoencoder.sample(autoencoder.posterior(images()), noise)
    assert torch.equal(result.images, autoencoder.transformed_decode(latents).images)
    assert torch.equal(result.target, images())
    assert action.terms(Pass(autoencoder, result, None)) == []


@CONFIGS
def test_transforms_stand_for_the_equivariance_regularizer(config):
    named, listed = (
        fit(AutoencoderModule(config, transforms, PIXELS, learning_rate=1e-3, regularizers=regularizers), steps=3)
        for transforms, regularizers in (("released", None), (None, [Equivariance("released")]))
    )
    assert named.autoencoder.fingerprint() == listed.autoencoder.fingerprint()


def test_two_compose_in_their_order():
    autoencoder = tiny_autoencoder()
    both = Regularizers([Equivariance(ALWAYS), LatentNoise(), ScaleEquivariance()], autoencoder)
    action = both.draw(key())
    transform = Equivariance(ALWAYS).draw(key()).transform
    result = reconstruct(autoencoder, images(), action)
    latents = autoencoder.posterior(images()).mean
    noisy = Noise(key()).on_latents(transform(latents))
    assert torch.equal(result.images, autoencoder.decode(noisy))
    assert torch.equal(result.target, transform(images()))
    (term,) = action.terms(Pass(autoencoder, result, lambda a, b: (a - b).abs().mean()))
    assert term.value == pytest.approx(float((autoencoder.decode(HALF(latents)) - HALF(images())).abs().mean()))
    assert both.extra_passes() == (0, 1)
    assert both.describe().startswith("regularizers: equivariance, noise, scale; 0 encoder and 1 decoder passes a step")


def test_an_action_on_the_input_changes_the_posterior():
    low = Draw("low_resolution", HALF)
    assert low.changes_input
    assert not Draw("equivariance", HALF).changes_input
    autoencoder = tiny_autoencoder()
    result = reconstruct(autoencoder, images(), low)
    assert torch.equal(result.encoded, HALF(images()))
    assert torch.equal(result.target, result.encoded)


def test_a_card_tells_two_trainings_apart():
    plain = TransformDistribution()
    others = [replace(plain, flip=True), replace(plain, critic="fresh"), replace(plain, scale="none")]
    told = [Equivariance(each).describe() for each in (plain, *others)]
    assert len(set(told)) == 4
    assert all(each.startswith("equivariance: scale ") for each in told)


def test_draws_of_a_key_are_its_own():
    same, critic = key(), key(stream="critic")
    assert [same.generator("a").random()] == [key().generator("a").random()]
    draws = {each.generator(name).random() for each in (same, critic, key(1)) for name in "ab"}
    assert len(draws) == 6


def test_the_batch_an_image_comes_in_changes_no_noise():
    latents = torch.ones(4, 2, 3, 3)
    whole = Noise(StepKey(0, 5, (3, 3), torch.arange(4))).on_latents(latents)
    parts = [Noise(StepKey(0, 5, (3, 3), keys)).on_latents(latents[:2]) for keys in torch.arange(4).split(2)]
    assert torch.equal(whole, torch.cat(parts))


@CONFIGS
def test_parameters_of_a_regularizer_train_and_are_not_exported(config, tmp_path):
    module = AutoencoderModule(config, None, PIXELS, learning_rate=1e-2, regularizers=[MaskedRow()])
    fit(module, steps=2)
    (token,) = module.regularizers.parameters()
    assert (token != 0).all()
    assert any(name.startswith("regularizers.") for name in module.state_dict())
    module.autoencoder.save_pretrained(tmp_path / "autoencoder")
    assert load_autoencoder(tmp_path / "autoencoder").fingerprint() == module.autoencoder.fingerprint()


@CONFIGS
def test_every_kind_of_arm_trains(config):
    module = AutoencoderModule(
        config,
        None,
        PIXELS,
        learning_rate=1e-3,
        regularizers=[LatentNoise(), ScaleEquivariance(), MaskedRow(), ExplicitEquivariance(ALWAYS)],
    )
    before = copy.deepcopy(module.autoencoder.state_dict())
    fit(module, steps=2)
    changed = {
        name.split(".")[1] for name, value in module.autoencoder.state_dict().items() if (value != before[name]).any()
    }
    assert {"encoder", "decoder"} <= changed


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 1)])
def test_extra_passes_are_those_that_are_taken(probability, expected):
    autoencoder, transforms = tiny_autoencoder(), TransformDistribution(probability=probability)
    regularizer = ExplicitEquivariance(transforms)
    action = regularizer.draw(key())
    result = reconstruct(autoencoder, images(), action)
    encoded = []
    autoencoder.model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    action.terms(Pass(autoencoder, result, None))
    assert len(encoded) == regularizer.extra_passes().encoder == expected


class SmallLatents(Action):
    def terms(self, step: Pass) -> list[Term]:
        return [Term("small", step.result.latents.square().mean(), 0.1, adaptive=True)]


class Small(LatentRegularizer):
    name = "small"

    def draw(self, key: StepKey) -> Action:
        return SmallLatents()


def test_an_adaptive_term_pulls_as_a_share_of_the_reconstruction():
    """Against autograd through both whole losses."""
    module = AutoencoderModule(TINY_AUTOENCODER, None, PIXELS, regularizers=[Small()])
    autoencoder, action = module.autoencoder, Small().draw(key())
    result = reconstruct(autoencoder, images(), action)
    asked = action.terms(Pass(autoencoder, result, module.objective.distance))
    layer = autoencoder.encoder_last_layer
    losses = (PIXELS(result.images, result.target)["nll"], asked[0].value)
    norms = [torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in losses]
    _, terms = module.objective.autoencoder_loss(autoencoder, result, asked, step=0)
    torch.testing.assert_close(terms["small_weight"], 0.1 * norms[0] / (norms[1] + 1e-4), rtol=1e-4, atol=0)
    assert terms["small_weight"] > 1  # of an unweighted mean against a sum over pixels


def test_the_explicit_term_is_one_of_all_devices():
    with pytest.raises(ValueError, match=r"leave transforms\.same_on_all_devices true"):
        ExplicitEquivariance(TransformDistribution(same_on_all_devices=False))


def test_two_that_do_the_same_are_refused():
    with pytest.raises(ValueError, match="equivariance stands there 2 times: leave one of them"):
        AutoencoderModule(TINY_AUTOENCODER, "paper", PIXELS, regularizers=[Equivariance()])
    with pytest.raises(ValueError, match="equivariance and explicit both draw sizes: leave one of them"):
        AutoencoderModule(TINY_AUTOENCODER, "paper", PIXELS, regularizers=[ExplicitEquivariance()])


def test_regularizers_come_from_yaml():
    text = (
        '[{"class_path": "eqvae.regularizers.ExplicitEquivariance", '
        '"init_args": {"weight": 0.5, "transforms": {"probability": 1.0}}}]'
    )
    words = ["--model.init_args.transforms=null", f"--model.init_args.regularizers={text}"]
    module = TrainCLI(["--config", "configs/eqvae/tiny-shapes.yaml", *words], run=False).model
    (explicit,) = module.regularizers
    assert (explicit.name, explicit.weight, explicit.transforms.probability) == ("explicit", 0.5, 1.0)


@pytest.mark.parametrize("option", ["--model.init_args.explicit.weight=0.1", "--model.init_args.explicit={weight: 1}"])
def test_the_old_key_of_the_explicit_loss_names_the_new_one(option):
    message = r"^model\.init_args\.explicit is gone: list eqvae\.regularizers\.ExplicitEquivariance in"
    with pytest.raises(ValueError, match=message):
        TrainCLI(["--config", "configs/eqvae/tiny-shapes.yaml", option], run=False)
