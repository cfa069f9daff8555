"""`export`: hub repositories of what was trained, written to a folder and pushed."""

import argparse
import re
from typing import Any

from dit.checkpoints import load_generator
from dit.exchange import export_diffusers
from dit.public.diffusers_layout import is_folder_of_diffusers
from eqvae.autoencoders import Autoencoder, Normalization, load_autoencoder
from eqvae.autoencoders.cards import hub_repository, public_origin
from eqvae.autoencoders.places import public_source
from eqvae.cards import CardDetails
from eqvae.evaluation.measurements import read_measurements
from eqvae.publishing import Publication, license_on_hub, validate_repository
from twostage.commands.ending import end, look_at

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # identifiers of the hub: mit, openrail++


def run(arguments: argparse.Namespace) -> None:
    publication = _publication(arguments)
    if publication is not None:
        publication.require_possible()
    EXPORTS[arguments.command](arguments)
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
    start = autoencoder.origin["start"]
    if start.get("normalization") is not None:
        return Normalization.from_dict(start["normalization"])
    if "normalization" in start:
        raise ValueError(
            f"--constants base: what {source} was trained from has none that are known: leave the option out"
        )
    raise ValueError(
        f"--constants base: {source} was exported by an earlier version, whose record does not tell them: train it "
        "again, or leave the option out"
    )


def _export_generator(arguments: argparse.Namespace) -> None:
    family = None if is_folder_of_diffusers(arguments.checkpoint) else "DiT"  # a folder tells it
    generator = load_generator(arguments.checkpoint, family, ema_decay=arguments.ema_decay)
    source = arguments.autoencoder or generator.autoencoder_source
    if source is None:
        raise ValueError(f"checkpoint {arguments.checkpoint} names no autoencoder: give --autoencoder")
    autoencoder = load_autoencoder(source).freeze()
    details = _details(arguments, hub_repository(public_source(source)), autoencoder.fingerprint(), samples=True)
    export_diffusers(generator, autoencoder, arguments.output, arguments.num_inference_steps, details)


EXPORTS = {"autoencoder": _export_autoencoder, "generator": _export_generator}


def _details(arguments: argparse.Namespace, base: str | None, fingerprint: str, samples: bool = False) -> CardDetails:
    """What the card says beside the record; `base` is the repository that the record names.

    Measurements must be of the autoencoder with this fingerprint.
    """
    if arguments.base_model is not None:
        validate_repository(arguments.base_model, "--base-model")
    base, measured = arguments.base_model or base, read_measurements(arguments.metrics, fingerprint, samples)
    common = {"repository": arguments.push_to_hub, "base_model": base, "measurements": measured}
    if arguments.license is not None:
        return CardDetails(**common, license=_checked_license(arguments.license))
    found = license_on_hub(base) if base else None
    return CardDetails(**common, license=found, license_source=f"that of `{base}` by its own card")


def _checked_license(identifier: str) -> str:
    if not LICENSE.fullmatch(identifier):
        raise ValueError(f"--license {identifier}: give an identifier of the hub, such as mit")
    return identifier
