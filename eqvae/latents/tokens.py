"""Token caches: the codes of a VQ autoencoder, in the files and by the rules of latent caches."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqvae.autoencoders import Autoencoder
from eqvae.latents.reader import LatentCache
from eqvae.latents.spec import TokenSpec
from eqvae.latents.writer import LatentCacheWriter
from eqvae.randomness import keyed_uniform

MAX_CODES = 1 << 16  # what uint16 can tell apart
TOKENS = ("tokens", "tokens_flip")
DTYPES = {"uint16": torch.uint16}
CONTENTS = {"tokens": "tokens"}


class TokenCacheWriter(LatentCacheWriter):
    """Collects tokens in index order; shards hold `tokens`, `tokens_flip` [N, h, w] uint16 and `label`, `index` [N].

    Args: as of `LatentCacheWriter`, without dtype and content, which tokens have one of.

    Raises:
        ValueError: if another process writes there, the folder holds another cache, or the codebook is too large.
    """

    dtypes, contents = DTYPES, CONTENTS

    def __init__(self, folder: Path, autoencoder: Autoencoder, dataset: dict, **options):
        if autoencoder.num_codes > MAX_CODES:
            raise ValueError(
                f"the autoencoder has {autoencoder.num_codes} codes, token caches hold at most {MAX_CODES}: "
                "use a smaller codebook"
            )
        super().__init__(folder, autoencoder, dataset, dtype="uint16", content="tokens", **options)

    def _encode(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        flipped = self.autoencoder.cached_rows(images.flip(-1))
        return self.autoencoder.cached_rows(images) | {f"{name}_flip": value for name, value in flipped.items()}

    def _store(self, rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict]:
        return {name: value.to(torch.uint16) if name in TOKENS else value for name, value in rows.items()}, {}

    def _contents(self, shards: list[dict[str, Any]]) -> dict[str, Any]:
        return {"latents": TokenSpec.of(self.autoencoder, self._shape(shards)).to_dict(), "flips": True}


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
            ValueError: naming a picture with a token beyond the codebook.
        """
        rows = super().rows(ids, name)
        if name not in TOKENS:
            return rows
        rows = rows.long() & (MAX_CODES - 1)
        beyond = (rows >= self.spec.num_codes).flatten(1).any(1).nonzero()[:, 0]
        if len(beyond):
            raise ValueError(
                f"{self.folder}: picture {int(ids[beyond[0]])} has token {int(rows[beyond[0]].max())}, "
                f"the codebook ends at {self.spec.num_codes - 1}: write the cache again"
            )
        return rows

    def get_batch(self, ids: Tensor, keys: Tensor | None, flip: bool = True, seed: int = 0) -> dict[str, Tensor]:
        """Tokens of pictures, half of them of the flipped picture.

        Args:
            ids: [B] pictures.
            keys: [B] positions in the stream, which key the flip; None gives unflipped tokens.

        Returns:
            `latents` [B, h, w] int64 tokens, `label` [B], `index` [B], `flipped` [B] bool.
        """
        tokens, flipped = self.rows(ids, "tokens"), torch.zeros(len(ids), dtype=torch.bool)
        if keys is not None and flip:
            flipped = keyed_uniform(keys, seed=seed, stream="flip") < 0.5
            tokens[flipped] = self.rows(ids[flipped], "tokens_flip")
        return {"latents": tokens, "label": self.rows(ids, "label"), "index": ids, "flipped": flipped}
