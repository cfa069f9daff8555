"""What keeps arms from being compared: seeds or autoencoders that two of them share, and too few real images."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from twostage.configs import resolved_config, value_at
from twostage.parts.autoencoder import config
from twostage.parts.contents import with_contents
from twostage.schema import ArmSettings, Sweep

LARGEST_SEED = (1 << 32) - 1  # that numpy takes
OF_LATENTS = ("data", "model.init_args.cache")  # of a ready arm's config, what its latents depend on


def arm_problems(sweep: Sweep) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) of a sweep whose parts are sound each by itself."""
    yield from _image_problems(sweep)
    for name, arm in sweep.autoencoders.items():
        if max(sweep.seeds) + arm.seed_offset > LARGEST_SEED:
            largest = f"with seed {max(sweep.seeds)} it is above {LARGEST_SEED}, the largest there is"
            yield f"autoencoders.{name}.seed_offset", largest
    ready = {name: _latents(arm) for name, arm in sweep.autoencoders.items() if arm.autoencoder is not None}
    for one, other in combinations(ready, 2):
        if ready[one] == ready[other]:
            yield f"autoencoders.{other}.autoencoder", f"is that of {one}, with the same numbers: leave one of them out"
    trained = {name: config(arm, 0, None) for name, arm in sweep.autoencoders.items() if arm.autoencoder is None}
    for one, other in combinations(trained, 2):
        if trained[one] == trained[other]:
            yield from _seed_problems(sweep, one, other)


def _latents(arm: ArmSettings) -> list[Any]:
    """What the latents of a ready autoencoder depend on: where it is equal, so are all numbers."""
    resolved = resolved_config(arm.config, arm.overrides)
    return [with_contents({"autoencoder": arm.autoencoder}), *(value_at(resolved, key) for key in OF_LATENTS)]


def _seed_problems(sweep: Sweep, one: str, other: str) -> Iterator[tuple[str, str]]:
    """A training that two arms of one config share, in pairs of two seeds, which then are not independent."""
    first, second = sorted((one, other), key=lambda name: sweep.autoencoders[name].seed_offset)
    apart = sweep.autoencoders[second].seed_offset - sweep.autoencoders[first].seed_offset
    shared = [seed for seed in sweep.seeds if seed + apart in sweep.seeds]
    if apart and shared:
        same = f"its training with seed {shared[0]} is that of {first} with seed {shared[0] + apart}"
        yield (
            f"autoencoders.{second}.seed_offset",
            f"{same}: give one that is larger than seeds lie apart, such as 1000",
        )


def _image_problems(sweep: Sweep) -> Iterator[tuple[str, str]]:
    """Fewer real images than samples, where the config says how many there are."""
    name, arm = next(iter(sweep.autoencoders.items()))
    data = value_at(resolved_config(arm.config, arm.overrides), "data.init_args", {})
    count, wanted = _most_images(data.get("validation") or data.get("train")), sweep.evaluation.num_images
    if count is not None and count < wanted:
        yield "evaluation.num_images", f"is {wanted}, the validation set of autoencoders.{name} has {count} images"


def _most_images(source: dict[str, Any] | None) -> int | None:
    """Images that a source has at most, by its config; None where that does not say."""
    settings = (source or {}).get("init_args", {})
    inner = _most_images(settings["source"]) if "source" in settings else None
    return min(filter(None, (settings.get("num_images"), settings.get("max_images"), inner)), default=None)
