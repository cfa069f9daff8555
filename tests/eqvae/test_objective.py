"""Options of the stage-1 objective: presets, VQ, decoder-only, explicit loss, fresh critic, ramp."""

import itertools
import math
from collections import Counter
from copy import deepcopy
from fractions import Fraction
from functools import partial, partialmethod
from types import SimpleNamespace

import lightning
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from eqvae.autoencoders import Autoencoder, CodebookLoss, Codes, KLAutoencoder, codebook_usage, load_autoencoder
from eqvae.equivariance import SpatialTransform
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.regularizers import (
    PRESETS,
    Draw,
    Equivariance,
    ExplicitEquivariance,
    LatentNoise,
    LocalCorrelation,
    ScaleEquivariance,
    TransformDistribution,
    reconstruct,
)
from eqvae.regularizers.equivariance import choose_transforms
from eqvae.regularizers.explicit import explicit_error
from eqvae.training.compiling import compile_network
from tests.eqvae.tiny import MixingAutoencoder, tiny_autoencoder
from tests.tiny import TINY_AUTOENCODER, needs_bfloat16

TINY_VQ = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
    "num_vq_embeddings": 16,
    "norm_num_groups": 4,
}
CRITIC = AdversarialLoss(num_layers=1, base_channels=8)
PIXELS = ReconstructionLoss(perceptual="none")


def images(count: int = 4, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def fit(module: AutoencoderModule, steps: int = 4, precision: str = "32-true", **options) -> AutoencoderModule:
    batch = {"image": images(), "key": torch.arange(4), "index": torch.arange(4)}
    loader = torch.utils.data.DataLoader([batch] * (steps * module.accumulate_batches), batch_size=None)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, loader)
    return module


def test_presets_are_the_paper_and_the_released_code():
    paper, released = choose_transforms("paper"), choose_transforms("released")
    assert (paper.interpolation, paper.low_resolution_probability) == ("bicubic", 0.0)
    assert (released.interpolation, released.low_resolution_probability) == ("bilinear", 0.25)
    for preset in PRESETS.values():
        assert (preset.scale, preset.rotation, preset.probability, preset.flip) == ("isotropic", "quarter", 0.5, False)
    draws = [released.draw(0, step, (32, 32)) for step in range(4000)]
    assert sum(draw.kind == "low_resolution" for draw in draws) / 4000 == pytest.approx(0.125, abs=0.02)
    with pytest.raises(ValueError, match="paper, released"):
        choose_transforms("papers")


@pytest.mark.parametrize("first", [SpatialTransform(quarter_turns=k, flip=f) for k in range(4) for f in (False, True)])
@pytest.mark.parametrize("second", [SpatialTransform(quarter_turns=k, flip=f) for k in range(4) for f in (False, True)])
def test_flips_and_turns_are_a_group(first, second):
    x = images(1, 8)
    assert torch.equal(first.then(second)(x), second(first(x)))
    assert torch.equal(first.inverse()(first(x)), x)


def test_flips_are_drawn_only_when_asked_for():
    off, on = TransformDistribution(probability=1.0), TransformDistribution(probability=1.0, flip=True)
    flips = [on.draw(0, step, (8, 8)).transform.flip for step in range(400)]
    assert not any(off.draw(0, step, (8, 8)).transform.flip for step in range(400))
    assert sum(flips) / 400 == pytest.approx(0.5, abs=0.1)


def test_devices_share_a_transform_unless_told_otherwise():
    shared, own = TransformDistribution(), TransformDistribution(same_on_all_devices=False)
    assert [shared.draw(0, s, (8, 8), rank=3) for s in range(20)] == [shared.draw(0, s, (8, 8)) for s in range(20)]
    assert [own.draw(0, s, (8, 8), rank=3) for s in range(20)] != [own.draw(0, s, (8, 8)) for s in range(20)]


def test_features_are_transformed_before_they_are_quantized():
    autoencoder = load_autoencoder(TINY_VQ)
    transform = SpatialTransform((0.5, 0.5), 1)
    result = reconstruct(autoencoder, images(), Draw("equivariance", transform))
    expected = autoencoder.quantize(transform(autoencoder.features(images())))
    assert torch.equal(result.codes.indices, expected.indices)
    # Straight through the quantizer: features + (latents - features) rounds twice, 1e-7, before ten layers.
    assert torch.allclose(result.images, autoencoder.decode(expected.latents), atol=1e-5)
    result.images.sum().backward()
    assert autoencoder.model.encoder.conv_in.weight.grad.abs().sum() > 0  # straight through the quantizer


@pytest.mark.parametrize(("legacy", "expected"), [(True, 1 + 0.25 * 1), (False, 0.25 * 1 + 1)])
def test_beta_stands_on_its_term(legacy, expected):
    features = torch.zeros(1, 2, 3, 3, requires_grad=True)
    latents = torch.ones(1, 2, 3, 3, requires_grad=True)
    loss = CodebookLoss(legacy=legacy)(Codes(torch.zeros(1, 3, 3).long(), latents, features))
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    ratio = latents.grad.abs().sum() / features.grad.abs().sum()
    assert ratio.item() == pytest.approx(0.25 if legacy else 4.0)


def test_codebook_usage_counts_codes():
    usage = codebook_usage(torch.tensor([[[0, 1], [0, 1]]]), num_codes=8)
    assert usage["perplexity"].item() == pytest.approx(2.0)
    assert usage["used_codes"].item() == pytest.approx(0.25)


def test_a_vq_autoencoder_trains_encoder_codebook_and_decoder():
    module = AutoencoderModule(TINY_VQ, "paper", PIXELS, CRITIC, learning_rate=1e-3)
    before = {name: value.clone() for name, value in module.autoencoder.state_dict().items()}
    fit(module)
    changed = {
        name.split(".")[1] for name, value in module.autoencoder.state_dict().items() if (value != before[name]).any()
    }
    assert {"encoder", "quant_conv", "quantize", "post_quant_conv", "decoder"} <= changed


@pytest.mark.parametrize("config", [TINY_AUTOENCODER, TINY_VQ], ids=["kl", "vq"])
def test_decoder_only_training_leaves_latents_bit_identical(config):
    module = AutoencoderModule(config, None, PIXELS, learning_rate=1e-2, trainable="decoder")

    def latents():
        with torch.no_grad():
            encoded = module.autoencoder.eval().encode(images())
        return torch.cat((encoded.mean, encoded.logvar)) if config is TINY_AUTOENCODER else encoded.latents

    before, decoder = latents(), module.autoencoder.last_layer.clone()
    module.autoencoder.train()
    fit(module)
    assert torch.equal(latents(), before)
    assert not torch.equal(module.autoencoder.last_layer, decoder)


def test_explicit_loss_is_the_squared_latent_error():
    autoencoder = tiny_autoencoder()
    transform = SpatialTransform((0.5, 0.5), 2)
    mean = autoencoder.encode(images()).mean
    expected = (transform(mean) - autoencoder.encode(transform(images())).mean).square().sum() / 4
    assert explicit_error(autoencoder, mean, images(), transform).item() == pytest.approx(expected.item(), rel=1e-6)
    equivariant = MixingAutoencoder()
    mean = equivariant.encode(images()).mean
    assert explicit_error(equivariant, mean, images(), transform).item() < 1e-6


def test_explicit_loss_of_16_bits_is_transformed_in_float32():
    latents, image = images(2, 16)[:, :, ::2, ::2].bfloat16(), images(2, 16)
    halved = SpatialTransform((0.5, 0.5))
    encoder = SimpleNamespace(posterior=lambda shrunk: SimpleNamespace(mean=F.avg_pool2d(shrunk, 2).bfloat16()))
    expected = (halved(latents.float()) - F.avg_pool2d(halved(image), 2).bfloat16().float()).square().sum() / 2
    assert explicit_error(encoder, latents, image, halved).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("config", [TINY_AUTOENCODER, TINY_VQ], ids=["kl", "vq"])
def test_explicit_loss_replaces_the_transformed_reconstruction(config, monkeypatch):
    always = TransformDistribution(probability=1.0)
    explicit = [ExplicitEquivariance(always, weight=10.0)]
    module = AutoencoderModule(config, None, PIXELS, learning_rate=1e-3, regularizers=explicit)
    shapes, values = [], []
    module.objective.reconstruction = lambda a, b: shapes.append(a.shape) or PIXELS(a, b)

    monkeypatch.setattr("eqvae.module.log_terms", lambda module, terms, shown: values.append(terms["explicit"].item()))
    fit(module, steps=30)
    assert set(shapes) == {(4, 3, 32, 32)}
    assert sum(values[-5:]) < sum(values[:5])


def test_a_fresh_transform_for_the_critic_changes_what_it_sees():
    shown = {}
    for critic in ("same", "fresh"):
        transforms = TransformDistribution(probability=1.0, critic=critic)
        module = AutoencoderModule(TINY_AUTOENCODER, transforms, PIXELS, CRITIC)
        generator, seen = [], []
        module.objective.reconstruction = lambda a, b, keep=generator: keep.append(b.shape) or PIXELS(a, b)
        loss = module.objective.critic_loss
        module.objective.critic_loss = lambda pair, keep=seen, loss=loss: (
            keep.append([x.shape for x in pair]) or loss(pair)
        )
        fit(module, steps=8)
        shown[critic] = [real == sizes for (real, _), sizes in zip(seen, generator, strict=True)]
        assert all(real == fake for real, fake in seen)
    assert all(shown["same"])
    assert not all(shown["fresh"])


class Equivariant(torch.nn.Module):
    """Mixes channels, hence commutes with every transform; counts what it encodes."""

    posterior_channels, posterior_factor, num_encoded, source, num_codes = 3, 1, 0, None, 0

    def __init__(self):
        super().__init__()
        self.mixing, self.last_layer = MixingAutoencoder(), torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        self.num_encoded += 1
        return SimpleNamespace(mean=self.mixing.encode(images).mean, std=torch.zeros(()))

    posterior, sample, posterior_noise = KLAutoencoder.posterior, KLAutoencoder.sample, KLAutoencoder.posterior_noise
    transformed_decode, posterior_shape = Autoencoder.transformed_decode, Autoencoder.posterior_shape
    latent_loss = Autoencoder.latent_loss

    def decode(self, latents):
        return self.mixing.decode(latents)

    def fingerprint(self):
        return ""

    def require_trainable(self, decoder_alone):
        """Everything is."""


class ModuleAtStep(AutoencoderModule):
    """Without a trainer."""

    global_step, global_rank = 0, 0


def what_is_shown(real: torch.Tensor, image: torch.Tensor) -> str:
    """The kind of draw that made a real image out of the whole one, told from its pixels."""
    if torch.equal(real, image):
        return "plain"
    scale = Fraction(real.shape[-1], image.shape[-1])
    unturned = SpatialTransform((scale, scale))(image)
    return "low_resolution" if torch.equal(real, unturned) else "equivariance"


def test_the_critics_pass_is_a_step_of_its_own(monkeypatch):
    """The released code's second pass: 50, 12.5 and 37.5 % of the steps, whatever the first pass did."""
    monkeypatch.setattr("eqvae.module.load_autoencoder", lambda source, seed: Equivariant())
    module = ModuleAtStep({}, "released", PIXELS, CRITIC)
    batch = {"image": images(1, 8), "key": torch.arange(1)}
    counts, steps, again = Counter(), 600, 0
    for step in range(steps):
        monkeypatch.setattr(ModuleAtStep, "global_step", step)
        action = module._draw(batch)
        result = reconstruct(module.autoencoder, batch["image"], action, module._noise(batch))
        encoded = module.autoencoder.num_encoded
        real, fake = module._shown_to_critic(batch, action, result)
        # Of an equivariant autoencoder, in every kind: values of 1 through two 3 x 3 matrices, 20 roundings of 6e-8.
        torch.testing.assert_close(fake, real, rtol=0, atol=1e-5)
        kind = what_is_shown(real, batch["image"])
        (draw,) = action.actions
        counts[draw.kind, kind] += 1
        again += (encodes_again := "low_resolution" in (draw.kind, kind))
        assert module.autoencoder.num_encoded - encoded == encodes_again, (draw.kind, kind)
    shares = {"equivariance": 0.5, "low_resolution": 0.125, "plain": 0.375}
    for first, second in itertools.product(shares, repeat=2):
        expected = steps * shares[first] * shares[second]
        assert abs(counts[first, second] - expected) < 5 * math.sqrt(expected), (first, second, counts)
    passes = module.regularizers.extra_passes(with_critic=True)
    assert passes == (pytest.approx(1 - 0.875**2), 1)
    assert again / steps == pytest.approx(passes.encoder, abs=0.05)


@pytest.mark.parametrize(
    ("create", "critic", "told"),
    [
        (Equivariance, CRITIC, "0.234375 encoder and 1 decoder"),
        (Equivariance, None, "0 encoder and 0 decoder"),
        (ExplicitEquivariance, CRITIC, "0.734375 encoder and 1 decoder"),
        (ExplicitEquivariance, None, "0.5 encoder and 0 decoder"),
    ],
)
def test_a_run_says_what_the_critics_own_pass_costs(create, critic, told, monkeypatch):
    said = []
    monkeypatch.setattr("eqvae.module.rank_zero_info", said.append)
    fit(AutoencoderModule(TINY_AUTOENCODER, None, PIXELS, critic, regularizers=[create("released")]), steps=1)
    assert any(f"; {told} passes a step" in line for line in said)


def test_the_critics_pass_draws_its_own_posterior_samples():
    transforms = TransformDistribution(probability=0.0, low_resolution_probability=0.0, critic="fresh")
    module = AutoencoderModule(TINY_AUTOENCODER, transforms, PIXELS, CRITIC)
    pairs = []
    loss, terms = module.objective.critic_loss, module.objective.autoencoder_loss
    module.objective.autoencoder_loss = lambda autoencoder, result, asked, step: (
        pairs.append([result.images]) or terms(autoencoder, result, asked, step)
    )
    module.objective.critic_loss = lambda shown: pairs[-1].append(shown[1]) or loss(shown)
    fit(module, steps=1)
    assert pairs[0][0].shape == pairs[0][1].shape
    assert not torch.allclose(*pairs[0], atol=1e-4)
    assert not pairs[0][1].requires_grad


def test_the_critics_part_grows_over_its_ramp():
    loss = AdversarialLoss(start_step=10, ramp_steps=4)
    assert [loss.factor(step) for step in (9, 10, 12, 14, 20)] == pytest.approx([0, 0.2, 0.6, 1, 1])
    assert AdversarialLoss().factor(0) == 1.0


@pytest.mark.parametrize(("start_step", "takes_part"), [(0, True), (1, True), (2, False)])
def test_a_critic_that_never_takes_part_is_told(start_step, takes_part, monkeypatch):
    said = []
    monkeypatch.setattr("eqvae.module.rank_zero_warn", said.append)
    critic = AdversarialLoss(num_layers=1, base_channels=8, start_step=start_step)
    module = AutoencoderModule(TINY_AUTOENCODER, None, PIXELS, critic)
    before = deepcopy(module.critic.state_dict())
    fit(module, steps=2)
    assert said == (
        [] if takes_part else ["adversarial.start_step 2: in 2 steps the critic takes no part: set it lower"]
    )
    assert takes_part != all(torch.equal(value, before[name]) for name, value in module.critic.state_dict().items())


@needs_bfloat16
def test_bf16_trains_with_losses_in_float32():
    module = AutoencoderModule(TINY_AUTOENCODER, "released", PIXELS, CRITIC)
    dtypes = set()
    module.objective.reconstruction = lambda a, b: dtypes.update((a.dtype, b.dtype)) or PIXELS(a, b)

    fit(module, precision="bf16-mixed")
    assert dtypes == {torch.float32}


def test_float16_is_refused():
    with pytest.raises(ValueError, match="bf16-mixed"):
        fit(AutoencoderModule(TINY_AUTOENCODER, None, PIXELS), precision="16-true")


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        (TINY_AUTOENCODER, {"codebook": CodebookLoss()}, "no codebook"),
        (TINY_AUTOENCODER, {"trainable": "encoder"}, "all or decoder"),
        (TINY_AUTOENCODER, {"kl_weight": -1e-6}, "kl_weight must be at least 0"),
        (TINY_AUTOENCODER, {"accumulate_batches": 0}, "accumulate_batches must be at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(config, options, expected):
    with pytest.raises(ValueError, match=expected):
        AutoencoderModule(config, None, PIXELS, **options)


@pytest.mark.parametrize(
    ("create", "options"),
    [
        (TransformDistribution, {"scale": "iso"}),
        (TransformDistribution, {"rotation": "quarters"}),
        (TransformDistribution, {"interpolation": "nearest"}),
        (TransformDistribution, {"critic": "Fresh"}),
        (ReconstructionLoss, {"pixel": "L1"}),
        (ReconstructionLoss, {"reduction": "average"}),
        (AdversarialLoss, {"kind": "Hinge"}),
        (LatentNoise, {"mix": "additive"}),
        (ScaleEquivariance, {"target": "images"}),
    ],
)
def test_a_word_that_is_none_of_the_choices_does_not_stand_for_one(create, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{name} '{value}' is unknown: use one of \w+, "):
        create(**options)


@pytest.mark.parametrize("name", ["weight", "start_step", "ramp_steps"])
def test_numbers_that_would_turn_the_critics_part_around_are_refused(name):
    with pytest.raises(ValueError, match=rf"^adversarial\.{name} must be at least 0 and finite, got -1$"):
        AdversarialLoss(**{name: -1})


def test_compiled_networks_learn_the_same(monkeypatch):
    torch._dynamo.reset()
    graphs = CompileCounter()
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=graphs))
    always = TransformDistribution(probability=1.0)
    plain, compiled = (
        fit(AutoencoderModule(TINY_AUTOENCODER, always, PIXELS, learning_rate=1e-3, compile=switch), steps=12)
        for switch in (False, True)
    )
    assert 5 <= graphs.frame_count <= 8, "a graph for each kind of block, not for each of the dozen sizes"
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for name, value in plain.state_dict().items():
        # The same kernels, traced: equal but for the order of additions, which Adam divides by small gradients. A step
        # is 1e-3; another graph (a size that is baked in, a branch not taken) is off by whole steps.
        # The bias of keys moves no attention: its gradient is zero but for rounding, of which Adam makes whole steps.
        if not name.endswith("to_k.bias"):
            torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.reliability(27, long=True)
def test_a_compiled_autoencoder_trains_against_a_critic_on_any_size(monkeypatch, reached):
    """AOTAutograd refuses a second pass back through a compiled part, which the adaptive weight must not ask for."""
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=graphs))
    always = TransformDistribution(probability=1.0)
    assert len({always.draw(0, step, (16, 16)).transform.scale for step in range(20)}) >= 8
    fit(AutoencoderModule(TINY_AUTOENCODER, always, PIXELS, adversarial=CRITIC, compile=True), steps=20)
    assert graphs.frame_count <= 12
    reached.says(f"{graphs.frame_count} graphs for 20 steps of any size")


def test_a_compiled_autoencoder_trains_with_an_adaptive_regularizer(monkeypatch):
    """Whose weight asks for a gradient at the encoder, through the whole decoder."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch._functorch.config, "donated_buffer", True)
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    small = TINY_AUTOENCODER | {"mid_block_add_attention": False}  # of one level nothing would be gone back through
    fit(AutoencoderModule(small, None, PIXELS, regularizers=[LocalCorrelation()], compile=True), steps=2)


def test_what_is_compiled_leaves_out_attention_and_the_layers_whose_gradients_are_asked_for():
    autoencoder = AutoencoderModule(TINY_AUTOENCODER, None, PIXELS).autoencoder
    plain = deepcopy(autoencoder)
    asked_for = (autoencoder.last_layer, autoencoder.encoder_last_layer)
    names = list(autoencoder.state_dict())
    for network in autoencoder.networks:
        compile_network(network, asked_for)
    compiled = [part for part in autoencoder.modules() if part._compiled_call_impl is not None]
    inside = [layer for part in compiled for layer in part.modules()]
    assert {type(part).__name__ for part in compiled} == {"DownEncoderBlock2D", "ResnetBlock2D", "UpDecoderBlock2D"}
    assert not any(isinstance(layer, Attention | torch.nn.ModuleList) for layer in compiled)
    assert not any(isinstance(layer, Attention) for layer in inside)
    assert not {id(weight) for layer in inside for weight in layer.parameters()} & set(map(id, asked_for))
    assert list(autoencoder.state_dict()) == names
    copy = deepcopy(autoencoder)
    assert all(part._compiled_call_impl is None for part in copy.modules())
    with torch.no_grad():
        latents = torch.randn(2, autoencoder.latent_channels, 4, 6)
        torch.testing.assert_close(copy.decode(latents), plain.decode(latents))


def test_a_critic_with_group_norm_sees_each_image_alone():
    critics = {
        norm: AdversarialLoss(num_layers=2, base_channels=6, norm=norm).create_critic() for norm in ("batch", "group")
    }
    for norm, critic in critics.items():
        together = critic(images(4))
        apart = torch.cat([critic(image[None]) for image in images(4)])
        assert torch.allclose(together, apart, atol=1e-5) == (norm == "group")
    weights = [{k: v.shape for k, v in critic.named_parameters()} for critic in critics.values()]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"norm": "layer"}, "adversarial.norm 'layer' is unknown: use batch or group"),
        ({"norm": "group", "critic_weights": "kl-f8.ckpt"}, "adversarial.norm group starts a critic afresh"),
    ],
)
def test_a_norm_that_cannot_be_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        AdversarialLoss(**options)


def test_a_compiled_network_sees_one_memory_layout():
    torch._dynamo.reset()
    graphs = CompileCounter()
    critic = CRITIC.create_critic()
    critic.compile = partial(critic.compile, backend=graphs)
    compile_network(critic, any_size=True)
    plain = CRITIC.create_critic()
    for height, width in ((12, 20), (16, 16), (32, 18)):
        for layout in (images(2, 32)[..., :height, :width], images(2, 32)[..., :width, :height].mT):
            with torch.no_grad():
                torch.testing.assert_close(critic(layout), plain(layout))
    assert graphs.frame_count == 1
