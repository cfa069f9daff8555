"""The page in a real browser: what is moved there is what is computed, and nothing is fetched from asked."""

import json
import socket
from urllib.parse import urlsplit

import pytest

from eqvae.data import ShapesSource
from eqvae.evaluation.image_grids import save_png
from tests.dit.tiny import tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from tests.twostage.view.browser import CHROMIUM, open_tab
from twostage.view.exhibit import Exhibit
from twostage.view.page import load_gradio, serve
from twostage.view.sampling import Decoding

SIDE = 16
PLACES = 1 + 2 * 2 + 1  # T x, both autoencoders' images and latents, samples
NUMBERS = "[...document.querySelectorAll('#errors td')].map(cell => cell.innerText)"
PICTURES = "[...document.querySelectorAll('.picture')].map(each => each.querySelector('img')?.src ?? '')"
DRAWN = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def numbers_of(table: str) -> list[str]:
    rows = [row.split("|")[1:4] for row in table.splitlines()[2:]]
    return [word.strip(" `") for row in rows for word in row]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page with")
def test_what_is_moved_on_the_page_is_what_is_computed(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed: it is not in the extra `test`, only in `view`")
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")
    autoencoders = {"a": tiny_autoencoder(seed=0), "b": tiny_autoencoder(seed=1)}
    generators = {"g": Decoding(tiny_generator(autoencoder=autoencoders["a"]), autoencoders["a"])}
    exhibit = Exhibit(autoencoders, generators, SIDE)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        save_png(ShapesSource(3, SIDE)[index][0], path)

    def computed(path, turns):
        return json.dumps(numbers_of(exhibit.transformed(str(path), 0, 0, 1, turns)[1]))

    gradio = load_gradio("the test", tmp_path / "gradio")
    assert not gradio.analytics.analytics_enabled()
    port = free_port()
    with serve(gradio, exhibit, paths[:2], "127.0.0.1", port) as address, open_tab(tmp_path / "profile") as tab:
        with pytest.raises(ValueError, match=f"--port {port} of --host 127.0.0.1 cannot be listened at"):
            serve(gradio, exhibit, paths[:2], "127.0.0.1", port).__enter__()
        tab.tell("Page.navigate", url=address)
        tab.wait(same(computed(paths[0], 0)))
        before = tab.value(PICTURES)
        assert len(before) == PLACES
        tab.click("document.querySelectorAll('#turns label')[1]")
        tab.wait(same(computed(paths[0], 1)))
        tab.wait(f"{PICTURES}.slice(0, -1).every((source, place) => source != {json.dumps(before)}[place])")
        tab.choose_file("#dropped input[type=file]", paths[2])
        tab.wait(same(computed(paths[2], 1)))
        assert tab.value(PICTURES)[-1] == ""
        tab.click("document.querySelector('#sample')")
        tab.wait(f"{PICTURES}.at(-1) != ''")
        tab.wait(DRAWN)
        tab.click("document.querySelector('#classes input, #classes textarea')")
        tab.tell("Input.insertText", text="9")
        tab.click("document.querySelector('#sample')")
        tab.wait("document.body.innerText.includes(`labels 'balanced9': use balanced, random, or numbers`)")
        asked = [each for each in tab.addresses if urlsplit(each).scheme not in ("data", "blob")]
        assert len(asked) > 10
        assert {urlsplit(each).netloc for each in asked} == {f"127.0.0.1:{port}"}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def same(numbers: str) -> str:
    """Whether the table on the page has these cells."""
    return f"JSON.stringify({NUMBERS}) == JSON.stringify({numbers})"
