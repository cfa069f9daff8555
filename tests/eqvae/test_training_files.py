"""What a fit takes from a public training checkpoint: the critic, Adam's moments, the learning rate."""

import re
from pathlib import Path
from zlib import crc32

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.ldm import ldm_name
from eqvae.bases import load_config
from eqvae.losses import AdversarialLoss, PatchCritic
from eqvae.module import AutoencoderModule
from eqvae.regularizers import TransformDistribution
from eqvae.training.cli import TrainCLI
from tests.eqvae.test_objective import PIXELS, TINY_VQ, fit
from tests.fixtures import load_fixture, model_weights
from tests.tiny import TINY_AUTOENCODER, options

GROUPS = {"norm_num_groups": 4}
REGISTERED = (
    *("encoder", "decoder", "loss", "quantize", "quant_conv", "post_quant_conv"),
    *("conv_in", "down", "mid", "up", "norm_out", "conv_out", "block_1", "attn_1", "block_2", "block", "attn"),
    *("norm1", "conv1", "norm2", "conv2", "nin_shortcut", "norm", "q", "k", "v", "proj_out"),
    *("downsample", "upsample", "conv", "embedding", "weight", "bias"),
)
"""Parts of LDM's modules in the order in which its constructors register them, from the outside in."""


def public_order(key: str) -> list[int]:
    return [int(part) if part.isdigit() else REGISTERED.index(part) for part in key.split(".")]


def gradient(key: str, like: torch.Tensor) -> torch.Tensor:
    """One that tells by its values whose it is."""
    generator = torch.Generator().manual_seed(crc32(key.encode()))
    return torch.randn(like.shape, generator=generator)


def trained_adam(weights: dict[str, torch.Tensor], rate: float) -> torch.optim.Adam:
    parameters = {key: nn.Parameter(value.clone()) for key, value in weights.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=rate, betas=(0.5, 0.9))
    for _ in range(3):
        for key, parameter in parameters.items():
            parameter.grad = gradient(key, parameter)
        optimizer.step()
    return optimizer


def write_checkpoint(path: Path, weights: dict[str, torch.Tensor], rate: float = 2e-5, **changes) -> Path:
    """As a public trainer leaves it: weights in the order of registration, the loss between them, two Adams."""
    critic = PatchCritic(1, 8)
    critic(torch.randn(4, 3, 32, 32))  # BatchNorm's statistics are no longer those of the start
    loss = {f"loss.discriminator.{key}": value for key, value in critic.state_dict().items()}
    loss |= {"loss.logvar": torch.zeros(()), "loss.perceptual_loss.lin0.model.1.weight": torch.ones(1)}
    weights = {key: weights[key] for key in sorted(weights, key=public_order)}
    first = {key: value for key, value in weights.items() if public_order(key)[0] < REGISTERED.index("loss")}
    of_critic = {key: value.detach() for key, value in critic.named_parameters()}
    content = {
        "global_step": 3,
        "state_dict": first | loss | weights,
        "optimizer_states": [trained_adam(weights, rate).state_dict(), trained_adam(of_critic, rate).state_dict()],
    }
    torch.save(content | changes, path)
    return path


def ldm_weights(config: dict, folder: Path) -> dict[str, torch.Tensor]:
    load_autoencoder(config).save_ldm(folder / "weights.safetensors")
    return load_file(folder / "weights.safetensors")


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "model.ckpt", ldm_weights(TINY_AUTOENCODER, tmp_path))


def module_of(checkpoint: Path | None, critic="autoencoder", optimizer="autoencoder", config=GROUPS, **options):
    source = {"source": str(checkpoint), "config": config} if checkpoint else TINY_AUTOENCODER
    adversarial = AdversarialLoss(num_layers=1, base_channels=8, critic_weights=critic)
    settings = {"transforms": None, "reconstruction": PIXELS, "adversarial": adversarial, "optimizer_state": optimizer}
    return AutoencoderModule(source, **settings | options)


def assert_moments(optimizer: torch.optim.Adam, network: nn.Module, spell) -> None:
    """Every trained parameter has the moments of the gradients that were its own."""
    trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
    assert len(optimizer.state) == len(trained)
    for name, parameter in trained.items():
        state, expected = optimizer.state[parameter], gradient(spell(name), parameter).view_as(parameter)
        assert state["step"] == 3
        # Three equal gradients: moments (1 - beta^3) g and (1 - beta^3) g^2, in three roundings of float32 each.
        torch.testing.assert_close(state["exp_avg"], (1 - 0.5**3) * expected, rtol=1e-6, atol=0, msg=name)
        torch.testing.assert_close(state["exp_avg_sq"], (1 - 0.9**3) * expected.square(), rtol=1e-6, atol=0, msg=name)


@pytest.mark.parametrize("kind", ["kl", "vq", "fixture"])
def test_moments_reach_the_parameters_that_they_are_of(kind, tmp_path):
    """Attention weights, which are convolutions in the file and matrices here, and the codebook included."""
    config = GROUPS
    if kind == "fixture":
        weights, config = model_weights(load_fixture("ldm_autoencoder")[0]), {}
    else:
        weights = ldm_weights(TINY_AUTOENCODER if kind == "kl" else TINY_VQ, tmp_path)
    module = module_of(write_checkpoint(tmp_path / "model.ckpt", weights), config=config)
    optimizers = module.configure_optimizers()
    model = module.autoencoder.model
    assert_moments(optimizers[0], model, lambda name: ldm_name(name, len(model.config.block_out_channels)))
    assert_moments(optimizers[1], module.critic, str)
    assert optimizers[0].param_groups[0]["betas"] == (0.5, 0.9)


def test_moments_of_the_trained_part_alone(checkpoint):
    module = module_of(checkpoint, trainable="decoder")
    (optimizer, _), model = module.configure_optimizers(), module.autoencoder.model
    assert 0 < len(optimizer.state) < len(list(model.parameters()))
    assert_moments(optimizer, model, lambda name: ldm_name(name, 2))


def test_the_critic_comes_with_its_statistics(checkpoint):
    written = torch.load(checkpoint, weights_only=True)["state_dict"]
    state = module_of(checkpoint, optimizer=None).critic.state_dict()
    assert any(key.endswith("running_var") for key in state)
    for key, value in state.items():
        assert torch.equal(value, written[f"loss.discriminator.{key}"]), key
    fresh = module_of(checkpoint, critic=None, optimizer=None).critic.state_dict()
    assert not torch.equal(fresh["main.0.weight"], state["main.0.weight"])


def test_a_file_of_its_own_serves_an_autoencoder_from_elsewhere(checkpoint):
    module = module_of(None, critic=str(checkpoint), optimizer=str(checkpoint))
    assert len(module.configure_optimizers()[0].state) == len(list(module.autoencoder.parameters()))
    assert torch.equal(
        module.critic.state_dict()["main.0.bias"], module_of(checkpoint).critic.state_dict()["main.0.bias"]
    )


def test_a_fresh_critic_has_a_fresh_optimizer(checkpoint):
    optimizers = module_of(checkpoint, critic=None).configure_optimizers()
    assert optimizers[0].state
    assert not optimizers[1].state
    assert not module_of(checkpoint, optimizer=None).configure_optimizers()[0].state


def learning_rate(module: AutoencoderModule, caplog) -> tuple[float, str]:
    with caplog.at_level("INFO"):
        fit(module, steps=1)
    rates = {group["lr"] for optimizer in module.trainer.optimizers for group in optimizer.param_groups}
    assert len(rates) == 1
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("learning rate")]
    assert len(lines) == 1
    return rates.pop(), lines[0]


def test_learning_rate_absolute_scaled_or_restored(checkpoint, caplog):
    settings = {"learning_rate": 4.5e-6, "accumulate_batches": 3}
    assert learning_rate(module_of(checkpoint, **settings), caplog) == (4.5e-6, "learning rate 4.5e-06")
    caplog.clear()
    rate, line = learning_rate(module_of(checkpoint, **settings, scale_learning_rate=True), caplog)
    assert rate == pytest.approx(4.5e-6 * 1 * 4 * 3, rel=1e-15)
    assert line == "learning rate 5.4e-05 = 4.5e-06 x 1 devices x 4 images x 3 batches"
    caplog.clear()
    assert learning_rate(module_of(checkpoint, learning_rate="restored"), caplog) == (2e-5, "learning rate 2e-05")
    assert any(re.search(r"optimizers restored from .*model\.ckpt, .* 2e-05", text) for text in caplog.messages)


def test_a_restored_run_goes_on_with_the_moments(checkpoint):
    module = fit(module_of(checkpoint, transforms=TransformDistribution(), learning_rate="restored"), steps=2)
    optimizer = module.trainer.optimizers[0]
    assert {float(state["step"]) for state in optimizer.state.values()} == {5.0}


RECIPES = ("eq-vae-paper", "eq-vae-released", "eq-vae-ema", "sd-vae-ordinary")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_published_recipes_go_on_from_kl_f8(recipe):
    """Not from sd-vae-ft-ema, which is a control of its own, and not with a critic of random weights at step 0."""
    model = load_config(f"configs/eqvae/{recipe}.yaml").model.init_args
    start = "weights/kl-f8.ckpt"
    assert model["autoencoder"] == {"source": start, "config": {"family": "sd"}}
    assert (model["adversarial"]["critic_weights"], model["optimizer_state"]) == (start, start)
    assert (model["learning_rate"], model["scale_learning_rate"]) == ("restored", False)
    control = load_config("configs/eqvae/control-ft-ema.yaml")
    assert control["model"]["init_args"]["autoencoder"] == "stabilityai/sd-vae-ft-ema"
    assert control["trainer"]["max_steps"] == 0


def test_a_published_recipe_trains_from_such_a_checkpoint(checkpoint, tmp_path):
    small = {
        "trainer.default_root_dir": tmp_path,
        "trainer.max_steps": 1,
        "trainer.limit_val_batches": 0,
        "trainer.accelerator": "cpu",
        "model.init_args.autoencoder": f"{{source: {checkpoint}, config: {{norm_num_groups: 4}}}}",
        "model.init_args.adversarial.critic_weights": checkpoint,
        "model.init_args.adversarial.num_layers": 1,
        "model.init_args.adversarial.base_channels": 8,
        "model.init_args.optimizer_state": checkpoint,
        "model.init_args.reconstruction.perceptual": "none",
        "model.init_args.num_normalization_images": 4,
        "data.init_args.train": "{class_path: eqvae.data.ShapesSource, init_args: {num_images: 40, image_size: 32}}",
        "data.init_args.validation": "null",
        "data.init_args.num_workers": 0,
        "data.init_args.crop": "center",
    }
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    args = ["--config", "configs/eqvae/eq-vae-released.yaml", *options(small)]
    cli = TrainCLI(args, run=False, trainer_defaults=quiet)
    cli.trainer.fit(cli.model, cli.datamodule)
    assert cli.model.learning_rate == 2e-5
    assert {float(state["step"]) for state in cli.trainer.optimizers[1].state.values()} == {4.0}
    assert load_autoencoder(tmp_path / "autoencoder").normalization.num_images == 4


def without(path: Path, **changes) -> Path:
    torch.save(torch.load(path, weights_only=True) | changes, path)
    return path


def test_options_that_contradict_each_other_or_name_nothing(checkpoint, tmp_path):
    other = write_checkpoint(tmp_path / "other.ckpt", ldm_weights(TINY_AUTOENCODER, tmp_path))
    cases = [
        ({"learning_rate": "restored", "optimizer": None}, "learning_rate restored is that of optimizer_state"),
        ({"learning_rate": "restored", "scale_learning_rate": True}, "and do not scale it"),
        ({"critic": str(other)}, "name two files"),
        ({"critic": "none.ckpt"}, r"adversarial\.critic_weights: no file at none\.ckpt"),
        ({"optimizer": "none.ckpt"}, r"optimizer_state: no file at none\.ckpt"),
    ]
    for settings, pattern in cases:
        with pytest.raises(ValueError, match=pattern):
            module_of(checkpoint, **settings)
    with pytest.raises(ValueError, match="critic_weights autoencoder: the autoencoder comes from no single file"):
        module_of(None)


def damage_critic(state: dict) -> dict:
    return {key: value for key, value in state.items() if "discriminator" not in key}


def with_actnorm(state: dict) -> dict:
    return state | {"loss.discriminator.main.3.loc": torch.zeros(1, 8, 1, 1)}


def with_another_layer(state: dict) -> dict:
    other = PatchCritic(2, 4).state_dict()
    return damage_critic(state) | {f"loss.discriminator.{key}": value for key, value in other.items()}


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (damage_critic, "holds no critic"),
        (with_actnorm, "holds a critic with ActNorm"),
        (with_another_layer, "a critic of num_layers 2, base_channels 4; adversarial has 1, 8"),
    ],
)
def test_critics_that_do_not_fit_are_refused(checkpoint, change, pattern):
    without(checkpoint, state_dict=change(torch.load(checkpoint, weights_only=True)["state_dict"]))
    with pytest.raises(ValueError, match=pattern) as error:
        module_of(checkpoint, optimizer=None)
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)


def test_optimizers_that_do_not_fit_are_refused(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    first, second = content["optimizer_states"]
    shuffled = {key: content["state_dict"][key] for key in sorted(content["state_dict"])}
    fewer = first | {"param_groups": [first["param_groups"][0] | {"params": first["param_groups"][0]["params"][:-1]}]}
    slower = second | {"param_groups": [second["param_groups"][0] | {"lr": 1.0}]}
    cases = [
        ({"optimizer_states": []}, "holds no optimizer states"),
        ({"optimizer_states": [first]}, "holds no whole Adam of the critic"),
        (
            {"optimizer_states": [{"state": {}, "param_groups": first["param_groups"]}, second]},
            "no whole Adam of the auto",
        ),
        ({"optimizer_states": [second, first]}, "the autoencoder's optimizer has 7 parameters"),
        ({"optimizer_states": [fewer, second]}, r"optimizer has \d+ parameters, the autoencoder \d+"),
        ({"optimizer_states": [first, slower]}, r"have the learning rates \[2e-05, 1.0\]"),
        ({"state_dict": shuffled}, "the autoencoder's optimizer does not fit"),  # the order is lost
    ]
    for changes, pattern in cases:
        path = tmp_path / "changed.ckpt"
        torch.save(content | changes, path)
        with pytest.raises(ValueError, match=pattern) as error:
            module_of(path).configure_optimizers()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_file_of_weights_alone_has_no_optimizer(checkpoint, tmp_path):
    save_file(torch.load(checkpoint, weights_only=True)["state_dict"], tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="holds no optimizer states: give a whole training checkpoint"):
        module_of(tmp_path / "weights.safetensors").configure_optimizers()
