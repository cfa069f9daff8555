"""Autoencoder folders: written beside and moved into place, with the hash of every file, and verified when read.

The card is not verified: whoever publishes a folder may go on writing it. One that was edited is not overwritten.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from eqvae.cards import CARD
from eqvae.files import TEMPORARY_PREFIX, sha256_of_file, sync_folder, write_atomically
from eqvae.hashes import KEY, read_json, write_json

RECORD, CONFIG = "normalization.json", "config.json"
FILES, ORIGIN, CARD_HASH, NAME_OR_PATH = "files", "origin", "card", "_name_or_path"
DIFFUSERS_FILES = re.compile(r"config\.json|diffusion_pytorch_model.*\.safetensors(\.index\.json)?")


def write_export(
    folder: str | Path,
    save: Callable[[Path], None],
    about: Mapping[str, Any],
    constants: Mapping[str, Any],
    card: str,
) -> None:
    """Make an autoencoder folder, whole or not at all; an earlier one of the same place is replaced.

    Args:
        folder: of the export.
        save: writes the autoencoder's files into a folder.
        about: what the record says beside the hashes; written last.
        constants: entries of the config.
        card: content of the model card.

    Raises:
        ValueError: if the folder holds anything but an earlier export, or cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    require_replaceable(folder)
    prefix = f"{TEMPORARY_PREFIX}{folder.name}-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f"{prefix}*"):  # of a killed export of this place, of no longer name's
            if "-" not in leftover.name.removeprefix(prefix):  # tempfile's endings have none
                shutil.rmtree(leftover, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            save(staging)
            _set_constants(staging / CONFIG, constants)
            forget_places(staging)
            files = {path.name: _synced_hash(path) for path in sorted(staging.iterdir())}
            write_atomically(staging / CARD, card.encode())
            write_json(staging / RECORD, {**about, FILES: files, CARD_HASH: sha256_of_file(staging / CARD)})
            staging.chmod(0o755)
            _move(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"autoencoder folder {folder} cannot be written: {error}") from None


def require_replaceable(folder: str | Path) -> None:
    """Refuse to write an export where anything else lies.

    Raises:
        ValueError: naming what lies there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{folder} is no folder: an autoencoder cannot be exported there")
        return
    names = {path.name for path in folder.iterdir()}
    known = set(_recorded(folder)) | {name for name in names if DIFFUSERS_FILES.fullmatch(name)}
    foreign = sorted(names - known - {RECORD}) or sorted(names if RECORD not in names else ())
    if foreign:
        raise ValueError(
            f"{folder} holds {foreign[0]}, which no export wrote: move it away, or choose another export_folder"
        )


def remove_export(folder: str | Path) -> None:
    """Remove an earlier export, if there is one.

    Raises:
        ValueError: if the folder holds anything else.
    """
    require_replaceable(folder)
    shutil.rmtree(folder, ignore_errors=True)


def read_export_record(folder: str | Path) -> dict[str, Any] | None:
    """What an export says of itself, verified where it carries its hash; None of a folder that was not exported here.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a latent normalization ({error}): remove it or export again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a latent normalization (no JSON object): remove it or export again")
    return read_json(path) if KEY in content else content


def read_origin(folder: str | Path) -> dict[str, Any] | None:
    """Where the weights of an export come from; None where its record does not say so.

    Raises:
        ValueError: naming the record, if it is damaged.
    """
    origin = (read_export_record(folder) or {}).get(ORIGIN)
    start = origin.get("start") if isinstance(origin, dict) else None
    return origin if isinstance(start, dict) and isinstance(start.get("source"), str | dict) else None


def verify_files(folder: str | Path) -> None:
    """Compare the files of an export with their hashes, where it records them.

    Raises:
        ValueError: naming the file that is missing or damaged.
    """
    folder = Path(folder)
    files = (read_export_record(folder) or {}).get(FILES, {})
    for name, sha256 in files.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise ValueError(f"{path} is missing: export the autoencoder again")
        if sha256_of_file(path) != sha256:
            raise ValueError(f"{path} is damaged: its sha256 is not the one in {RECORD}; export the autoencoder again")


def _recorded(folder: Path) -> list[str]:
    """Names of the files of an export, as far as it still tells; of the card where nobody has edited it."""
    try:
        record = read_export_record(folder) or {}
        is_ours = CARD_HASH in record and (folder / CARD).is_file()
        is_ours = is_ours and sha256_of_file(folder / CARD) == record[CARD_HASH]
        return [*record[FILES], *([CARD] if is_ours else [])]
    except (ValueError, KeyError, TypeError):
        return []


def forget_places(folder: Path) -> None:
    """Take the folder that a model was read from out of all configs in a folder: it is of one machine."""
    for path in sorted(folder.rglob("*.json")):
        config = json.loads(path.read_text())
        if config.pop(NAME_OR_PATH, None) is not None:
            _write_config(path, config)


def _set_constants(path: Path, constants: Mapping[str, Any]) -> None:
    config = json.loads(path.read_text())
    _write_config(path, config | dict(constants))


def _write_config(path: Path, config: Mapping[str, Any]) -> None:
    """As diffusers writes them."""
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _synced_hash(path: Path) -> str:
    """sha256 of a file that is on the disk now, and that others may read (safetensors makes it the owner's alone)."""
    path.chmod(0o644)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return sha256_of_file(path)


def _move(staging: Path, folder: Path) -> None:
    """Give the new folder its name; one of that name is set aside before, and removed after."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{folder.name}-", dir=folder.parent))
        folder.replace(old)
        staging.replace(folder)
        shutil.rmtree(old)
    else:
        staging.replace(folder)
    sync_folder(folder.parent)
