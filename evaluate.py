"""Metrics: `evaluate.py reconstruction|latents|generation|alignment ...`; prints a table and can save it as JSON.
`evaluate.py images` looks for images that cannot be read.

Pictures are given as `shapes:COUNT[:SEED]` or `scenes:COUNT[:SEED]` (procedural), a folder, a parquet file or glob, an
.npz of the ADM layout (arr_0 [N, H, W, 3]; as a reference also mu, sigma, mu_s, sigma_s), or (generation) the output
folder of sample.py.
"""

import argparse
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dit.alignment import ENCODERS, Encoder
from dit.alignment.measure import measure_alignment, save_alignment_picture
from dit.alignment.projectors import load_projector
from dit.checkpoints import load_generator
from dit.generation import require_autoencoder
from eqvae.autoencoders import load_autoencoder
from eqvae.autoencoders.families import FAMILIES
from eqvae.commands import CommandParser, run_command
from eqvae.data import ImageSource, find_unreadable, open_source
from eqvae.data.encoded import EncodedSource
from eqvae.data.module import ImageBatches
from eqvae.evaluation import EXTRACTORS, ReconstructionMetrics, create_extractor
from eqvae.evaluation.autoencoder import LatentMetrics
from eqvae.evaluation.distances import SCORE_ORDERS
from eqvae.evaluation.feature_sets import images_to_feature_set
from eqvae.evaluation.generation import feature_sets_to_generation_metrics
from eqvae.evaluation.inputs import few_images, open_samples, picture_batches, reference_to_feature_set
from eqvae.evaluation.pictures import autoencoder_panels, save_png
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, choose_predictors, describe_sample, predict
from eqvae.evaluation.quantization import images_to_latents
from eqvae.evaluation.tables import (
    CENTER_CROP,
    backend_versions,
    comparison_table,
    differences,
    directions,
    load_result,
    result_table,
    save_result,
    warn_of_different_conditions,
)
from eqvae.losses.perceptual import PERCEPTUAL_NAMES
from eqvae.ranges import require_number
from eqvae.selection import describe_selection
from eqvae.stream import SequentialBatches

BATCH_SIZE = 100
NUM_PANEL_IMAGES = 6


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    reconstruction = _add(commands, "reconstruction", "PSNR, SSIM, perceptual and Fréchet distance of reconstructions")
    latents = _add(commands, "latents", "equivariance errors, dimension, rank, spectrum, scale of a latent space")
    generation = _add(commands, "generation", "FID (FD), sFID, Inception score, KID, precision and recall of samples")
    for sub in (reconstruction, latents):
        sub.add_argument("--autoencoder", required=True, action="append", help="folder, hub id or packaged name "
                         "(shapes-f4c8); given twice, two are compared side by side")  # fmt: skip
        sub.add_argument("--family", action="append", choices=list(FAMILIES), help="of a single file whose "
                         "architecture several families share; one for all files, or one for each")  # fmt: skip
        sub.add_argument("--data", required=True, help="pictures: shapes:COUNT[:SEED], folder, parquet glob, .npz")
        sub.add_argument("--image-size", type=int, default=32, help="side after the centre crop (default 32)")
        sub.add_argument("--picture", help="where to save a PNG of latents and their transforms (default: not saved)")
        sub.set_defaults(run=_autoencoders)
    latents.add_argument("--predictors", nargs="+", default=["all"], metavar="NAME", help="what may tell how well a "
                         f"generator will learn: all (default), none, or some of {', '.join(PREDICTORS)}")  # fmt: skip
    reconstruction.add_argument("--uint8-rule", choices=["round", "truncate"], default="round", help="default round")
    reconstruction.add_argument("--perceptual", choices=PERCEPTUAL_NAMES, default="efficientnet_lite0",
                                help="lpips_vgg in published tables (default %(default)s)")  # fmt: skip
    reconstruction.add_argument("--lpips-weights", help="local torchvision backbone of LPIPS (default: downloaded)")
    _add_extractor(reconstruction, several=True)
    generation.add_argument(
        "--generated", required=True, help="samples: .npz, folder, parquet glob, sample.py's output"
    )
    generation.add_argument("--reference", required=True, help="real pictures: the same, shapes:COUNT[:SEED], or an "
                            ".npz of statistics")  # fmt: skip
    generation.add_argument("--image-size", type=int, help="side after the centre crop (default: that of the samples)")
    generation.add_argument("--statistics-cache", type=Path, help="folder of reference statistics, kept once computed "
                            "(default: eqvae/statistics in the user's cache folder)")  # fmt: skip
    generation.add_argument("--score-order", choices=SCORE_ORDERS, default="given", help="of the samples when the "
                            "Inception score splits them: as they are, as ADM's evaluation does, or shuffled, as "
                            "torch-fidelity (default given)")  # fmt: skip
    generation.add_argument("--compare-with", help="saved result of --output to set beside this one")
    _add_extractor(generation, several=False)
    generation.set_defaults(run=_generation)
    _add_alignment(commands)
    _add_images(commands)
    run_command(lambda: _run(parser.parse_args()))


def _add_alignment(commands) -> None:
    alignment = _add(
        commands, "alignment", "CKNNA of each block of a generator with an encoder's features (REPA)", 1000
    )
    add = alignment.add_argument
    add("--checkpoint", required=True, help="generator: .ckpt of stage 2, or a public DiT, SiT or REPA")
    add("--data", required=True, help="pictures: shapes:COUNT[:SEED], folder, parquet glob, .npz")
    add("--encoder", choices=list(ENCODERS), default="efficientnet_lite0", help="default %(default)s")
    add("--encoder-weights", help="local weights of the encoder (default: downloaded or packaged)")
    add("--times", type=float, nargs="+", default=[0.5], help="noise levels, 0 noise to 1 data (default 0.5)")
    add("--neighbours", type=int, default=10, help="of CKNNA (default %(default)s)")
    add("--seed", type=int, default=0, help="of the noise (default %(default)s)")
    add("--autoencoder", help="folder, file or hub id that encodes (default: the one named in the checkpoint)")
    add("--autoencoder-family", choices=list(FAMILIES), help="of a single file whose architecture several share")
    add("--family", choices=["DiT", "SiT"], help="of a public checkpoint, which does not tell")
    add("--num-heads", type=int, help="of a public checkpoint of a width that was not published")
    add("--ema-decay", type=float, help="which moving average (default: the first)")
    add("--projector-depth", type=int, help="block of the projector, of a checkpoint that does not tell (public REPA)")
    add("--picture", help="where to save a PNG of alignment over depth (default: not saved)")
    alignment.set_defaults(run=_alignment)


def _add_images(commands) -> None:
    text = "decode every image and name those that cannot be read; exit code 1 if there are any"
    sub = commands.add_parser("images", help=text, description=text)
    sub.add_argument("--data", required=True, help="images: folder, parquet or tar file or glob")
    sub.add_argument("--image-size", type=int, default=256, help="side after the centre crop (default %(default)s)")
    sub.add_argument("--num-threads", type=int, help="that decode side by side (default: one per processor)")
    sub.add_argument("--output", help="JSON file for what was found (default: printed only)")
    sub.set_defaults(run=_images_readable)


def _add(commands, name: str, text: str, num_images: int | None = None) -> argparse.ArgumentParser:
    """A command that reads `num_images` images by default, or all."""
    sub = commands.add_parser(name, help=text, description=text)
    default = "all" if num_images is None else "%(default)s"
    sub.add_argument("--num-images", type=int, default=num_images,
                     help=f"read only so many, evenly spaced (default {default})")  # fmt: skip
    sub.add_argument("--num-workers", type=int, default=0, help="processes that decode pictures (default 0)")
    sub.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default %(default)s")
    sub.add_argument("--output", help="JSON file for the numbers (default: printed only)")
    return sub


def _add_extractor(sub: argparse.ArgumentParser, several: bool) -> None:
    text = "features of the Fréchet distance (default efficientnet_lite0)" + (
        "; several may be named" if several else ""
    )
    names = {"nargs": "+", "default": ["efficientnet_lite0"]} if several else {"default": "efficientnet_lite0"}
    sub.add_argument("--extractor", choices=list(EXTRACTORS), help=text, **names)
    sub.add_argument("--extractor-weights", help="local weights of Inception-v3 (default: downloaded)")


def _require_ranges(arguments: argparse.Namespace) -> None:
    """Refuse numbers that no measurement can be made with, naming the option."""
    least = {"num_images": 1, "num_workers": 0, "image_size": 1, "neighbours": 1}
    for name, limit in least.items():
        if getattr(arguments, name, None) is not None:
            require_number(f"--{name.replace('_', '-')}", getattr(arguments, name), least=limit)
    for time in getattr(arguments, "times", ()):
        require_number("--times", time, least=0, most=1)


def _run(arguments: argparse.Namespace) -> None:
    _require_ranges(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *about: Console(stderr=True).print(f"[yellow]warning:[/] {message}")
        report = arguments.run(arguments)
    if arguments.output:
        save_result(arguments.output, report)


def _autoencoders(arguments: argparse.Namespace) -> dict:
    if len(arguments.autoencoder) > 2:
        raise ValueError(f"--autoencoder may be given once or twice, got {len(arguments.autoencoder)}")
    measure = _reconstruction if arguments.command == "reconstruction" else _latents
    source = open_source(arguments.data, arguments.image_size)
    configs = _file_configs(arguments.autoencoder, arguments.family or [])
    autoencoders = {
        name: load_autoencoder(name, config=configs.get(name)).freeze().to(arguments.device)
        for name in arguments.autoencoder
    }
    for autoencoder in autoencoders.values():
        autoencoder.require_image_size(arguments.image_size, "--image-size")
    results = [measure(autoencoder, source, arguments) for autoencoder in autoencoders.values()]
    results = [{"autoencoder": name} | each for name, each in zip(autoencoders, results, strict=True)]
    if arguments.picture:
        images = few_images(source, NUM_PANEL_IMAGES).to(arguments.device)
        save_png(autoencoder_panels(autoencoders, images), Path(arguments.picture))
    if len(results) == 1:
        Console().print(result_table(results[0]))
        return results[0]
    Console().print(comparison_table(*results, headings=("first", "second")))
    return {"first": results[0], "second": results[1], "differences": differences(*results)}


def _file_configs(names: list[str], families: list[str]) -> dict[str, dict]:
    """What to read each single file with, by its name."""
    files = [name for name in names if Path(name).is_file()]
    if families and (not files or len(families) not in (1, len(files))):
        raise ValueError(
            f"--family was given {len(families)} times, single files {len(files)} times: give one for each"
        )
    return {name: {"family": family} for name, family in zip(files, families * len(files))}


def _reconstruction(autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    settings = (arguments.extractor, arguments.extractor_weights, arguments.perceptual, arguments.lpips_weights)
    metrics = ReconstructionMetrics(*settings, uint8_rule=arguments.uint8_rule)
    for images in _images(source, arguments):
        with torch.no_grad():
            latents, _ = images_to_latents(autoencoder, images)
            metrics.update(images, autoencoder.decode(latents).float())
    report = _with_spread(metrics.compute(), metrics.standard_deviations())
    about = {"extractor": ", ".join(arguments.extractor), "perceptual": arguments.perceptual}
    about["num_images"] = int(report["num_images"])
    about["images"] = describe_selection(arguments.num_images, len(source))
    return report | about | _conditions(arguments)


def _latents(autoencoder, source: ImageSource, arguments: argparse.Namespace) -> dict:
    names = choose_predictors(arguments.predictors)
    metrics = LatentMetrics(expected_images=min(arguments.num_images or len(source), len(source)))
    for images in _images(source, arguments):
        metrics.update(autoencoder, images)
    report = _with_spread(metrics.compute(), metrics.standard_deviations())
    carried = autoencoder.normalization.to_dict()
    about = {"num_images": metrics.num_images, "images": describe_selection(arguments.num_images, len(source))}
    about |= metrics.selections() | {"normalization_method": carried["method"]}
    about |= {f"normalization_{name}": list(carried[name]) for name in ("shift", "scale")}
    report |= _predictions(autoencoder, source, names, arguments) | metrics.curves() | about | _conditions(arguments)
    return report | {"directions": directions(report)}


def _predictions(
    autoencoder, source: ImageSource, names: list[str] | None, arguments: argparse.Namespace
) -> dict[str, object]:
    if names == []:
        return {}
    sample = autoencoder_to_sample(autoencoder, source, arguments.num_images, arguments.num_workers, arguments.device)
    values, left_out = predict(sample, names)
    return values | describe_sample(sample, source) | ({"left_out": left_out} if left_out else {})


def _images(source: ImageSource, arguments: argparse.Namespace):
    batches = SequentialBatches(ImageBatches(source), BATCH_SIZE, arguments.num_images)
    return (batch["image"].to(arguments.device) for batch in batches.loader(arguments.num_workers))


def _with_spread(means: dict, deviations: dict[str, float]) -> dict:
    return means | {f"{name}_std": value for name, value in deviations.items()}


def _conditions(arguments: argparse.Namespace) -> dict:
    size = {"image_size": arguments.image_size, "crop": CENTER_CROP}
    return size | {"data": arguments.data, "versions": backend_versions()}


def _generation(arguments: argparse.Namespace) -> dict:
    source, uint8_rule = open_samples(arguments.generated, arguments.image_size)
    size, device, name = source.image_size, arguments.device, arguments.extractor
    earlier = load_result(arguments.compare_with) if arguments.compare_with else None
    real, about = reference_to_feature_set(
        arguments.reference,
        size,
        name,
        arguments.extractor_weights,
        device,
        num_workers=arguments.num_workers,
        cache=arguments.statistics_cache,
    )
    extractor = create_extractor(name, arguments.extractor_weights, device)
    generated = images_to_feature_set(picture_batches(source, arguments.num_images, arguments.num_workers), extractor)
    report = feature_sets_to_generation_metrics(real, generated, name, score_order=arguments.score_order) | {
        "num_reference": real.num_images,
        "num_generated": generated.num_images,
        "features_reference": real.kept,
        "features_generated": generated.kept,
        "score_order": arguments.score_order,
        "images": describe_selection(arguments.num_images, len(source)),
        "image_size": size,
        "crop": CENTER_CROP,
        "uint8_rule": uint8_rule,
        "extractor": name,
        "generated": arguments.generated,
        "reference": {"pictures": arguments.reference} | about,
        "versions": backend_versions(),
    }
    if earlier is None:
        Console().print(result_table(report))
    else:
        warn_of_different_conditions(earlier, report)
        Console().print(comparison_table(earlier, report, headings=(arguments.compare_with, "this")))
    return report


def _images_readable(arguments: argparse.Namespace) -> dict:
    source = open_source(arguments.data, arguments.image_size)
    if not isinstance(source, EncodedSource):
        raise ValueError(f"--data {arguments.data} holds no image files: give a folder, parquet or tar file")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images", total=len(source))
        search = find_unreadable(
            source,
            num_threads=arguments.num_threads,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    report = {"num_images": len(source), "num_unreadable": len(search.problems), "unreadable": search.problems}
    if arguments.output:
        save_result(arguments.output, report)
    if search.problems:
        raise ValueError(search.message())
    Console().print(f"all {len(source)} images of {arguments.data} can be read, {source.num_classes} classes")
    return report


def _alignment(arguments: argparse.Namespace) -> dict:
    generator = load_generator(arguments.checkpoint, arguments.family, arguments.num_heads, arguments.ema_decay)
    name = arguments.autoencoder or generator.autoencoder_source
    if name is None:
        raise ValueError(f"checkpoint {arguments.checkpoint} names no autoencoder: give --autoencoder")
    config = {"family": arguments.autoencoder_family} if arguments.autoencoder_family else None
    autoencoder = load_autoencoder(name, config=config).freeze().to(arguments.device)
    require_autoencoder(generator, autoencoder)
    generator.backbone.to(arguments.device)
    projector = load_projector(arguments.checkpoint, arguments.projector_depth, arguments.ema_decay)
    encoder = Encoder(arguments.encoder, arguments.encoder_weights)
    if projector is not None and projector.encoder not in (None, encoder.name):
        projector = None  # trained towards another encoder, its cosine with this one says nothing
    if projector is not None:
        projector.network.to(arguments.device)
    image_size = generator.spec.shape[-1] * generator.spec.downsampling_factor
    source = open_source(arguments.data, image_size)
    batches = SequentialBatches(ImageBatches(source), BATCH_SIZE, arguments.num_images).loader(arguments.num_workers)
    settings = (arguments.times, arguments.neighbours, arguments.seed)
    report = measure_alignment(generator, autoencoder, encoder, batches, projector, *settings) | {
        "checkpoint": arguments.checkpoint,
        "num_steps": generator.num_steps,
        "autoencoder": name,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint(generator.backbone.side),
        "projector_depth": projector and projector.depth,
        "projector_encoder": projector and projector.encoder,
        "neighbours": arguments.neighbours,
        "seed": arguments.seed,
        "image_size": image_size,
        "crop": CENTER_CROP,
        "data": arguments.data,
        "images": describe_selection(arguments.num_images, len(source)),
        "versions": backend_versions(),
    }
    if arguments.picture:
        save_alignment_picture(report, arguments.picture)
    Console().print(_alignment_table(report))
    return report


def _alignment_table(report: dict) -> Table:
    """CKNNA by block (rows) and time (columns); the projector's cosine below."""
    levels = report["levels"]
    table = Table("block", *(f"CKNNA, t = {level['time']:g}" for level in levels), caption_justify="left")
    for block, values in enumerate(zip(*(level["cknna"] for level in levels), strict=True), start=1):
        table.add_row(str(block), *(f"{value:.4f}" for value in values))
    if report["projector_depth"] is not None:
        table.add_section()
        table.add_row(f"cosine, {report['projector_depth']}", *(f"{level['cosine']:.4f}" for level in levels))
    table.caption = f"{report['num_images']} pictures, {report['encoder']}, labels: {report['labels']}"
    return table


if __name__ == "__main__":
    main()
