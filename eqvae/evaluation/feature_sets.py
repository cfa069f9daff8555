"""What is kept of a whole set of pictures, taken batch by batch: never the pictures themselves."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from eqvae.evaluation.distances import warn_if_singular
from eqvae.evaluation.features import images_to_outputs
from eqvae.files import write_atomically

MAX_KEPT_FEATURES = 50_000  # rows for kernel distance, precision and recall: 400 MB of Inception's
FORMAT_VERSION = 1

Statistics = dict[str, np.ndarray]


class RunningStatistics:
    """Mean and unbiased covariance of features that come in batches, in float64.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self):
        self.count, self.mean, self.scatter = 0, 0.0, 0.0

    def update(self, features: Tensor) -> None:
        """Add features [B, D]."""
        batch = features.double().numpy()
        count = self.count + len(batch)
        mean = batch.mean(axis=0)
        centred, shift = batch - mean, mean - self.mean
        self.scatter = self.scatter + centred.T @ centred + np.outer(shift, shift) * (self.count * len(batch) / count)
        self.mean = self.mean + shift * (len(batch) / count)
        self.count = count

    def compute(self) -> Statistics:
        """`mu` [D] and `sigma` [D, D]; warns where they come from no more samples than features.

        Raises:
            ValueError: for fewer than two samples or values that are not finite.
        """
        if self.count < 2:
            raise ValueError(f"a Fréchet distance needs at least 2 pictures on each side, got {self.count}")
        if not np.isfinite(self.scatter).all():
            raise ValueError("features hold values that are not finite: are these the weights of the extractor?")
        warn_if_singular(self.count, len(self.mean))
        return {"mu": self.mean, "sigma": self.scatter / (self.count - 1)}


@dataclass
class FeatureSet:
    """Features of a set of pictures.

    Args:
        pooled, spatial: statistics of all pictures; spatial ones may be missing from a file of stored statistics.
        features: pooled features [n, D] of the first pictures; None where only statistics are known.
        logits: [n, K] of all pictures; None for a reference.
        num_images: how many the statistics describe; None where a file does not tell.
    """

    pooled: Statistics
    spatial: Statistics | None = None
    features: Tensor | None = None
    logits: Tensor | None = None
    num_images: int | None = None


def images_to_feature_set(batches: Iterable[Tensor], extractor: FeatureExtractorBase) -> FeatureSet:
    """Stream batches of uint8 pictures [B, 3, H, W] through an extractor.

    Raises:
        ValueError: for fewer than two pictures.
    """
    running, kept, logits = (RunningStatistics(), RunningStatistics()), [], []
    num_kept = 0
    for pooled, spatial, scores in images_to_outputs(batches, extractor):
        running[0].update(pooled)
        running[1].update(spatial)
        kept.append(pooled[: max(0, MAX_KEPT_FEATURES - num_kept)])
        num_kept += len(kept[-1])
        logits.append(scores)
    count = running[0].count
    if count < 2:
        raise ValueError(f"a distance between sets needs at least 2 pictures on each side, got {count}")
    return FeatureSet(running[0].compute(), running[1].compute(), torch.cat(kept), torch.cat(logits), count)


def cached_feature_set(folder: Path, about: dict, compute: Callable[[], FeatureSet]) -> tuple[FeatureSet, bool]:
    """The set that `about` describes, from the folder where it was computed before; else computed and kept there.

    A file that is damaged or describes something else is computed anew.

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
    computed = compute()
    write_feature_set(path, computed, about)
    computed.logits = None
    return computed, False


def description_to_fingerprint(about: dict) -> str:
    """sha256 of a description, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def write_feature_set(path: Path, feature_set: FeatureSet, about: dict) -> None:
    """Keep a set of pictures, all but its logits, as safetensors with `about` (see `cached_feature_set`) inside."""
    tensors = {"features": feature_set.features}
    for name, statistics in (("pooled", feature_set.pooled), ("spatial", feature_set.spatial)):
        tensors |= {f"{name}.{key}": torch.from_numpy(value) for key, value in statistics.items()}
    metadata = {"about": json.dumps(about, sort_keys=True), "num_images": str(feature_set.num_images)}
    write_atomically(path, save({name: value.contiguous() for name, value in tensors.items()}, metadata))


def read_feature_set(path: Path, about: dict) -> FeatureSet | None:
    """What `write_feature_set` kept; None where the file is missing, damaged or about something else."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if json.loads(metadata["about"]) != about:
                return None
            arrays = {
                name: {key: file.get_tensor(f"{name}.{key}").numpy() for key in ("mu", "sigma")}
                for name in ("pooled", "spatial")
            }
            return FeatureSet(**arrays, features=file.get_tensor("features"), num_images=int(metadata["num_images"]))
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None
