"""Backbones, objectives and samplers on a CUDA device: everything they compute lies there, and nobody waits for it."""

from functools import partial
from itertools import cycle

import pytest
import torch
from torch import Tensor

from dit.backbones import DiT, HaltonMaskGIT, MaskGIT, SiT
from dit.checkpoints import Generator
from dit.generation import SamplingSettings, generate_latents, make_images
from dit.objectives import Diffusion, Flow, MaskedTokens
from dit.samplers import SAMPLERS
from dit.samplers.own_settings import DIFFUSIONS, LAST_STEPS
from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.latents import LatentSpec, TokenSpec
from eqvae.randomness import fold_keys, keyed_integers, keyed_normal, keyed_uniform
from tests.dit.tiny import SIZES as TINY
from tests.eqvae.test_objective import TINY_VQ
from tests.fake_cuda import CUDA, fake_cuda
from tests.tiny import TINY_AUTOENCODER as TINY_KL

CLASSES = 5
SIZES = TINY | {"depth": 1}
TOKENS = {"input_size": 4, "num_codes": 16, "hidden_size": 16, "depth": 1, "num_heads": 2, "num_classes": CLASSES}
IMPROVED = {"rms_norm": True, "swiglu": True, "rotary": True, "qk_norm": True, "learn_sigma": False}
BACKBONES = {
    "DiT": lambda: DiT(**SIZES, num_classes=CLASSES),
    "DiT without variance": lambda: DiT(**SIZES, num_classes=CLASSES, learn_sigma=False),
    "SiT": lambda: SiT(**SIZES, num_classes=CLASSES),
    "LightningDiT": lambda: SiT(**SIZES, num_classes=CLASSES, **IMPROVED),
    "checkpointing": lambda: SiT(**SIZES, num_classes=CLASSES, gradient_checkpointing=True),
    "MaskGIT v1": lambda: MaskGIT(**TOKENS),
    "MaskGIT v2": lambda: HaltonMaskGIT(**TOKENS),
}
FLOWS = {
    f"{path} {prediction}": partial(Flow, path, prediction, weighting)
    for path in ("linear", "gvp", "vp")
    for prediction, weighting in (("velocity", None), ("noise", "velocity"), ("score", "likelihood"))
}
OBJECTIVES = {
    "DiT": {"diffusion": Diffusion},
    "DiT without variance": {"diffusion": lambda: Diffusion(learn_sigma=False), "linear velocity": Flow},
    "SiT": FLOWS | {"diffusion": lambda: Diffusion(learn_sigma=False)},
    "LightningDiT": {"logit-normal": lambda: Flow(timesteps="logit_normal", cosine_weight=1.0)},
    "checkpointing": {"linear velocity": Flow},
    "MaskGIT v1": {"masked tokens": lambda: MaskedTokens(label_smoothing=0.1)},
    "MaskGIT v2": {"masked tokens": MaskedTokens},
}
PAIRS = [(backbone, objective) for backbone, fitting in OBJECTIVES.items() for objective in fitting]


@pytest.fixture
def device():
    with fake_cuda() as device:
        yield device


def data(backbone, batch: int = 3) -> Tensor:
    if isinstance(backbone, DiT):
        return torch.randn(batch, 4, 4, 4).to(CUDA, non_blocking=True)
    return torch.randint(16, (batch, 4, 4)).to(CUDA, non_blocking=True)


@pytest.mark.parametrize(
    ("backbone", "objective", "precision"),
    [(*pair, "float32") for pair in PAIRS]
    + [(backbone, next(iter(fitting)), "bfloat16") for backbone, fitting in OBJECTIVES.items()],
)
def test_losses_and_gradients_lie_on_the_device(device, backbone, objective, precision):
    backbone, objective = BACKBONES[backbone]().to(CUDA).train(), OBJECTIVES[backbone][objective]()
    x, keys = data(backbone), torch.arange(3, device=CUDA)
    terms, waits = {}, []
    for _ in range(2):  # tables are copied at their first use
        device.waits.clear()
        times = objective.sample_times(keyed_uniform(keys, seed=0, stream="time"))
        noise = keyed_normal(keys, tuple(x.shape[1:]), seed=0, stream="noise")
        dropped = keyed_uniform(keys, seed=0, stream="drop") < 0.1
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            terms = objective.loss_terms(backbone, x, noise, times, y=keys % CLASSES, drop_labels=dropped)
        terms["loss"].mean().backward()
        waits = list(device.waits)
    assert not waits
    assert {(value.device, value.dtype, value.shape) for value in terms.values()} == {(CUDA, torch.float32, (3,))}
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert {parameter.device for parameter in trained} == {CUDA}
    assert any(parameter.grad is not None for parameter in trained)


@pytest.mark.parametrize("draw", [keyed_normal, keyed_uniform])
def test_keyed_draws_copy_nothing(device, draw):
    keys = fold_keys(3, torch.arange(4, device=CUDA), 7)
    assert draw(keys, (2, 3), seed=0, stream="test").device == CUDA
    assert keyed_integers(keys, 9, seed=0, stream="test").device == CUDA
    assert not device.waits


class Watched:
    """A backbone that notes where the processor waited between its first evaluation and each later one."""

    def __init__(self, backbone, device):
        self.backbone, self.device, self.num_evaluations, self.waits = backbone, device, 0, []

    def __call__(self, *args):
        self.waits += self.device.waits if self.num_evaluations else []
        self.device.waits.clear()
        self.num_evaluations += 1
        output = self.backbone(*args)
        self.waits += self.device.waits
        self.device.waits.clear()
        return output


def generator(objective) -> Generator:
    """Random weights on the device."""
    if isinstance(objective, MaskedTokens):
        spec = TokenSpec((4, 4), 2, None, Normalization(), 16)
        return Generator(HaltonMaskGIT(**TOKENS).to(CUDA).eval(), objective, spec, None, 0)
    family = DiT if isinstance(objective, Diffusion) else SiT
    spec = LatentSpec((4, 4, 4), 2, None, Normalization((0.1,) * 4, (2.0,) * 4))
    return Generator(family(**SIZES, num_classes=CLASSES).to(CUDA).eval(), objective, spec, None, 0)


def sampled(device, objective, **settings) -> tuple[Tensor, Watched]:
    made = generator(objective)
    watched = Watched(made.backbone, device)
    settings = SamplingSettings(**{"num_inference_steps": 3} | settings)
    return generate_latents(made, torch.arange(2), torch.zeros(2).long(), settings, counter=watched), watched


GUIDANCE = {
    "plain": {},
    "guided": {"guidance_scale": 2.0, "guidance_channels": "all"},
    "interval": {"guidance_scale": 2.0, "guidance_interval": (0.2, 0.7)},
    "growing": {"guidance_scale": 2.0, "guidance_schedule": "linear"},
}
CHOICES = [
    (sampler, guidance)
    for sampler, about in SAMPLERS.items()
    for guidance in GUIDANCE
    if sampler != "adaptive" and not (guidance == "growing" and about.serves is Diffusion)
]


# All samplers guide by the same code: each is tried without, and in one of the ways in turn.
TRIED = [(sampler, "plain") for sampler in dict(CHOICES)]
TRIED += [
    (sampler, wanted if (sampler, wanted) in CHOICES else "guided")
    for sampler, wanted in zip(dict(CHOICES), cycle([guidance for guidance in GUIDANCE if guidance != "plain"]))
]


@pytest.mark.parametrize(("sampler", "guidance"), TRIED)
def test_sampling_waits_for_no_evaluation(device, sampler, guidance):
    objective = SAMPLERS[sampler].serves()
    made, watched = sampled(device, objective, sampler=sampler, **GUIDANCE[guidance])
    assert made.device == CUDA
    assert made.shape == ((2, 4, 4) if isinstance(objective, MaskedTokens) else (2, 4, 4, 4))
    assert watched.num_evaluations >= 2
    assert not watched.waits


@pytest.mark.parametrize(("diffusion", "last_step"), zip(DIFFUSIONS, cycle(LAST_STEPS)))
def test_every_form_of_noise_is_drawn_on_the_device(device, diffusion, last_step):
    options = {"diffusion": diffusion, "last_step": last_step}
    made, watched = sampled(device, Flow("gvp"), sampler="euler_maruyama", options=options)
    assert made.device == CUDA
    assert not watched.waits


@pytest.mark.parametrize("options", [{"top_k": 4, "warmup_steps": 1}, {"counts": "cumulative"}, {"halton_shift": True}])
def test_options_of_token_samplers_do_not_wait_either(device, options):
    for sampler in ("confidence", "halton"):
        made, watched = sampled(device, MaskedTokens(), sampler=sampler, options=options)
        assert made.device == CUDA
        assert not watched.waits


def test_slopes_of_adaptive_steps_do_not_wait(device, monkeypatch):
    """The solver itself does, by its nature: whether a step is accepted, and whether it was the last, it reads off."""

    def two_slopes(slope, x, times, **options):
        assert times.device == CUDA
        return torch.stack([slope(time, x) for time in times])

    monkeypatch.setattr("dit.samplers.ode.odeint", two_slopes)
    made, watched = sampled(device, Flow(), sampler="adaptive")
    assert made.device == CUDA
    assert watched.num_evaluations == 2
    assert not watched.waits


@pytest.mark.parametrize("objective", [Flow, Diffusion, MaskedTokens])
def test_images_are_made_on_the_device_and_leave_it_once(device, objective):
    """Once with their pixels, and once with whether they are finite."""
    made = generator(objective())
    autoencoder = load_autoencoder(TINY_VQ | {"_class_name": "VQModel"} if objective is MaskedTokens else TINY_KL)
    settings = SamplingSettings(num_inference_steps=2)
    for _ in range(2):  # the normalization is copied at its first use
        device.waits.clear()
        images, _ = make_images(made, autoencoder.freeze(), torch.arange(2), torch.zeros(2).long(), settings)
    assert images.device.type == "cpu"
    assert images.dtype == torch.uint8
    assert [wait.split(" at ")[0] for wait in device.waits].count("a copy from the device") == 2
