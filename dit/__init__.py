"""Stage 2: train a generator on frozen latents, sample from it, and ask how fast it learned.

What stands here is what a notebook needs of it; each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from eqvae.lazy import pass_on

if TYPE_CHECKING:
    from dit.checkpoints import load_generator
    from dit.generator_training import train_generator
    from dit.sampling import sample
    from eqvae.evaluation.measuring_samples import measure_generation

__all__ = [
    "load_generator",
    "measure_generation",
    "sample",
    "train_generator",
]

__getattr__, __dir__ = pass_on(
    __name__,
    {
        "load_generator": "dit.checkpoints",
        "train_generator": "dit.generator_training",
        "sample": "dit.sampling",
        "measure_generation": "eqvae.evaluation.measuring_samples",
    },
)
