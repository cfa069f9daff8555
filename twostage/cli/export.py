"""Hub repositories of what was trained: weights for diffusers with a model card, written to a folder and pushed.

Examples:
  autoencoder --autoencoder runs/tiny-shapes-eq/autoencoder --output runs/hub/autoencoder --metrics rec.json
  generator --checkpoint runs/tiny-dit/checkpoints/last.ckpt --output runs/hub/pipeline --push-to-hub OWNER/NAME
"""

import argparse
import re
from pathlib import Path
from typing import Any

from dit.checkpoints import load_generator
from dit.exchange import export_diffusers
from eqvae.autoencoders import Autoencoder, Normalization, load_autoencoder
from eqvae.autoencoders.cards import hub_repository, public_origin
from eqvae.autoencoders.families import FAMILIES
from eqvae.autoencoders.places import public_source
from eqvae.cards import CardDetails
from eqvae.commands import CommandParser, run_command
from eqvae.evaluation.measurements import read_measurements
from eqvae.publishing import Publication, license_on_hub, validate_repository
from twostage.cli.ending import end, look_at

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # identifiers of the hub: mit, openrail++


def main() -> None:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    _add_autoencoder(commands)
    _add_generator(commands)
    run_command(lambda: _run(parser.parse_args()))


def _add_autoencoder(commands: Any) -> None:
    text = "an autoencoder as the repository that AutoencoderKL.from_pretrained reads"
    sub = commands.add_parser("autoencoder", help=text, description=text)
    add = sub.add_argument
    add("--autoencoder", required=True, help="folder, file, hub id or packaged name")
    add("--family", choices=list(FAMILIES), help="of a single file whose architecture several share")
    add("--constants", choices=["own", "base"], default="own", help="what scaling_factor, shift_factor, latents_mean "
        "and latents_std of the config mean: own, the normalization of these latents (default), for what is trained on "
        "them; base, that of the model it was trained from, for dropping it into that model's pipelines")  # fmt: skip
    _add_common(sub, "hub id of the model it was trained from (default: the one that its record names)")
    sub.set_defaults(run=_export_autoencoder)


def _add_generator(commands: Any) -> None:
    text = "a trained DiT with its autoencoder as the repository that DiTPipeline.from_pretrained runs"
    sub = commands.add_parser("generator", help=text, description=text)
    add = sub.add_argument
    add("--checkpoint", required=True, help="checkpoint of a generator (.ckpt), or a public one of DiT (.pt)")
    add("--ema-decay", type=float, help="which moving average, where the run kept several (default: the first)")
    add("--autoencoder", help="folder, file or hub id that decodes (default: the one named in the checkpoint)")
    add("--num-inference-steps", type=int, default=50, help="steps that the pipeline will be called with, or a "
        "multiple of them (default %(default)s)")  # fmt: skip
    _add_common(sub, "hub id of the autoencoder whose latents it makes (default: the one that the checkpoint names)")
    sub.set_defaults(run=_export_generator)


def _add_common(sub: argparse.ArgumentParser, base: str) -> None:
    add = sub.add_argument
    add("--output", required=True, type=Path, help="folder of the repository")
    add("--metrics", nargs="+", default=[], metavar="FILE", help="measurements for the card: results of evaluate.py "
        "--output, or a sweep's metrics.json")  # fmt: skip
    add("--base-model", help=base)
    add("--license", help="licence of the base model, an identifier of the hub such as mit (default: what the base "
        "model's own card says where it is on the hub, else none)")  # fmt: skip
    add("--push-to-hub", metavar="OWNER/NAME", help="upload the folder there, too; the repository is made if need be")
    add("--private", action="store_true", help="make the repository a private one")
    add("--revision", help="branch to push to (default: the main one)")
    add("--commit-message", help="of the upload (default: that of huggingface_hub)")


def _run(arguments: argparse.Namespace) -> None:
    publication = _publication(arguments)
    if publication is not None:
        publication.require_possible()
    arguments.run(arguments)
    if publication is None:
        end(arguments.output, ["hf", "upload", arguments.output.resolve().name, str(arguments.output)])
    else:
        address = publication.push(arguments.output)
        end(f"{arguments.output}, pushed as {address}", look_at(address))


def _publication(arguments: argparse.Namespace) -> Publication | None:
    repository = arguments.push_to_hub
    if repository is not None:
        return Publication(repository, arguments.private, arguments.revision, arguments.commit_message)
    for name in ("private", "revision", "commit_message"):
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} says how to push: give --push-to-hub OWNER/NAME, too")
    return None


def _export_autoencoder(arguments: argparse.Namespace) -> None:
    config = {"family": arguments.family} if arguments.family else None
    autoencoder = load_autoencoder(arguments.autoencoder, config=config)
    origin = _origin(autoencoder)
    constants = _base_normalization(autoencoder, arguments.autoencoder) if arguments.constants == "base" else None
    details = _details(arguments, hub_repository(origin["start"]), autoencoder.fingerprint())
    autoencoder.save_pretrained(arguments.output, origin, details, constants)


def _origin(autoencoder: Autoencoder) -> dict[str, Any]:
    """Where the weights come from: a training that the record tells of, or the source itself."""
    if autoencoder.origin is not None:
        return public_origin(autoencoder.origin)
    assert autoencoder.source is not None, "it was loaded from somewhere"
    return {"start": public_source(autoencoder.source) | {"fingerprint": autoencoder.fingerprint()}}


def _base_normalization(autoencoder: Autoencoder, source: str) -> Normalization:
    """Of what the autoencoder was trained from; its own where it was not trained here."""
    if autoencoder.origin is None:
        return autoencoder.normalization
    recorded = autoencoder.origin["start"].get("normalization")
    if recorded is None:
        raise ValueError(
            f"--constants base: {source} was exported by an earlier version, whose record does not tell them: train it "
            "again, or leave the option out"
        )
    return Normalization.from_dict(recorded)


def _export_generator(arguments: argparse.Namespace) -> None:
    generator = load_generator(arguments.checkpoint, "DiT", ema_decay=arguments.ema_decay)
    source = arguments.autoencoder or generator.autoencoder_source
    if source is None:
        raise ValueError(f"checkpoint {arguments.checkpoint} names no autoencoder: give --autoencoder")
    autoencoder = load_autoencoder(source).freeze()
    details = _details(arguments, hub_repository(public_source(source)))
    export_diffusers(generator, autoencoder, arguments.output, arguments.num_inference_steps, details)


def _details(arguments: argparse.Namespace, base: str | None, fingerprint: str | None = None) -> CardDetails:
    """What the card says beside the record; `base` is the repository that the record names."""
    if arguments.base_model is not None:
        validate_repository(arguments.base_model, "--base-model")
    base, measured = arguments.base_model or base, read_measurements(arguments.metrics, fingerprint)
    common = {"repository": arguments.push_to_hub, "base_model": base, "measurements": measured}
    if arguments.license is not None:
        return CardDetails(**common, license=_checked_license(arguments.license))
    found = license_on_hub(base) if base else None
    return CardDetails(**common, license=found, license_source=f"that of `{base}` by its own card")


def _checked_license(identifier: str) -> str:
    if not LICENSE.fullmatch(identifier):
        raise ValueError(f"--license {identifier}: give an identifier of the hub, such as mit")
    return identifier
