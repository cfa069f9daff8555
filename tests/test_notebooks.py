"""The notebooks do what they show: their cells run at small size, and print and show what was kept of them."""

import ast
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table

from tests import notebooks
from tests.twostage.compare.fixtures import scaled
from tests.twostage.synthetic_sweep import synthetic_results

PAGE = Path(__file__).parents[1] / "docs/from-python.md"
LARGEST = 400_000  # bytes of a notebook
SHOWN = {"image/png": Image.Image, "text/html": Table}
NUMBER = re.compile(r"\d+\.\d+")


def run(source: str, names: dict) -> object:
    """Do what a cell says; the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last is not None else None


@pytest.fixture
def synthetic_comparison(monkeypatch):
    """A comparison that is planned, and whose sweep has its results at once."""
    monkeypatch.setattr("twostage.compare.run.take_times", lambda *given: scaled(0.5))
    monkeypatch.setattr("twostage.compare.run.choose_workers", lambda num_arms: 0)
    results = synthetic_results(3)
    monkeypatch.setattr("twostage.compare.run.run_sweep", lambda sweep, *_, **__: (Path("report.html"), results))


@pytest.mark.parametrize("name", notebooks.NOTEBOOKS)
@pytest.mark.usefixtures("synthetic_comparison")
@pytest.mark.filterwarnings("ignore:.*biased upward")
def test_every_cell_runs_and_shows_what_was_kept(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in notebooks.code_cells(name):
        capsys.readouterr()
        compares = "compare_autoencoders" in cell.source
        shown = run(cell.source if compares else notebooks.reduced(cell.source), names)
        values = (output.data for output in cell.outputs if output.output_type == "execute_result")
        kept = {kind for value in values for kind in value} & set(SHOWN)
        assert kept == {kind for kind, of in SHOWN.items() if isinstance(shown, of)}, cell.source
        if not compares:
            require_same_text(capsys.readouterr().out, notebooks.printed(cell), name == "latent-space")
    if "outcome" in names:
        assert capsys.readouterr().out.startswith("Equivariant fine-tuning against Ordinary fine-tuning: ")
        assert names["outcome"].sweep_file.is_file()


def require_same_text(printed: str, kept: str, with_numbers: bool) -> None:
    """The same words; the same numbers where nothing was trained and nothing made smaller."""
    assert NUMBER.sub("#", re.sub(r"\b\d+ images", "# images", printed)) == NUMBER.sub(
        "#", re.sub(r"\b\d+ images", "# images", kept)
    )
    if with_numbers:
        found, expected = ([float(number) for number in NUMBER.findall(text)] for text in (printed, kept))
        assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", notebooks.NOTEBOOKS)
def test_a_notebook_is_executed_and_small(name):
    assert (notebooks.FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    counts = [cell.execution_count for cell in notebooks.code_cells(name)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in notebooks.code_cells(name) for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_the_page_shows_cells_of_the_notebooks():
    """What runs there runs here."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    cells = [cell.source for name in notebooks.NOTEBOOKS for cell in notebooks.code_cells(name)]
    assert len(blocks) >= 8
    for block in blocks:
        assert block.strip() in cells
        assert len(block.strip().splitlines()) <= 10
