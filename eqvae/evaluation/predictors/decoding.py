"""Features of what latents decode to."""

import torch
from torch import Tensor

from eqvae.data.images import to_uint8
from eqvae.evaluation.distances import frechet_distance
from eqvae.evaluation.predictors.base import LatentSample, known
from eqvae.selection import evenly_spaced

NUM_DECODED = 2000


def decoded_rows(sample: LatentSample) -> Tensor:
    """Rows of the latents that are decoded: at most 2,000 different ones, evenly spaced."""
    rows = sample.different()
    return rows[evenly_spaced(NUM_DECODED, len(rows))]


def distance_of_decoded(sample: LatentSample, latents: Tensor) -> float:
    """Fréchet distance of the decoded latents [n, C, h, w] from all images of the sample."""
    with torch.no_grad():
        decode, extract = known(sample.decode), known(sample.extract)
        features = [extract(to_uint8(decode(part))) for part in sample.in_parts(latents, 100)]
    return frechet_distance(known(sample.features), torch.cat(features))


def reconstruction_distance(sample: LatentSample) -> float:
    """The same of the sample's own latents, computed once: what the decoder alone costs."""

    def compute() -> float:
        rows = decoded_rows(sample)
        if len(rows) < 2:
            raise ValueError("the distance of reconstructions needs two different latents at least")
        return distance_of_decoded(sample, sample.latents[rows])

    return sample.once("reconstruction distance", compute)
