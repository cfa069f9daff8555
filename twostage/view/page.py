"""The page: controls and pictures of an exhibit, drawn by Gradio, which is an extra."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from eqvae.extras import import_extra
from twostage.view.exhibit import NUM_SAMPLES, SMALLEST_PICTURE, Exhibit, Picture

TITLE = "Latents under transforms"
ABOUT = (
    "T shifts, resizes and turns the image x. An autoencoder whose latents are *equivariant* decodes the transformed "
    "latent, D(T E(x)), to the transformed image, T x."
)
LATENTS = (
    "**Latents**: left T E(x), transformed after encoding; right E(T x), before it. Colours are the three main "
    "directions of E(x). An encoder is equivariant where both are equal."
)
TURNS = ["0°", "90°", "180°", "270°"]
FONTS = ["system-ui", "sans-serif"]  # of the reader's system: nothing is fetched
CSS = """
.gradio-container { max-width: 1800px !important; margin: 0 auto }
footer { display: none !important }
#dropped img { width: 100%; height: 100%; object-fit: contain }
#turns .wrap { gap: 4px; flex-wrap: nowrap }
#turns label { padding: 6px 5px }
.heading { overflow-wrap: anywhere }
"""
PIXELS = ".gradio-container img { image-rendering: pixelated }"  # of small images, which browsers would blur
STEPS = 50
PICTURE_HEIGHT, LATENTS_HEIGHT, INPUT_HEIGHT = 270, 140, 200


def load_gradio(needed_by: str, folder: str | Path) -> ModuleType:
    """Gradio, told to report nothing to anybody and to keep files in one folder.

    Raises:
        ValueError: with the pip command, where it is not installed.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}
    return import_extra("gradio", "view", needed_by)


@contextmanager
def serve(gradio: ModuleType, exhibit: Exhibit, examples: list[Path], host: str, port: int) -> Iterator[str]:
    """Serve the page of an exhibit meanwhile; yields its address.

    Args:
        gradio: from `load_gradio`.
        exhibit: what is shown.
        examples: images to begin with, the first of which is there at once.
        host: address to listen at.
        port: of it.

    Raises:
        ValueError: where the port is taken.
    """
    page = build(gradio, exhibit, examples)
    css = CSS + (PIXELS if exhibit.image_size < SMALLEST_PICTURE else "")
    theme = gradio.themes.Default(font=FONTS, font_mono=["monospace"])
    try:
        page.launch(
            server_name=host, server_port=port, share=False, inbrowser=False, quiet=True, show_error=True,
            prevent_thread_lock=True, ssr_mode=False, mcp_server=False, pwa=False, enable_monitoring=False,
            footer_links=[], theme=theme, css=css,
        )  # fmt: skip
    except OSError as error:
        raise ValueError(f"--port {port} of --host {host} cannot be listened at: give another") from error
    try:
        yield page.local_url
    finally:
        page.close(verbose=False)


def build(gradio: ModuleType, exhibit: Exhibit, examples: list[Path]) -> Any:
    """The page, a `gradio.Blocks` that is not served yet."""
    with gradio.Blocks(title=TITLE, analytics_enabled=False) as page:
        gradio.Markdown(f"## {TITLE}\n{ABOUT}")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                controls = _controls(gradio, exhibit, examples)
            with gradio.Column(scale=3):
                outputs = _pictures(gradio, exhibit)
        _follow(gradio, page, exhibit, controls, outputs)
        if exhibit.generators:
            _samples(gradio, exhibit)
    return page


def _controls(gradio: ModuleType, exhibit: Exhibit, examples: list[Path]) -> list[Any]:
    """Image, shift to the right, shift down, scale, turns."""
    side, scales = exhibit.image_size, exhibit.scales
    gradio.Markdown("**Image x**: drop one, or choose")
    image = gradio.Image(
        str(examples[0]), show_label=False, type="filepath", image_mode=None, format="png", height=INPUT_HEIGHT,
        sources=["upload", "clipboard"], buttons=[], elem_id="dropped",
    )  # fmt: skip
    gradio.Examples([[str(path)] for path in examples], [image], label="images to try", examples_per_page=len(examples))
    turns = gradio.Radio(TURNS, value=TURNS[0], type="index", label="rotate, clockwise", elem_id="turns")
    scale = gradio.Slider(float(scales[0]), float(scales[-1]), 1, step=float(scales[1] - scales[0]), label="scale")
    pixels = [
        gradio.Slider(-(side // 2), side // 2, 0, step=1, label=f"shift {way}, pixels") for way in ("right", "down")
    ]
    return [image, *pixels, scale, turns]


def _pictures(gradio: ModuleType, exhibit: Exhibit) -> list[Any]:
    """T x, then D(T E(x)) of each autoencoder, then the latents of each, then the table."""
    decoded, latents = [], []
    with gradio.Row():
        with gradio.Column(min_width=200):
            expected = _image(gradio, "T x, the transformed image", PICTURE_HEIGHT)
            gradio.Markdown(LATENTS)
        for name in exhibit.autoencoders:
            with gradio.Column(min_width=200):
                decoded.append(_image(gradio, f"D(T E(x)) of `{name}`", PICTURE_HEIGHT))
                latents.append(_image(gradio, None, LATENTS_HEIGHT))
    return [expected, *decoded, *latents, gradio.Markdown(elem_id="errors")]


def _image(gradio: ModuleType, heading: str | None, height: int | None) -> Any:
    """A picture below its heading, which would lie on it if it were Gradio's label."""
    if heading is not None:
        gradio.Markdown(f"**{heading}**", elem_classes="heading")
    return gradio.Image(
        format="png", interactive=False, show_label=False, buttons=[], height=height, elem_classes="picture"
    )


def _follow(gradio: ModuleType, page: Any, exhibit: Exhibit, controls: list[Any], outputs: list[Any]) -> None:
    """Show what the controls say, at once and whenever one of them moves."""

    def show(path: str | None, *values: Any) -> list[Any]:
        if path is None:
            return [None] * (len(outputs) - 1) + [""]
        pictures, table = exhibit.transformed(path, *values)
        return [*pictures, table]

    changes = [page.load, *(control.change for control in controls)]
    gradio.on(changes, _telling(gradio, show), controls, outputs, show_progress="hidden", trigger_mode="always_last")


def _samples(gradio: ModuleType, exhibit: Exhibit) -> None:
    """Samples of all generators, taken when they are asked for."""
    gradio.Markdown(f"## Samples\n{NUM_SAMPLES} of each generator, image by image from the same noise. "
                    "Guidance scale 1 is none. Classes: balanced, random, or numbers with commas between.")  # fmt: skip
    with gradio.Row():
        controls = [
            gradio.Number(0, label="seed of the noise", precision=0, minimum=0),
            gradio.Slider(1, 250, STEPS, step=1, label="sampler's steps"),
            gradio.Slider(1, 10, 1, step=0.1, label="guidance scale"),
            gradio.Textbox("balanced", label="classes", elem_id="classes"),
        ]
        ask = gradio.Button("Sample", variant="primary", elem_id="sample")
    with gradio.Row():
        grids = []
        for name in exhibit.generators:
            with gradio.Column(min_width=200):
                grids.append(_image(gradio, f"`{name}`", None))

    def show(*values: Any) -> Picture | list[Picture]:
        pictures = exhibit.samples(*values)
        return pictures[0] if len(pictures) == 1 else pictures

    ask.click(_telling(gradio, show), controls, grids)


def _telling(gradio: ModuleType, show: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with errors in one line on the page and no trace in the terminal."""

    def tell(*values: Any) -> Any:
        try:
            return show(*values)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from None

    return tell
