"""Every command of the guides runs, in order, on small images and for few steps, with the configs that they show."""

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from eqvae.autoencoders import load_autoencoder
from eqvae.data import ScenesSource
from eqvae.evaluation.image_grids import save_png
from tests.tiny import PACKAGED, STAGE_TWO, WITHOUT_VALIDATION, options

GUIDES = Path(__file__).parents[1] / "docs/guides"
FEW = 24  # images of each folder
SHORT = {key: value for key, value in WITHOUT_VALIDATION.items() if not key.endswith("num_images")}
SHORT |= PACKAGED | {"trainer.max_steps": 2}
OF_SCENES = {"data.init_args.train.init_args.num_images": FEW, "data.init_args.validation.init_args.num_images": FEW}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (GUIDES / page).read_text(), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for block in blocks(page, "bash") for line in block.splitlines()]


def run(words: list[str], monkeypatch) -> None:
    """A command of a guide, with fewer images and steps than it says; a comparison is only read."""
    words = [re.sub(r"^scenes:\d+", f"scenes:{FEW}", word) for word in words]
    name = words[0].removesuffix(".py")
    with monkeypatch.context() as patch:
        if name == "compare":
            patch.setattr(f"twostage.commands.{name}.run", lambda arguments: None)
        if name == "sample":
            words = [*words, "--num-images", "10", "--num-inference-steps", "2"]
        patch.setattr(sys, "argv", words)
        import_module(f"twostage.cli.{name}").main()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder, with runs below it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_my_own_images(folder, monkeypatch):
    for name, seed in (("my-images", 0), ("my-images-held-out", 1)):
        source = ScenesSource(num_images=FEW, image_size=32, seed=seed)
        for number in range(FEW):
            path = folder / name / ("cat", "dog")[number % 2] / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_png(source[number][0], path)
    mine, sit = blocks("own-images.md", "yaml")
    (folder / "mine.yaml").write_text(mine)
    (folder / "mine-sit.yaml").write_text(sit)
    reduced = {"mine.yaml": SHORT, "mine-sit.yaml": STAGE_TWO | {"trainer.max_steps": 2}}
    for words in commands("own-images.md"):
        short = next((options(values) for name, values in reduced.items() if name in words), [])
        run([*words, *short], monkeypatch)
    assert (folder / "runs/mine-samples/grid.png").is_file()
    assert load_autoencoder("runs/mine-eq/autoencoder").fingerprint() != load_autoencoder("scenes-f4c8").fingerprint()


@pytest.mark.slow
def test_my_own_autoencoder(folder, monkeypatch):
    (config,) = blocks("own-autoencoder.md", "yaml")
    (folder / "mine-eq.yaml").write_text(config)
    for words in commands("own-autoencoder.md"):
        run([*words, *(options(SHORT | OF_SCENES) if words[0] == "train.py" else [])], monkeypatch)
    exec(blocks("own-autoencoder.md", "python")[0], {})
    prints = {load_autoencoder(f"runs/mine-{arm}/autoencoder").fingerprint() for arm in ("eq", "control")}
    assert len(prints) == 2
    assert (folder / "runs/panel.png").stat().st_size > 10_000


def test_diffusers_reads_the_folder_as_the_guide_shows_it(folder):
    load_autoencoder("shapes-f4c8").save_pretrained("runs/tiny-shapes-eq/autoencoder")
    places: dict = {}
    exec(blocks("diffusers.md", "python")[0], places)
    assert places["latents"].shape == (1, 8, 8, 8)
    assert places["images"].shape == (1, 3, 32, 32)


def test_latents_that_have_moved_are_wrong_for_the_decoder_they_came_from():
    """As the guide's picture shows it: the numbers beneath it."""
    places: dict = {}
    exec(blocks("diffusers.md", "python")[1], places)
    found = [float((row - places["images"]).square().mean()) for row in places["rows"]]
    assert found == pytest.approx([0, 0.018, 0.020, 0.055], abs=1e-3)
    assert places["picture"].size == (398, 266)


@pytest.mark.parametrize("page", sorted(path.name for path in GUIDES.glob("*.md")))
def test_packaged_names_in_a_guide_exist(page):
    """Configs and sweeps that installed commands are shown with."""
    from eqvae.packaged import SWEEPS, TRAINING, find_config

    for block in blocks(page, "text"):
        for command, name in re.findall(r"eqvae-(train|sweep)\b[^\n]*?--config (\S+)", block):
            assert find_config(name, SWEEPS if command == "sweep" else TRAINING).is_file()
