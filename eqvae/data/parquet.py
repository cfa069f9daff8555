"""Images of parquet files, as the hub exports them."""

import hashlib
import json
from bisect import bisect_right
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from eqvae.data.encoded import EncodedSource, matching_files
from eqvae.ranges import require_number
from eqvae.selection import evenly_spaced

LABEL_COLUMN = "label"  # of the hub's exports


class ParquetSource(EncodedSource):
    """Images of parquet files in the layout of the hub: `image` = struct{bytes, path} (or plain bytes), `label`.

    Encoded images are held in memory (about 1 GB per 10,000 ImageNet files); decoding happens on access.

    Args:
        files: path or glob of the files, read in sorted order.
        image_size, on_error, max_skipped: see `EncodedSource`.
        image_column: name of the column.
        label_column: name of the column of classes, which must be there; null takes `label` where there is one, and
            otherwise all images are one class.
        max_images: keep only so many, evenly spaced over all rows; null keeps all.

    Raises:
        ValueError: naming the file or column that is missing or unreadable, holds no classes, or more than it names.
    """

    def __init__(
        self,
        files: str,
        image_size: int,
        image_column: str = "image",
        label_column: str | None = None,
        max_images: int | None = None,
        on_error: Literal["stop", "skip"] = "stop",
        max_skipped: int = 100,
    ):
        require_number("max_images", 1 if max_images is None else max_images, least=1)
        self.paths, self.image_column = matching_files(files, "parquet"), image_column
        metadata = [_read_metadata(path) for path in self.paths]
        schemas = [each.schema.to_arrow_schema() for each in metadata]
        if label_column is None:
            label_column = _usual_label_column(self.paths, schemas)
        self._starts = np.cumsum([0, *(each.num_rows for each in metadata)]).tolist()
        self._rows = evenly_spaced(max_images, self._starts[-1])
        if not self._starts[-1]:
            raise ValueError(f"parquet files {files} hold no rows: give others")
        for path, schema in zip(self.paths, schemas, strict=True):
            _require_columns(path, schema, image_column, label_column)
        self._encoded = self._read_images()
        labels = None if label_column is None else self._read_labels(label_column)
        self.labels = torch.zeros(len(self._rows), dtype=torch.long)
        if labels is not None:
            self.labels = torch.from_numpy(labels)[self._rows]
        self.class_names: list[str] | None = ["all"]
        if labels is not None and label_column is not None:
            self.class_names = _shared_class_names(self.paths, schemas, label_column)
        highest = 0 if labels is None else int(labels.max())  # of all rows: a part must not lose classes
        self.num_classes = highest + 1 if self.class_names is None else len(self.class_names)
        if highest >= self.num_classes:
            where = f"parquet files {self.paths[0]} ...: column {label_column!r}"
            raise ValueError(f"{where} has class {highest}, its files name {self.num_classes}")
        self._label_column = label_column
        super().__init__(image_size, len(self._rows), on_error, max_skipped)

    def _read_images(self) -> pyarrow.ChunkedArray:
        """The encoded images of the rows that are kept."""
        kept = []
        for path, start, stop in zip(self.paths, self._starts, self._starts[1:], strict=False):
            rows = self._rows[(self._rows >= start) & (self._rows < stop)] - start
            table = _read_column(path, self.image_column)
            kept.append(table if len(rows) == len(table) else table.take(pyarrow.array(rows.numpy())))
        columns = [_encoded(table[self.image_column]) for table in kept]
        if len({column.type for column in columns}) > 1:
            columns = [column.cast(pyarrow.large_binary()) for column in columns]
        return pyarrow.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)

    def _read_labels(self, column: str) -> np.ndarray | None:
        """The classes of all rows [N]; None where all are negative, which is how the hub marks a split without any."""
        parts = []
        for path in self.paths:
            values = _read_column(path, column)[column]
            if not pyarrow.types.is_integer(values.type) or values.null_count:
                raise ValueError(f"parquet file {path}: column {column!r} has no class for every row ({values.type})")
            parts.append(values.to_numpy().astype(np.int64))
        labels = np.concatenate(parts)
        if labels.max() >= 0 > labels.min():
            raise ValueError(f"parquet files {self.paths[0]} ...: column {column!r} has classes below 0 and others")
        return labels if labels.min() >= 0 else None

    def _read(self, index: int) -> tuple[bytes, str, int]:
        row = int(self._rows[index])
        number = bisect_right(self._starts, row) - 1
        return (
            self._encoded[index].as_py() or b"",
            f"{self.paths[number]}: row {row - self._starts[number]}",
            int(self.labels[index]),
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"parquet/{self.image_size}/{self.image_column}/{len(self)}".encode())
        if len(self) < self._starts[-1]:
            digest.update(b"/evenly spaced")
        if self._label_column not in (LABEL_COLUMN, None):
            digest.update(f"/{self._label_column}".encode())
        for path in self.paths:
            digest.update(f"{Path(path).name}/{Path(path).stat().st_size}\n".encode())
        return digest.hexdigest()


def _read_metadata(path: str) -> pyarrow.parquet.FileMetaData:
    try:
        return pyarrow.parquet.read_metadata(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise _not_readable(path, error) from None


def _require_columns(path: str, schema: pyarrow.Schema, image_column: str, label_column: str | None) -> None:
    missing = [name for name in (image_column, label_column) if name is not None and name not in schema.names]
    if missing:
        raise ValueError(f"parquet file {path} has no column {missing[0]!r}, only {', '.join(schema.names)}")
    kind = schema.field(image_column).type
    if not holds_images(kind):
        raise ValueError(f"parquet file {path}: column {image_column!r} holds {kind}, not encoded images")


def _usual_label_column(paths: list[str], schemas: list[pyarrow.Schema]) -> str | None:
    """The hub's column of classes where there is one; files of which only some have it would lose theirs."""
    has = [LABEL_COLUMN in schema.names for schema in schemas]
    if any(has) and not all(has):
        raise ValueError(
            f"parquet file {paths[has.index(True)]} has a column {LABEL_COLUMN!r}, {paths[has.index(False)]} has none: "
            "give every file classes, or read them apart"
        )
    return LABEL_COLUMN if all(has) else None


def _encoded(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """The bytes alone of a column of images."""
    if not pyarrow.types.is_struct(column.type):
        return column
    return column.flatten()[column.type.get_field_index("bytes")]


def holds_images(kind: pyarrow.DataType) -> bool:
    """Whether a column's type is that of encoded images: bytes, or a struct that has them."""
    if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _read_column(path: str, column: str) -> pyarrow.Table:
    try:
        return pyarrow.parquet.read_table(path, columns=[column], memory_map=True)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise _not_readable(path, error) from None


def _not_readable(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is not a readable parquet file ({str(error).splitlines()[0]})")


def _shared_class_names(paths: list[str], schemas: list[pyarrow.Schema], label_column: str) -> list[str] | None:
    """Names of the classes that the files have, those that name any; all of them the same ones."""
    found = {path: _class_names(schema.metadata, label_column) for path, schema in zip(paths, schemas, strict=True)}
    named = {path: names for path, names in found.items() if names is not None}
    first = next(iter(named), None)
    if first is None:
        return None
    if other := next((path for path, names in named.items() if names != named[first]), None):
        raise ValueError(f"parquet files {first} and {other} name other classes in {label_column!r}: read them apart")
    return named[first]


def _class_names(metadata: dict | None, label_column: str) -> list[str] | None:
    """Names that the hub's exporter leaves in the schema; None where it, or somebody else, left nothing of the kind."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label_column]["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
