"""What a cache says of itself: manifest and journal, each with its own hash, checked entry by entry in one place.

The manifest is written last and makes a folder a cache. The journal grows with each shard while the cache is written.
"""

import json
import re
from pathlib import Path
from typing import Any

from eqvae.autoencoders.places import require_place
from eqvae.hashes import read_json
from eqvae.latents.spec import LatentSpec
from eqvae.precision import ENCODING_PRECISIONS
from eqvae.records import FINITE, FLAG, LIST, RECORD, SHA256, TEXT, TEXTS, WHOLE, one_of, or_none, require_entries

FORMAT_VERSION = 2  # 1 had no hashes in manifest and journal
MANIFEST = "manifest.json"
JOURNALS = ".journal*.json"
TOKEN_DTYPE = "uint16"
DTYPES = ("float16", "bfloat16", "float32", TOKEN_DTYPE)

IDENTITY = {
    "format_version": WHOLE,
    "encoding_precision": one_of(tuple(ENCODING_PRECISIONS)),
    "dtype": one_of(DTYPES),
    "shard_rows": WHOLE,
    "dataset": RECORD,
}
DATASET = {"fingerprint": TEXT, "num_images": WHOLE, "num_classes": WHOLE, "class_names": or_none(TEXTS)}
LATENTS = {"autoencoder_fingerprint": SHA256, "moments": FLAG}
ENCODER = {"name": TEXT, "fingerprint": TEXT, "grid": WHOLE, "width": WHOLE}
SHARD = {"file": TEXT, "count": WHOLE, "sha256": SHA256}
ROUNDED = {"rounding_error": FINITE}  # of latents, which are stored in fewer bits than they are computed in


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def shard_number(name: str) -> int:
    """The way back.

    Raises:
        ValueError: for any other name, such as one that leads out of the folder.
    """
    found = re.fullmatch(r"shard-(\d{5,9})\.safetensors", name)
    if not found or shard_name(int(found[1])) != name:
        raise ValueError(f"{name[:80]!r} is no name of a shard, shard-NNNNN.safetensors")
    return int(found[1])


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished cache, of latents, tokens or features.

    Raises:
        ValueError: naming the file, if there is none, it is damaged, of another format or not what a manifest is, or
            the folder has shards that it does not list.
    """
    manifest = read_listing(folder)
    listed, files = {entry["file"] for entry in manifest["shards"]}, {file.name for file in folder.glob("shard-*")}
    if extra := sorted(files - listed):
        raise ValueError(f"latent shard {folder / extra[0]} is not in the manifest: remove it or write the cache again")
    return manifest


def read_listing(folder: Path) -> dict[str, Any]:
    """The manifest as it is, whatever else lies in the folder; errors as of `read_manifest`."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no finished latent cache ({MANIFEST} is missing): run `train.py predict`")
    manifest = _read(path)
    try:
        _require_manifest(manifest)
    except ValueError as error:
        raise ValueError(f"{path} is not a latent cache manifest ({error}): write the cache again") from None
    return manifest


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Identity of the cache that is being written, and its finished shards.

    Raises:
        ValueError: naming the file that is damaged or no journal.
    """
    journal = _read(path)
    try:
        require_entries(journal, {"identity": RECORD, "shards": LIST})
        _require_identity(journal["identity"])
        _require_journal_shards(journal["shards"], journal["identity"])
    except ValueError as error:
        raise ValueError(f"{path} is no journal of a cache ({error}): remove the folder and write it again") from None
    return journal["identity"], journal["shards"]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    try:
        content = read_json(path)
    except ValueError as error:
        version = _version_without_hash(path)
        if version is None:
            raise ValueError(f"{error}: write the cache again") from None
    else:
        version = content.get("identity", content).get("format_version") if _is_nested(content) else None
    if version != FORMAT_VERSION or type(version) is not int:
        raise ValueError(f"{path} has format version {version!r:.40}, this release reads {FORMAT_VERSION}: cache again")
    return content


def _is_nested(content: dict[str, Any]) -> bool:
    return isinstance(content.get("identity", {}), dict)


def _version_without_hash(path: Path) -> int | None:
    """The version of a file of an earlier release; None of anything else."""
    try:
        content = json.loads(path.read_bytes())
        version = content.get("identity", content)["format_version"]
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    return version if type(version) is int and version != FORMAT_VERSION else None


def _require_manifest(manifest: dict[str, Any]) -> None:
    """Refuse entries that are of another kind or do not fit each other."""
    _require_identity(manifest)
    if "encoder" in manifest:
        require_entries(manifest["encoder"], ENCODER, "encoder.")
    else:
        require_entries(manifest, {"latents": RECORD, "flips": FLAG} | LATENTS)
        spec = LatentSpec.from_dict(manifest["latents"])
        if spec.autoencoder_fingerprint != manifest["autoencoder_fingerprint"]:
            raise ValueError("latents.autoencoder_fingerprint is not autoencoder_fingerprint")
        require_place(manifest.get("autoencoder"))
        if not manifest["flips"]:
            raise ValueError("flips is false, where shards hold flips")
    require_entries(manifest, {"shards": LIST})
    for number, shard in enumerate(manifest["shards"]):
        _require_shard(shard, manifest)
        if shard_number(shard["file"]) != number:
            raise ValueError(f"shards: {shard['file']} stands in place of {shard_name(number)}")
    total = sum(shard["count"] for shard in manifest["shards"])
    if total != manifest["dataset"]["num_images"]:
        raise ValueError(f"shards hold {total} rows, dataset.num_images is {manifest['dataset']['num_images']}")


def _require_identity(identity: dict[str, Any]) -> None:
    require_entries(identity, IDENTITY)
    dataset = identity["dataset"]
    require_entries(dataset, DATASET, "dataset.")
    names = dataset["class_names"]
    if names is not None and len(names) != dataset["num_classes"]:
        raise ValueError(f"dataset.class_names are {len(names)}, dataset.num_classes is {dataset['num_classes']}")


def _require_shard(shard: Any, identity: dict[str, Any]) -> None:
    of_latents = "moments" in identity and identity["dtype"] != TOKEN_DTYPE
    require_entries(shard, SHARD | (ROUNDED if of_latents else {}), "shards.")
    rows = rows_of_shard(shard_number(shard["file"]), identity["shard_rows"], identity["dataset"]["num_images"])
    if shard["count"] != rows:
        raise ValueError(f"shards: {shard['file']} has {shard['count']} rows, which do not fit")


def _require_journal_shards(shards: list[Any], identity: dict[str, Any]) -> None:
    """Some of a cache's shards, each once."""
    for shard in shards:
        _require_shard(shard, identity)
    names = [shard["file"] for shard in shards]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"shards: {repeated[0]} is there twice")


def rows_of_shard(number: int, shard_rows: int, num_images: int) -> int:
    """How many rows a shard has: all but the last have as many as there can be."""
    return max(0, min(shard_rows, num_images - number * shard_rows))
