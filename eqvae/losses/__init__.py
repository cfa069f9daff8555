"""What stage 1 minimizes, in parts with one job each.

`reconstruction` compares pixels and features, `perceptual` holds the feature distances, `adversarial` the PatchGAN
critic, `balance` what the weight rests on that balances it. What acts on latents is elsewhere: each family's own loss
beside the family (`eqvae.autoencoders`), all else in `eqvae.regularizers`. No part knows of Lightning or files.
"""

from eqvae.losses.adversarial import AdversarialLoss, PatchCritic
from eqvae.losses.perceptual import EfficientNetDistance, LPIPSDistance, create_perceptual
from eqvae.losses.reconstruction import ReconstructionLoss

__all__ = [
    "AdversarialLoss",
    "EfficientNetDistance",
    "LPIPSDistance",
    "PatchCritic",
    "ReconstructionLoss",
    "create_perceptual",
]
