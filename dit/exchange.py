"""Trained generators for others: a folder that `diffusers.DiTPipeline.from_pretrained` runs.

The pipeline's transformer is DiT's but for one constant: the sinusoids of its time embedding have other frequencies
(exponents i / 127 in place of i / 128). The first layer of the time embedding is therefore solved for anew, so that it
gives what the trained one gives at the timesteps that are sampled. That is exact for the few timesteps of a fast
sampler and impossible for hundreds.
"""

import copy
import os
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from timm.layers import Mlp
from torch import Tensor, nn

from dit.backbones import DiT
from dit.backbones.layers import linear
from dit.backbones.transformer import Block
from dit.cards import render_generator_card
from dit.checkpoints import Generator
from dit.generation import require_autoencoder
from dit.objectives import Diffusion
from dit.samplers import leading_timesteps
from eqvae.autoencoders import Autoencoder, Normalization
from eqvae.autoencoders.exporting import forget_places
from eqvae.cards import CARD, NO_DETAILS, CardDetails
from eqvae.files import TEMPORARY_PREFIX, write_atomically

NULL_LABEL = 1000  # fixed in DiTPipeline
MLP_RATIO = 4.0  # fixed in DiTTransformer2DModel
LARGEST_ERROR = 1e-4  # of the time embedding's first layer, relative
RANK_TOLERANCE = 1e-9


def export_diffusers(
    generator: Generator,
    autoencoder: Autoencoder,
    folder: str | Path,
    num_inference_steps: int = 50,
    details: CardDetails = NO_DETAILS,
) -> None:
    """Write a trained DiT with its autoencoder and a DDIM scheduler for `DiTPipeline.from_pretrained(folder)`.

    With `num_inference_steps` or a divisor of it and the same noise the pipeline gives what `ddim` with "leading"
    timesteps gives here. Its guidance acts on all channels. The null label of the pipeline is always 1000: rows of
    labels that the generator does not know are zero.

    Args:
        generator: a `DiT` trained with `Diffusion`.
        autoencoder: its own; a normalization per channel is folded into its 1x1 convolutions.
        folder: must not exist yet; written whole or not at all.
        num_inference_steps: that the pipeline will be called with; about 50 of 1000 timesteps are possible.
        details: what its model card says that generator and autoencoder do not know.

    Raises:
        ValueError: if the pipeline cannot run such a model, the folder exists, or there are too many steps.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists: give a new folder for the pipeline")
    backbone, objective = _require_exportable(generator)
    require_autoencoder(generator, autoencoder)
    timesteps = torch.tensor(leading_timesteps(objective.num_timesteps, num_inference_steps))
    pipeline = DiTPipeline(
        transformer=_to_transformer(backbone, timesteps),
        vae=_to_autoencoder(autoencoder, generator.spec.normalization),
        scheduler=_to_scheduler(objective),  # pyright: ignore[reportArgumentType]  (diffusers asks for an enumeration)
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent)
    try:
        pipeline.save_pretrained(temporary)
        forget_places(Path(temporary))
        card = render_generator_card(generator, autoencoder, num_inference_steps, details)
        write_atomically(Path(temporary) / CARD, card.encode())
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
        (config.get("mlp_ratio") != MLP_RATIO, f"of another mlp_ratio than {MLP_RATIO}, which diffusers has"),
    ):
        if refused:
            raise ValueError(f"this generator cannot be exported: it is {reason}")
    assert isinstance(generator.backbone, DiT)
    assert isinstance(generator.objective, Diffusion)
    return generator.backbone, generator.objective


def _to_transformer(backbone: DiT, timesteps: Tensor) -> DiTTransformer2DModel:
    config = backbone.config
    transformer = DiTTransformer2DModel(
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["hidden_size"] // config["num_heads"],
        in_channels=config["in_channels"],
        out_channels=backbone.out_channels,
        num_layers=config["depth"],
        sample_size=config["input_size"],
        patch_size=config["patch_size"],
        num_embeds_ada_norm=NULL_LABEL,
        norm_eps=1e-6,
    )
    source = copy.deepcopy(backbone).cpu().float()
    time_proj = transformer.get_submodule("transformer_blocks.0.norm1.emb.time_proj")
    embedding = _embedding_weights(source, time_proj, timesteps)
    weights = {
        "pos_embed.proj": source.x_embedder.proj,
        "proj_out_1": source.final_layer.adaLN_modulation[1],
        "proj_out_2": source.final_layer.linear,
    }
    state = {name: value for prefix, layer in weights.items() for name, value in _named(prefix, layer)}
    for number, block in enumerate(source.blocks):
        state |= {f"transformer_blocks.{number}.{name}": value for name, value in _block_weights(block).items()}
        state |= {f"transformer_blocks.{number}.norm1.emb.{name}": value for name, value in embedding.items()}
    transformer.load_state_dict(state)
    _require_position_table(transformer, source)
    return transformer.eval()


def _named(prefix: str, layer: nn.Module) -> list[tuple[str, Tensor]]:
    return [(f"{prefix}.{name}", value) for name, value in layer.state_dict().items()]


def _block_weights(block: nn.Module) -> dict[str, Tensor]:
    assert isinstance(block, Block)
    assert isinstance(block.mlp, Mlp)
    layers = {
        "norm1.linear": block.adaLN_modulation[1],
        "attn1.to_out.0": block.attn.proj,
        "ff.net.0.proj": block.mlp.fc1,
        "ff.net.2": block.mlp.fc2,
    }
    state = {name: value for prefix, layer in layers.items() for name, value in _named(prefix, layer)}
    for kind, value in _named("", block.attn.qkv):
        for part, rows in zip("qkv", value.chunk(3), strict=True):
            state[f"attn1.to_{part}{kind}"] = rows.clone()
    return state


def _embedding_weights(source: DiT, time_proj: nn.Module, timesteps: Tensor) -> dict[str, Tensor]:
    """Of time and labels, which every block of diffusers' transformer carries."""
    first, second = linear(source.t_embedder.mlp, 0), source.t_embedder.mlp[2]
    table, num_classes = source.y_embedder.embedding_table.weight, source.config["num_classes"]
    rows = torch.zeros(NULL_LABEL + 1, table.shape[1])
    rows[:num_classes], rows[NULL_LABEL] = table[:num_classes], table[num_classes]
    return {
        "timestep_embedder.linear_1.weight": _solve_first_layer(source, time_proj, timesteps),
        "timestep_embedder.linear_1.bias": first.bias,
        **dict(_named("timestep_embedder.linear_2", second)),
        "class_embedder.embedding_table.weight": rows,
    }


@torch.no_grad()
def _solve_first_layer(source: DiT, time_proj: nn.Module, timesteps: Tensor) -> Tensor:
    """Weights [D, 256] of least norm that give the trained layer's outputs at these timesteps."""
    outputs, first = [], linear(source.t_embedder.mlp, 0)
    with first.register_forward_hook(lambda module, inputs, output: outputs.append(output)):
        source.t_embedder(timesteps)
    wanted, waves = (outputs[0] - first.bias).double(), time_proj(timesteps)
    solved = torch.linalg.lstsq(waves.double(), wanted, rcond=RANK_TOLERANCE, driver="gelsd").solution.float()
    error = float((waves @ solved - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
    if error > LARGEST_ERROR:
        raise ValueError(
            f"num_inference_steps {len(timesteps)}: diffusers' time embedding cannot follow so many timesteps "
            f"(error {error:.1e}): use fewer, e.g. 50"
        )
    return solved.T.contiguous()


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


def _to_scheduler(objective: Diffusion) -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=objective.num_timesteps,
        beta_start=float(objective.betas[0]),
        beta_end=float(objective.betas[-1]),
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="leading",
    )
