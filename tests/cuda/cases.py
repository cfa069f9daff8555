"""What both stages compute, as functions of a device: the same numbers go in, and those that come out are compared."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dit.alignment.cknna import cknna
from dit.backbones import DiT, HaltonMaskGIT, SiT
from dit.checkpoints import Generator
from dit.generation import SamplingSettings, generate_latents
from dit.objectives import Diffusion, MaskedTokens
from dit.samplers import SAMPLERS
from eqvae.autoencoders import CodebookLoss, Codes, LatentStatistics, Normalization, load_autoencoder
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation import (
    create_extractor,
    effective_rank,
    features_to_statistics,
    frechet_distance,
    high_frequency_share,
    images_to_psnr,
    images_to_ssim,
    intrinsic_dimension,
    kernel_distance,
    precision_recall,
    radial_power_spectrum,
)
from eqvae.evaluation.autoencoder import LatentMetrics
from eqvae.evaluation.distances import inception_score
from eqvae.evaluation.feature_sets import images_to_feature_set
from eqvae.evaluation.reconstruction import ReconstructionMetrics
from eqvae.latents import LatentSpec, TokenSpec
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.randomness import fold_keys, keyed_integers, keyed_normal, keyed_uniform
from eqvae.regularizers import StepKey
from tests.cuda.test_generators import BACKBONES, CHOICES, CLASSES, GUIDANCE, OBJECTIVES, PAIRS, SIZES, TOKENS
from tests.dit.tiny import randomize
from tests.eqvae.regularizers.registry import METHODS, acted_out, prepared
from tests.eqvae.test_objective import TINY_VQ
from tests.tiny import TINY_AUTOENCODER

Values = dict[str, Tensor]
Case = Callable[[torch.device], Values]
VQ = TINY_VQ | {"_class_name": "VQModel"}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uint8(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def gradients(network: nn.Module, loss: Tensor) -> Tensor:
    """All of them in one row; zeros where the loss does not reach."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(trained, found, strict=True)]
    )


def learned(backbone: str, objective: str, device: torch.device) -> Values:
    """Terms of the loss and its gradients."""
    torch.manual_seed(0)
    network = randomize(BACKBONES[backbone]()).requires_grad_(True).to(device)
    network.train(isinstance(network, DiT))  # token transformers drop out by the device's own numbers
    learns, keys = OBJECTIVES[backbone][objective](), torch.arange(3, device=device)
    x = normal(3, 4, 4, 4) if isinstance(network, DiT) else torch.arange(48).view(3, 4, 4) % 16
    x = x.to(device)
    times = learns.sample_times(keyed_uniform(keys, seed=0, stream="time"))
    noise = keyed_normal(keys, tuple(x.shape[1:]), seed=0, stream="noise")
    dropped = keyed_uniform(keys, seed=0, stream="drop") < 0.3
    terms = learns.loss_terms(network, x, noise, times, y=keys % CLASSES, drop_labels=dropped)
    return terms | {"gradients": gradients(network, terms["loss"].mean())}


def sampled(sampler: str, guidance: str, device: torch.device) -> Values:
    """Latents or tokens of three steps of a sampler."""
    objective = SAMPLERS[sampler].serves()
    torch.manual_seed(0)
    if isinstance(objective, MaskedTokens):
        backbone, spec = HaltonMaskGIT(**TOKENS), TokenSpec((4, 4), 2, None, Normalization(), 16)
    else:
        backbone = (DiT if isinstance(objective, Diffusion) else SiT)(**SIZES, num_classes=CLASSES)
        spec = LatentSpec((4, 4, 4), 2, None, Normalization((0.1,) * 4, (2.0,) * 4))
    generator = Generator(randomize(backbone).to(device), objective, spec, None, 0)
    settings = SamplingSettings(**{"num_inference_steps": 3, "sampler": sampler} | GUIDANCE[guidance])
    return {"made": generate_latents(generator, torch.arange(2), torch.zeros(2).long(), settings)}


def drawn(device: torch.device) -> Values:
    keys = fold_keys(3, torch.arange(64, device=device), 7)
    return {
        "keys": keys,
        "integers": keyed_integers(keys, 9, seed=0, stream="test"),
        "uniform": keyed_uniform(keys, (5,), seed=0, stream="test"),
        "normal": keyed_normal(keys, (2, 3), seed=0, stream="test"),
    }


def reconstructed(pixel: str, perceptual: str, device: torch.device) -> Values:
    loss = ReconstructionLoss(pixel, perceptual, log_variance=0.3)
    images = normal(2, 3, 32, 32).to(device).requires_grad_()
    terms = loss(images, normal(2, 3, 32, 32, seed=1).to(device))
    return terms | {"gradients": torch.autograd.grad(terms["nll"], images)[0]}


def criticized(kind: str, norm: str, device: torch.device) -> Values:
    loss = AdversarialLoss(kind, num_layers=1, base_channels=4, norm=norm)
    critic = loss.create_critic(seed=0).to(device)
    last = nn.Parameter(normal(3, 3, 3, 3).to(device))
    images = nn.functional.conv2d(normal(2, 3, 16, 16).to(device), last, padding=1)
    pull = [normal(2, 3, 16, 16, seed=seed).to(device) for seed in (1, 2)]
    critic_loss = loss.critic_loss(critic(images), critic(images.detach().flip(-1)))
    return {
        "weight": loss.adaptive_weight(images, *pull, last),
        "generator_loss": loss.generator_loss(critic(images)),
        "critic_loss": critic_loss,
        "gradients": gradients(critic, critic_loss),
    }


def coded(config: dict, device: torch.device) -> Values:
    """An autoencoder's way there and back, its own losses and gradients."""
    autoencoder = load_autoencoder(config).to(device)
    images = normal(2, 3, 16, 16).clamp(-1, 1).to(device)
    encoded = autoencoder.encode(images)
    if isinstance(encoded, Codes):
        values, own = {"indices": encoded.indices, "latents": encoded.latents}, CodebookLoss()(encoded)
        decoded = autoencoder.decode(encoded.latents)
    else:
        values, own = {"mean": encoded.mean, "std": encoded.std}, encoded.kl().mean() * 1e-3
        decoded = autoencoder.decode(encoded.mean)
    loss = (decoded - images).square().mean() + own
    return values | {"decoded": decoded, "own": own, "gradients": gradients(autoencoder, loss)}


def regularized(name: str, device: torch.device) -> Values:
    regularizer, autoencoder = prepared(METHODS[name], changed=lambda autoencoder: autoencoder.to(device))
    if isinstance(regularizer, nn.Module):
        regularizer.to(device)
    with torch.no_grad():
        for weight in autoencoder.parameters():  # away from the start, whose distance would be rounding alone
            weight.mul_(1.1)
    images = normal(4, 3, 32, 32).clamp(-1, 1).to(device)
    values = {}
    for step in range(3):
        keys = torch.arange(4, device=device) + 4 * step
        action = regularizer.draw(StepKey(3, step, (16, 16), keys, stream=""))
        result, terms = acted_out(action, autoencoder, images)
        found = {"images": result.images, "target": result.target} | {key: term.value for key, term in terms.items()}
        values |= {f"{key} {step}": value for key, value in found.items()}
    return values


def measured_latents(config: dict, device: torch.device) -> Values:
    autoencoder = load_autoencoder(config).freeze().to(device)
    metrics = LatentMetrics(4, 4)
    metrics.update(autoencoder, normal(4, 3, 32, 32).clamp(-1, 1).to(device))
    return numbers(metrics.compute())


def numbers(found: dict) -> Values:
    """Without names of rules and networks."""
    return {name: torch.tensor(float(value)) for name, value in found.items() if not isinstance(value, str)}


def measured_pairs(device: torch.device) -> Values:
    pairs = ReconstructionMetrics(perceptual="efficientnet_lite0")
    pairs.update(normal(4, 3, 32, 32).clamp(-1, 1).to(device), normal(4, 3, 32, 32, seed=1).clamp(-1, 1).to(device))
    return numbers(pairs.compute())


def measured_images(device: torch.device) -> Values:
    images, others = uint8(2, 3, 32, 32).to(device), uint8(2, 3, 32, 32, seed=1).to(device)
    autoencoder = load_autoencoder(TINY_AUTOENCODER).freeze().to(device)
    errors = equivariance_errors(autoencoder, normal(2, 3, 32, 32).clamp(-1, 1).to(device))
    flat = {f"{space} {name}": value for space, named in errors.items() for name, value in named.items()}
    features = images_to_feature_set([uint8(4, 3, 32, 32)], create_extractor(device=device)).features
    return flat | {"psnr": images_to_psnr(images, others), "ssim": images_to_ssim(images, others), "features": features}


def measured_features(device: torch.device) -> Values:
    real, made = normal(40, 6).to(device), normal(40, 6, seed=1).to(device) + 0.3
    precision, recall = precision_recall(real, made)
    values = {
        "frechet": frechet_distance(real, made),
        "kernel": kernel_distance(real, made, num_subsets=2),
        "precision": precision,
        "recall": recall,
        "score": inception_score(real),
        "cknna": cknna(real, made, 3),
        "dimension": intrinsic_dimension(real),
        "rank": effective_rank(normal(8, 4, 2, 2).to(device)),
        "high": high_frequency_share(normal(8, 4, 4, 4).to(device)),
    }
    flat = {name: torch.as_tensor(value, dtype=torch.float64).flatten() for name, value in values.items()}
    statistics = {name: torch.as_tensor(value) for name, value in features_to_statistics(real).items()}
    return (
        flat
        | statistics
        | {
            f"spectrum {index}": torch.as_tensor(values)
            for index, values in enumerate(radial_power_spectrum(normal(8, 4, 4, 4).to(device)))
        }
    )


def normalized(device: torch.device) -> Values:
    statistics = LatentStatistics()
    statistics.update(normal(8, 4, 3, 3).to(device), normal(8, 4, 3, 3, seed=1).exp().to(device))
    normalization, x = statistics.normalization(), normal(2, 4, 3, 3, seed=2).to(device)
    return {"to": normalization.normalize(x), "from": normalization.denormalize(x)}


LEARNED = {f"{a}, {b}": partial(learned, a, b) for a, b in PAIRS}
SAMPLED = {f"{sampler}, {how}": partial(sampled, sampler, how) for sampler, how in [*CHOICES, ("adaptive", "plain")]}
LOSSES = {
    **{f"{p}, {q}": partial(reconstructed, p, q) for p, q in (("l1", "none"), ("mse", "efficientnet_lite0"))},
    **{f"critic {k}, {n}": partial(criticized, k, n) for k, n in (("hinge", "batch"), ("vanilla", "group"))},
    "KL autoencoder": partial(coded, TINY_AUTOENCODER),
    "VQ autoencoder": partial(coded, VQ),
    **{name: partial(regularized, name) for name in METHODS},
}
MEASURED = {
    "latents of a KL autoencoder": partial(measured_latents, TINY_AUTOENCODER),
    "latents of a VQ autoencoder": partial(measured_latents, VQ),
    "pairs": measured_pairs,
    "images": measured_images,
    "features": measured_features,
    "normalization": normalized,
}
CASES: dict[str, Case] = LEARNED | SAMPLED | LOSSES | MEASURED | {"keyed draws": drawn}
