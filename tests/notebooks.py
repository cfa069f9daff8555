"""The notebooks of the documentation: `python -m tests.notebooks` executes them anew, in a folder of its own.

Names of notebooks may be given: `python -m tests.notebooks latent-space`.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SECONDS = 3600  # that a cell may take
SMALL = (
    (r"max_steps=\d+", "max_steps=2"),
    (r"num_images=\d+", "num_images=20"),
    (r'"num_inference_steps": \d+', '"num_inference_steps": 2'),
    (r"\b(shapes|scenes):\d{3,}", r"\1:24"),
)
"""What makes a cell small enough for a test."""


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def reduced(source: str) -> str:
    """A cell's source at small size."""
    for pattern, small in SMALL:
        source = re.sub(pattern, small, source)
    return source


def printed(cell: NotebookNode) -> str:
    """What a cell has written to standard output."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def execute(name: str) -> None:
    """Run a notebook in a fresh kernel and keep what it shows; what libraries say on standard error is left out."""
    from nbclient import NotebookClient

    notebook = read(name)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, record_timing=False, resources=resources).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # beside the PNG
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NOTEBOOKS:
        execute(chosen)
