"""What the page shows, as pictures, tables and captions; nothing here knows of the page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dit.samplers import SamplingSettings
from eqvae.autoencoders import Autoencoder
from eqvae.data.images import center_crop, image_to_tensor, open_image, to_float
from eqvae.evaluation.image_grids import enlarged, framed, image_grid
from twostage.view.sampling import Decoding, sample_all
from twostage.view.transforming import SharedTransform, Transformed, common_scales, transform_image

SMALLEST_PICTURE = 256  # pixels of a side; smaller ones are enlarged by whole factors
GAP = 1 / 16  # of a picture, between two in one
NUM_SAMPLES, SAMPLE_COLUMNS = 8, 4
Picture = np.ndarray
"""uint8 [H, W, 3]."""


@dataclass(frozen=True)
class Exhibit:
    """Autoencoders and generators that are shown side by side.

    Args:
        autoencoders: by their names.
        generators: by their names; empty where none is shown.
        image_size: side that a dropped image is cropped to, which all autoencoders must be able to take.
    """

    autoencoders: Mapping[str, Autoencoder]
    generators: Mapping[str, Decoding]
    image_size: int

    @cached_property
    def scales(self) -> list[Fraction]:
        """In equal steps; see `common_scales`."""
        return common_scales(self.autoencoders.values(), self.image_size)

    def transformed(
        self, path: str, right: float, down: float, scale: float, quarter_turns: int
    ) -> tuple[list[Picture], str]:
        """Pictures and the table of errors of one image under one transform.

        Args:
            path: of the image, which is cropped as in training.
            right, down: shift in pixels, taken to the nearest whole one.
            scale: taken to the nearest of `scales`.
            quarter_turns: clockwise.

        Returns:
            First T x, then all D(T E(x)), then for each autoencoder T E(x) and E(T x) in one; and a table in Markdown.

        Raises:
            ValueError: for a file that is no image, or a number that is missing.
        """
        _require_all({"shift to the right": right, "shift down": down, "scale": scale, "rotation": quarter_turns})
        image = to_float(image_to_tensor(center_crop(open_image(path), self.image_size)))
        nearest = min(self.scales, key=lambda each: abs(float(each) - scale))
        transform = SharedTransform((round(down), round(right)), nearest, quarter_turns)
        shown, results = transform_image(self.autoencoders, image, transform)
        side = max(self.image_size, shown.shape[-1])
        pictures = [_picture(shown, side), *(_picture(each.decoded, side) for each in results.values())]
        return pictures + [_latents(each, side) for each in results.values()], _table(results)

    def samples(self, seed: float, num_steps: float, guidance_scale: float, labels: str) -> list[Picture]:
        """A grid of samples of each generator, all from one seed.

        Raises:
            ValueError: for settings or labels that there are not, or a number that is missing.
        """
        _require_all({"seed of the noise": seed, "sampler's steps": num_steps, "guidance scale": guidance_scale})
        settings = SamplingSettings(
            num_inference_steps=round(num_steps), guidance_scale=guidance_scale, seed=round(seed)
        )
        found = sample_all(self.generators, NUM_SAMPLES, labels, settings)
        return [_to_picture(image_grid(images, SAMPLE_COLUMNS)) for images in found.values()]


def _require_all(numbers: Mapping[str, float | None]) -> None:
    """Refuse a number that a page leaves out when its field is cleared."""
    if missing := [name for name, number in numbers.items() if number is None]:
        raise ValueError(f"{missing[0]}: the field is empty, give a number")


def _to_picture(image: Tensor) -> Picture:
    return image.permute(1, 2, 0).contiguous().numpy()


def _enlarged_in_frame(image: Tensor, side: int) -> Tensor:
    factor = max(1, math.ceil(SMALLEST_PICTURE / side))
    return framed(enlarged(image, factor), side * factor)


def _picture(image: Tensor, side: int) -> Picture:
    return _to_picture(_enlarged_in_frame(image, side))


def _latents(result: Transformed, side: int) -> Picture:
    """T E(x) and E(T x) next to each other, as large as the image."""
    factor = result.decoded.shape[-1] // result.transformed_latents.shape[-1]
    both = [
        _enlarged_in_frame(enlarged(latents, factor), side)
        for latents in (result.transformed_latents, result.expected_latents)
    ]
    gap = round(both[0].shape[-1] * GAP)
    return _to_picture(torch.cat([F.pad(both[0], (0, gap), value=255), both[1]], dim=-1))


def _table(results: Mapping[str, Transformed]) -> str:
    rows = [
        f"| `{name}` | {_number(each.decoded_error)} | {_number(each.latent_error)} |" for name, each in results.items()
    ]
    heads = "| autoencoder | error of the image<br>\\|D(T E(x)) - T x\\|² / \\|T x\\|² | "
    heads += "error of the latent<br>\\|T E(x) - E(T x)\\|² / \\|E(T x)\\|² |"
    return "\n".join([heads, "| --- | ---: | ---: |", *rows])


def _number(error: float) -> str:
    return "nothing left to compare" if math.isnan(error) else f"{error:.4f}"
