"""The one interface of autoencoders: a diffusers model, its latent normalization, export and identity."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch import Tensor, nn

from eqvae.autoencoders.cards import public_origin, render_autoencoder_card
from eqvae.autoencoders.constants import LISTS, UNKNOWN, from_constants, to_constants, to_lists
from eqvae.autoencoders.encodings import Decoded, Posterior
from eqvae.autoencoders.exporting import ORIGIN, write_export
from eqvae.autoencoders.latent_losses import CodebookLoss, LatentLoss, no_terms
from eqvae.autoencoders.ldm import save_ldm
from eqvae.autoencoders.normalization import Normalization
from eqvae.autoencoders.padding import padding_mode, set_padding_mode
from eqvae.autoencoders.registry import MODEL_CLASSES, ModelClass, defaults_of, unseen_entries
from eqvae.autoencoders.tiling import encode_in_tiles
from eqvae.cards import NO_DETAILS, CardDetails


class Autoencoder(nn.Module, ABC):
    """A diffusers autoencoder with the normalization of its latents; each family says how it encodes and decodes.

    Nobody outside this package asks of which family an autoencoder is. Two kinds of latents are told apart:

    - *raw latents* are what `decode` takes, caches store and generators learn (`latent_moments`): of a VQ autoencoder
      codebook vectors;
    - the *posterior* is where transforms and other regularizers act, whose latents `transformed_decode` takes: of a VQ
      autoencoder features before the quantizer, which is then part of the decoder (EQ-VAE, arXiv 2502.09509), of one
      that packs patches the grid before (FLUX.2).

    Args:
        model: the diffusers autoencoder, of a class of `eqvae.autoencoders.registry`; its weights train as this
            module's.
        normalization: of its latents; None takes the constants that the model carries, where it does.

    Attributes:
        kind: of the caches of its latents, a key of `eqvae.latents.KINDS`.
        draws: whether latents are drawn from a posterior that has a spread.
        one_size: whether all latents, whatever their size, decode to images of one side.
        source: what `load_autoencoder` was given; None where it was made otherwise.
        origin: where the weights of an export come from, as `save_pretrained` wrote it down; None of any other.

    Raises:
        ValueError: for constants that are no normalization, or one of another number of channels.
    """

    kind: ClassVar[str] = "latents"
    draws: ClassVar[bool] = True
    one_size: ClassVar[bool] = False

    def __init__(self, model: ModelMixin, normalization: Normalization | None = None):
        super().__init__()
        self.model: Any = model
        self.source: str | dict | None = None
        self.origin: dict[str, Any] | None = None
        self.normalization = normalization or self.published_normalization()
        set_padding_mode(model, None)

    @property
    def model_class(self) -> ModelClass:
        """What is known of the model's class."""
        return MODEL_CLASSES[type(self.model).__name__]

    @property
    def normalization(self) -> Normalization:
        """From raw to normalized latents.

        Raises:
            ValueError: where it is unknown. It is never guessed: `has_normalization` tells.
        """
        if self._normalization is None:
            raise ValueError(
                f"the latents of autoencoder {self.source or type(self.model).__name__} have no known normalization: "
                "train.py predict estimates it for its cache, and fit for what it exports"
            )
        return self._normalization

    @normalization.setter
    def normalization(self, normalization: Normalization | None) -> None:
        if normalization is not None:
            normalization.require_channels(self.latent_channels)
        self._normalization = normalization

    @property
    def has_normalization(self) -> bool:
        """Whether the normalization is known."""
        return self._normalization is not None

    @property
    def _may_be_unknown(self) -> bool:
        """Whether the model's config can say that its normalization is unknown."""
        config = self.model.config
        return "scaling_factor" in config and not self.constant_weights and config.get(LISTS[0]) is None

    def published_normalization(self) -> Normalization | None:
        """What the model carries; None where it carries nothing.

        Raises:
            ValueError: for constants that are no normalization.
        """
        lists = {name: getattr(self.model, name).tolist() for name in self.constant_weights}
        return from_constants(self.model.config | lists)

    @property
    def constant_weights(self) -> tuple[str, ...]:
        """Names of weights that are constants of the normalization, which the fingerprint leaves out."""
        return tuple(name for name, _ in self.model.named_buffers() if name in LISTS)

    @torch.no_grad()
    def write_constants(self, normalization: Normalization) -> dict[str, Any]:
        """Make a normalization the one that the model carries: its buffers are set, entries for its config returned."""
        defaults = defaults_of(type(self.model).__name__)
        has_lists = LISTS[0] in self.constant_weights or defaults.get(LISTS[0]) is not None
        entries = to_lists(normalization, self.latent_channels) if has_lists else to_constants(normalization)
        entries = {name: defaults.get(name) if value is None else value for name, value in entries.items()}
        for name in self.constant_weights:
            getattr(self.model, name).copy_(torch.tensor(entries[name]))
        return {name: value for name, value in entries.items() if name in self.model.config}

    def to_model(self, values: Tensor) -> Tensor:
        """Images or latents as the model takes them."""
        return values

    def from_model(self, values: Tensor) -> Tensor:
        """Images or latents that the model gave."""
        return values

    def to_posterior(self, latents: Tensor) -> Tensor:
        """Raw latents [B, C, h, w] as posteriors are laid out, which is where transforms act."""
        return latents

    @property
    def latent_channels(self) -> int:
        """Of raw latents."""
        return self.posterior_channels

    @property
    def posterior_channels(self) -> int:
        """Of the posterior."""
        return self.model.config[self.model_class.channels]

    @property
    def num_codes(self) -> int:
        """Size of the codebook, 0 without one."""
        return 0

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices [B, h, w] in [0, num_codes) to codebook vectors [B, C, h, w].

        Raises:
            ValueError: without a codebook.
        """
        raise ValueError(f"{type(self).__name__} has no codebook that tokens could be looked up in")

    @abstractmethod
    def encode(self, images: Tensor) -> Any:
        """Images [B, 3, H, W] in [-1, 1] to what the family is known for: a posterior, or codes."""

    def decode(self, latents: Tensor) -> Tensor:
        """Raw latents [B, C, h, w] to images [B, 3, f h, f w], near [-1, 1] but not clamped."""
        return self.from_model(self.model.decode(self.to_model(latents), **self.model_class.decoding).sample)

    @abstractmethod
    def posterior(self, images: Tensor) -> Posterior:
        """Images [B, 3, H, W] in [-1, 1] to where transforms act, mean and std [B, C, H / f, W / f]."""

    @abstractmethod
    def cached_rows(self, images: Tensor) -> dict[str, Tensor]:
        """What a cache keeps of images [B, 3, H, W], by the names of its tensors, one row [B, ...] for each."""

    def latent_moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, C, h, w] of the raw latents of images [B, 3, H, W]."""
        posterior = self.posterior(images)
        return posterior.mean, posterior.std

    def posterior_noise(self, keys: Tensor, shape: tuple[int, int, int], seed: int, stream: str) -> Tensor | None:
        """Standard normal noise [B, C, h, w] of posterior samples; None where the posterior has no spread.

        Args:
            keys: [B], of the images.
            shape: (C, h, w).
            seed, stream: of the noise, see `eqvae.randomness`.
        """
        return None

    def sample(self, posterior: Posterior, noise: Tensor | None) -> Tensor:
        """Latents [B, C, h, w] of a posterior; noise that is larger counts from its top-left corner on."""
        return posterior.mean

    def transformed_decode(self, latents: Tensor, transform: Callable[[Tensor], Tensor] | None = None) -> Decoded:
        """Transform latents [B, C, h, w] of the posterior, then decode them; gradients pass."""
        return Decoded(self.decode(latents if transform is None else transform(latents)))

    def latent_loss(self, kl_weight: float, codebook: CodebookLoss | None) -> LatentLoss:
        """What the family minimizes on its latents.

        Args:
            kl_weight: of the divergence from a standard normal, where a posterior has one.
            codebook: what moves features and codebook; None takes VQ-GAN's where there is a codebook.

        Raises:
            ValueError: for a codebook loss without a codebook.
        """
        if codebook is not None:
            raise ValueError("codebook is for VQ autoencoders, this one has no codebook: set codebook to null")
        return no_terms

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Encoder and decoder, which `torch.compile` may take."""
        return self.model.encoder, self.model.decoder

    @property
    def downsampling_factor(self) -> int:
        """Image side over side of raw latents."""
        return self.posterior_factor

    @property
    def posterior_factor(self) -> int:
        """Image side over side of the posterior."""
        return self.model_class.downsampling(self.model.config)

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of a raw latent of images [B, 3, H, W]."""
        height, width = (side // self.downsampling_factor for side in images.shape[-2:])
        return self.latent_channels, height, width

    def posterior_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of the posterior of images [B, 3, H, W]."""
        height, width = (side // self.posterior_factor for side in images.shape[-2:])
        return self.posterior_channels, height, width

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
        """Weight of the decoder's last layer, where the adaptive weight compares gradients."""
        return last_weight(self.model.decoder)

    @property
    def encoder_last_layer(self) -> Tensor:
        """Weight of the encoder's last layer, where adaptive terms compare gradients."""
        return last_weight(self.model.encoder)

    @property
    def padding_mode(self) -> str:
        """How convolutions pad: "zeros" or "reflect", see `eqvae.autoencoders.padding`."""
        return padding_mode(self.model)

    @property
    def smallest_latent_side(self) -> int:
        """Rows of the smallest latent that encodes and decodes: a single one has nothing to reflect."""
        return 2 if self.padding_mode == "reflect" else 1

    @property
    def unseen_entries(self) -> dict[str, Any]:
        """Entries of the config that weights do not show, where they differ from the defaults of the class."""
        return unseen_entries(type(self.model).__name__, self.model.config)

    def fingerprint(self) -> str:
        """sha256 over names, shapes and float32 values of all weights; the normalization is compared on its own.

        A padding other than by zeros counts, too, and so does what else of the config changes latents or images and no
        weight: groups of the norms, activations, heads of attention, where they are not the class's defaults.
        """
        digest = hashlib.sha256()
        if self.padding_mode != "zeros":
            digest.update(f"padding_mode {self.padding_mode}".encode())
        for entry, value in self.unseen_entries.items():
            digest.update(f"{entry} {json.dumps(value)}".encode())
        left_out = self.constant_weights
        weights = {name: value for name, value in self.model.state_dict().items() if name not in left_out}
        for name, value in sorted(weights.items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(
        self,
        folder: str | Path,
        origin: Mapping[str, Any] | None = None,
        details: CardDetails = NO_DETAILS,
        constants: Normalization | None = None,
    ) -> None:
        """Write a folder that diffusers' `from_pretrained` reads, with `normalization.json` and a card beside it.

        The constants of the config mean the normalization (`eqvae.autoencoders.constants`); of an unknown one the
        scaling factor is null, and pipelines fail instead of guessing. diffusers alone pads with
        zeros, whatever `padding_mode` the config names; `load_autoencoder` heeds it. The folder appears whole or not at
        all, and the sha256 of each file stands in `normalization.json`. An earlier export is replaced. No folder of
        this machine is named.

        Args:
            origin: where the weights come from, kept in `normalization.json`; what the card says of a training.
            details: what the card says that the autoencoder does not know.
            constants: what the config's constants mean in place of the normalization: that of the base model makes
                the folder fit pipelines that were trained on it.

        Raises:
            ValueError: if a weight is not finite, the folder holds anything but an earlier export, or cannot be
                written.
        """
        for name, value in self.model.state_dict().items():
            if not value.isfinite().all():
                raise ValueError(f"autoencoder folder {folder} is not written: {name} is not finite")
        normalization = self._normalization if self._may_be_unknown else self.normalization
        about = normalization.to_dict() if normalization else {}
        about |= {ORIGIN: public_origin(origin)} if origin else {}
        meant = constants or normalization
        entries = UNKNOWN if meant is None else self.write_constants(meant)
        name, of_base = type(self.model).__name__, constants is not None
        card = render_autoencoder_card(name, entries, about, details, of_base, self.padding_mode)
        write_export(folder, self.model.save_pretrained, about, entries, card)

    def save_ldm(self, path: str | Path) -> None:
        """Write one safetensors file in the key layout of latent-diffusion and taming-transformers."""
        save_ldm(self.model, self._normalization, Path(path))

    def to_diffusers(self, normalization: Normalization) -> AutoencoderKL:
        """A copy for diffusers' pipelines, whose latents times its one scaling factor are the normalized ones.

        Raises:
            ValueError: if there is none.
        """
        raise ValueError(f"diffusers' pipelines decode with AutoencoderKL alone, not with {type(self.model).__name__}")

    def encode_in_tiles(self, side: int) -> None:
        """Encode images larger than `side` pixels in overlapping tiles, see `eqvae.autoencoders.tiling`.

        Raises:
            ValueError: for a family without tiles, or a side that does not fit.
        """
        encode_in_tiles(self.model, side, self.posterior_factor)

    def require_trainable(self, decoder_alone: bool) -> None:
        """Refuse to train weights that no loss here fits.

        Args:
            decoder_alone: whether the encoder stays as it is.

        Raises:
            ValueError: with the reason.
        """
        reason = self.model_class.frozen_encoder
        if reason and not decoder_alone:
            raise ValueError(f"{type(self.model).__name__}: {reason}: set model.init_args.trainable to decoder")

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


def last_weight(network: nn.Module) -> Tensor:
    """Of the last layer that has a matrix or a kernel."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1][-1]
