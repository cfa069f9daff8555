"""Model cards of what is exported: `README.md` of a hub repository, its metadata written by `huggingface_hub`.

What an autoencoder's card says stands in `eqvae.autoencoders.cards`, a generator's in `dit.cards`; here is what the two
have in common. A card names no folder of the machine that wrote it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

CARD = "README.md"
PLACEHOLDER = "OWNER/NAME"  # in a usage snippet before there is a repository
TEMPLATE = "card.md.jinja"


@dataclass(frozen=True)
class Measurement:
    """A measured quantity on a card.

    Args:
        name: of the metric, as in results.
        label: for people.
        value: the number.
        spread: standard deviation over images; None where there is none.
        kind: name of the metric that defines it: `perceptual*` of `perceptual_lpips_vgg`.
        definition: in one line.
        direction: which value is better; "" where neither is.
        data: name of the images it was measured on.
        amount: how many of which size they are.
    """

    name: str
    label: str
    value: float
    spread: float | None
    kind: str
    definition: str
    direction: str
    data: str
    amount: str

    @property
    def measured_on(self) -> str:
        return ", ".join(filter(None, (self.data, self.amount)))

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Name, value with its spread, direction, images."""
        value = f"{self.value:.5g}" + ("" if self.spread is None else f" ± {self.spread:.3g}")
        return f"`{self.name}`", value, self.direction, self.measured_on


@dataclass(frozen=True)
class CardDetails:
    """What a card says that the model itself does not know.

    Args:
        repository: hub id under which it is published; None: not yet.
        base_model: hub id of the model that it derives from; None: the one that its record names.
        license: of the base model, an identifier of the hub; None: unknown.
        license_source: whose word that is, for people.
        measurements: of the model.
    """

    repository: str | None = None
    base_model: str | None = None
    license: str | None = None
    license_source: str = "as stated by who exported it"
    measurements: Sequence[Measurement] = ()


NO_DETAILS = CardDetails()


def render_card(
    title: str,
    summary: str,
    usage: str,
    facts: Mapping[str, Mapping[str, object]],
    details: CardDetails,
    task: tuple[str, str],
    **metadata: Any,
) -> str:
    """The text of a card.

    Args:
        title: of the page.
        summary: one paragraph.
        usage: Python that loads the model.
        facts: tables of names and values by their headings; what is None is left out.
        details: what the model does not know of itself.
        task: identifier and name of what the measurements measure.
        metadata: of `ModelCardData`.
    """
    results = [_result(each, *task) for each in details.measurements]
    data = ModelCardData(
        license=details.license,
        library_name="diffusers",
        model_name=title,
        eval_results=results or None,
        **metadata,
    )
    cells = {heading: [(_cell(name), _cell(value)) for name, value in rows.items() if value is not None]
             for heading, rows in facts.items()}  # fmt: skip
    card = ModelCard.from_template(
        data,
        template_str=(files("eqvae") / "templates" / TEMPLATE).read_text(),
        title=title,
        summary=summary,
        usage=usage,
        facts={heading: rows for heading, rows in cells.items() if rows},
        measurements=[map(_cell, each.row) for each in details.measurements],
        definitions={each.kind: each.definition for each in details.measurements},
        license_line=_license_line(details),
    )
    return f"{card}\n"


def last_name(place: str) -> str:
    """What a card may say of a path: its last part. Words that are no path stay as they are."""
    return PurePath(place).name or place


def _result(measured: Measurement, task: str, task_name: str) -> EvalResult:
    return EvalResult(
        task_type=task,
        task_name=task_name,
        dataset_type=measured.data or "unknown",
        dataset_name=measured.measured_on or "unknown",
        metric_type=measured.name,
        metric_name=measured.label,
        metric_value=measured.value,
    )


def _license_line(details: CardDetails) -> str:
    if details.license is None:
        return (
            "No licence was stated. The terms of a base model go on: look them up before you use or share the weights."
        )
    return f"`{details.license}`, {details.license_source}."


def _cell(value: object) -> str:
    """A value in a table of Markdown."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return " ".join(text.replace("|", "\\|").split())
