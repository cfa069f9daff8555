"""Which images an evaluation reads, and reference statistics that are computed once."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from eqvae.data import FolderSource, ImageSource, open_source, to_uint8
from eqvae.data.images import PREPROCESSING_VERSION
from eqvae.data.module import ImageBatches
from eqvae.data.npz import IMAGES, NpzSource, npz_arrays
from eqvae.data.opening import require_there
from eqvae.errors import first_line
from eqvae.evaluation.feature_sets import FeatureSet, Statistics, cached_feature_set, images_to_feature_set
from eqvae.evaluation.features import create_extractor
from eqvae.evaluation.sample_folders import ARRAY, GRID, read_samples_record, require_as_made, single_image
from eqvae.files import sha256_of_file
from eqvae.selection import describe_selection, evenly_spaced
from eqvae.stream import SequentialBatches

BATCH_SIZE = 100
MAXIMUM_FEATURES = 1 << 14  # of stored statistics: a covariance of 2 GB
COVARIANCE_ROUNDING = 1e-3  # of its largest entry: that of float16, the least precise that statistics are kept in
AS_STORED = "as stored"  # the uint8 rule of images that were files before


def default_cache_folder() -> Path:
    """`eqvae/statistics` in the user's cache folder: $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eqvae" / "statistics"


def open_samples(where: str, image_size: int | None) -> tuple[ImageSource, str]:
    """Generated images and the uint8 rule they were written with, where `sample.py` recorded it.

    Args:
        where: what `open_source` takes, or the output folder of `sample.py`.
        image_size: side after the centre crop; None takes that of an .npz.

    Raises:
        ValueError: for a folder of `sample.py` whose record is damaged, that is not finished, lacks images, has neither
            samples.npz nor single images, or others than it was finished with.
    """
    folder = Path(where)
    record = read_samples_record(folder)
    if record is None:
        return open_source(where, image_size or side_of(where)), AS_STORED
    if not record.get("finished"):
        raise ValueError(f"{where} is not finished: start sample.py again, it goes on")
    found, rule = require_as_made(folder, record), record.get("uint8_rule", AS_STORED)
    size = image_size or side_of(str(found))
    return FolderSource(where, size, exclude=(GRID,)) if found == folder else open_source(str(found), size), rule


def side_of(where: str) -> int:
    """Side of the images of an .npz, or of what `sample.py` wrote.

    Raises:
        ValueError: for anything else, which needs an image size, or an .npz without images.
    """
    array = Path(where) / ARRAY if Path(where).is_dir() else Path(where)
    require_there(where)
    first = single_image(Path(where), 0)
    if not array.is_file() and first.is_file() and read_samples_record(Path(where)) is not None:
        with Image.open(first) as image:
            return min(image.size)
    if array.suffix != ".npz" or not array.is_file():
        raise ValueError(f"the size of the images in {where} is open: give --image-size")
    return NpzSource(array).image_size


def image_batches(source: ImageSource, num_images: int | None = None, num_workers: int = 0) -> Iterator[Tensor]:
    """uint8 batches [B, 3, S, S] of `num_images` evenly spaced images (None: of all), never all at once."""
    loader = SequentialBatches(ImageBatches(source), BATCH_SIZE, num_images).loader(num_workers)
    return (to_uint8(batch["image"]) for batch in loader)


def stored_statistics(where: str) -> tuple[Statistics | None, Statistics | None]:
    """Pooled and spatial statistics of an .npz that holds `mu`, `sigma` (and `mu_s`, `sigma_s`), as ADM's files do.

    Raises:
        ValueError: naming the file, and the statistics that are damaged, of inconsistent shapes or not finite.
    """
    if not where.endswith(".npz"):
        return None, None
    shapes = npz_arrays(Path(where))
    found: list[Statistics | None] = []
    for names in (("mu", "sigma"), ("mu_s", "sigma_s")):
        if not all(name in shapes for name in names):
            found.append(None)
            continue
        (mean_shape, mean_type, _), (scatter_shape, scatter_type, _) = (shapes[name] for name in names)
        fit = len(mean_shape) == 1 and scatter_shape == mean_shape * 2 and 0 < mean_shape[0] <= MAXIMUM_FEATURES
        if not fit or mean_type.kind != "f" or scatter_type.kind != "f":
            what = f"{names[0]} [D] and {names[1]} [D, D], floats of at most {MAXIMUM_FEATURES} features"
            raise ValueError(f"{where}: {what}, do not fit each other")
        statistics = {"mu": _stored_array(where, names[0]), "sigma": _stored_array(where, names[1])}
        _require_covariance(statistics["sigma"], f"{where}: {names[1]}")
        found.append(statistics)
    pooled, spatial = found
    return pooled, spatial


def _stored_array(where: str, name: str) -> np.ndarray:
    try:
        with np.load(where, allow_pickle=False) as arrays:
            array = arrays[name].astype(np.float64)
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(f"{where} is damaged at {name} ({first_line(error)}): get it again") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: {name} holds values that are not finite: compute the statistics again")
    return array


def _require_covariance(matrix: np.ndarray, name: str) -> None:
    """Refuse what no covariance can be: not symmetric, or larger off its diagonal than Cauchy and Schwarz allow."""
    variances = matrix.diagonal()
    largest = np.sqrt(np.outer(variances.clip(0), variances.clip(0)))
    rounding = COVARIANCE_ROUNDING * np.abs(matrix).max()
    if (np.abs(matrix - matrix.T) > rounding).any() or (np.abs(matrix) > largest + rounding).any():
        raise ValueError(f"{name} is no covariance matrix: compute the statistics again")


def reference_to_feature_set(
    where: str,
    image_size: int,
    extractor: str,
    extractor_weights: str | None = None,
    device: str = "cpu",
    num_images: int | None = None,
    num_workers: int = 0,
    cache: Path | None = None,
) -> tuple[FeatureSet, dict]:
    """Features of real images, from the cache where they were taken before; stored statistics go first.

    An .npz with statistics and images (ADM's reference batches) gives the Fréchet distances its statistics, and
    kernel distance, precision and recall its images. Stored statistics are Inception's: another extractor takes the
    images alone.

    Args:
        where: what `open_samples` takes, or an .npz with `mu`, `sigma`, `mu_s`, `sigma_s`, `arr_0`, or some of them.
        num_images: take only so many, evenly spaced; None takes all.
        cache: folder of kept statistics; None: the user's cache folder.

    Returns:
        The set, and what a result says of it: `statistics` ("stored" or "computed"), `cached`, `fingerprint`, and
        `images`, which of them were read. How many images stored statistics are of is not known.

    Raises:
        ValueError: naming a file that cannot be used with this extractor.
    """
    pooled, spatial = stored_statistics(where)
    has_images = not where.endswith(".npz") or IMAGES in npz_arrays(Path(where))
    stored = pooled if extractor == "inception_v3" else None
    if not has_images:
        if stored is None:
            raise ValueError(f"{where} holds no images ({IMAGES}) and no statistics for extractor {extractor}")
        about = {"statistics": "stored", "cached": False, "fingerprint": sha256_of_file(Path(where))}
        return FeatureSet(stored, spatial), about
    source, _ = open_samples(where, image_size)
    about = {
        "dataset": source.fingerprint(),
        "images": describe_selection(num_images, len(source)),
        "image_size": image_size,
        "preprocessing_version": PREPROCESSING_VERSION,
        "uint8_rule": AS_STORED,
        "extractor": extractor,
        "extractor_weights": sha256_of_file(Path(extractor_weights)) if extractor_weights else "published",
    }

    def compute() -> FeatureSet:
        network = create_extractor(extractor, extractor_weights, device)
        return images_to_feature_set(image_batches(source, num_images, num_workers), network)

    feature_set, was_cached = cached_feature_set(cache or default_cache_folder(), about, compute)
    if stored is not None:
        feature_set = replace(feature_set, pooled=stored, spatial=spatial, num_images=None)
    return feature_set, {
        "statistics": "computed" if stored is None else "stored",
        "cached": was_cached,
        "fingerprint": about["dataset"],
        "images": about["images"],
    }


def few_images(source: ImageSource, count: int) -> Tensor:
    """So many images of a source, evenly spaced, as floats [B, 3, S, S] in [-1, 1]."""
    return ImageBatches(source).get_batch(evenly_spaced(count, len(source)), None)["image"]
