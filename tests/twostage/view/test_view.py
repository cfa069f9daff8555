"""The command: its exhibit, its last lines, what it says where Gradio is missing."""

import sys
import threading
from contextlib import contextmanager

import pytest
from PIL import Image

from eqvae.data import ShapesSource, open_source
from twostage.cli.view import main
from twostage.commands import view


def start(words, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["view.py", *words])
    main()


def test_it_serves_until_it_is_ended_and_says_where(monkeypatch, capsys):
    served = []

    @contextmanager
    def serve(gradio, exhibit, examples, host, port):
        served.extend([gradio, list(exhibit.autoencoders), exhibit.image_size, host, port])
        images = [open_source(str(examples[0].parent), 16)[index][0] for index in range(len(examples))]
        assert all((image == source[0]).all() for image, source in zip(images, ShapesSource(3, 16), strict=True))
        yield "http://127.0.0.1:7999/"

    monkeypatch.setattr(view, "load_gradio", lambda needed_by, folder: "gradio")
    monkeypatch.setattr(view, "serve", serve)
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: True)
    words = ["shapes-f4c8", "scenes-f4c8", "--data", "shapes:3", "--image-size", "16", "--port", "7999"]
    start(words, monkeypatch)
    assert served == ["gradio", ["shapes-f4c8", "scenes-f4c8"], 16, "127.0.0.1", 7999]
    assert capsys.readouterr().out.splitlines() == [
        "serving until Ctrl-C: http://127.0.0.1:7999/",
        "next: python -m webbrowser http://127.0.0.1:7999/",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shapes-f4c8"], "eqvae-view needs the package gradio: pip install 'eqvae[view]'"),
        (["shapes-f4c8", "--port", "0"], "--port must be at least 1 and at most 65535"),
        ([], "the following arguments are required: AUTOENCODER"),
    ],
)
def test_what_is_wrong_is_one_line(words, message, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit) as stop:
        start(words, monkeypatch)
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_examples_are_files_of_the_images(tmp_path):
    paths = view.write_examples(ShapesSource(40, 16), tmp_path)
    assert len(paths) == view.NUM_EXAMPLES
    assert {Image.open(path).size for path in paths} == {(16, 16)}
