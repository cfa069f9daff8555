"""The errors of linear autoencoders, in closed form: `python -m studies.linear_starts IMAGES,SIDE,FACTOR,CHANNELS ...`.

The best linear encoder of f x f patches takes their principal components. Its latents are free up to a mixing of
channels, and the errors depend on it. So each component is scaled by its standard deviation to the power of -e:

- e = 0, an orthogonal encoder: channels keep the variance that they have in the image;
- e = 1, whitened: all channels weigh alike, which is where a divergence from the standard normal drives them.

Nothing is trained, so this separates what content, patch and number of channels do from what training does.
"""

import argparse
import json
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.data import open_source, to_float
from studies.start_measures import basis_errors, basis_of, mean_of, transformed_pairs

EXPONENTS = (0.0, 0.5, 1.0)


class LinearEncoder:
    """Principal components of image patches as latents.

    Args:
        images: [N, 3, H, W] in [-1, 1], on which the components are estimated.
        factor: side of a patch.
        channels: components that are kept.
        exponent: each is divided by its standard deviation to this power.
    """

    def __init__(self, images: Tensor, factor: int, channels: int, exponent: float):
        patches = F.unfold(images, factor, stride=factor).movedim(1, 0).flatten(1).double()
        values, directions = torch.linalg.eigh(torch.cov(patches, correction=0))
        values, directions = values.flip(0).clamp_min(1e-12), directions.flip(1)
        self.factor, self.mean = factor, patches.mean(1).float()
        self.matrix = (directions * values ** (-exponent / 2))[:, :channels].float()
        self.lost = float(values[channels:].sum() / len(values))  # mean squared error of the reconstruction

    def posterior(self, images: Tensor) -> SimpleNamespace:
        """Latents as `mean` [B, C, H / f, W / f]."""
        size = [side // self.factor for side in images.shape[-2:]]
        patches = F.unfold(images, self.factor, stride=self.factor).movedim(1, -1) - self.mean
        return SimpleNamespace(mean=(patches @ self.matrix).movedim(-1, 1).unflatten(-1, size))


def measure_linear(images: Tensor, factor: int, channels: int) -> dict:
    """`psnr` in dB (peak to peak over the mean squared error) and {exponent: {"rotation", "scale"}}."""
    report = {}
    for exponent in EXPONENTS:
        encoder = LinearEncoder(images, factor, channels, exponent)
        latents = encoder.posterior(images).mean
        pairs = transformed_pairs(encoder, images, latents, batch_size=100)
        errors = basis_errors(pairs, *basis_of(latents, "centred"))
        report[f"{exponent:g}"] = {kind: mean_of(errors, kind) for kind in ("rotation", "scale")}
    return {"psnr": float(10 * torch.tensor(4 / encoder.lost).log10()), "errors": report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", help="images,side,factor,channels; images as evaluate.py takes them")
    parser.add_argument("--num-images", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case in arguments.cases:
        where, *numbers = case.rsplit(",", 3)
        side, factor, channels = map(int, numbers)
        source = open_source(where, side)
        images = to_float(torch.stack([source[i][0] for i in range(min(len(source), arguments.num_images))]))
        line = {"images": where.split("/")[-1], "side": side, "factor": factor, "channels": channels}
        print(json.dumps(line | measure_linear(images, factor, channels)), flush=True)


if __name__ == "__main__":
    main()
