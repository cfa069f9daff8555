"""Sphinx configuration: MyST pages, notebooks as they were executed, and API pages from docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "eqvae"
author = "The eqvae authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "eqvae"
nb_execution_mode = "off"  # `python -m tests.notebooks` executes them
myst_enable_extensions = ["dollarmath"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
