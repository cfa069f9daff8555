"""Reconstruction, the null predictor: across autoencoders it says nothing of the generator, or the opposite."""

import torch

from eqvae.data.images import to_float, to_uint8
from eqvae.evaluation.predictors.base import LatentSample, Predictor, known
from eqvae.evaluation.predictors.decoding import reconstruction_distance
from eqvae.evaluation.reconstruction import images_to_psnr


def compute(sample: LatentSample) -> dict[str, float]:
    """Fréchet distance of at most 2,000 reconstructions from all images, PSNR in dB of the few images that are kept."""
    images, encode, decode = known(sample.images), known(sample.encode), known(sample.decode)
    with torch.no_grad():
        decoded = [to_uint8(decode(encode(to_float(part)))) for part in sample.in_parts(images, 64)]
    psnr = images_to_psnr(torch.cat(decoded), images).mean()
    return {"fd_efficientnet_lite0": reconstruction_distance(sample), "psnr": float(psnr)}


RECONSTRUCTION = Predictor(
    name="reconstruction",
    label="reconstruction",
    source="arXiv 2603.05630",
    quantities={"fd_efficientnet_lite0": "open", "psnr": "open"},
    compute=compute,
    needs=("model", "features"),
)
