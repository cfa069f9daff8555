"""What may be asked of latents beside reconstruction, one method to a file, all of one interface (`base`).

They stand in a list in YAML (`model.init_args.regularizers`) and compose in its order.
"""

from eqvae.regularizers.affine import AffineTransforms
from eqvae.regularizers.alignment import FoundationAlignment
from eqvae.regularizers.base import (
    Action,
    LatentRegularizer,
    Pass,
    Passes,
    Reconstruction,
    Regularizers,
    StepKey,
    reconstruct,
)
from eqvae.regularizers.correlation import LocalCorrelation
from eqvae.regularizers.equivariance import PRESETS, Draw, Equivariance, TransformDistribution
from eqvae.regularizers.explicit import ExplicitEquivariance
from eqvae.regularizers.masking import ChannelMasking, LatentMasking
from eqvae.regularizers.noise import LatentNoise, NoisyDecoding
from eqvae.regularizers.scale import ScaleEquivariance
from eqvae.regularizers.shift import FractionalShift
from eqvae.regularizers.spectrum import DecodingSpectrumMatching, SpectrumMatching
from eqvae.regularizers.staying import StayClose

__all__ = [
    "PRESETS",
    "Action",
    "AffineTransforms",
    "ChannelMasking",
    "DecodingSpectrumMatching",
    "Draw",
    "Equivariance",
    "ExplicitEquivariance",
    "FoundationAlignment",
    "FractionalShift",
    "LatentMasking",
    "LatentNoise",
    "LatentRegularizer",
    "LocalCorrelation",
    "NoisyDecoding",
    "Pass",
    "Passes",
    "Reconstruction",
    "Regularizers",
    "ScaleEquivariance",
    "SpectrumMatching",
    "StayClose",
    "StepKey",
    "TransformDistribution",
    "reconstruct",
]
