"""Reads a latent cache: memory-mapped, random access, refused where anything does not match."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from eqvae.autoencoders.places import Source, find_place
from eqvae.errors import first_line
from eqvae.files import sha256_of_file
from eqvae.latents.manifest import read_manifest
from eqvae.latents.shards import dataset_changes
from eqvae.latents.spec import LatentSpec
from eqvae.randomness import keyed_normal, keyed_uniform


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
        counts = torch.tensor([entry["count"] for entry in manifest["shards"]])
        self._starts = torch.cat((torch.zeros(1, dtype=torch.long), counts.cumsum(0)))
        self._shards = [
            _open_shard(folder, manifest["dtype"], shapes, entry, first, verify)
            for entry, first in zip(manifest["shards"], self._starts.tolist())
        ]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, ids: Tensor, name: str) -> Tensor:
        """Rows `ids` [B] of one tensor of the shards, as stored."""
        if len(self._shards) == 1:
            return self._shards[0][name].index_select(0, ids)
        shard_of = torch.searchsorted(self._starts, ids, right=True) - 1
        first = self._shards[0][name]
        result = torch.empty(len(ids), *first.shape[1:], dtype=first.dtype)
        for shard in shard_of.unique().tolist():
            mask = shard_of == shard
            result[mask] = self._shards[shard][name].index_select(0, ids[mask] - self._starts[shard])
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
        if "latents" not in self.manifest:
            raise ValueError(f"{self.folder} is a cache of features, not of {self.kind}: give another cache")
        self.spec = LatentSpec.from_dict(self.manifest["latents"])
        if self.spec.kind != self.kind:
            raise ValueError(f"{self.folder} is a cache of {self.spec.kind}, not of {self.kind}: give another cache")
        self.num_classes: int = self.manifest["dataset"]["num_classes"]
        shapes = {name + suffix: self.spec.shape for name in self._stored_names() for suffix in ("", "_flip")}
        super().__init__(self.folder, self.manifest, shapes, verify)
        self._require_labels()

    def _require_labels(self) -> None:
        for shard, entry in zip(self._shards, self.manifest["shards"]):
            label = shard.get("label", torch.zeros(0))
            fits = label.dtype == torch.int64 and label.shape == (entry["count"],)
            if not fits or not 0 <= int(label.min()) <= int(label.max()) < self.num_classes:
                path = self.folder / entry["file"]
                raise ValueError(f"latent shard {path}: labels are not 0 to {self.num_classes - 1}: cache again")

    @property
    def has_moments(self) -> bool:
        """Whether every read draws a fresh sample; otherwise one was stored."""
        return self.manifest["moments"]

    @property
    def autoencoder_source(self) -> Source | None:
        """Where the autoencoder is that made the cache, for `load_autoencoder`; None where that is not recorded."""
        return find_place(self.manifest.get("autoencoder"), self.folder)

    def _stored_names(self) -> tuple[str, ...]:
        return ("mean", "log_std") if self.has_moments else ("sample",)

    def require_images(self, dataset: dict) -> None:
        """Refuse images other than those that were cached.

        Args:
            dataset: description of a data module (`ImageDataModule.description`).

        Raises:
            ValueError: naming what changed: files, number, size, crop, or the code that prepares them.
        """
        recorded = self.manifest["dataset"]
        if dataset != recorded:
            changed = ", ".join(dataset_changes(recorded, dataset))
            raise ValueError(f"latent cache {self.folder} was made of other images ({changed}): write it again")

    def get_batch(self, ids: Tensor, keys: Tensor | None, flip: bool = True, seed: int = 0) -> dict[str, Tensor]:
        """Fresh posterior samples of images, normalized, half of them of the flipped image.

        A cache of single samples gives those.

        Args:
            ids: [B] images.
            keys: [B] positions in the stream, which key sample and flip; None gives unflipped posterior means (or
                the stored samples).

        Returns:
            `latents` [B, C, h, w] float32 normalized, `label` [B], `index` [B], `flipped` [B] bool.
        """
        is_flipped = torch.zeros(len(ids), dtype=torch.bool)
        if keys is not None and flip:
            is_flipped = keyed_uniform(keys, seed=seed, stream="flip") < 0.5
        latents = self._flipped_rows(ids, "mean" if self.has_moments else "sample", is_flipped)
        if keys is not None and self.has_moments:
            noise = keyed_normal(keys, tuple(latents.shape[1:]), seed=seed, stream="posterior")
            latents.addcmul_(self._flipped_rows(ids, "log_std", is_flipped).exp_(), noise)
        return {
            "latents": self.spec.normalization.normalize(latents),
            "label": self.rows(ids, "label"),
            "index": ids,
            "flipped": is_flipped,
        }

    def _flipped_rows(self, ids: Tensor, name: str, is_flipped: Tensor) -> Tensor:
        """Float32 rows [B, ...] of a stored tensor or of its flipped twin, each read once."""
        order = is_flipped.to(torch.uint8).argsort(stable=True)  # plain ones first
        num_plain = len(ids) - int(is_flipped.sum())
        plain, flipped = ids[order].tensor_split([num_plain])
        rows = self.rows(plain, name)
        if len(flipped):
            rows = torch.cat((rows, self.rows(flipped, f"{name}_flip"))).index_select(0, order.argsort())
        return rows.float()


def require_held_out(validation: LatentCache, training: LatentCache) -> None:
    """Refuse validation latents that are of another latent space than those of the training, or the same ones.

    Raises:
        ValueError: naming both folders and what differs.
    """
    ours, theirs = validation.spec.to_dict(), training.spec.to_dict()
    changed = [name for name in (ours | theirs) if name != "normalization" and ours.get(name) != theirs.get(name)]
    if validation.spec.normalization != training.spec.normalization:
        changed.append("normalization")
    images = (validation.manifest["dataset"], training.manifest["dataset"])
    names = [each["class_names"] for each in images]
    if validation.num_classes > training.num_classes or (None not in names and names[0] != names[1]):
        changed.append("classes")
    where = f"validation cache {validation.folder}"
    if changed:
        raise ValueError(
            f"{where} has another {', '.join(changed).replace('_', ' ')} than {training.folder}: write both with one "
            "`train.py predict`"
        )
    if images[0]["fingerprint"] == images[1]["fingerprint"]:
        raise ValueError(f"{where} is of the same images as {training.folder}: hold other images out")


def _open_shard(
    folder: Path, dtype: str, shapes: dict[str, tuple[int, ...]], entry: dict, first: int, verify: bool
) -> dict[str, Tensor]:
    """The tensors of a shard whose first image is `first`."""
    path = folder / entry["file"]
    if not path.is_file():
        raise ValueError(f"latent shard {path} is missing: run `train.py predict` again, it is written again")
    if verify and sha256_of_file(path) != entry["sha256"]:
        raise ValueError(f"latent shard {path} is damaged (expected sha256 {entry['sha256'][:12]}...): cache again")
    try:
        shard = load_file(path)  # memory-mapped: pages are read as rows are
    except Exception as error:  # a damaged header can raise anything
        raise ValueError(f"latent shard {path} cannot be read ({first_line(error)}): write the cache again") from None
    expected = {name: f"{dtype} {(entry['count'], *shape)}" for name, shape in shapes.items()}
    for name, wanted in ({"index": f"int64 {(entry['count'],)}"} | expected).items():
        found = "none"
        if name in shard:
            found = f"{str(shard[name].dtype).removeprefix('torch.')} {tuple(shard[name].shape)}"
        if found != wanted:
            raise ValueError(f"latent shard {path}: {name} is {found}, the manifest says {wanted}: cache again")
    if not torch.equal(shard["index"], torch.arange(first, first + entry["count"])):
        raise ValueError(f"latent shard {path}: its images are not {first} and the following: cache again")
    return shard
