"""Labels of the images that are sampled: image i has its label whatever the batch, and its noise whatever the label."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eqvae.data.npz import npz_arrays
from eqvae.errors import first_line
from eqvae.latents import open_cache
from eqvae.randomness import keyed_integers
from eqvae.selection import evenly_spaced

BALANCED, RANDOM = "balanced", "random"
NPZ_NAMES = ("labels", "arr_1")  # of an array of labels; arr_1 is where ADM's sample files have them
ENDS = (".txt", ".npy", ".npz")


def choose_labels(num_images: int, num_classes: int, how: str, seed: int = 0) -> Tensor:
    """Labels [N] of images 0, 1, ....

    Args:
        num_images: N.
        num_classes: that the generator knows.
        how: "balanced" (image number modulo classes: the numbers of images of two classes differ by one at most),
            "random" (uniform and independent, keyed by image), class numbers separated by commas, which are repeated,
            or the path of given ones: a latent cache, whose images' labels are taken, or a file of whole numbers
            (.txt, .npy, or .npz with `labels` or `arr_1`). Of more than N given ones N are taken, evenly spaced.
        seed: of random ones.

    Raises:
        ValueError: for labels that the generator does not know, too few of them, or a path that holds none.
    """
    if how == BALANCED:
        return torch.arange(num_images) % num_classes
    if how == RANDOM:
        return keyed_integers(torch.arange(num_images), num_classes, seed=seed, stream="labels")
    if names_path(how):
        return given_labels(_read(Path(how)), num_images, num_classes, how)
    listed = _listed(how)
    require_known(listed, num_classes, how)
    return listed[torch.arange(num_images) % len(listed)]


def given_labels(labels: Tensor, num_images: int, num_classes: int, where: str) -> Tensor:
    """N of given labels [M], evenly spaced.

    Raises:
        ValueError: naming where they come from, for fewer than N, or one that the generator does not know.
    """
    if len(labels) < num_images:
        raise ValueError(f"labels {where}: {len(labels)} of them for {num_images} images: give as many, or more")
    require_known(labels, num_classes, where)
    return labels[evenly_spaced(num_images, len(labels))]


def require_known(labels: Tensor, num_classes: int, where: str) -> None:
    """Refuse labels that a generator does not know.

    Raises:
        ValueError: naming where they come from.
    """
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise ValueError(f"labels {where}: this generator knows 0 to {num_classes - 1}")


def score_order(given: Tensor) -> Literal["given", "shuffled"]:
    """The order of samples with given labels [N] for the Inception score: "shuffled" where these are sorted.

    As those of class folders are: a tenth of the samples then has a tenth of the classes, and the mean score of ten
    such parts is a fraction of that of any other order.
    """
    return "shuffled" if bool((given.diff() >= 0).all()) else "given"


def names_path(how: str) -> bool:
    """Whether labels are named by a path: one with a slash or the end of a file of labels."""
    return "/" in how or how.endswith(ENDS)


def require_choice(how: str) -> None:
    """Refuse what `choose_labels` takes of no generator.

    Raises:
        ValueError: naming it.
    """
    if names_path(how):
        if not Path(how).exists():
            raise ValueError(f"labels {how}: nothing is there")
    elif how not in (BALANCED, RANDOM):
        _listed(how)


def _listed(how: str) -> Tensor:
    try:
        return torch.tensor([int(label) for label in how.split(",")])
    except ValueError:
        text = "use balanced, random, numbers separated by commas, or a path"
        raise ValueError(f"labels {how!r}: {text} (with a slash or .txt, .npy, .npz)") from None


def _read(path: Path) -> Tensor:
    """Whole numbers [M] of a latent cache or a file."""
    if path.is_dir():
        cache = open_cache(path, verify=False)  # labels are checked by themselves
        return cache.rows(torch.arange(len(cache)), "label")
    if not path.is_file():
        raise ValueError(f"labels {path}: nothing is there")
    try:
        numbers = _numbers(path)
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"labels {path}: the file cannot be read ({first_line(error)})") from None
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers):
        found = f"{numbers.dtype} {numbers.shape}"
        raise ValueError(f"labels {path}: whole numbers [N] are wanted, the file holds {found}")
    return torch.from_numpy(numbers.astype(np.int64))


def _numbers(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        names = [name for name in NPZ_NAMES if name in npz_arrays(path)]
        if not names:
            raise ValueError(f"it has no array {' or '.join(NPZ_NAMES)}")
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[names[0]]
    return np.array([int(word) for word in path.read_text().split()], dtype=np.int64)
