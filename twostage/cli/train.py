"""Train either stage: `train.py fit|validate|test|predict --config configs/...yaml`.

Stage 1 (configs/eqvae): `fit` fine-tunes an autoencoder and leaves its folder, `predict` writes a latent cache.
Stage 2 (configs/dit): `fit` trains a generator on a latent cache. Every key can be overridden on the command line.
"""

from eqvae.commands import run_command
from eqvae.training.cli import TrainCLI


def main() -> None:
    run_command(TrainCLI)
