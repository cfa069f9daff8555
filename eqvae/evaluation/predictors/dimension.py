"""Intrinsic dimension: how many directions latents have around each of them."""

from torch import Tensor

from eqvae.evaluation.latents import nearest_distances
from eqvae.evaluation.predictors.base import LatentSample, Predictor, white_noise

NUM_IMAGES = 2000
NEIGHBOURS = 20


def distances_to_dimensions(nearest: Tensor) -> tuple[float, float]:
    """TwoNN (Facco et al., 2017) and maximum-likelihood dimension of sorted neighbour distances [N, k], k >= 3.

    The latter is Levina and Bickel's, 2004, inverses averaged over points (MacKay and Ghahramani, 2005):
    1 / m = mean over points and j < k of log(r_k / r_j).
    """
    two = len(nearest) / float((nearest[:, 1] / nearest[:, 0]).log().sum())
    return two, 1 / float((nearest[:, -1:] / nearest[:, :-1]).log().mean())


def compute(sample: LatentSample) -> dict[str, float]:
    """Of at most 2,000 different latents; both estimates saturate near the logarithm of their number.

    The ceiling of that number and shape is measured on white noise, and the estimates are given as shares of it.
    """
    points = sample.few(NUM_IMAGES).flatten(1).unique(dim=0)
    if len(points) < 4:
        raise ValueError(f"dimension needs at least 4 different latents, got {len(points)}")
    neighbours = min(NEIGHBOURS, len(points) - 1)
    twonn, mle = distances_to_dimensions(nearest_distances(points, neighbours))
    white = nearest_distances(white_noise(*points.shape), neighbours)
    white_twonn, white_mle = distances_to_dimensions(white)
    return {"mle_of_white": mle / white_mle, "twonn_of_white": twonn / white_twonn, "mle": mle, "twonn": twonn}


DIMENSION = Predictor(
    name="dimension",
    label="intrinsic dimension",
    source="Levina and Bickel, 2004; Facco et al., 2017; arXiv 2502.09509, section 4",
    quantities=dict.fromkeys(("mle_of_white", "twonn_of_white", "mle", "twonn"), "lower"),
    compute=compute,
    invariances=("order", "signs", "rotation", "turn", "scale"),
)
