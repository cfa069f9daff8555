"""Every command says what is wrong in one line: known mistakes with the key and what was meant, others with a log."""

import os
import re
import signal

import pytest
from omegaconf import OmegaConf

from eqvae.bases import load_config
from eqvae.commands import KEPT_LOGS, describe, run_command
from eqvae.data import open_source
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.cli import TrainCLI
from tests.tiny import PACKAGED, STAGE_ONE, train

GENERATOR, AUTOENCODER = "configs/dit/tiny-sit.yaml", "configs/eqvae/tiny-shapes.yaml"


def key_error():
    return {}["missing"]


def full_disk():
    raise OSError(28, os.strerror(28), "runs/a")


def conversion():
    """A ValueError, raised by Python within our code, which says nothing of what to do."""
    open_source("shapes:²", 32)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("EQVAE_DEBUG", raising=False)
    return tmp_path / "state" / "eqvae"


def line_of(command, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        run_command(command)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error.strip().removeprefix("error: ")


def test_our_own_error_is_its_message_alone(logs, capsys):
    assert line_of(lambda: load_checkpoint("absent.ckpt"), capsys) == "no checkpoint at absent.ckpt: check the path"
    assert not logs.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (key_error, "KeyError: 'missing'"),
        (full_disk, "[Errno 28] No space left on device: 'runs/a'"),
        (conversion, "invalid literal for int() with base 10: '²'"),
    ],
)
def test_any_other_error_is_a_line_and_a_log_with_its_trace(logs, capsys, command, message):
    line = line_of(command, capsys)
    (log,) = logs.iterdir()
    assert line == f"{message} (trace in {log})"
    assert "Traceback (most recent call last)" in log.read_text()
    assert command.__name__ in log.read_text()


def test_logs_are_few_and_elsewhere_where_they_cannot_be_written(logs, capsys, tmp_path, monkeypatch):
    logs.mkdir(parents=True)
    for number in range(KEPT_LOGS + 5):
        (logs / f"error-2000{number:02d}.log").touch()
    line_of(key_error, capsys)
    assert len(list(logs.iterdir())) == KEPT_LOGS
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert "could not be written" in line_of(key_error, capsys)


def test_a_trace_can_be_asked_for(logs, monkeypatch):
    monkeypatch.setenv("EQVAE_DEBUG", "1")
    with pytest.raises(KeyError):
        run_command(key_error)


def test_long_and_foreign_traces_are_cut_to_what_they_say(logs):
    trace = "-- Process 1 terminated:\nTraceback (most recent call last):\n  File x\nValueError: loss is not finite\n"
    assert describe(RuntimeError(trace)).startswith("loss is not finite (trace in")
    assert len(describe(RuntimeError("long " * 1000))) < 1000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_its_code(number, code):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: os.kill(os.getpid(), number))
    assert stop.value.code == code
    assert signal.getsignal(number) == before


def test_a_warning_signal_goes_unheeded():
    run_command(lambda: os.kill(os.getpid(), signal.SIGUSR1))


MISTAKES = [
    (
        GENERATOR,
        "--model.init_args.learnin_rate=1",
        "model.init_args.learnin_rate is unknown: did you mean learning_rate?",
    ),
    (GENERATOR, "--trainr.max_steps=3", "--trainr.max_steps is unknown: did you mean --trainer.max_steps?"),
    (GENERATOR, "--data.init_args.global_batch_size=abc", "data.init_args.global_batch_size: abc is no int"),
    (
        GENERATOR,
        "--model.decay=cosin",
        "decay: cosin is none of constant, cosine, cosine_in_last_tenth, linear, constant_with_warmup, "
        "cosine_with_restarts, polynomial, piecewise_constant: did you mean cosine?",
    ),
    (
        GENERATOR,
        "--model.backbone.init_args.dept=3",
        "model.init_args.backbone.init_args.dept is unknown: did you mean depth?",
    ),
    (
        GENERATOR,
        "--model.objective=dit.objectives.Flo",
        "model.init_args.objective: there is no class dit.objectives.Flo: did you mean dit.objectives.Flow?",
    ),
    (
        GENERATOR,
        "--model=dit.modul.GeneratorModule",
        "model: there is no class dit.modul.GeneratorModule: did you mean dit.module.GeneratorModule?",
    ),
    (GENERATOR, "--trainer.precision=bf16-mix", "did you mean bf16-mixed?"),
    (GENERATOR, "--trainer.accelerator=gpuu", "trainer: You selected an invalid accelerator name"),
    (GENERATOR, "--model.init_args.betas=[1]", "model.init_args.betas: [1] is no tuple with 2 elements"),
    (
        AUTOENCODER,
        "--model.transforms=papr",
        "transforms: papr is none of paper, released: did you mean",
    ),
    (AUTOENCODER, "--data.init_args.train.class_path=eqvae.data.ShapeSource", "did you mean eqvae.data.ShapesSource?"),
    (AUTOENCODER, "--data.init_args.train.init_args.num_image=3", "num_image is unknown: did you mean num_images?"),
    (AUTOENCODER, "--model.init_args.gradient_clip_norm=x", "model.init_args.gradient_clip_norm: x is no float"),
    (AUTOENCODER, "--model.init_args.autoencoder=[1]", "model.init_args.autoencoder: [1] is no str or dict"),
    (
        AUTOENCODER,
        "--model.init_args.regularizers=[{class_path: eqvae.regularizers.ChannelMasking, init_args: {kept: 3}}]",
        "model.init_args.regularizers.init_args.kept: 3 is no list, as [1, 2] is one",
    ),
    (AUTOENCODER, "--model.init_args.regularizers=3", "model.init_args.regularizers: 3 is no list"),
]


@pytest.mark.parametrize(("config", "option", "message"), MISTAKES, ids=[mistake[1] for mistake in MISTAKES])
def test_a_mistake_on_the_command_line_names_the_key_and_what_is_like_it(config, option, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        TrainCLI(["--config", config, option], run=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  max_steps: 200", "  max_step: 200", "trainer.max_step is unknown: did you mean trainer.max_steps?"),
        ("trainer:", "trainr:", "did you mean trainer?"),
        (
            "  init_args:\n    autoencoder:",
            "  init_arg:\n    autoencoder:",
            "model.init_arg is unknown: did you mean init_args?",
        ),
        (
            "      decay: 0.99",
            "      decya: 0.99",
            "trainer.callbacks.init_args.decya is unknown: did you mean decay?",
        ),
        ("${trainer.default_root_dir}/ch", "${trainer.default_root}/ch", "Interpolation key"),
        ("seed_everything: 0", "seed_everything: [0", "line 2: did not find expected"),
        ("seed_everything: 0", "seed_everything: &a [*a]", "line 1: an anchor contains itself"),
    ],
)
def test_a_mistake_in_a_file_names_the_key_or_line(tmp_path, old, new, message):
    text = OmegaConf.to_yaml(load_config(GENERATOR))
    assert old in text
    path = tmp_path / "config.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        TrainCLI(["--config", str(path)], run=False)
    assert "\n" not in str(error.value)


def test_anchors_that_unfold_without_end_are_refused_at_once(tmp_path):
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="anchors unfold to more than"):
        train("fit", "--config", tmp_path / "bomb.yaml")


@pytest.mark.parametrize(
    ("config", "option", "message"),
    [
        (GENERATOR, "--model.init_args.backbone.init_args.num_heads=3", "hidden_size 128 must be divisible by num_"),
    ],
)
def test_what_a_class_refuses_is_its_message_alone(config, option, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        TrainCLI(["--config", config, option], run=False)
    assert describe(error.value) == str(error.value)


def test_images_whose_side_does_not_divide_are_not_cached(tmp_path):
    settings = STAGE_ONE | PACKAGED | {"trainer.default_root_dir": tmp_path}
    settings |= {"data.init_args.train.init_args.image_size": 30}
    with pytest.raises(ValueError, match=r"train: image_size 30 is no multiple of 4, .*: use 28 or 32"):
        train("predict", "--config", AUTOENCODER, settings)


def test_a_checkpoint_of_another_network_is_not_measured(tmp_path):
    settings = {"trainer.default_root_dir": tmp_path, "trainer.max_steps": 1, "trainer.limit_val_batches": 0}
    train("fit", "--config", AUTOENCODER, STAGE_ONE | settings)
    change = {"model.init_args.adversarial": "eqvae.losses.AdversarialLoss"}
    words = ("--ckpt_path", tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match=r"last\.ckpt is of another network"):
        train(
            "validate",
            "--config",
            AUTOENCODER,
            STAGE_ONE | settings | change | {"trainer.limit_val_batches": 1},
            *words,
        )
