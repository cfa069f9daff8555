"""Samples on disk: parts as they come, kept over an interruption, assembled into the files people use.

Parts are what several processes share, too. A process claims a part while it makes it, begins with every n-th and goes
on with what nobody has claimed; the first assembles them all.
"""

import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from torch import Tensor

from eqvae.evaluation.image_grids import image_grid, save_png
from eqvae.evaluation.sample_folders import (
    ARRAY,
    GRID,
    RECORD,
    ImagesOf,
    channels_last,
    hold_all,
    images_of_array,
    images_of_single_files,
    images_to_sha256,
    part_ranges,
    read_samples_record,
    single_image,
)
from eqvae.files import remove_leftovers, write_atomically
from eqvae.hashes import require_safetensors, write_json, write_safetensors

RESULTS = ("part_size", "finished", "images_sha256", "function_evaluations", "network_passes", "images_per_second")
SINGLE_FILES = "PNGs"
NUM_GRID_IMAGES = 100
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600.0  # until the first process has loaded the generator, as this one has


class SampleFolder:
    """A folder that fills with the images of one record of settings.

    Args:
        folder: made if missing. Its `samples.json` holds the settings from the first part on.
        settings: plain values, all that images depend on; `num_images` among them.
        part_size: images in a part; a folder that is continued keeps the one it was begun with.

    Raises:
        ValueError: if the folder holds samples of other settings, naming the first of them, samples without a record,
            or a damaged record.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], part_size: int):
        self.folder, self.parts = Path(folder), Path(folder) / "parts"
        self.settings = json.loads(json.dumps(settings))  # as a file gives them back: lists for tuples
        self._sound: set[Path] = set()  # parts that were read through and have their hash
        record = read_samples_record(self.folder)
        if record is None:
            self._require_empty()
            self.results: dict[str, Any] = {"part_size": part_size, "finished": False}
            self._write_record()
            return
        self.results = {name: value for name, value in record.items() if name in RESULTS}
        self._require_settings({name: value for name, value in record.items() if name not in RESULTS})

    def _require_empty(self) -> None:
        """Images without a record are of nobody knows what, and must not be taken for those that are asked for."""
        for path in (self.folder / ARRAY, self.folder / GRID, single_image(self.folder, 0), self.parts):
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise ValueError(
                    f"{self.folder} holds {path.name} without {RECORD}, so nothing tells what it shows: give another "
                    "--output, or remove it"
                )

    def _require_settings(self, recorded: dict) -> None:
        for name in self.settings | recorded:
            ours, theirs = self.settings.get(name), recorded.get(name)
            if ours != theirs:
                raise ValueError(
                    f"{self.folder} holds samples of other settings ({name} is {theirs} there, {ours} here): "
                    "give another --output or remove that folder"
                )

    def _write_record(self) -> None:
        write_json(self.folder / RECORD, self.settings | self.results)

    @property
    def finished(self) -> bool:
        return self.results["finished"]

    @property
    def ranges(self) -> list[range]:
        """Image indices of each part."""
        return part_ranges(self.settings | self.results)

    def path(self, part: range) -> Path:
        return self.parts / f"images-{part.start:08d}.safetensors"

    def missing(self) -> list[range]:
        """Parts that are still to be made; one that is damaged is named, and is missing, too."""
        return [part for part in self.ranges if not self.has(part)]

    def has(self, part: range) -> bool:
        """Whether a part is there as it was written."""
        path = self.path(part)
        if path not in self._sound and path.is_file():
            try:
                require_safetensors(path)
                self._sound.add(path)
            except ValueError as error:
                print(f"{error}: it is made again")
                path.unlink(missing_ok=True)
        return path in self._sound

    def write(self, part: range, images: Tensor, costs: dict[str, float]) -> None:
        """Keep the uint8 images [N, 3, H, W] of a part, and what they cost."""
        write_safetensors(self.path(part), {"images": images.contiguous()}, {"costs": json.dumps(costs)})
        self._sound.add(self.path(part))

    def was_finished(self) -> bool:
        """Whether another process has finished the folder meanwhile."""
        return bool((read_samples_record(self.folder) or {}).get("finished"))

    def claim(self, part: range) -> FileLock:
        """A lock that raises `Timeout` at once where another process makes the part; a dead one's claim is void.

        Raises:
            Timeout: where others have finished the folder meanwhile, in which nothing is to appear any more.
        """
        if self.was_finished():
            raise Timeout(str(self.path(part)))
        self.parts.mkdir(exist_ok=True)
        return FileLock(self.path(part).with_suffix(".lock"), timeout=0)

    def assemble(self, npz: bool, png: bool) -> None:
        """Write grid.png, samples.npz and single images, record hash and costs, remove the parts.

        The costs, added over all images: `function_evaluations` and `network_passes` per image (guidance makes two
        passes in one evaluation) and `images_per_second` of one process.
        """
        remove_leftovers(self.parts)
        self._write_files(self._images, npz, png)
        hashed = {"images_sha256": images_to_sha256(self._images, self.ranges)}
        self.results |= {"finished": True} | hashed | self._costs()
        self._write_record()
        self.remove_parts()

    def complete(self, npz: bool, png: bool) -> list[str] | None:
        """Write what a finished folder lacks of its files, from the images that it kept in others.

        Returns:
            Names of what was written; None where the images are gone, and the folder is open again.
        """
        lacking = self._lacking(npz, png)
        if lacking:
            images_of = self._kept_images()
            if images_of is None:
                self.results["finished"] = False
                self._write_record()
                return None
            self._write_files(images_of, ARRAY in lacking, SINGLE_FILES in lacking)
        self.remove_parts()
        return lacking

    def _lacking(self, npz: bool, png: bool) -> list[str]:
        """Files that are wanted and missing, or hold other images."""
        found = {
            GRID: (self.folder / GRID).is_file(),
            ARRAY: not npz or self._are_as_made(images_of_array(self.folder)),
            SINGLE_FILES: not png or self._are_as_made(images_of_single_files(self.folder)),
        }
        return [name for name, is_there in found.items() if not is_there]

    def _are_as_made(self, images_of: ImagesOf) -> bool:
        return hold_all(images_of, self.ranges, self.results["images_sha256"])

    def _kept_images(self) -> ImagesOf | None:
        readers = (images_of_array(self.folder), images_of_single_files(self.folder))
        return next(filter(self._are_as_made, readers), None)

    def _write_files(self, images_of: ImagesOf, npz: bool, png: bool) -> None:
        first = [images_of(part) for part in self.ranges if part.start < NUM_GRID_IMAGES]
        save_png(image_grid(torch.cat(first)[:NUM_GRID_IMAGES]), self.folder / GRID)
        if npz:
            write_atomically(self.folder / ARRAY, lambda file: self._write_npz(file, images_of))
        for part in self.ranges if png else []:
            for index, image in zip(part, images_of(part), strict=True):
                save_png(image, single_image(self.folder, index))

    def remove_parts(self) -> None:
        shutil.rmtree(self.parts, ignore_errors=True)

    def _images(self, part: range) -> Tensor:
        with safe_open(self.path(part), "pt") as file:
            return file.get_tensor("images")

    def _write_npz(self, file: BinaryIO, images_of: ImagesOf) -> None:
        """The file of `np.savez(file, arr_0=images)`, one part in memory at a time."""
        _, channels, height, width = images_of(self.ranges[0]).shape
        shape = (self.settings["num_images"], height, width, channels)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(file, "w") as archive, archive.open("arr_0.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for part in self.ranges:
                member.write(channels_last(images_of(part)))

    def _costs(self) -> dict[str, float]:
        totals = dict.fromkeys(("function_evaluations", "network_passes", "seconds"), 0.0)
        for part in self.ranges:
            with safe_open(self.path(part), "pt") as file:
                costs = json.loads(file.metadata()["costs"])
            totals = {name: value + costs[name] for name, value in totals.items()}
        count = self.settings["num_images"]
        return {
            "function_evaluations": totals["function_evaluations"] / count,
            "network_passes": totals["network_passes"] / count,
            "images_per_second": count / totals["seconds"],
        }


def fill(
    folder: SampleFolder,
    make_images: Callable[[range], tuple[Tensor, dict[str, float]]],
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Make missing parts, as process `rank` first every `world_size`-th; the first process returns when all are there.

    Args:
        make_images: uint8 images [N, 3, H, W] of indices, and their costs summed over them: `function_evaluations`,
            `network_passes`, `seconds`.
    """
    numbers = {part: number for number, part in enumerate(folder.ranges)}
    in_turn = sorted(folder.missing(), key=lambda part: (numbers[part] - rank) % world_size)
    _make_unclaimed(folder, in_turn, make_images)
    while rank == 0 and (missing := folder.missing()):  # the others make them, or died at it
        if not _make_unclaimed(folder, missing, make_images):
            time.sleep(POLL_SECONDS)


def _make_unclaimed(
    folder: SampleFolder,
    parts: Iterable[range],
    make_images: Callable[[range], tuple[Tensor, dict[str, float]]],
) -> int:
    """How many parts were made: those that are missing and that no other process is making."""
    num_made = 0
    for part in parts:
        try:
            with folder.claim(part):
                # In this order: parts are removed once the folder is recorded as finished.
                if not folder.has(part) and not folder.was_finished():
                    folder.write(part, *make_images(part))
                    num_made += 1
        except Timeout:
            continue
    return num_made


def wait_for_record(folder: str | Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Until the first process has opened a folder.

    Raises:
        ValueError: if it does not.
    """
    since = time.monotonic()
    while read_samples_record(Path(folder)) is None:
        if time.monotonic() - since > patience_seconds:
            raise ValueError(f"{folder}: the first process did not open it: start all processes again")
        time.sleep(POLL_SECONDS)
