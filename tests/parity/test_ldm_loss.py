"""The loss of stage 1 against latent-diffusion's, before and after the critic's start."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from eqvae.autoencoders.latent_losses import kl_terms
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.module import AutoencoderModule
from eqvae.regularizers import Reconstruction
from tests.fixtures import ABSENT, FIXTURES, fixture_keys, load_fixture, model_weights

NAMES = sorted(path.stem for path in FIXTURES.glob("ldm_loss_*.safetensors"))
UNAVAILABLE = [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT))]


def steps_in(name: str, what: str) -> list[int]:
    """Steps of which the fixture holds a value."""
    pattern = rf"{what}/step=(\d+)(?:/total)?"
    return sorted(int(found[1]) for key in fixture_keys(name) if (found := re.fullmatch(pattern, key)))


every_loss = pytest.mark.parametrize("name", NAMES or UNAVAILABLE)
every_step = pytest.mark.parametrize(
    ("name", "step"),
    [(name, step) for name in NAMES for step in steps_in(name, "generator")]
    or [pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT))],
)


def mean_squared_distance(images, target):
    """The distance that the fixture's note puts in the place of LPIPS."""
    return (images - target).square().mean((1, 2, 3))


@pytest.fixture
def case(name, monkeypatch):
    """Module, reconstruction, last layer and the fixture's tensors."""
    tensors, config = load_fixture(name)
    reconstruction = ReconstructionLoss("l1", "none", config["perceptual_weight"], log_variance=config["logvar_init"])
    reconstruction.distance = mean_squared_distance
    adversarial = AdversarialLoss(
        config["disc_loss"],
        config["disc_weight"],
        config["disc_start"],
        num_layers=config["disc_layers"],
        base_channels=len(tensors["discriminator/main.0.weight"]),
    )
    autoencoder = torch.nn.Module()  # only its last layer takes part
    autoencoder.source, autoencoder.fingerprint = None, lambda: ""
    autoencoder.require_trainable = lambda *_: None
    autoencoder.latent_loss = lambda kl_weight, codebook: partial(kl_terms, kl_weight)
    autoencoder.last_layer = torch.nn.Parameter(tensors["last_weight"].clone())
    monkeypatch.setattr("eqvae.module.load_autoencoder", lambda source, seed: autoencoder)
    module = AutoencoderModule({}, None, reconstruction, adversarial, kl_weight=config["kl_weight"])
    module.critic.load_state_dict(model_weights(tensors, "discriminator/"))

    inputs = tensors["inputs"]
    decoded = F.conv2d(tensors["hidden"], autoencoder.last_layer, tensors["last_bias"], padding=1)
    posterior = DiagonalGaussianDistribution(tensors["moments"])
    result = Reconstruction(decoded, inputs, None, None, posterior, None, inputs)
    return module, result, autoencoder.last_layer, tensors


@every_step
def test_terms_and_gradient_at_the_last_layer(case, step):
    module, result, last_layer, tensors = case
    surrogate, terms = module.objective.autoencoder_loss(module.autoencoder, result, [], step)
    surrogate.backward()

    expected = {name: tensors[f"generator/step={step}/{name}"][0] for name in ("nll_loss", "kl_loss", "total")}
    total = terms["nll"] + module.kl_weight * terms["kl"]
    if step >= module.adversarial.start_step:
        for ours, theirs in (("generator_loss", "g_loss"), ("adaptive_weight", "d_weight")):
            reference = tensors[f"generator/step={step}/{theirs}"][0]
            torch.testing.assert_close(terms[ours], reference, rtol=1e-5, atol=1e-6)
        total = total + terms["adaptive_weight"] * terms["generator_loss"]
    else:
        assert not {"generator_loss", "adaptive_weight"} & set(terms)
    torch.testing.assert_close(terms["nll"], expected["nll_loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(terms["kl"], expected["kl_loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(total, expected["total"], rtol=1e-5, atol=0)
    rec_loss = terms["pixel"] + module.reconstruction.perceptual_weight * terms["perceptual"]
    torch.testing.assert_close(rec_loss, tensors[f"generator/step={step}/rec_loss"][0], rtol=1e-5, atol=0)

    gradient = tensors[f"generator/step={step}/grad_last_weight"]
    # A float32 sum over all pixels of two gradients that partly cancel, weighed by a ratio of norms: 9e-7 was seen.
    error = (last_layer.grad - gradient).norm() / gradient.norm()
    assert error < 1e-4, f"gradient differs by {error:.1e}"
    assert all(parameter.grad is None for parameter in module.critic.parameters())


@every_loss
def test_kl_of_each_sample(case):
    _, result, _, tensors = case
    torch.testing.assert_close(result.posterior.kl(), tensors["kl"], rtol=1e-5, atol=0)


@every_loss
def test_critic_loss_and_start(name, case):
    module, result, last_layer, tensors = case
    steps = steps_in(name, "discriminator_loss")
    for step in steps:
        shown = (result.target, result.images.detach()) if module.objective.critic_active(step) else None
        loss = module.objective.critic_loss(shown)
        loss.backward()
        torch.testing.assert_close(loss, tensors[f"discriminator_loss/step={step}"][0], rtol=1e-5, atol=1e-6)
    assert last_layer.grad is None, "the critic's loss must not reach the autoencoder"
    learned = any(parameter.grad.abs().sum() > 0 for parameter in module.critic.parameters())
    assert learned == any(module.adversarial.active(step) for step in steps)


@every_loss
def test_adaptive_weight_where_it_is_not_clamped(case):
    """The fixtures clamp; here the ratio itself is compared with autograd through both whole losses."""
    module, result, last_layer, _ = case
    target, decoded = result.target, result.images
    nll = module.reconstruction(decoded, target)["nll"]
    gan = module.adversarial.generator_loss(module.critic(decoded))
    nll_norm, gan_norm = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (nll, gan))
    nll = nll * (3 * gan_norm / nll_norm)  # a ratio of 3
    at_image = [torch.autograd.grad(loss, decoded, retain_graph=True)[0] for loss in (nll, gan)]
    weight = module.adversarial.adaptive_weight(decoded, *at_image, last_layer)
    expected = 3 * gan_norm / (gan_norm + 1e-4) * module.adversarial.weight
    # Two norms of float32 sums over all pixels, once through the whole graph and once from the image on.
    torch.testing.assert_close(weight, expected, rtol=1e-4, atol=0)
