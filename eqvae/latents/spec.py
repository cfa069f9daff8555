"""What identifies a latent space, and the check that two of them are the same."""

from dataclasses import dataclass
from typing import Self

from eqvae.autoencoders import KLAutoencoder, Normalization


@dataclass(frozen=True)
class LatentSpec:
    """Shape, normalization and origin of latents; travels with caches and generator checkpoints.

    Args:
        shape: (C, h, w) of one latent.
        downsampling_factor: image side over latent side.
        autoencoder_fingerprint: sha256 of the autoencoder's weights; None where it is unknown.
        normalization: from raw to normalized latents.
    """

    shape: tuple[int, int, int]
    downsampling_factor: int
    autoencoder_fingerprint: str | None
    normalization: Normalization

    @classmethod
    def of(cls, autoencoder: KLAutoencoder, shape: tuple[int, ...]) -> Self:
        return cls(tuple(shape), autoencoder.downsampling_factor, autoencoder.fingerprint(), autoencoder.normalization)

    def to_dict(self) -> dict:
        return {
            "shape": list(self.shape),
            "downsampling_factor": self.downsampling_factor,
            "autoencoder_fingerprint": self.autoencoder_fingerprint,
            "normalization": self.normalization.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        return cls(
            tuple(values["shape"]),
            values["downsampling_factor"],
            values["autoencoder_fingerprint"],
            Normalization.from_dict(values["normalization"]),
        )

    def require_autoencoder(self, autoencoder: KLAutoencoder, where: str) -> None:
        """Refuse an autoencoder that did not make these latents.

        Raises:
            ValueError: with both fingerprints, or both normalizations.
        """
        fingerprint = autoencoder.fingerprint()
        if fingerprint != self.autoencoder_fingerprint:
            raise ValueError(
                f"{where} belongs to autoencoder {self.autoencoder_fingerprint[:12]}, not to {fingerprint[:12]}: "
                "give the autoencoder it was made with"
            )
        if autoencoder.normalization != self.normalization:
            raise ValueError(f"{where} and its autoencoder disagree on the latent normalization: export or cache again")
