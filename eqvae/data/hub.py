"""Images of the hub's data sets, or of local ones in the same form, through the package `datasets`."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.compute
import torch

from eqvae.data.encoded import EncodedSource
from eqvae.data.parquet import LABEL_COLUMN, holds_images
from eqvae.errors import first_line
from eqvae.extras import import_extra
from eqvae.network import quick_hub
from eqvae.ranges import require_number
from eqvae.selection import evenly_spaced

SAVED = "state.json"  # what `Dataset.save_to_disk` leaves in its folder
ROWS = 1000  # looked at together


class HubSource(EncodedSource):
    """Images of a data set that `datasets.load_dataset` opens: by hub id, or local files by a builder's name.

    The data set is downloaded and prepared once, in the package's own cache, and then read row by row from mapped Arrow
    files: nothing but what is decoded is in memory. It is never streamed, since the order of training is a function of
    (seed, step), which needs every row at any time. Other columns, captions for example, are left alone.

    Args:
        path: hub id (`uoft-cs/cifar10`), a builder (`parquet`, `imagefolder`, `webdataset`) with `data_files` or
            `data_dir`, or a folder that `Dataset.save_to_disk` wrote.
        image_size, on_error, max_skipped: see `EncodedSource`.
        split: of the data set; of a folder that `Dataset.save_to_disk` wrote, the one that it records, or "train".
        name: configuration of the data set; null takes its default.
        image_column: name of the column.
        label_column: name of the column of classes, which must be there; null takes `label` where there is one, and
            otherwise all images are one class.
        data_files, data_dir, revision, cache_dir: of `load_dataset`.
        max_images: keep only so many, evenly spaced over all rows; null keeps all.

    Raises:
        ValueError: naming the data set that cannot be loaded, the column that is missing or of another type, and the
            option that cannot act on a saved folder; and if `datasets` is not installed.
    """

    def __init__(
        self,
        path: str,
        image_size: int,
        split: str = "train",
        name: str | None = None,
        image_column: str = "image",
        label_column: str | None = None,
        data_files: str | list[str] | None = None,
        data_dir: str | None = None,
        revision: str | None = None,
        cache_dir: str | None = None,
        max_images: int | None = None,
        on_error: Literal["stop", "skip"] = "stop",
        max_skipped: int = 100,
    ):
        require_number("max_images", 1 if max_images is None else max_images, least=1)
        self.path, self.split, self.image_column = path, split, image_column
        given = {"name": name, "data_files": data_files, "data_dir": data_dir}
        dataset = _load(path, split, given | {"revision": revision, "cache_dir": cache_dir})
        if label_column is None and LABEL_COLUMN in dataset.features:
            label_column = LABEL_COLUMN
        self._require_columns(dataset, label_column)
        if not len(dataset):
            raise ValueError(f"data set {path}: split {split} has no rows: give another")
        self._rows = evenly_spaced(max_images, len(dataset))
        labels, names = (None, None) if label_column is None else self._read_labels(dataset, label_column)
        self.class_names: list[str] | None = names
        if labels is None:
            labels, self.class_names = np.zeros(len(dataset), np.int64), ["all"]
        self.num_classes = len(self.class_names) if self.class_names else int(labels.max()) + 1
        self.labels = torch.from_numpy(labels)[self._rows]
        self._dataset = dataset.select_columns([image_column])
        super().__init__(image_size, len(self._rows), on_error, max_skipped)

    def _require_columns(self, dataset: Any, label_column: str | None) -> None:
        missing = [name for name in (self.image_column, label_column) if name and name not in dataset.features]
        if missing:
            raise ValueError(
                f"data set {self.path} has no column {missing[0]!r}, only {', '.join(dataset.features)}: name one of "
                f"these as {'image_column' if missing[0] == self.image_column else 'label_column'}"
            )
        kind = dataset.features.arrow_schema.field(self.image_column).type
        if not holds_images(kind):
            raise ValueError(f"data set {self.path}: column {self.image_column!r} holds {kind}, not images")

    def _read_labels(self, dataset: Any, column: str) -> tuple[np.ndarray | None, list[str] | None]:
        """Classes of all rows [N] and their names; None where all are negative, which marks a split without any."""
        kind = dataset.features[column]
        values = dataset.select_columns([column]).with_format("arrow")[:][column]
        if not pyarrow.types.is_integer(values.type) or values.null_count:
            raise ValueError(f"data set {self.path}: column {column!r} has no class for every row ({kind})")
        labels = values.to_numpy().astype(np.int64)
        if labels.max() >= 0 > labels.min():
            raise ValueError(f"data set {self.path}: column {column!r} has classes below 0 and others")
        return (labels, getattr(kind, "names", None)) if labels.min() >= 0 else (None, None)

    def _read(self, index: int) -> tuple[Path | bytes, str, int]:
        row = int(self._rows[index])
        content = _content(self._dataset[row][self.image_column])
        return content, f"data set {self.path}: {self.split} row {row}", int(self.labels[index])

    def fingerprint(self) -> str:
        """sha256 of size, rows, classes, and the number of bytes (of files, the name, too) of each image."""
        digest = hashlib.sha256(f"hub/{self.image_size}/{self.image_column}".encode())
        digest.update(self._rows.numpy().tobytes() + self.labels.numpy().tobytes())
        for table in self._dataset.with_format("arrow").iter(ROWS):
            for described in _describe(table.flatten(), self.image_column):
                digest.update(f"{described}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def _load(path: str, split: str, given: dict[str, Any]) -> Any:
    """The data set with its images encoded; one line of what the package says in pages."""
    datasets = import_extra("datasets", "hub", f"data set {path}")
    options = {name: value for name, value in given.items() if value is not None}
    is_saved = (Path(path) / SAVED).is_file()
    if unused := [name for name in options if is_saved and name != "cache_dir"]:
        raise ValueError(f"data set {path} is a saved folder, on which {unused[0]} cannot act: leave it out")
    try:
        with _quick_hub(datasets):
            dataset = datasets.load_from_disk(path) if is_saved else datasets.load_dataset(path, split=split, **options)
    except Exception as error:  # every builder has errors of its own
        raise ValueError(f"data set {path} (split {split}) cannot be loaded: {first_line(error)}") from None
    if isinstance(dataset, datasets.DatasetDict):
        raise ValueError(f"data set {path} holds splits {', '.join(dataset)}: name the folder of one")
    if is_saved and split != (recorded := str(dataset.split or "train")):
        raise ValueError(f"data set {path} is a saved folder of split {recorded}: give split {recorded}, not {split}")
    images = [name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
    for name in images:
        dataset = dataset.cast_column(name, datasets.Image(decode=False))
    return dataset


@contextmanager
def _quick_hub(datasets: Any) -> Iterator[None]:
    """Where the hub does not answer, what the package has cached, without half a minute of trying."""
    before = datasets.config.HF_HUB_OFFLINE
    with quick_hub() as answers:
        datasets.config.HF_HUB_OFFLINE = before or not answers
        try:
            yield
        finally:
            datasets.config.HF_HUB_OFFLINE = before


def _content(value: Any) -> Path | bytes:
    """The encoded image, or its file, of one row; nothing of a row without one."""
    if isinstance(value, dict):
        path = value.get("path")
        value = value["bytes"] if value["bytes"] is not None or path is None else Path(path)
    return value or b""


def _describe(table: pyarrow.Table, column: str) -> list[str]:
    """What tells one image of a flat table from another, without reading them: of mapped files only the offsets."""
    encoded = table[column] if column in table.column_names else table[f"{column}.bytes"]
    sizes = pyarrow.compute.call_function("binary_length", [encoded]).to_pylist()
    has_paths = f"{column}.path" in table.column_names
    paths = table[f"{column}.path"].to_pylist() if has_paths else [None] * len(sizes)
    return [
        f"{os.path.basename(path)}/{os.path.getsize(path)}" if size is None and path else str(size)
        for size, path in zip(sizes, paths, strict=True)
    ]
