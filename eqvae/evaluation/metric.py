"""What a metric says of itself; the lowest floor of the table of all metrics (`eqvae.evaluation.metrics`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["higher", "lower", "open"]
"""Which value is better (of a predictor: of a space that generators learn faster); "open" where nobody knows."""

OUTPUTS = ("pooled", "spatial", "logits")
"""What an extractor gives, in this order; the first always."""

ARROWS: dict[Direction | None, str] = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Metric:
    """A measured quantity.

    Args:
        name: in results and logs; one that ends in `*` stands for all names that begin so.
        label: short name in tables.
        direction: which value is better; None for what is no quality.
        title: full name in sentences and on axes; "": the label.
        needs: what must be there beside what everything is measured on, in the words of whoever measures it.
        compute: the number, or one for each image, from what is measured.
        definition: in one line, for a model card; "" keeps it off cards, as a predictor is.
    """

    name: str
    label: str
    direction: Direction | None = None
    title: str = ""
    needs: tuple[str, ...] = ()
    compute: Callable[..., Any] | None = None
    definition: str = ""

    @property
    def full_name(self) -> str:
        return self.title or self.label

    @property
    def heading(self) -> str:
        """The label with the arrow of the better direction."""
        return f"{self.label} {ARROWS.get(self.direction, '')}".strip()


@dataclass(frozen=True)
class ExtractorMetrics:
    """How metrics on an extractor's features are called; only Inception's have the field's names.

    Args:
        distance: name of the Fréchet distance.
        distance_label: short name of it.
        distance_title: full name of it.
        network: the extractor, for people.
        score: name of the Inception score, of an extractor that gives logits.
        score_label: short name of it.
        outputs: what it gives.
    """

    distance: str
    distance_label: str
    distance_title: str
    network: str
    score: str = ""
    score_label: str = ""
    outputs: tuple[str, ...] = OUTPUTS

    def distance_metric(self, prefix: str = "", kind: str = "") -> Metric:
        """A Fréchet distance of one kind.

        Args:
            prefix: of name and label: "r" of reconstructions, "s" on spatial features, "" of samples.
            kind: the same in words, in front of the full name.
        """
        title = f"{kind} {self.distance_title}".strip()
        sets = "images and their reconstructions" if prefix == "r" else "real and generated images"
        features = "spatial features (7 channels of a map)" if prefix == "s" else "pooled features"
        definition = f"Fréchet distance between {features} of {self.network} of {sets}"
        name, label = f"{prefix}{self.distance}", f"{prefix}{self.distance_label}"
        return Metric(name, label, "lower", title, definition=definition)

    def extrapolated_metric(self) -> Metric:
        """The Fréchet distance of infinitely many samples."""
        plain = self.distance_metric()
        title = f"{plain.title} of infinitely many images"
        definition = f"{plain.definition}, extrapolated to infinitely many of these by a line over 1 / N from N / 2"
        return Metric(f"{plain.name}_inf", f"{plain.label}∞", "lower", title, definition=definition)


EXTRACTORS = {
    "efficientnet_lite0": ExtractorMetrics(
        "fd_efficientnet_lite0",
        "FD",
        "Fréchet distance (EfficientNet-Lite0)",
        "EfficientNet-Lite0",
        "is_efficientnet_lite0",
        "Inception score (EfficientNet-Lite0)",
    ),
    "inception_v3": ExtractorMetrics("fid", "FID", "FID", "Inception-v3", "is", "Inception score"),
    "dinov2_large": ExtractorMetrics(
        "fd_dinov2_large",
        "FD (DINOv2)",
        "Fréchet distance (DINOv2 ViT-L/14)",
        "DINOv2 ViT-L/14",
        outputs=("pooled",),
    ),
}
"""By the name of `eqvae.evaluation.features.create_extractor`."""
