"""What commands print on the road from images to measured samples: our lines, none of Lightning's, and what is next."""

import logging
import shlex
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from eqvae.training.messages import LEFT_OUT, leave_out_noise
from eqvae.training.progress import TrainingProgress, _shown
from tests.tiny import PACKAGED, STAGE_ONE, STAGE_TWO, options, stage_two

NOISE = (
    "litlogger",
    "litmodels",
    "Total FLOPs",
    "v_num",
    "weights_only",
    "GPU available",
    "TPU available",
    "Seed set",
    "`Trainer",
    "Modules in",
    "LeafSpec",
    "ignore this warning",
    "site-packages",
)


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs a command, and gives its standard output and standard error."""

    def run(*words: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", [*map(str, words)])
        warnings.simplefilter("default")
        import_module(f"twostage.cli.{sys.argv[0].removesuffix('.py')}").main()
        said = capsys.readouterr()
        return said.out, said.err

    return run


def ending(printed: str) -> tuple[Path, list[str]]:
    """What a command wrote, and the words of the next one."""
    wrote, following = printed.splitlines()[-2:]
    python, *words = shlex.split(following.removeprefix("next: "))
    assert python == "python"
    return Path(wrote.removeprefix("wrote ")), words


def test_the_road_is_what_each_command_prints_as_the_next_one(typed, tmp_path):
    """Each command is typed as the one before it said, with small sizes behind; nothing else has to be known."""
    folder = tmp_path / "eq"
    small = options(STAGE_ONE | PACKAGED | {"trainer.max_steps": 2, "trainer.default_root_dir": folder})
    fitted, warned = typed("train.py", "fit", "--config", "tiny-shapes", *small, "--overwrite")
    assert "KLAutoencoder: 0.689 M trained parameters" in fitted
    assert "global batch 4 = 1 devices x 1 accumulated x 4 per device" in fitted
    assert "training: 2 of 2" in fitted
    assert warned.splitlines()
    assert all(line.startswith("warning: ") for line in warned.splitlines()), "with the code that gave them"
    wrote, following = ending(fitted)
    assert wrote == folder / "autoencoder"
    assert following == ["train.py", "predict", "--config", "tiny-shapes", *small]

    cached, errors = typed(*following)
    assert errors == ""
    assert f"latent cache: {folder / 'latents'}, 48 images" in cached
    assert "caching: 5 of 5" in cached
    wrote, following = ending(cached)
    assert wrote == folder / "latents"
    assert following == ["train.py", "fit", "--config", "tiny-sit", f"--data.init_args.cache={wrote}"]

    often = {"trainer.max_steps": 2, "trainer.log_every_n_steps": 1, "trainer.default_root_dir": tmp_path / "sit"}
    learned, errors = typed(*following, *options(STAGE_TWO | often))
    assert errors == ""
    assert "SiT: " in learned
    assert "training: 2 of 2, " in learned
    assert ", loss " in learned
    wrote, following = ending(learned)
    assert wrote == tmp_path / "sit/checkpoints/last.ckpt"
    samples = tmp_path / "sit/samples"
    assert following == ["sample.py", "--checkpoint", str(wrote), "--output", str(samples), "--npz"]

    sampled, errors = typed(*following, "--num-images", 20, "--num-inference-steps", 2)
    assert errors == ""
    assert "sampling: 20 of 20" in sampled
    wrote, following = ending(sampled)
    assert wrote == samples / "samples.npz"
    held_out = ["--reference", "shapes:32:1"]  # by the fingerprint in the validation cache
    assert following == ["evaluate.py", "generation", "--generated", str(wrote), *held_out]

    measured, warned = typed(*following, "--output", tmp_path / "measured.json")
    assert all(line.startswith("warning: ") for line in warned.splitlines())
    wrote, following = ending(measured)
    assert wrote.is_file()
    planned, _ = typed(*following)
    assert ending(planned)[1] == ["sweep.py", "--config", "tiny-shapes"]
    for text in (fitted, cached, learned, sampled, measured):
        assert not [noise for noise in NOISE if noise in text]


def test_other_messages_of_the_same_loggers_stay(caplog):
    leave_out_noise()
    leave_out_noise()
    for name, beginnings in LEFT_OUT.items():
        logger = logging.getLogger(name)
        assert len(logger.filters) == 1
        with caplog.at_level(logging.INFO):
            logger.info("something else: %s", beginnings[0])
            logger.info("%sand so on", beginnings[0])
        assert caplog.messages == [f"something else: {beginnings[0]}"]
        caplog.clear()


@pytest.mark.parametrize("own", [None, TQDMProgressBar])
def test_a_bar_of_the_user_s_own_takes_the_place(own, tmp_path):
    given = [] if own is None else [own()]
    run = stage_two(tmp_path, tmp_path, {}, enable_progress_bar=True, callbacks=given)
    assert type(run.trainer.progress_bar_callback) is (own or TrainingProgress)
    assert len(given) == (own is not None)


def test_the_loss_stands_first_and_the_line_s_own_speed_is_not_repeated():
    logged = {"val/psnr": 30.0, "speed/images_per_second": 5.0, "speed/mfu": 0.4, "train/loss": 1.0}
    assert _shown(logged) == [("loss", 1.0), ("val/psnr", 30.0), ("mfu", 0.4)]
