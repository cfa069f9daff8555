"""`alignment`: how like an encoder's features the blocks of a generator are (REPA)."""

import argparse

import torch
from rich.console import Console
from rich.table import Table

from dit.alignment import Encoder
from dit.alignment.measure import measure_alignment, save_alignment_figure
from dit.alignment.projectors import TrainedProjector, load_projector
from dit.backbones import DiT
from dit.sampling import open_generator
from eqvae.data import open_source
from eqvae.data.module import ImageBatches
from eqvae.evaluation.batches import images_at_once
from eqvae.evaluation.measuring import conditions
from eqvae.precision import encoding
from eqvae.selection import describe_selection
from eqvae.stream import SequentialBatches


def measure_blocks(arguments: argparse.Namespace) -> dict:
    generator, autoencoder, name = open_generator(
        arguments.checkpoint,
        arguments.autoencoder,
        autoencoder_family=arguments.autoencoder_family,
        family=arguments.family,
        num_heads=arguments.num_heads,
        ema_decay=arguments.ema_decay,
    )
    autoencoder.to(arguments.device)
    generator.backbone.to(arguments.device)
    encoder = Encoder(arguments.encoder, arguments.encoder_weights)
    projector = _projector_towards(encoder, arguments)
    image_size = generator.spec.shape[-1] * generator.spec.downsampling_factor
    source = open_source(arguments.data, image_size)
    batches = SequentialBatches(ImageBatches(source), images_at_once(image_size, image_size), arguments.num_images)
    settings = (arguments.times, arguments.neighbours, arguments.seed)
    with encoding("float32", torch.device(arguments.device)):
        loader = batches.loader(arguments.num_workers)
        measured = measure_alignment(generator, autoencoder, encoder, loader, projector, *settings)
    assert isinstance(generator.backbone, DiT), "others are refused there"
    report = measured | {
        "checkpoint": arguments.checkpoint,
        "num_steps": generator.num_steps,
        "autoencoder": name,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint(generator.backbone.side),
        "projector_depth": projector and projector.depth,
        "projector_encoder": projector and projector.encoder,
        "neighbours": arguments.neighbours,
        "seed": arguments.seed,
        "images": describe_selection(arguments.num_images, len(source)),
    }
    report |= conditions(arguments.data, image_size)
    if arguments.figure:
        save_alignment_figure(report, arguments.figure)
    Console().print(_alignment_table(report))
    return report


def _projector_towards(encoder: Encoder, arguments: argparse.Namespace) -> TrainedProjector | None:
    """The checkpoint's projector; none where it was trained towards another encoder: its cosine would say nothing."""
    projector = load_projector(arguments.checkpoint, arguments.projector_depth, arguments.ema_decay)
    if projector is None and arguments.projector_depth is not None:
        raise ValueError(f"--projector-depth {arguments.projector_depth}: {arguments.checkpoint} has no projector")
    if projector is None or projector.encoder not in (None, encoder.name):
        return None
    projector.network.to(arguments.device)
    return projector


def _alignment_table(report: dict) -> Table:
    """CKNNA by block (rows) and time (columns); the projector's cosine below."""
    levels = report["levels"]
    table = Table("block", *(f"CKNNA, t = {level['time']:g}" for level in levels), caption_justify="left")
    for block, values in enumerate(zip(*(level["cknna"] for level in levels), strict=True), start=1):
        table.add_row(str(block), *(f"{value:.4f}" for value in values))
    if report["projector_depth"] is not None:
        table.add_section()
        table.add_row(f"cosine, {report['projector_depth']}", *(f"{level['cosine']:.4f}" for level in levels))
    table.caption = f"{report['num_images']} images, {report['encoder']}, labels: {report['labels']}"
    return table
