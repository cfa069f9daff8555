"""What identifies a latent space, and the check that two of them are the same."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from eqvae.autoencoders import Autoencoder, Normalization
from eqvae.records import RECORD, SHA256, WHOLE, WHOLES, or_none, require_entries

MAXIMUM_VALUES = 1 << 24  # of one latent: 512 x 512 x 64
ENTRIES = {
    "shape": WHOLES,
    "downsampling_factor": WHOLE,
    "autoencoder_fingerprint": or_none(SHA256),
    "normalization": RECORD,
}


@dataclass(frozen=True)
class LatentSpec:
    """Shape, normalization and origin of latents; travels with caches and generator checkpoints.

    Args:
        shape: (C, h, w) of one latent.
        downsampling_factor: image side over latent side.
        autoencoder_fingerprint: of the autoencoder (`Autoencoder.fingerprint`); None where it is unknown.
        normalization: from raw to normalized latents.
    """

    kind: ClassVar[str] = "latents"

    shape: tuple[int, ...]
    downsampling_factor: int
    autoencoder_fingerprint: str | None
    normalization: Normalization

    def __post_init__(self):
        self.normalization.require_channels(self.shape[0])

    @property
    def backbone_config(self) -> dict:
        """Arguments that a backbone for these latents must have."""
        return {"in_channels": self.shape[0], "input_size": self.shape[-1]}

    def decode(self, autoencoder: Autoencoder, generated: Tensor) -> Tensor:
        """What a generator made, normalized [B, C, h, w], to images [B, 3, H, W]."""
        return autoencoder.decode(self.normalization.denormalize(generated.float()))

    @classmethod
    def of(cls, autoencoder: Autoencoder, shape: tuple[int, ...]) -> Self:
        return cls(tuple(shape), autoencoder.downsampling_factor, autoencoder.fingerprint(), autoencoder.normalization)

    def to_dict(self) -> dict:
        return {
            "shape": list(self.shape),
            "downsampling_factor": self.downsampling_factor,
            "autoencoder_fingerprint": self.autoencoder_fingerprint,
            "normalization": self.normalization.to_dict(),
        }

    @staticmethod
    def from_dict(values: dict) -> "LatentSpec":
        """The specification of latents or of tokens, which alone have `num_codes`.

        Raises:
            ValueError: naming the entry that is none, or does not fit the others.
        """
        of_tokens = isinstance(values, dict) and "num_codes" in values
        require_entries(values, ENTRIES | ({"num_codes": WHOLE} if of_tokens else {}), "latents.")
        shape = list(values["shape"])
        if len(shape) != (2 if of_tokens else 3) or math.prod(shape) > MAXIMUM_VALUES:
            raise ValueError(f"latents.shape is {shape}, not that of {'tokens' if of_tokens else 'latents'}")
        common = (
            tuple(values["shape"]),
            values["downsampling_factor"],
            values["autoencoder_fingerprint"],
            Normalization.from_dict(values["normalization"]),
        )
        return TokenSpec(*common, values["num_codes"]) if of_tokens else LatentSpec(*common)

    def require_format(self, autoencoder: Autoencoder, where: str) -> None:
        """Refuse an autoencoder that cannot even decode such latents.

        Raises:
            ValueError: with what both have.
        """
        ours = (self.shape[0], self.downsampling_factor)
        theirs = (autoencoder.latent_channels, autoencoder.downsampling_factor)
        if ours != theirs:
            raise ValueError(
                f"{where} makes latents of {ours[0]} channels at 1/{ours[1]} of the image, the autoencoder decodes "
                f"{theirs[0]} at 1/{theirs[1]}: give another autoencoder"
            )

    def completed(self, autoencoder: Autoencoder) -> "LatentSpec":
        """With what an autoencoder knows of latents that `OpenLatents` leave open; these leave nothing open."""
        return self

    def difference(self, autoencoder: Autoencoder) -> str | None:
        """In what an autoencoder is not the one that made these latents; None where it is."""
        fingerprint = autoencoder.fingerprint()
        if fingerprint != self.autoencoder_fingerprint:
            own, other = fingerprint[:12], str(self.autoencoder_fingerprint)[:12]
            return f"its weights are {own}, not {other}, or its config is another"
        if not autoencoder.has_normalization:  # it carries none: the one of its latents was estimated
            return None
        return "its latent normalization is another" if autoencoder.normalization != self.normalization else None

    def require_autoencoder(self, autoencoder: Autoencoder, where: str) -> None:
        """Refuse an autoencoder that did not make these latents.

        Raises:
            ValueError: with what both have.
        """
        if difference := self.difference(autoencoder):
            source = autoencoder.source or "given"
            raise ValueError(
                f"{where} belongs to another autoencoder than {source}: {difference}; give the one it was made with"
            )


@dataclass(frozen=True)
class TokenSpec(LatentSpec):
    """Tokens of a VQ autoencoder.

    Args: as of `LatentSpec`, but
        shape: (h, w) of one grid of tokens.
        num_codes: of the codebook; tokens are 0 ... num_codes - 1.
    """

    kind: ClassVar[str] = "tokens"

    num_codes: int

    def __post_init__(self):
        """Tokens have no channels: the normalization is that of the codebook vectors, which are not here."""

    @property
    def backbone_config(self) -> dict:
        return {"num_codes": self.num_codes, "input_size": self.shape[-1]}

    def require_format(self, autoencoder: Autoencoder, where: str) -> None:
        num_codes = autoencoder.num_codes
        if num_codes != self.num_codes:
            raise ValueError(
                f"{where} makes tokens of {self.num_codes} codes, the autoencoder has {num_codes}: give another"
            )

    def decode(self, autoencoder: Autoencoder, generated: Tensor) -> Tensor:
        """Tokens [B, h, w] to images [B, 3, H, W]."""
        return autoencoder.decode(autoencoder.lookup(generated))

    @classmethod
    def of(cls, autoencoder: Autoencoder, shape: tuple[int, ...]) -> Self:
        common = (autoencoder.downsampling_factor, autoencoder.fingerprint(), autoencoder.normalization)
        return cls(tuple(shape), *common, autoencoder.num_codes)

    def to_dict(self) -> dict:
        return super().to_dict() | {"num_codes": self.num_codes}


class OpenLatents(LatentSpec):
    """Latents of which their generator's file tells only the shape (C, h, w): the rest is their autoencoder's."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, 1, None, Normalization())

    def completed(self, autoencoder: Autoencoder) -> LatentSpec:
        """Those of an autoencoder, in this shape.

        Raises:
            ValueError: if the autoencoder has other channels, or no known normalization.
        """
        channels = autoencoder.latent_channels
        if channels != self.shape[0]:
            raise ValueError(
                f"the generator makes latents of {self.shape[0]} channels, the autoencoder decodes {channels}: give "
                "another autoencoder"
            )
        return LatentSpec.of(autoencoder, self.shape)

    def decode(self, autoencoder: Autoencoder, generated: Tensor) -> Tensor:
        """What `completed` gives can; these cannot.

        Raises:
            ValueError: always.
        """
        raise ValueError("the generator's file does not tell how its latents are normalized: use open_generator")
