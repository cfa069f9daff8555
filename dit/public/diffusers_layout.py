"""DiT in the layout of diffusers (`DiTTransformer2DModel`, `DiTPipeline`): the one place that knows its names.

The networks are the same but for two numbers, which our DiT takes as arguments: the frequencies of the time
(`frequency_divisor`) and what is added to the variance in the second norm of a block (`mlp_norm_eps`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from dit.backbones import DiT
from dit.objectives import Diffusion
from dit.public.weights import first_keys, with_weights
from eqvae.errors import first_line
from eqvae.hashes import read_json
from eqvae.records import NUMBER, WHOLE, require_entries

LAYERS = {  # theirs: ours
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}
BLOCK_LAYERS = {
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
EMBEDDING_LAYERS = {  # which every block of theirs carries
    "timestep_embedder.linear_1": "t_embedder.mlp.0",
    "timestep_embedder.linear_2": "t_embedder.mlp.2",
    "class_embedder.embedding_table": "y_embedder.embedding_table",
}
LABELS = "y_embedder.embedding_table.weight"
POSITIONS = "pos_embed.pos_embed"  # a table that older folders have among the weights, and newer ones compute
BLOCK, EMBEDDING = "transformer_blocks.{}.", "transformer_blocks.{}.norm1.emb."
KINDS = ("weight", "bias")
PIPELINE, CONFIG = "model_index.json", "config.json"
EXACT, EXACT_STEPS = "export.json", "num_inference_steps"
"""Beside a pipeline that was exported here: the steps that its time embedding is exact for, where not for all."""
SCHEDULER = Path("scheduler") / "scheduler_config.json"
PIPELINE_DIVISOR = 127  # of the time's frequencies, fixed in diffusers
MLP_RATIO = 4.0  # fixed in diffusers
CLASS_DROPOUT = 0.1  # fixed in diffusers, whose table of labels ends with a null row
CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")  # the second one in folders of before diffusers 0.29
AS_OURS = {  # entries of a config that must have these values, and have them by default
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "dropout": 0.0,
}
SIZES = ("sample_size", "patch_size", "in_channels", "num_layers", "num_attention_heads", "attention_head_dim")
SCHEDULE = {"num_train_timesteps": WHOLE, "beta_start": NUMBER, "beta_end": NUMBER}
BETAS_TOLERANCE = 1e-6  # of a schedule's first and last beta, absolute


def is_folder_of_diffusers(path: str | Path) -> bool:
    """Whether it is a folder that diffusers may have written."""
    return any((Path(path) / name).is_file() for name in (PIPELINE, CONFIG))


def transformer_weights(folder: str | Path) -> list[Path]:
    """Files of the transformer's weights in a folder of diffusers, sorted: those that are read."""
    place = _transformer_of(Path(folder))
    return sorted(place.glob("*.safetensors")) or sorted(place.glob("*.bin"))


def _transformer_of(folder: Path) -> Path:
    return folder / "transformer" if (folder / PIPELINE).is_file() else folder


def to_diffusers_weights(ours: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Weights of `DiTTransformer2DModel` from those of `dit.backbones.DiT` with so many blocks."""
    state = _renamed(ours, LAYERS)
    for number in range(depth):
        block, inner = BLOCK.format(number), f"blocks.{number}."
        state |= _renamed(ours, {block + theirs: inner + mine for theirs, mine in BLOCK_LAYERS.items()})
        state |= _renamed(ours, {EMBEDDING.format(number) + name: mine for name, mine in EMBEDDING_LAYERS.items()})
        for kind in KINDS:
            for part, rows in zip("qkv", ours[f"{inner}attn.qkv.{kind}"].chunk(3), strict=True):
                state[f"{block}attn1.to_{part}.{kind}"] = rows.clone()
    return state


def from_diffusers_weights(theirs: Mapping[str, Tensor], depth: int, path: str | Path) -> dict[str, Tensor]:
    """Weights of `dit.backbones.DiT` but for its position table, which diffusers computes.

    Raises:
        ValueError: if blocks have time or label embeddings of their own, which DiT's share.
    """
    state = _renamed(theirs, {mine: name for name, mine in LAYERS.items()})
    state |= _renamed(theirs, {mine: EMBEDDING.format(0) + name for name, mine in EMBEDDING_LAYERS.items()})
    for number in range(depth):
        block, inner = BLOCK.format(number), f"blocks.{number}."
        state |= _renamed(theirs, {inner + mine: block + name for name, mine in BLOCK_LAYERS.items()})
        for kind in KINDS:
            parts = [theirs[f"{block}attn1.to_{part}.{kind}"] for part in "qkv"]
            state[f"{inner}attn.qkv.{kind}"] = torch.cat(parts)
        own = _renamed(theirs, {mine: EMBEDDING.format(number) + name for name, mine in EMBEDDING_LAYERS.items()})
        if other := next((name for name, value in own.items() if not torch.equal(value, state[name])), None):
            raise ValueError(
                f"checkpoint {path}: block {number} has another {other} than the first one, DiT has one for all: "
                "sample it with diffusers"
            )
    return state


def _renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights and biases of layers by new names, from a mapping of the new names to the old ones."""
    return {
        f"{new}.{kind}": weights[f"{old}.{kind}"]
        for new, old in names.items()
        for kind in KINDS
        if f"{old}.{kind}" in weights
    }


def read_diffusers_folder(folder: str | Path) -> tuple[DiT, Diffusion]:
    """Backbone, in evaluation mode, and objective of a folder of `DiTPipeline` or of its transformer alone.

    Outputs are those of `DiTTransformer2DModel`, float32.

    Args:
        folder: with `model_index.json`, or the transformer's own with `config.json`. Without a scheduler beside it the
            schedule is taken to be DiT's.

    Raises:
        ValueError: naming the folder, and what in it is not DiT's or cannot be read.
    """
    folder = Path(folder)
    exact = next((each / EXACT for each in (folder, folder.parent) if (each / EXACT).is_file()), None)
    if exact is not None:
        steps = read_json(exact)[EXACT_STEPS]
        raise ValueError(
            f"checkpoint {folder} was exported for {steps} steps, and knows no other times: give the checkpoint that "
            "it was exported from"
        )
    place = _transformer_of(folder)
    config = _read_config(place / CONFIG)
    if config.get("_class_name") not in CLASSES:
        raise ValueError(f"checkpoint {folder} holds a {config.get('_class_name')}, not a {CLASSES[0]}")
    for name, value in AS_OURS.items():
        if config.get(name, value) != value:
            raise ValueError(f"checkpoint {folder}: {name} is {config[name]}, not {value} as DiT's: use diffusers")
    require_entries(config, {name: WHOLE for name in SIZES if name in config}, f"checkpoint {folder}: ")
    backbone = _to_dit(_open(place, folder), folder)
    schedule = _read_config(folder / SCHEDULER) if place != folder else {}
    checks = {name: check for name, check in SCHEDULE.items() if name in schedule}
    require_entries(schedule, checks, f"checkpoint {folder}, its scheduler: ")
    return backbone, _to_diffusion(schedule, backbone.config["learn_sigma"], folder)


def _open(place: Path, folder: Path) -> DiTTransformer2DModel:
    """The transformer with all of its weights: diffusers leaves those that it does not find random."""
    options = {"local_files_only": True, "low_cpu_mem_usage": False, "torch_dtype": torch.float32}
    load: Any = DiTTransformer2DModel.from_pretrained  # gives a tuple where it is asked for what it found
    try:
        model, found = load(place, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"checkpoint {folder} cannot be read: {first_line(error)}") from None
    unexpected = [key for key in found["unexpected_keys"] if key != POSITIONS]
    for words, keys in (("lacks", found["missing_keys"]), ("has more than its config says:", unexpected)):
        if keys:
            raise ValueError(f"checkpoint {folder} {words} {first_keys(sorted(keys))}: give a whole folder")
    return model


def _to_dit(model: DiTTransformer2DModel, folder: Path) -> DiT:
    known, state = model.config, model.state_dict()
    weights = from_diffusers_weights(state, known["num_layers"], folder)
    weights[LABELS] = _known_labels(weights[LABELS])
    width = known["num_attention_heads"] * known["attention_head_dim"]
    sizes = {
        "input_size": known["sample_size"],
        "patch_size": known["patch_size"],
        "in_channels": known["in_channels"],
        "hidden_size": width,
        "depth": known["num_layers"],
        "num_heads": known["num_attention_heads"],
        "mlp_ratio": MLP_RATIO,
        "class_dropout_prob": CLASS_DROPOUT,
        "num_classes": len(weights[LABELS]) - 1,
        "learn_sigma": model.out_channels == 2 * known["in_channels"],
        "frequency_divisor": PIPELINE_DIVISOR,
        "mlp_norm_eps": known["norm_eps"],
    }
    return with_weights(DiT, sizes, weights | {"pos_embed": model.get_buffer(POSITIONS)}, folder)


def _known_labels(table: Tensor) -> Tensor:
    """Rows of labels [K + 1, D], the null row last, without the zeros of those that an export has never known."""
    known = table[:-1].any(1).nonzero()
    return torch.cat((table[: int(known.max()) + 1 if len(known) else 1], table[-1:]))


def _to_diffusion(schedule: Mapping[str, Any], learn_sigma: bool, folder: Path) -> Diffusion:
    """The objective of a scheduler's config: a diffusion with DiT's betas, at most of another length."""
    objective = Diffusion(schedule.get("num_train_timesteps", 1000), learn_sigma)
    first, last = float(objective.betas[0]), float(objective.betas[-1])
    for name, value, fits in (
        ("trained_betas", "given", schedule.get("trained_betas") is None),
        ("rescale_betas_zero_snr", True, not schedule.get("rescale_betas_zero_snr")),
        ("beta_schedule", schedule.get("beta_schedule"), schedule.get("beta_schedule", "linear") == "linear"),
        ("prediction_type", schedule.get("prediction_type"), schedule.get("prediction_type", "epsilon") == "epsilon"),
        ("beta_start", schedule.get("beta_start"), abs(schedule.get("beta_start", first) - first) < BETAS_TOLERANCE),
        ("beta_end", schedule.get("beta_end"), abs(schedule.get("beta_end", last) - last) < BETAS_TOLERANCE),
    ):
        if not fits:
            raise ValueError(
                f"checkpoint {folder}: {name} of its scheduler is {value}, not that of a linear schedule of noise "
                "predictions: sample it with diffusers"
            )
    return objective


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        raise ValueError(f"checkpoint {path.parent}: its {path.name} cannot be read: give a whole folder") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no mapping: give a whole folder of diffusers")
    return config
