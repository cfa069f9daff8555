"""KL autoencoders: diffusers' `AutoencoderKL` behind the project's interface."""

import hashlib
import inspect
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from eqvae.autoencoders.normalization import Normalization


class KLAutoencoder(nn.Module):
    """Encoder to a diagonal Gaussian posterior, decoder back to images.

    Args:
        model: the diffusers autoencoder; its weights train as this module's.
        normalization: of its latents; None takes the published constants of the model's config.
    """

    def __init__(self, model: AutoencoderKL, normalization: Normalization | None = None):
        super().__init__()
        self.model = model
        self.normalization = normalization or _published_normalization(model)

    @property
    def latent_channels(self) -> int:
        return self.model.config.latent_channels

    @property
    def downsampling_factor(self) -> int:
        """Image side over latent side."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last convolution, where the adaptive weight compares gradients."""
        return self.model.decoder.conv_out.weight

    def encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Images [B, 3, H, W] in [-1, 1] to the posterior of raw latents [B, C, H / f, W / f].

        The posterior has `mean`, `std`, `logvar` (clamped to [-30, 20]), `sample(generator=None)` and `kl()`, the
        divergence from a standard normal summed over C, h, w: [B].
        """
        return self.model.encode(images).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        """Raw latents [B, C, h, w] to images [B, 3, f h, f w], near [-1, 1] but not clamped."""
        return self.model.decode(latents).sample

    def fingerprint(self) -> str:
        """sha256 over names, shapes and float32 values of all weights; the normalization is compared on its own."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `AutoencoderKL.from_pretrained` reads, with `normalization.json` beside the weights.

        The config keeps the base model's scaling constant. The folder appears whole or not at all; one that is there
        already is replaced.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=folder.parent))
        try:
            self.model.save_pretrained(staging)
            self.normalization.save(staging)
            staging.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            staging.replace(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def freeze(self) -> "KLAutoencoder":
        """Evaluation mode, no gradients: for caches, sampling and metrics."""
        return self.eval().requires_grad_(False)


def _published_normalization(model: AutoencoderKL) -> Normalization:
    shift = getattr(model.config, "shift_factor", None) or 0.0
    return Normalization((shift,), (model.config.scaling_factor,))


def random_kl_autoencoder(config: dict, seed: int = 0) -> KLAutoencoder:
    """An `AutoencoderKL` of this diffusers config with random weights, the same for the same seed.

    The posterior starts narrow (log-variance bias -6): at width zero-mean unit noise drowns the latents of an
    untrained encoder, and a small autoencoder needs thousands of steps to dig them out.

    Raises:
        ValueError: naming an unknown or impossible entry of the config.
    """
    unknown = set(config) - set(inspect.signature(AutoencoderKL.__init__).parameters)
    if unknown:
        raise ValueError(f"autoencoder config has unknown keys {sorted(unknown)}: see diffusers.AutoencoderKL")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoencoderKL(**config)
    head = model.quant_conv if model.quant_conv is not None else model.encoder.conv_out
    with torch.no_grad():
        head.bias[model.config.latent_channels :] = -6.0
    return KLAutoencoder(model)
