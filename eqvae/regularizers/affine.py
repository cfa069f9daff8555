"""Affine maps and blending of images and latents alike: equivariance beyond scales and quarter turns."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.regularizers.base import Action, LatentRegularizer, StepKey

NAME = "affine"
SMALLEST_SHARE = 0.1  # of a blend


@dataclass(frozen=True)
class Affine:
    """Where the pixels of the result are read, about the centre; what lies outside is mirrored at the edge.

    Args:
        angle: degrees, by which what is read lies clockwise.
        scale: above 1 reads a wider part, so that things get smaller.
        shear: (x, y), entries of the matrix [[1, x], [y, 1]].
        shift: (x, y) of what is read, in sides.
    """

    angle: float = 0.0
    scale: float = 1.0
    shear: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def matrix(self, height: int, width: int) -> Tensor:
        """[2, 3] on coordinates (x, y) that run from -1 to 1 over each side."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        turn = torch.tensor([[cos, -sin], [sin, cos]])
        shear = torch.tensor([[1.0, self.shear[0]], [self.shear[1], 1.0]])
        sides = torch.tensor([width, height], dtype=torch.float32)
        linear = turn @ shear * self.scale * sides / sides[:, None]  # pixels are square where the image is not
        return torch.cat((linear, 2 * torch.tensor(self.shift)[:, None]), dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W], read at the mapped places by bilinear interpolation, in float32."""
        theta = self.matrix(*x.shape[-2:]).to(x.device, non_blocking=True).expand(len(x), 2, 3)
        with torch.autocast(x.device.type, enabled=False):
            grid = F.affine_grid(theta, list(x.shape), align_corners=False)
            return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class AffineBlended(Action):
    """Decodes the mapped, blended latent to the image that is mapped and blended alike."""

    affine: Affine
    share: float
    partners: Tensor

    def on_latents(self, latents: Tensor) -> Tensor:
        return self._transformed(latents)

    def on_target(self, images: Tensor) -> Tensor:
        return self._transformed(images)

    def _transformed(self, x: Tensor) -> Tensor:
        x = self.affine(x)
        return (1 - self.share) * x + self.share * x[self.partners]


class AffineTransforms(LatentRegularizer):
    """``d(D(T z), T x)`` in place of ``d(D(z), x)`` in the steps that draw T: an affine map, then a blend of images.

    A blend is ``(1 - a) x + a x'`` of an image and another of the device's batch, of latents alike. Source: HakuLatent,
    which trained KBlueLeaf/EQ-SDXL-VAE: rotation by any angle, scale 0.8 ... 1.2, shear by up to 10 and 5 degrees (in
    radians as entries of the matrix) and shift by up to a tenth of the side. One draw is for all images; with whom an
    image is blended depends on its batch, hence on how many devices share the global one. At the border image and
    latent are mirrored at the same edge but interpolated differently.

    Args:
        probability: of a transformed step.
        largest_share: of the blend, a ~ U(0.1, largest_share), up to 0.1 always this share; 0 leaves blending out.

    Raises:
        ValueError: for a probability outside [0, 1], or a share outside [0, 1].
    """

    name = NAME

    def __init__(self, probability: float = 0.5, largest_share: float = 0.4):
        super().__init__()
        for option, value in (("probability", probability), ("largest_share", largest_share)):
            if not 0 <= value <= 1:
                raise ValueError(f"{NAME}: {option} must lie in [0, 1], got {value}")
        self.probability, self.largest_share = probability, largest_share

    def draw(self, key: StepKey) -> Action:
        rng = key.generator(NAME)
        if rng.random() >= self.probability:
            return Action()
        angle, scale = rng.uniform(-180, 180), rng.uniform(0.8, 1.2)
        shear = (math.radians(rng.uniform(-10, 10)), math.radians(rng.uniform(-5, 5)))
        affine = Affine(angle, scale, shear, (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)))
        share = rng.uniform(min(SMALLEST_SHARE, self.largest_share), self.largest_share)
        return AffineBlended(affine, share, key.uniform(f"{NAME} partners").argsort())
