"""The documentation builds without a warning."""

import io
from contextlib import redirect_stderr

import pytest

from tests.reliability.isolation import in_child


def build(folder) -> tuple[int, str]:
    from sphinx.cmd.build import main

    with redirect_stderr(io.StringIO()) as said:
        failed = main(["-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)])
    return failed, said.getvalue()


@pytest.mark.slow
def test_docs_build(tmp_path):
    pytest.importorskip("sphinx")
    failed, said = in_child(build, tmp_path)  # which has imported already what the pages document
    assert not failed, said[-3000:]
    assert (tmp_path / "api.html").is_file()
