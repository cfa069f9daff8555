"""Documentation: line lengths, paths that exist, one version everywhere."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("eqvae/**/*.md")])
WIDTH = 120


def prose(page: Path) -> list[tuple[int, str]]:
    """(number, line) of what is neither code, a table nor an image."""
    lines, in_code = [], False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code and not line.startswith(("|", "!")):
            lines.append((number, line))
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lines_fit(page):
    assert [number for number, line in prose(page) if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_exist(page):
    """Files and folders of this project that a page names in code, and those that it links to."""
    text = page.read_text()
    named = re.findall(r"`((?:eqvae|dit|twostage|configs|docs|tests|benchmarks|studies|constraints)/[\w./-]*)`", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    links = re.findall(r"\]\(((?!https?:|#)[^)#]+)", text)
    missing += [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_the_version_is_the_same_everywhere():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert setup["metadata"]["version"] == citation["version"] == newest[1]
