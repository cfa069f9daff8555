"""What KL and VQ autoencoders have in common: a diffusers model, its latent normalization, export and identity."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from eqvae.autoencoders.exporting import ORIGIN, write_export
from eqvae.autoencoders.ldm import save_ldm
from eqvae.autoencoders.normalization import Normalization
from eqvae.autoencoders.padding import padding_mode, set_padding_mode


class Autoencoder(nn.Module):
    """A diffusers autoencoder with the normalization of its latents; subclasses say how it encodes and decodes.

    Args:
        model: the diffusers autoencoder; its weights train as this module's.
        normalization: of its latents; None takes the published constants of the model's config.

    Attributes:
        source: what `load_autoencoder` was given; None where it was made otherwise.

    Raises:
        ValueError: for constants that are no normalization, or one of another number of channels.
    """

    def __init__(self, model: AutoencoderKL | VQModel, normalization: Normalization | None = None):
        super().__init__()
        self.model = model
        self.source: str | dict | None = None
        self.normalization = normalization or _published_normalization(model)
        self.normalization.require_channels(self.latent_channels)
        set_padding_mode(model, None)

    @property
    def downsampling_factor(self) -> int:
        """Image side over latent side."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    def require_image_size(self, size: int, key: str) -> None:
        """Refuse images whose side is no multiple of that of a latent: decoded, they would have another one.

        Raises:
            ValueError: naming the option, and the two nearest sides that are.
        """
        factor = self.downsampling_factor
        if size % factor:
            below = size - size % factor
            near = " or ".join(str(each) for each in (below, below + factor) if each)
            raise ValueError(f"{key} {size} is no multiple of {factor}, as this autoencoder needs it: use {near}")

    @property
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last convolution, where the adaptive weight compares gradients."""
        return self.model.decoder.conv_out.weight

    @property
    def padding_mode(self) -> str:
        """How convolutions pad: "zeros" or "reflect", see `eqvae.autoencoders.padding`."""
        return padding_mode(self.model)

    @property
    def smallest_latent_side(self) -> int:
        """Rows of the smallest latent that encodes and decodes: a single one has nothing to reflect."""
        return 2 if self.padding_mode == "reflect" else 1

    def fingerprint(self) -> str:
        """sha256 over names, shapes and float32 values of all weights; the normalization is compared on its own.

        A padding other than by zeros counts, too, since it changes the latents.
        """
        digest = hashlib.sha256()
        if self.padding_mode != "zeros":
            digest.update(f"padding_mode {self.padding_mode}".encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(self, folder: str | Path, origin: Mapping[str, Any] | None = None) -> None:
        """Write a folder that diffusers' `from_pretrained` reads, with `normalization.json` beside the weights.

        The config keeps the base model's scaling constant. diffusers alone pads with zeros, whatever `padding_mode` the
        config names; `load_autoencoder` heeds it. The folder appears whole or not at all, and the sha256 of each file
        stands in `normalization.json`. An earlier export is replaced.

        Args:
            origin: where the weights come from, kept in `normalization.json`.

        Raises:
            ValueError: if a weight is not finite, the folder holds anything but an earlier export, or cannot be
                written.
        """
        for name, value in self.model.state_dict().items():
            if not value.isfinite().all():
                raise ValueError(f"autoencoder folder {folder} is not written: {name} is not finite")
        about = self.normalization.to_dict() | ({ORIGIN: dict(origin)} if origin else {})
        write_export(folder, self.model.save_pretrained, about)

    def save_ldm(self, path: str | Path) -> None:
        """Write one safetensors file in the key layout of latent-diffusion and taming-transformers."""
        save_ldm(self.model, self.normalization, Path(path))

    def freeze(self) -> Self:
        """Evaluation mode, no gradients: for caches, sampling and metrics."""
        return self.eval().requires_grad_(False)

    def freeze_latents(self) -> Self:
        """No gradients for all that decides on latents: encoder, quant convolution, codebook. The decoder trains."""
        for name in ("encoder", "quant_conv", "quantize"):
            part = getattr(self.model, name, None)
            if part is not None:
                part.requires_grad_(False)
        return self


def _published_normalization(model: AutoencoderKL | VQModel) -> Normalization:
    shift = getattr(model.config, "shift_factor", None) or 0.0
    return Normalization((shift,), (model.config.scaling_factor,))
