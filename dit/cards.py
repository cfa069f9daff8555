"""What the model card of a generator says: its latent space, how it was trained, how its pipeline samples."""

from collections.abc import Mapping
from typing import Any

from dit.backbones.interface import config_of
from dit.checkpoints import Generator
from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.cards import describe_start, hub_repository, public_origin
from eqvae.autoencoders.places import public_source
from eqvae.cards import PLACEHOLDER, CardDetails, last_name, render_card
from eqvae.training.settings import NAME

TASK = ("image-generation", "Class-conditional image generation")
SIZES = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "num_classes")


def render_generator_card(
    generator: Generator,
    autoencoder: Autoencoder,
    num_inference_steps: int,
    exact_steps: int | None,
    details: CardDetails,
) -> str:
    """The card of a `DiTPipeline` folder.

    Args:
        generator: whose pipeline it is.
        autoencoder: that decodes its latents.
        num_inference_steps: that the example asks for.
        exact_steps: for which, and its divisors, the time embedding is exact; None is any number.
        details: what the two do not know.
    """
    backbone, config = type(generator.backbone).__name__, (generator.settings or {}).get(NAME)
    steps = "" if generator.num_steps is None else f", trained for {generator.num_steps:,} steps"
    classes = f"{generator.num_classes} class{'' if generator.num_classes == 1 else 'es'}"
    space = _source(generator, autoencoder)
    return render_card(
        last_name(details.repository or config or backbone),
        f"A class-conditional image generator ({backbone}{steps}) for {classes}.",
        _usage(details.repository or PLACEHOLDER, num_inference_steps, generator.num_classes),
        {
            "Latent space": _latent_space(space, autoencoder, details),
            "Training": _training(generator),
            "Sampling": _sampling(exact_steps),
        },
        details,
        TASK,
        base_model=details.base_model or (hub_repository(space) if space else None),
        tags=["diffusers", "class-conditional-image-generation", backbone.lower(), "eqvae"],
    )


def _source(generator: Generator, autoencoder: Autoencoder) -> dict[str, Any] | None:
    """Where the autoencoder comes from, as others may read it."""
    source = generator.autoencoder_source or autoencoder.source
    return None if source is None else public_source(source)


def _latent_space(space: Mapping[str, Any] | None, autoencoder: Autoencoder, details: CardDetails) -> dict[str, object]:
    origin = public_origin(autoencoder.origin or {})
    recipe = origin.get("recipe") or {}
    return {
        "autoencoder": f"`{details.base_model}`" if details.base_model else describe_start(space),
        "trained from": describe_start(origin.get("start")),
        "for steps": origin.get("num_steps"),
        "config": recipe.get("config"),
        "regularizers": recipe.get("regularizers") or None,
        "in this repository": "`vae`, with the normalization of the latents folded in",
    }


def _training(generator: Generator) -> dict[str, object]:
    """Recipe of the run, as far as its checkpoint tells."""
    settings = generator.settings or {}
    model, data = (settings.get(part, {}).get("init_args", {}) for part in ("model", "data"))
    sizes = config_of(generator.backbone)
    return {
        "config": settings.get(NAME),
        "backbone": ", ".join(f"{name} {sizes[name]}" for name in SIZES),
        "objective": type(generator.objective).__name__,
        "steps": generator.num_steps,
        "images per step": data.get("global_batch_size"),
        "learning rate": model.get("learning_rate"),
        "seed": model.get("seed"),
    }


def _sampling(exact_steps: int | None) -> dict[str, object]:
    steps = "any number" if exact_steps is None else f"{exact_steps} or a divisor of it"
    return {
        "scheduler": "DDIM, timesteps spaced as `leading`",
        "num_inference_steps": f"{steps}, for which the time embedding is exact",
        "guidance": "on all channels; the null label is 1000",
    }


def _usage(repository: str, num_inference_steps: int, num_classes: int) -> str:
    """With labels that the generator knows: others have rows of zeros."""
    labels = list(range(min(3, num_classes)))
    return (
        "from diffusers import DiTPipeline\n\n"
        f'pipeline = DiTPipeline.from_pretrained("{repository}")\n'
        f"images = pipeline({labels}, num_inference_steps={num_inference_steps}, guidance_scale=2.0).images"
    )
