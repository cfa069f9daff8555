"""Samples on disk: parts as they come, kept over an interruption, assembled into the files people use.

Parts are what several processes share, too: process r of n makes every n-th part and the first assembles all of them.
"""

import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from eqvae.evaluation.pictures import image_grid, save_png
from eqvae.files import remove_leftovers, write_atomically

RECORD = "samples.json"
RESULTS = ("part_size", "finished", "function_evaluations", "network_passes", "images_per_second")  # no settings
NUM_GRID_IMAGES = 100
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 3600.0  # without a new part of another process


class SampleFolder:
    """A folder that fills with the images of one record of settings.

    Args:
        folder: made if missing. Its `samples.json` holds the settings from the first part on.
        settings: plain values, all that images and files depend on; `num_images` among them.
        part_size: images in a part; a folder that is continued keeps the one it was begun with.

    Raises:
        ValueError: if the folder holds samples of other settings, naming the first of them.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], part_size: int):
        self.folder, self.parts = Path(folder), Path(folder) / "parts"
        self.settings = json.loads(json.dumps(settings))  # as a file gives them back: lists for tuples
        record = self._read_record()
        if record is None:
            self.part_size, self.finished = part_size, False
            self._write_record({"finished": False})
            return
        self.part_size, self.finished = record["part_size"], record["finished"]
        self._require_settings({name: value for name, value in record.items() if name not in RESULTS})

    def _read_record(self) -> dict | None:
        path = self.folder / RECORD
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text())
        except ValueError:
            record = None
        if not isinstance(record, dict) or not {"part_size", "finished"} <= record.keys():
            raise ValueError(f"{path} is no record of samples: give another --output or remove it")
        return record

    def _require_settings(self, recorded: dict) -> None:
        for name in self.settings | recorded:
            ours, theirs = self.settings.get(name), recorded.get(name)
            if ours != theirs:
                raise ValueError(
                    f"{self.folder} holds samples of other settings ({name} is {theirs} there, {ours} here): "
                    "give another --output or remove that folder"
                )

    def _write_record(self, results: dict) -> None:
        record = {**self.settings, "part_size": self.part_size, **results}
        write_atomically(self.folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())

    @property
    def ranges(self) -> list[range]:
        """Image indices of each part."""
        total = self.settings["num_images"]
        return [range(start, min(start + self.part_size, total)) for start in range(0, total, self.part_size)]

    def path(self, part: range) -> Path:
        return self.parts / f"images-{part.start:08d}.safetensors"

    def missing(self, rank: int = 0, world_size: int = 1) -> list[range]:
        """Parts that process `rank` of `world_size` still has to make."""
        return [part for part in self.ranges[rank::world_size] if not self.path(part).is_file()]

    def write(self, part: range, images: Tensor, costs: dict[str, float]) -> None:
        """Keep the uint8 images [N, 3, H, W] of a part, and what they cost."""
        metadata = {"costs": json.dumps(costs)}
        write_atomically(self.path(part), save({"images": images.contiguous()}, metadata))

    def wait(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Until the other processes have written their parts.

        Raises:
            ValueError: if no new part came for so long.
        """
        missing, since = self.missing(), time.monotonic()
        while missing:
            if time.monotonic() - since > patience_seconds:
                raise ValueError(f"{self.folder}: {len(missing)} parts did not come: start again to make them")
            time.sleep(POLL_SECONDS)
            before, missing = len(missing), self.missing()
            since = time.monotonic() if len(missing) < before else since

    def assemble(self, npz: bool, png: bool) -> dict[str, float]:
        """Write grid.png, samples.npz and single pictures, record the costs, remove the parts; returns the costs.

        The costs, added over all images: `function_evaluations` and `network_passes` per image (guidance makes two
        passes in one evaluation) and `images_per_second` of one process.
        """
        remove_leftovers(self.parts)
        save_png(image_grid(self._first_images()), self.folder / "grid.png")
        if npz:
            write_atomically(self.folder / "samples.npz", self._write_npz)
        for part in self.ranges if png else []:
            for index, image in zip(part, self._images(part), strict=True):
                save_png(image, self.folder / f"{index:06d}.png")
        costs = self._costs()
        self._write_record({"finished": True, **costs})
        self.remove_parts()
        return costs

    def remove_parts(self) -> None:
        shutil.rmtree(self.parts, ignore_errors=True)

    def _images(self, part: range) -> Tensor:
        with safe_open(self.path(part), "pt") as file:
            return file.get_tensor("images")

    def _first_images(self) -> Tensor:
        parts = [self._images(part) for part in self.ranges if part.start < NUM_GRID_IMAGES]
        return torch.cat(parts)[:NUM_GRID_IMAGES]

    def _write_npz(self, file: BinaryIO) -> None:
        """The file of `np.savez(file, arr_0=images)`, one part in memory at a time."""
        _, channels, height, width = self._images(self.ranges[0]).shape
        shape = (self.settings["num_images"], height, width, channels)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(file, "w") as archive, archive.open("arr_0.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for part in self.ranges:
                member.write(self._images(part).permute(0, 2, 3, 1).contiguous().numpy().tobytes())

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
    track: Callable[[list[range]], Iterator[range]] = iter,
) -> None:
    """Make the missing parts of process `rank`.

    Args:
        make_images: uint8 images [N, 3, H, W] of indices, and their costs summed over them: `function_evaluations`,
            `network_passes`, `seconds`.
        track: shows progress.
    """
    for part in track(folder.missing(rank, world_size)):
        folder.write(part, *make_images(part))
