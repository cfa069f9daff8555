"""Which autoencoder decodes what a generator learns."""

from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from eqvae.autoencoders import load_autoencoder
from eqvae.latents import LatentCache


def choose_autoencoder(named: str | dict[str, Any] | None, cache: LatentCache) -> str | dict[str, Any] | None:
    """The source of the autoencoder that made a cache, compared with the cache.

    Args:
        named: where the user says it is; None takes what the cache recorded. One that is only recorded and cannot be
            had now is no reason not to train: nothing but sampling needs it.

    Raises:
        ValueError: naming both places, if the weights or the normalization are not those of the cache.
    """
    recorded = cache.autoencoder_source
    source = recorded if named is None else named
    if source is None:
        return None
    try:
        autoencoder = load_autoencoder(source)
    except ValueError as error:
        if named is not None:
            raise ValueError(f"model.init_args.autoencoder: {error}") from None
        rank_zero_warn(f"the autoencoder of {cache.folder} cannot be read now, and sampling will need it: {error}")
        return source
    if difference := cache.spec.difference(autoencoder):
        raise ValueError(
            f"autoencoder {source} did not make the latent cache {cache.folder}: {difference}; the cache names "
            f"{recorded}. Leave model.init_args.autoencoder null, give another cache, or cache again"
        )
    return source
