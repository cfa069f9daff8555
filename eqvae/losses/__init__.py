"""What stage 1 minimizes, in parts with one job each.

`reconstruction` compares pixels and features, `perceptual` holds the feature distances, `adversarial` the PatchGAN
critic and the weight that balances it, `codebook` what a VQ autoencoder needs, `explicit` an ablation. No part knows
of Lightning or files.
"""

from eqvae.losses.adversarial import AdversarialLoss, PatchCritic
from eqvae.losses.codebook import CodebookLoss, codebook_usage
from eqvae.losses.explicit import ExplicitLatentLoss
from eqvae.losses.perceptual import EfficientNetDistance, LPIPSDistance, create_perceptual
from eqvae.losses.reconstruction import ReconstructionLoss

__all__ = [
    "AdversarialLoss",
    "CodebookLoss",
    "EfficientNetDistance",
    "ExplicitLatentLoss",
    "LPIPSDistance",
    "PatchCritic",
    "ReconstructionLoss",
    "codebook_usage",
    "create_perceptual",
]
