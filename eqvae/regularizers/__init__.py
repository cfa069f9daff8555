"""What may be asked of latents beside reconstruction, one method to a file, all of one interface (`base`).

They stand in a list in YAML (`model.init_args.regularizers`) and compose in its order.
"""

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
from eqvae.regularizers.equivariance import PRESETS, Draw, Equivariance, TransformDistribution
from eqvae.regularizers.explicit import ExplicitEquivariance

__all__ = [
    "PRESETS",
    "Action",
    "Draw",
    "Equivariance",
    "ExplicitEquivariance",
    "LatentRegularizer",
    "Pass",
    "Passes",
    "Reconstruction",
    "Regularizers",
    "StepKey",
    "TransformDistribution",
    "reconstruct",
]
