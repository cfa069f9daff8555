"""What a training prints: our lines, and nothing that Lightning says about itself."""

import logging
import sys
import warnings

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from eqvae.training.messages import LEFT_OUT, leave_out_noise
from eqvae.training.progress import TrainingProgress, _shown
from tests.tiny import STAGE_ONE, STAGE_TWO, options, stage_two
from twostage.cli import train

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
def command(monkeypatch, capsys):
    """Runs `train.py`, and gives its standard output and standard error."""

    def run(*words: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
        warnings.simplefilter("default")
        train.main()
        said = capsys.readouterr()
        return said.out, said.err

    return run


def test_both_stages_print_what_is_ours_alone(command, tmp_path):
    folder = tmp_path / "eq"
    stage_one = options(STAGE_ONE | {"trainer.max_steps": 2, "trainer.default_root_dir": folder})
    fitted, warned = command("fit", "--config", "tiny-shapes", *stage_one)
    assert "KLAutoencoder: 0.689 M trained parameters" in fitted
    assert "global batch 4 = 1 devices x 1 accumulated x 4 per device" in fitted
    assert "training: 2 of 2" in fitted
    assert warned.splitlines()
    assert all(line.startswith("warning: ") for line in warned.splitlines()), "with the code that gave them"
    cached, _ = command("predict", "--config", "tiny-shapes", *stage_one)
    assert f"latent cache: {folder / 'latents'}, 48 images" in cached
    assert "caching: 5 of 5" in cached
    folders = {"trainer.default_root_dir": tmp_path / "sit", "data.init_args.cache": folder / "latents"}
    often = {"trainer.max_steps": 2, "trainer.log_every_n_steps": 1}
    learned, errors = command("fit", "--config", "tiny-sit", *options(STAGE_TWO | often | folders))
    assert "SiT: " in learned
    assert "training: 2 of 2, " in learned
    assert ", loss " in learned
    assert errors == ""
    for text in (fitted, warned, cached, learned):
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
