"""How a trained generator's tokens are aligned with an encoder's features, block by block."""

import io
from collections.abc import Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from dit.alignment.cknna import cknna
from dit.alignment.encoders import Encoder
from dit.alignment.objective import cosine_alignment, tokens_after
from dit.alignment.projectors import TrainedProjector
from dit.backbones import DiT
from dit.checkpoints import Generator
from dit.objectives import Diffusion, Flow, Objective
from eqvae.autoencoders import Autoencoder
from eqvae.files import write_atomically
from eqvae.randomness import keyed_normal


def noisy_latents(objective: Objective, latents: Tensor, noise: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """Latents [B, C, h, w] at a noise level, and the backbone's times [B].

    Args:
        time: 0 is noise, 1 is data. A flow's own time, kept within its interval; a diffusion of T timesteps takes
            round((1 - time) (T - 1)), whose first timestep has a trace of noise.
    """
    if isinstance(objective, Flow):
        first, last = objective.interval
        times = latents.new_full((len(latents),), min(max(time, first), last))
        return objective.interpolate(noise, latents, times)[0], times
    assert isinstance(objective, Diffusion), "tokens have no noise levels, and are refused before"
    timestep = round((1 - time) * (objective.num_timesteps - 1))
    timesteps = torch.full((len(latents),), timestep, device=latents.device)
    return objective.q_sample(latents, timesteps, noise), timesteps


@torch.inference_mode()
def measure_alignment(
    generator: Generator,
    autoencoder: Autoencoder,
    encoder: Encoder,
    batches: Iterable[dict[str, Tensor]],
    projector: TrainedProjector | None = None,
    times: Iterable[float] = (0.5,),
    neighbours: int = 10,
    seed: int = 0,
) -> dict:
    """CKNNA of every block's tokens with the encoder's features, both averaged over the tokens of an image.

    Labels are the null label, so that no class is given away; those of the images where the model has no null label.

    Args:
        generator: of latents, DiT or SiT, on the device to compute on; so the autoencoder.
        autoencoder: made the latents; its posterior mean is taken.
        encoder: whose features are compared.
        batches: `image` [B, 3, H, W] in [-1, 1], `label` [B], `index` [B]; noise is keyed by the index.
        projector: of the training; adds the mean cosine at its depth, over tokens and images.
        times: noise levels, 0 noise to 1 data, see `noisy_latents`.
        neighbours: k of CKNNA.
        seed: of the noise.

    Returns:
        `num_images`, `labels` ("null" or "data"), and `levels`: for each time `cknna`, one number per block, and with a
        projector `cosine`.

    Raises:
        ValueError: if the generator learns tokens, a label is unknown to it, the projector has another width than the
            encoder or another block than there are, a time lies outside [0, 1], or there are too few images.
    """
    times = list(times)
    backbone = _require(generator, encoder, projector, times)
    device, depths = backbone.pos_embed.device, list(range(1, backbone.config["depth"] + 1))
    has_null = backbone.config["class_dropout_prob"] > 0
    features, pooled, cosines = [], {time: [] for time in times}, {time: [] for time in times}
    for batch in batches:
        images, indices = batch["image"].to(device), batch["index"].to(device)
        latents = generator.spec.normalization.normalize(autoencoder.latent_moments(images)[0])
        if latents.shape[1:] != generator.spec.shape:
            raise ValueError(f"latents of the images are {tuple(latents.shape[1:])}, not {generator.spec.shape}")
        noise = keyed_normal(indices, tuple(latents.shape[1:]), seed=seed, stream="alignment-noise")
        labels = torch.full_like(indices, generator.num_classes) if has_null else _labels(batch, generator).to(device)
        targets = encoder(images, backbone.side)
        features.append(targets.mean(1).cpu())
        for time in times:
            x, t = noisy_latents(generator.objective, latents, noise, time)
            with tokens_after(backbone, depths) as tokens:
                backbone(x, t, labels)
            pooled[time].append(torch.stack([tokens[depth].mean(1) for depth in depths]).cpu())
            if projector is not None:
                cosines[time].append(cosine_alignment(projector.network(tokens[projector.depth]), targets).cpu())
    reference = torch.cat(features)
    levels = []
    for time in times:
        blocks = torch.cat(pooled[time], dim=1)  # [depth, N, D]
        level = {"time": time, "cknna": [cknna(block, reference, neighbours) for block in blocks]}
        levels.append(level | ({"cosine": float(torch.cat(cosines[time]).mean())} if projector is not None else {}))
    return {"num_images": len(reference), "labels": "null" if has_null else "data", "levels": levels}


def _require(generator: Generator, encoder: Encoder, projector: TrainedProjector | None, times: list[float]) -> DiT:
    """The backbone, if all that is asked for can be measured of it."""
    backbone = generator.backbone
    if not isinstance(backbone, DiT):
        raise ValueError(f"alignment is measured of DiT and SiT, this is {type(backbone).__name__}")
    if wrong := [time for time in times if not 0 <= time <= 1]:
        raise ValueError(f"alignment time {wrong[0]} lies outside [0, 1]: 0 is noise, 1 is data")
    if projector is None:
        return backbone
    if not 1 <= projector.depth <= backbone.config["depth"]:
        raise ValueError(f"projector depth {projector.depth}: the backbone has {backbone.config['depth']}")
    if projector.width != encoder.width:
        raise ValueError(
            f"the checkpoint's projector makes {projector.width} channels, encoder {encoder.name} has "
            f"{encoder.width}: measure with the encoder of the training"
        )
    return backbone


def _labels(batch: dict[str, Tensor], generator: Generator) -> Tensor:
    if int(batch["label"].max()) >= generator.num_classes or int(batch["label"].min()) < 0:
        raise ValueError(f"images have labels beyond the {generator.num_classes} classes of the generator")
    return batch["label"]


def save_alignment_figure(report: dict, path: str | Path) -> None:
    """A PNG: CKNNA over the blocks, one line per noise level; the projector's cosine, another measure, in words."""
    figure = Figure(figsize=(6.4, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for level in report["levels"]:
        label = f"t = {level['time']:g}"
        if "cosine" in level:
            label += f" (projector after block {report['projector_depth']}: mean cosine {level['cosine']:.2f})"
        axes.plot(range(1, len(level["cknna"]) + 1), level["cknna"], marker="o", label=label)
    bottom, top = axes.get_ylim()
    bottom = min(0, bottom)
    axes.set(xlabel="block", ylabel=f"CKNNA with {report['encoder']}", ylim=(bottom, top + 0.1 * (top - bottom)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower center")
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    write_atomically(Path(path), png.getvalue())
