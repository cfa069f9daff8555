"""Reads a latent cache: memory-mapped, random access, refused where anything does not match."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from eqvae.latents.spec import LatentSpec
from eqvae.latents.writer import FORMAT_VERSION, MANIFEST, dataset_changes
from eqvae.training.files import sha256_of_file
from eqvae.training.randomness import keyed_normal, keyed_uniform

ROWS_AT_ONCE = 16  # of 32 x 32 x 4: what is computed on the way then stays in the cache of a core


class ShardedRows:
    """Rows of the shards that a manifest lists. Shards stay memory-mapped; a batch copies only its own rows.

    Args:
        folder: of the cache.
        shapes: of one row of each tensor that shards must have in the manifest's dtype.
        verify: compare every shard with its sha256 on opening.

    Raises:
        ValueError: naming the shard that is missing, damaged or of another shape.
    """

    def __init__(self, folder: Path, manifest: dict, shapes: dict[str, tuple[int, ...]], verify: bool):
        self._shards = [_open_shard(folder, manifest["dtype"], shapes, entry, verify) for entry in manifest["shards"]]
        counts = torch.tensor([entry["count"] for entry in manifest["shards"]])
        self._starts = torch.cat((torch.zeros(1, dtype=torch.long), counts.cumsum(0)))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, ids: Tensor, name: str, flipped: Tensor | None = None) -> Tensor:
        """Rows `ids` [B] of one tensor of the shards, as stored; where `flipped` [B] those of its flipped twin."""
        shard_of = torch.searchsorted(self._starts, ids, right=True) - 1
        row_of = ids - self._starts[shard_of]
        source_of = 2 * shard_of if flipped is None else 2 * shard_of + flipped
        sources, counts = source_of.unique(return_counts=True)
        first = self._shards[0][name]
        result = torch.empty(len(ids), *first.shape[1:], dtype=first.dtype)
        for source, places in zip(sources.tolist(), source_of.argsort().split(counts.tolist()), strict=True):
            stored = self._shards[source // 2][f"{name}_flip" if source % 2 else name]
            result.index_copy_(0, places, stored.index_select(0, row_of[places]))
        return result


class LatentCache(ShardedRows):
    """A finished cache of latents.

    Args:
        folder: of the cache.
        verify: compare every shard with its sha256 on opening (about 1 s per GB).

    Raises:
        ValueError: naming the folder or shard that is missing, damaged or of another format.
    """

    kind = LatentSpec.kind

    def __init__(self, folder: str | Path, verify: bool = True):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.spec = LatentSpec.from_dict(self.manifest["latents"])
        if self.spec.kind != self.kind:
            raise ValueError(f"{self.folder} is a cache of {self.spec.kind}, not of {self.kind}: give another cache")
        self.num_classes: int = self.manifest["dataset"]["num_classes"]
        shapes = {name + suffix: self.spec.shape for name in self._stored_names() for suffix in ("", "_flip")}
        super().__init__(self.folder, self.manifest, shapes, verify)

    @property
    def has_moments(self) -> bool:
        """Whether every read draws a fresh sample; otherwise one was stored."""
        return self.manifest["moments"]

    def _stored_names(self) -> tuple[str, ...]:
        return ("mean", "log_std") if self.has_moments else ("sample",)

    def require_pictures(self, dataset: dict) -> None:
        """Refuse pictures other than those that were cached.

        Args:
            dataset: description of a data module (`ImageDataModule.description`).

        Raises:
            ValueError: naming what changed: files, number, size, crop, or the code that prepares them.
        """
        recorded = self.manifest["dataset"]
        if dataset != recorded:
            changed = ", ".join(dataset_changes(recorded, dataset))
            raise ValueError(f"latent cache {self.folder} was made of other pictures ({changed}): write it again")

    def _choose_flipped(self, ids: Tensor, keys: Tensor | None, flip: bool, seed: int) -> Tensor:
        """[B] bool; a function of (seed, position in the stream)."""
        if keys is None or not flip:
            return torch.zeros(len(ids), dtype=torch.bool)
        return keyed_uniform(keys, seed=seed, stream="flip") < 0.5

    def get_batch(self, ids: Tensor, keys: Tensor | None, flip: bool = True, seed: int = 0) -> dict[str, Tensor]:
        """Fresh posterior samples of pictures, normalized, half of them of the flipped picture.

        A cache of single samples gives those.

        Args:
            ids: [B] pictures.
            keys: [B] positions in the stream, which key sample and flip; None gives unflipped posterior means (or
                the stored samples).

        Returns:
            `latents` [B, C, h, w] float32 normalized, `label` [B], `index` [B], `flipped` [B] bool.
        """
        name = "mean" if self.has_moments else "sample"
        is_flipped = self._choose_flipped(ids, keys, flip, seed)
        latents = self.rows(ids, name, is_flipped).float()
        if keys is not None and self.has_moments:
            log_std = self.rows(ids, "log_std", is_flipped)
            for part, part_keys, part_log_std in zip(
                *(tensor.split(ROWS_AT_ONCE) for tensor in (latents, keys, log_std)), strict=True
            ):
                noise = keyed_normal(part_keys, tuple(part.shape[1:]), seed=seed, stream="posterior")
                part.addcmul_(part_log_std.float().exp_(), noise)
        for part in latents.split(ROWS_AT_ONCE):
            part.copy_(self.spec.normalization.normalize(part))
        return {
            "latents": latents,
            "label": self.rows(ids, "label"),
            "index": ids,
            "flipped": is_flipped,
        }


def read_manifest(folder: Path) -> dict:
    """The manifest of a cache.

    Raises:
        ValueError: if there is none, or one of another format, or the folder has shards that it does not list.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no finished latent cache ({MANIFEST} is missing): run `train.py predict`")
    try:
        manifest = json.loads(path.read_text())
        version = manifest["format_version"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a latent cache manifest ({error}): write the cache again") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {version}, this release reads {FORMAT_VERSION}: cache again")
    listed, files = {entry["file"] for entry in manifest["shards"]}, {file.name for file in folder.glob("shard-*")}
    if extra := sorted(files - listed):
        raise ValueError(f"latent shard {folder / extra[0]} is not in the manifest: remove it or write the cache again")
    return manifest


def _open_shard(
    folder: Path, dtype: str, shapes: dict[str, tuple[int, ...]], entry: dict, verify: bool
) -> dict[str, Tensor]:
    path = folder / entry["file"]
    if not path.is_file():
        raise ValueError(f"latent shard {path} is missing: write the cache again")
    if verify and sha256_of_file(path) != entry["sha256"]:
        raise ValueError(f"latent shard {path} is damaged (expected sha256 {entry['sha256'][:12]}...): cache again")
    try:
        shard = load_file(path)  # memory-mapped: pages are read as rows are
    except SafetensorError as error:
        raise ValueError(f"latent shard {path} cannot be read ({error}): write the cache again") from None
    for name, shape in shapes.items():
        expected = f"{dtype} {(entry['count'], *shape)}"
        found = (
            f"{str(shard[name].dtype).removeprefix('torch.')} {tuple(shard[name].shape)}" if name in shard else "none"
        )
        if found != expected:
            raise ValueError(f"latent shard {path}: {name} is {found}, the manifest says {expected}: cache again")
    return shard
