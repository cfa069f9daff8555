"""Trained generators for others: a folder that `diffusers.DiTPipeline.from_pretrained` runs.

The pipeline's transformer is DiT's but for the frequencies of its time embedding, see `dit.pipeline_time`.
`dit.public.diffusers_layout` has the names of its weights, and reads such folders back.
"""

import copy
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from dit.backbones import DiT
from dit.cards import render_generator_card
from dit.checkpoints import Generator
from dit.generation import require_autoencoder
from dit.objectives import Diffusion
from dit.pipeline_time import pipeline_time
from dit.public.diffusers_layout import EXACT, EXACT_STEPS, LABELS, MLP_RATIO, to_diffusers_weights
from eqvae.autoencoders import Autoencoder, Normalization
from eqvae.autoencoders.exporting import forget_places
from eqvae.cards import CARD, NO_DETAILS, CardDetails
from eqvae.files import TEMPORARY_PREFIX, write_atomically
from eqvae.hashes import write_json

NULL_LABEL = 1000  # fixed in DiTPipeline
TIME_LAYER = "t_embedder.mlp.0"
OPTIONS = ("rms_norm", "swiglu", "rotary", "qk_norm")  # of the backbone, which diffusers' has not


def export_diffusers(
    generator: Generator,
    autoencoder: Autoencoder,
    folder: str | Path,
    num_inference_steps: int = 50,
    details: CardDetails = NO_DETAILS,
) -> None:
    """Write a trained DiT with its autoencoder and a DDIM scheduler for `DiTPipeline.from_pretrained(folder)`.

    With `num_inference_steps` and the same noise the pipeline gives what `ddim` with "leading" timesteps gives here.
    With a divisor of it the pipeline knows its timesteps exactly, too: every second of the others for half as many, and
    so on. Its guidance acts on all channels. The null label of the pipeline is always 1000: rows of
    labels that the generator does not know are zero.

    Args:
        generator: a `DiT` trained with `Diffusion`.
        autoencoder: its own; a normalization per channel is folded into its 1x1 convolutions.
        folder: must not exist yet; written whole or not at all.
        num_inference_steps: that the pipeline will be called with; up to about 100 of 1000 timesteps are possible, and
            any number for a model of `frequency_divisor` 127.
        details: what its model card says that generator and autoencoder do not know.

    Raises:
        ValueError: if the pipeline cannot run such a model, the folder exists, or there are too many steps.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists: give a new folder for the pipeline")
    backbone, objective = _require_exportable(generator)
    generator = dataclasses.replace(generator, spec=generator.spec.completed(autoencoder))
    require_autoencoder(generator, autoencoder)
    source = copy.deepcopy(backbone).cpu().float()
    time = pipeline_time(source, objective, num_inference_steps)
    pipeline = DiTPipeline(
        transformer=_to_transformer(source, time.first_layer),
        vae=_to_autoencoder(autoencoder, generator.spec.normalization),
        scheduler=time.scheduler,  # pyright: ignore[reportArgumentType]  (diffusers asks for an enumeration)
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent)
    try:
        pipeline.save_pretrained(temporary)
        forget_places(Path(temporary))
        card = render_generator_card(generator, autoencoder, num_inference_steps, time.exact_steps, details)
        write_atomically(Path(temporary) / CARD, card.encode())
        if time.exact_steps is not None:
            write_json(Path(temporary) / EXACT, {EXACT_STEPS: time.exact_steps})
        os.chmod(temporary, 0o755)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _require_exportable(generator: Generator) -> tuple[DiT, Diffusion]:
    """Backbone and objective, if diffusers knows their like."""
    config = getattr(generator.backbone, "config", {})
    for refused, reason in (
        (type(generator.backbone) is not DiT, f"a {type(generator.backbone).__name__}, DiTPipeline runs DiT alone"),
        (not isinstance(generator.objective, Diffusion), "a flow model, DiTPipeline runs diffusion models alone"),
        (config.get("num_classes", 0) > NULL_LABEL, f"for more than the {NULL_LABEL} classes of DiTPipeline"),
        (config.get("class_dropout_prob") == 0, "without a null label, which DiTPipeline needs"),
        (any(map(config.get, OPTIONS)), f"a DiT with {' or '.join(OPTIONS)}, which diffusers lacks"),
        (config.get("mlp_ratio") != MLP_RATIO, f"of another mlp_ratio than {MLP_RATIO}, which diffusers has"),
    ):
        if refused:
            raise ValueError(f"this generator cannot be exported: it is {reason}")
    assert isinstance(generator.backbone, DiT)
    assert isinstance(generator.objective, Diffusion)
    return generator.backbone, generator.objective


def _to_transformer(source: DiT, time_layer: Tensor) -> DiTTransformer2DModel:
    """The same network in diffusers' classes, with these weights [D, 256] behind its sinusoids."""
    config = source.config
    transformer = DiTTransformer2DModel(
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["hidden_size"] // config["num_heads"],
        in_channels=config["in_channels"],
        out_channels=source.out_channels,
        num_layers=config["depth"],
        sample_size=config["input_size"],
        patch_size=config["patch_size"],
        num_embeds_ada_norm=NULL_LABEL,
        norm_eps=config["mlp_norm_eps"],
    )
    state = source.state_dict() | {f"{TIME_LAYER}.weight": time_layer}
    state[LABELS] = _padded(state[LABELS], config["num_classes"])
    transformer.load_state_dict(to_diffusers_weights(state, config["depth"]))
    _require_position_table(transformer, source)
    return transformer.eval()


def _padded(table: Tensor, num_classes: int) -> Tensor:
    """The rows of labels [num_classes + 1, D] with the null row where the pipeline looks for it."""
    rows = torch.zeros(NULL_LABEL + 1, table.shape[1])
    rows[:num_classes], rows[NULL_LABEL] = table[:num_classes], table[num_classes]
    return rows


def _require_position_table(transformer: DiTTransformer2DModel, source: DiT) -> None:
    """Diffusers computes it: it must be the trained model's, whatever that was loaded from."""
    table = transformer.get_buffer("pos_embed.pos_embed")
    if not torch.allclose(table, source.pos_embed, atol=1e-5):
        raise ValueError("this generator cannot be exported: its position table is not the fixed one of DiT")


def _to_autoencoder(autoencoder: Autoencoder, normalization: Normalization) -> AutoencoderKL:
    try:
        return autoencoder.to_diffusers(normalization)
    except ValueError as error:
        raise ValueError(f"this generator cannot be exported: {error}") from None
