"""Whether two sources are of the same images: what is measured must not have been learned."""

from eqvae.data.procedural import ProceduralSource
from eqvae.data.sources import ImageSource, InMemorySource


def are_same_images(one: ImageSource, other: ImageSource) -> bool:
    """Whether two sources have equal fingerprints, or are procedural and drawn alike: the shorter begins the longer."""
    one, other = _read_by(one), _read_by(other)
    if isinstance(one, ProceduralSource) and isinstance(other, ProceduralSource):
        drawn = [(type(each), each.seed, each.image_size) for each in (one, other)]
        return drawn[0] == drawn[1]
    return len(one) == len(other) and one.fingerprint() == other.fingerprint()


def _read_by(source: ImageSource) -> ImageSource:
    """The source behind one that keeps it in memory."""
    while isinstance(source, InMemorySource):
        source = source.source
    return source
