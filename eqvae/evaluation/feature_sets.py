"""What is kept of a whole set of images, taken batch by batch: never the images themselves.

Statistics are those of all images. Kernel distance, precision and recall compare images one by one; of a large set
they see a random part, the same for a seed, since data are sorted (ImageNet by class) and the first rows stand for
nothing.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from eqvae.evaluation.distances import warn_if_singular, with_root
from eqvae.evaluation.features import images_to_outputs
from eqvae.evaluation.metric import OUTPUTS
from eqvae.hashes import require_safetensors, write_safetensors
from eqvae.randomness import keyed_integers

MAX_KEPT_FEATURES = 50_000  # rows for kernel distance, precision and recall: 400 MB of Inception's
KEPT_SEED = 0
NUM_KEYS = 1 << 53
ROWS_AT_ONCE = 2048
ALL_IMAGES = "all"
FORMAT_VERSION = 2  # 1 kept the first rows

Statistics = dict[str, np.ndarray]


class RunningStatistics:
    """Mean and unbiased covariance of features that come in batches, in float64.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self):
        self.count = self._num_held = 0
        self.mean: np.ndarray = np.zeros(())  # [D] and [D, D] with the first rows
        self.scatter: np.ndarray = np.zeros(())
        self._held: list[Tensor] = []

    def update(self, features: Tensor) -> None:
        """Add features [B, D]."""
        self._held.append(features)
        self._num_held += len(features)
        if self._num_held >= ROWS_AT_ONCE:
            self._add_held()

    def _add_held(self) -> None:
        """Many rows at once: a product of few costs less than adding it to [D, D]."""
        rows = torch.cat(self._held).double().numpy()
        count = self.count + len(rows)
        mean = rows.mean(axis=0)
        centred, shift = rows - mean, mean - self.mean
        self.scatter = self.scatter + centred.T @ centred
        if self.count:
            self.scatter += np.outer(shift, shift * (self.count * len(rows) / count))
        self.mean = self.mean + shift * (len(rows) / count)
        self.count, self._num_held, self._held = count, 0, []

    def compute(self) -> Statistics:
        """`mu` [D] and `sigma` [D, D]; warns where they come from no more samples than features.

        Raises:
            ValueError: for fewer than two samples or values that are not finite.
        """
        if self._held:
            self._add_held()
        if self.count < 2:
            raise ValueError(f"a Fréchet distance needs at least 2 images on each side, got {self.count}")
        if not np.isfinite(self.scatter).all():
            raise ValueError("features hold values that are not finite: are these the weights of the extractor?")
        warn_if_singular(self.count, len(self.mean))
        return {"mu": self.mean, "sigma": self.scatter / (self.count - 1)}


class RandomRows:
    """A random subset of the rows of a stream, uniform, and the same for any batches that the rows come in.

    Each row has a random number keyed by its place in the stream; those with the smallest numbers are kept, so that
    never more than twice `size` rows are held, however many come.

    Args:
        size: rows that are kept, where there are so many.
        seed: of the numbers.
    """

    def __init__(self, size: int, seed: int = KEPT_SEED):
        self.size, self.seed = size, seed
        self.count = self._num_held = 0
        self._limit = NUM_KEYS  # a row with a larger number is none of the smallest
        self._rows: list[Tensor] = []
        self._places: list[Tensor] = []

    def update(self, rows: Tensor) -> None:
        """Add rows [B, D]."""
        places = torch.arange(self.count, self.count + len(rows))
        keep = self._keys(places) < self._limit
        self._rows.append(rows[keep])
        self._places.append(places[keep])
        self.count += len(rows)
        self._num_held += len(self._places[-1])
        if self._num_held > 2 * self.size:
            self._prune()

    def _keys(self, places: Tensor) -> Tensor:
        return keyed_integers(places, NUM_KEYS, seed=self.seed, stream="kept-features")

    def _prune(self) -> None:
        rows, places = torch.cat(self._rows), torch.cat(self._places)
        keys = self._keys(places)
        smallest = keys.argsort(stable=True)[: self.size].sort().values
        self._limit = int(keys[smallest].max()) if len(keys) > self.size else NUM_KEYS
        self._rows, self._places, self._num_held = [rows[smallest]], [places[smallest]], len(smallest)

    def compute(self) -> Tensor:
        """The rows [n, D] in the order of the stream."""
        self._prune()
        return self._rows[0]

    @property
    def rule(self) -> str:
        """Which rows these are, in words."""
        return ALL_IMAGES if self.count <= self.size else f"{self.size} of {self.count}, random, seed {self.seed}"


@dataclass
class FeatureSet:
    """Features of a set of images.

    Args:
        pooled, spatial: statistics of all images; not all files of stored statistics and not all extractors have
            spatial ones.
        features: pooled features [n, D] of all images or of a random part; None where only statistics are known.
        logits: [n, K] of all images; None for a reference, and where the extractor gives none.
        num_images: how many the statistics describe; None where a file does not tell.
        kept: of which images the features are, "all" or which part; None where there are none.
    """

    pooled: Statistics
    spatial: Statistics | None = None
    features: Tensor | None = None
    logits: Tensor | None = None
    num_images: int | None = None
    kept: str | None = None


def images_to_feature_set(batches: Tensor | Iterable[Tensor], extractor: FeatureExtractorBase) -> FeatureSet:
    """Stream uint8 images [N, 3, H, W], or batches of them, through an extractor.

    Raises:
        ValueError: for fewer than two images.
    """
    running, kept = {"pooled": RunningStatistics()}, RandomRows(MAX_KEPT_FEATURES)
    logits: list[Tensor] = []
    for outputs in images_to_outputs(batches, extractor):
        given = dict(zip(OUTPUTS, outputs, strict=False))  # an extractor may give pooled features alone
        if "logits" in given:
            logits.append(given.pop("logits"))
        for name, features in given.items():
            running.setdefault(name, RunningStatistics()).update(features)
        kept.update(given["pooled"])
    if kept.count < 2:
        raise ValueError(f"a distance between sets needs at least 2 images on each side, got {kept.count}")
    statistics = {name: each.compute() for name, each in running.items()}
    scores = torch.cat(logits) if logits else None
    return FeatureSet(**statistics, features=kept.compute(), logits=scores, num_images=kept.count, kept=kept.rule)


def as_reference(feature_set: FeatureSet) -> FeatureSet:
    """The same set with what every distance from it needs anew: the roots of its covariances."""
    return replace(feature_set, **{name: with_root(each) for name, each in _statistics(feature_set).items()})


def _statistics(feature_set: FeatureSet) -> dict[str, Statistics]:
    """Those that a set has, by kind."""
    kinds = {"pooled": feature_set.pooled, "spatial": feature_set.spatial}
    return {name: statistics for name, statistics in kinds.items() if statistics is not None}


def cached_feature_set(folder: Path, about: dict, compute: Callable[[], FeatureSet]) -> tuple[FeatureSet, bool]:
    """The set that `about` describes, from the folder where it was computed before; else computed and kept there.

    A file that is damaged or describes something else is computed anew. Where none can be written, a warning says so.

    Args:
        folder: of the cache; created when missing.
        about: all that decides the features: fingerprints, extractor, sizes. Its sha256 names the file.

    Returns:
        The set, without logits, and whether it was found.
    """
    about = {"format_version": FORMAT_VERSION} | about
    path = Path(folder) / f"{description_to_fingerprint(about)}.safetensors"
    found = read_feature_set(path, about)
    if found is not None:
        return found, True
    computed = as_reference(compute())
    try:
        write_feature_set(path, computed, about)
    except OSError as error:  # the numbers do not depend on it
        warnings.warn(
            f"reference statistics are not kept, {folder} cannot be written ({error.strerror}): name another folder "
            "with --statistics-cache",
            stacklevel=2,
        )
    computed.logits = None
    return computed, False


def description_to_fingerprint(about: dict) -> str:
    """sha256 of a description, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def write_feature_set(path: Path, feature_set: FeatureSet, about: dict) -> None:
    """Keep a set of images, all but its logits, as safetensors with `about` (see `cached_feature_set`) inside."""
    assert feature_set.features is not None, "known of images"
    assert feature_set.kept is not None, "known of images"
    tensors = {"features": feature_set.features}
    for name, statistics in _statistics(feature_set).items():
        tensors |= {f"{name}.{key}": torch.from_numpy(value) for key, value in statistics.items()}
    metadata = {
        "about": json.dumps(about, sort_keys=True),
        "num_images": str(feature_set.num_images),
        "kept": feature_set.kept,
    }
    write_safetensors(path, {name: value.contiguous() for name, value in tensors.items()}, metadata)


def read_feature_set(path: Path, about: dict) -> FeatureSet | None:
    """What `write_feature_set` kept; None where the file is missing, damaged or about something else."""
    try:
        metadata = require_safetensors(path)
        if json.loads(metadata["about"]) != about:
            return None
        with safe_open(path, "pt") as file:
            kinds = [name for name in ("pooled", "spatial") if name == "pooled" or f"{name}.mu" in file.keys()]  # noqa: SIM118
            arrays = {name: _read_statistics(file, name) for name in kinds}
            described = {"num_images": int(metadata["num_images"]), "kept": metadata["kept"]}
            return FeatureSet(**arrays, features=file.get_tensor("features"), **described)
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None


def _read_statistics(file: safe_open, name: str) -> Statistics:
    """Of one kind, with their root where it was kept."""
    kept = [key for key in ("mu", "sigma", "root") if key != "root" or f"{name}.root" in file.keys()]  # noqa: SIM118
    return {key: file.get_tensor(f"{name}.{key}").numpy() for key in kept}
