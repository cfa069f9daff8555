"""What is compared: autoencoders, each in a word of the command line, ready ones and such as are fine-tuned first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from eqvae.autoencoders import Autoencoder, load_autoencoder

READY, EQ, ORDINARY, AGAIN = "ready", "eq", "ordinary", "again"
GENERATED_KIND = "latents"  # that the generator of a comparison learns
DESCRIPTIONS = {
    READY: "As it is.",
    EQ: "Fine-tuned first, half of the steps with scaled and turned latents.",
    ORDINARY: "Fine-tuned first for as many steps with the ordinary loss, the paper's control.",
    AGAIN: "Fine-tuned first with the ordinary loss and other seeds: nothing that could be better.",
}


@dataclass(frozen=True)
class Contestant:
    """An autoencoder of a comparison.

    Args:
        word: as it was given; its label for people.
        kind: "ready", or how it is fine-tuned first: "eq", "ordinary", or "again", which is ordinary with other seeds.
        source: what `load_autoencoder` takes: the autoencoder itself, or what the fine-tuning starts from.
        name: of its arm in the sweep, one folder name.
    """

    word: str
    kind: str
    source: str
    name: str

    @property
    def is_trained(self) -> bool:
        return self.kind != READY


@dataclass(frozen=True)
class Field:
    """All contestants, the first of them being the control.

    Args:
        contestants: in their order.
        latent_shape: (channels, height, width) that all of them share.
        num_weights: of the largest autoencoder.
    """

    contestants: list[Contestant]
    latent_shape: tuple[int, int, int]
    num_weights: int

    @property
    def taken_over(self) -> set[str]:
        """Sources of what is there already: ready autoencoders, and what fine-tuning starts from."""
        return {each.source for each in self.contestants if not each.is_trained or each is self.trained[0]}

    @property
    def trained(self) -> list[Contestant]:
        return [each for each in self.contestants if each.is_trained]


def parse_contestants(words: Sequence[str]) -> list[Contestant]:
    """The contestants that words mean: `eq:A`, `ordinary:A` and `again:A` are A fine-tuned, anything else is ready.

    Raises:
        ValueError: for fewer than two, one given twice, or a prefix with nothing behind it.
    """
    if len(words) < 2:
        raise ValueError(f"there is nothing to compare {' '.join(words)} with: give two autoencoders or more")
    found: list[Contestant] = []
    for word in words:
        if words.count(word) > 1:
            raise ValueError(
                f"{word} is given twice: with the same seeds both would give the same numbers; give it once"
            )
        prefix, _, rest = word.partition(":")
        kind, source = (prefix, rest) if prefix in (EQ, ORDINARY, AGAIN) else (READY, word)
        if not source:
            raise ValueError(
                f"{word!r} names no autoencoder: write {kind}:A with a folder, file, packaged name or hub id"
            )
        taken = [each.name for each in found]
        found.append(Contestant(word, kind, source, _unused(_folder_name(kind, source), taken)))
    return found


def _folder_name(kind: str, source: str) -> str:
    """Of a path the last part, and of `runs/NAME/autoencoder`, which every fine-tuning leaves, the one before it."""
    parts = [part for part in Path(source).parts if part not in ("/", ".", "..")] or ["autoencoder"]
    last = parts[-2] if parts[-1] == "autoencoder" and len(parts) > 1 else parts[-1]
    plain = re.sub(r"[^\w.-]+", "-", last).strip(".-") or "autoencoder"
    return plain if kind == READY and plain != "start" else f"{kind}-{plain}"  # of the common start of all arms


def _unused(name: str, taken: Sequence[str]) -> str:
    numbers = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (name, *numbers) if each not in taken)


def read_field(contestants: list[Contestant], image_size: int) -> Field:
    """Load every autoencoder once, and refuse those that no generator can be shared by.

    Args:
        image_size: side of the images, pixels.

    Raises:
        ValueError: naming the autoencoder that cannot be loaded or whose latents are tokens; two whose latents have
            other shapes, or that are the same; or fine-tuned ones that would start from different autoencoders.
    """
    shapes, identities, num_weights = {}, {}, 0
    for source in dict.fromkeys(each.source for each in contestants):
        autoencoder = load_autoencoder(source)
        autoencoder.require_image_size(image_size, "--image-size")
        if autoencoder.kind != GENERATED_KIND:
            raise ValueError(
                f"{source} makes {autoencoder.kind}, which the generators of a comparison do not learn: run a sweep "
                "like shapes-maskgit"
            )
        shapes[source] = autoencoder.latent_shape(torch.empty(1, 3, image_size, image_size, device="meta"))
        identities[source] = _identity(autoencoder)
        num_weights = max(num_weights, sum(weight.numel() for weight in autoencoder.parameters()))
    _require_one_shape(contestants, shapes)
    _require_different(contestants, identities)
    _require_one_start(contestants, identities)
    return Field(contestants, shapes[contestants[0].source], num_weights)


def _identity(autoencoder: Autoencoder) -> tuple[str, str]:
    """What latents and images are a function of."""
    return autoencoder.fingerprint(), repr(autoencoder.normalization)


def _require_one_shape(contestants: list[Contestant], shapes: dict[str, tuple[int, int, int]]) -> None:
    first = contestants[0]
    for other in contestants[1:]:
        if shapes[other.source] != shapes[first.source]:
            ours, theirs = (" x ".join(map(str, shapes[each.source])) for each in (first, other))
            raise ValueError(
                f"{first.word} has latents of {ours}, {other.word} of {theirs} (channels x height x width): one "
                "generator cannot learn both; give autoencoders of one shape"
            )


def _require_different(contestants: list[Contestant], identities: dict[str, tuple[str, str]]) -> None:
    seen: dict[tuple[str, tuple[str, str]], Contestant] = {}
    for each in contestants:
        twin = seen.setdefault((each.kind, identities[each.source]), each)
        if twin is not each:
            raise ValueError(
                f"{twin.word} and {each.word} are the same autoencoder: with the same seeds both would give the same "
                "numbers; give one of them"
            )


def _require_one_start(contestants: list[Contestant], identities: dict[str, tuple[str, str]]) -> None:
    trained = [each for each in contestants if each.is_trained]
    for other in trained[1:]:
        if identities[other.source] != identities[trained[0].source]:
            raise ValueError(
                f"{trained[0].word} and {other.word} are fine-tuned from different autoencoders, a comparison has one "
                "start: fine-tune one of them before, with train.py fit, and give its folder"
            )
