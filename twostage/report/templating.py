"""The templates of reports, and what they may call."""

import base64
import hashlib
import io
import json
import math
from pathlib import Path

import jinja2
from PIL import Image

from eqvae.evaluation.metrics import find_metric, in_order
from twostage.analysis.treatment import treatment_line
from twostage.analysis.words import (
    agreement_sentence,
    change_interval_text,
    ends_text,
    interval_name,
    interval_text,
    ratio_text,
    seeds_text,
    sentence,
    signed_percent,
    size_text,
    verdict_text,
)
from twostage.report.text import format_duration, format_number

TEMPLATES = Path(__file__).parent / "templates"


def environment(autoescape: bool) -> jinja2.Environment:
    """Of the folder of templates, in which every name that is used must be given."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": format_number,
        "percent": signed_percent,
        "duration": format_duration,
        "json": json.dumps,
        "setting": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        "metric_names": in_order,
        "metric": lambda name: find_metric(name).heading,
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
        "ratio_text": ratio_text,
        "verdict_text": verdict_text,
        "interval_text": interval_text,
        "interval_name": interval_name,
        "size": size_text,
        "ends": ends_text,
        "change_interval": change_interval_text,
        "expm1": math.expm1,
        "sentence": sentence,
        "agreement": agreement_sentence,
        "seeds": seeds_text,
        "treatment": treatment_line,
    }
    return made


def script_with_policy() -> tuple[str, str]:
    """The page's script, and the policy that lets it alone run and nothing be loaded (Content-Security-Policy)."""
    script = (TEMPLATES / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return script, f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def embed(folder: Path, file: str) -> dict[str, str | int]:
    """A PNG as a data URI with its size in pixels.

    Raises:
        FileNotFoundError: naming it, if it is not there.
    """
    path = Path(folder) / file
    if not path.is_file():
        raise FileNotFoundError(f"the report's image {file} is not in {folder}; write it there or leave it out")
    content = path.read_bytes()
    width, height = Image.open(io.BytesIO(content)).size
    return {"uri": f"data:image/png;base64,{base64.b64encode(content).decode()}", "width": width, "height": height}
