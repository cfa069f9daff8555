"""`alignment`: how like an encoder's features the blocks of a generator are (REPA)."""

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from dit.alignment import ENCODERS, Encoder
from dit.alignment.measure import measure_alignment, save_alignment_figure
from dit.alignment.projectors import TrainedProjector, load_projector
from dit.backbones import DiT
from dit.sampling import open_generator
from eqvae.autoencoders.families import FAMILIES
from eqvae.data import open_source
from eqvae.data.module import ImageBatches
from eqvae.evaluation.measuring import conditions
from eqvae.selection import describe_selection
from eqvae.stream import SequentialBatches
from twostage.cli.evaluate.options import BATCH_SIZE, IMAGES, add_command


def add_to(commands: Any) -> None:
    text = "CKNNA of each block of a generator with an encoder's features (REPA)"
    sub = add_command(commands, "alignment", text, num_images=1000)
    add = sub.add_argument
    add("--checkpoint", required=True, help="generator: .ckpt of stage 2, or a public DiT, SiT or REPA")
    add("--data", required=True, help=IMAGES)
    add("--encoder", choices=list(ENCODERS), default="efficientnet_lite0", help="default %(default)s")
    add("--encoder-weights", help="local weights of the encoder (default: downloaded or packaged)")
    add("--times", type=float, nargs="+", default=[0.5], help="noise levels, 0 noise to 1 data (default 0.5)")
    add("--neighbours", type=int, default=10, help="neighbours that CKNNA compares (default %(default)s)")
    add("--seed", type=int, default=0, help="seed of the noise (default %(default)s)")
    add("--autoencoder", help="folder, file or hub id that encodes (default: the one named in the checkpoint)")
    add("--autoencoder-family", choices=list(FAMILIES), help="family of a single file whose architecture several share")
    add("--family", choices=["DiT", "SiT"], help="family of a public checkpoint, which does not tell")
    add("--num-heads", type=int, help="heads of a public checkpoint of a width that was not published")
    add("--ema-decay", type=float, help="which moving average (default: the first)")
    add("--projector-depth", type=int, help="block of the projector, of a checkpoint that does not tell (public REPA)")
    add("--figure", help="where to save a PNG of alignment over depth (default: not saved)")
    sub.set_defaults(run=_measure)


def _measure(arguments: argparse.Namespace) -> dict:
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
    batches = SequentialBatches(ImageBatches(source), BATCH_SIZE, arguments.num_images).loader(arguments.num_workers)
    settings = (arguments.times, arguments.neighbours, arguments.seed)
    measured = measure_alignment(generator, autoencoder, encoder, batches, projector, *settings)
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
