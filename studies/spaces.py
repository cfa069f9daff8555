"""The sweep of many latent spaces: `python -m studies.spaces > studies/spaces.yaml`. A test compares the two.

Every shape is trained with every loss, from random weights. A family is a shape: factor of the autoencoder and number
of channels.
"""

from typing import Any, NamedTuple

import yaml


class Shape(NamedTuple):
    """Of latents of 32 x 32 pixels, and the widths of the levels of the autoencoder that makes them."""

    factor: int
    channels: int
    widths: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"f{self.factor}c{self.channels}"

    @property
    def compression(self) -> float:
        """Values of an image over values of its latent."""
        return 3 * self.factor**2 / self.channels

    @property
    def settings(self) -> dict[str, Any]:
        """What the packaged config, of factor 4 and 8 channels, is changed in."""
        where, levels = "model.init_args.autoencoder", len(self.widths)
        return {
            f"{where}.block_out_channels": list(self.widths),
            f"{where}.down_block_types": ["DownEncoderBlock2D"] * levels,
            f"{where}.up_block_types": ["UpDecoderBlock2D"] * levels,
            f"{where}.latent_channels": self.channels,
        }


SHAPES = (
    Shape(2, 4, (16, 32)),
    Shape(4, 4, (16, 32, 32)),
    Shape(4, 8, (16, 32, 32)),
    Shape(4, 16, (16, 32, 32)),
    Shape(8, 16, (16, 32, 32, 32)),
)

EQUIVARIANCE = {"scale": "isotropic", "rotation": "quarter", "interpolation": "bicubic", "probability": 0.9}


def _regularizer(name: str, **arguments: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"class_path": f"eqvae.regularizers.{name}"}
    return {"model.init_args.regularizers": [entry | ({"init_args": arguments} if arguments else {})]}


LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("the ordinary loss", {}),
    "eq": ("EQ in half of the steps", {"model.init_args.transforms": "paper"}),
    "eq-often": ("EQ in 9 of 10 steps", {"model.init_args.transforms": EQUIVARIANCE}),
    "scale": ("scale equivariance", _regularizer("ScaleEquivariance")),
    "noise": ("noise on latents, strength 3", _regularizer("LatentNoise", strength=3.0)),
    "noise-weak": ("noise on latents, strength 1", _regularizer("LatentNoise", strength=1.0)),
    "spectrum": (
        "the image's spectrum, flattened, in place of KL",
        {"model.init_args.kl_weight": 0.0} | _regularizer("SpectrumMatching", weight=30.72),
    ),
    "kl": ("a thousandfold KL divergence", {"model.init_args.kl_weight": 1e-3}),
    "kl-strong": ("a KL divergence ten thousand times as strong", {"model.init_args.kl_weight": 1e-2}),
    "alignment": ("features of EfficientNet-Lite0", _regularizer("FoundationAlignment")),
}
"""By name: in words, and what it changes in the ordinary loss."""

CONTROL = "f4c8-plain"
NOTE = """\
# Many latent spaces, every shape with every loss: what tells on which one a generator learns well?
# Written by `python -m studies.spaces`. Docs: docs/forecast.md.
"""


def sweep() -> dict[str, Any]:
    """The sweep file's content."""
    arms = {
        f"{shape.name}-{loss}": {
            "label": f"{shape.name} {loss}",
            "description": f"Factor {shape.factor}, {shape.channels} channels; {words}.",
            "config": "studies/spaces-autoencoder.yaml",
            "overrides": shape.settings | settings,
        }
        for shape in SHAPES
        for loss, (words, settings) in LOSSES.items()
    }
    return {
        "name": "spaces",
        "title": "Many latent spaces of scenes, 32 x 32",
        "question": "On which latents does a small SiT learn well?",
        "control": CONTROL,
        "autoencoders": arms,
        "generators": {"sit": {"label": "SiT, 6 blocks of 128", "config": "studies/spaces-sit.yaml"}},
        "seeds": [0, 1],
        "evaluation": {
            "at_steps": [300, 600],
            "num_images": 500,
            "metrics": ["fd"],
            "sampling": {"sampler": "euler", "num_inference_steps": 10},
            "grid_images": 10,
        },
        "executor": {"num_workers": 2},
        "root": "runs",
    }


class _Plain(yaml.SafeDumper):
    """Lists of words on one line, nothing named to be pointed at."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def text() -> str:
    """The sweep file."""
    return NOTE + yaml.dump(sweep(), Dumper=_Plain, sort_keys=False, width=160, default_flow_style=None)


if __name__ == "__main__":
    print(text(), end="")
