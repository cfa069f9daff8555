"""Token caches: the codes of a VQ autoencoder, in the files and by the rules of latent caches."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.places import describe_place
from eqvae.latents.manifest import TOKEN_DTYPE
from eqvae.latents.reader import LatentCache
from eqvae.latents.shards import RowFormat
from eqvae.latents.spec import TokenSpec
from eqvae.latents.writer import shape_of
from eqvae.randomness import keyed_uniform

MAX_CODES = 1 << 16  # what uint16 can tell apart
TOKENS = ("tokens", "tokens_flip")


class TokenRows(RowFormat):
    """`tokens` [N, h, w] uint16, and `label` [N].

    Args:
        autoencoder: that encodes.
        dtype, content: of latents; tokens have their own.
        encoding_precision, tile_size: as of `RowFormat`.

    Raises:
        ValueError: if the codebook is too large, or the precision unknown.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        dtype: str = "",
        content: str = "",
        encoding_precision: str = "float32",
        tile_size: int | None = None,
    ):
        if autoencoder.num_codes > MAX_CODES:
            raise ValueError(
                f"the autoencoder has {autoencoder.num_codes} codes, token caches hold at most {MAX_CODES}: "
                "use a smaller codebook"
            )
        super().__init__(encoding_precision, tile_size)
        self.autoencoder = autoencoder

    def identity(self) -> dict[str, Any]:
        return {
            "autoencoder_fingerprint": self.autoencoder.fingerprint(),
            "encoding_precision": self.encoding_precision,
            "moments": False,
            "dtype": TOKEN_DTYPE,
        } | self.tiles

    def encode(self, images: Tensor, index: Tensor, suffix: str) -> dict[str, Tensor]:
        return self.autoencoder.cached_rows(images)

    def store(self, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {name: value.to(torch.uint16) if name in TOKENS else value for name, value in rows.items()}, {}

    def contents(self, folder: Path, shards: list[dict[str, Any]]) -> dict[str, Any]:
        spec = TokenSpec.of(self.autoencoder, shape_of(folder / shards[0]["file"], TOKENS[0]))
        place = describe_place(self.autoencoder.source, folder)
        return {"latents": spec.to_dict(), "flips": True, "autoencoder": place}


class TokenCache(LatentCache):
    """A finished cache of tokens; arguments and errors as of `LatentCache`."""

    kind = TokenSpec.kind
    spec: TokenSpec

    def __init__(self, folder: str | Path, verify: bool = True):
        super().__init__(folder, verify)
        for shard in self._shards:  # the same memory, in a type that torch can index
            shard.update({name: shard[name].view(torch.int16) for name in TOKENS})

    def _stored_names(self) -> tuple[str, ...]:
        return ("tokens",)

    def rows(self, ids: Tensor, name: str) -> Tensor:
        """Rows `ids` [B] of one tensor of the shards, tokens as int64.

        Raises:
            ValueError: naming an image with a token beyond the codebook.
        """
        rows = super().rows(ids, name)
        if name not in TOKENS:
            return rows
        rows = rows.long() & (MAX_CODES - 1)
        beyond = (rows >= self.spec.num_codes).flatten(1).any(1).nonzero()[:, 0]
        if len(beyond):
            raise ValueError(
                f"{self.folder}: image {int(ids[beyond[0]])} has token {int(rows[beyond[0]].max())}, "
                f"the codebook ends at {self.spec.num_codes - 1}: write the cache again"
            )
        return rows

    def get_batch(self, ids: Tensor, keys: Tensor | None, flip: bool = True, seed: int = 0) -> dict[str, Tensor]:
        """Tokens of images, half of them of the flipped image.

        Args:
            ids: [B] images.
            keys: [B] positions in the stream, which key the flip; None gives unflipped tokens.

        Returns:
            `latents` [B, h, w] int64 tokens, `label` [B], `index` [B], `flipped` [B] bool.
        """
        tokens, flipped = self.rows(ids, "tokens"), torch.zeros(len(ids), dtype=torch.bool)
        if keys is not None and flip:
            flipped = keyed_uniform(keys, seed=seed, stream="flip") < 0.5
            tokens[flipped] = self.rows(ids[flipped], "tokens_flip")
        return {"latents": tokens, "label": self.rows(ids, "label"), "index": ids, "flipped": flipped}
