"""Every shipped config is explained, complete, and read by the program it is for."""

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from eqvae.bases import load_config
from eqvae.training.cli import TrainCLI
from tests.golden.meanings import RECORDED, meanings
from twostage.configs import flatten

ROOT = Path(__file__).parents[1]
TRAINING = sorted([*ROOT.glob("configs/eqvae/*.yaml"), *ROOT.glob("configs/dit/*.yaml")])
BASES = sorted(ROOT.glob("configs/bases/*.yaml"))
SELF_EXPLAINING = {"base", "init_args", "class_path"}


def unexplained(path: Path) -> list[str]:
    """Keys with a value but no comment behind it."""
    lines = [line for line in path.read_text().splitlines() if re.match(r"\s*(- )?[\w.]+:\s*[^\s#]", line)]
    keys = [(re.match(r"\s*(?:- )?([\w.]+):", line)[1], line) for line in lines]
    return [line for key, line in keys if key not in SELF_EXPLAINING and "#" not in line]


@pytest.mark.parametrize("path", [*BASES, *TRAINING], ids=lambda path: path.stem)
def test_every_key_of_a_training_config_is_explained(path):
    assert not unexplained(path)


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_training_config_is_read(path, capsys):
    with pytest.raises(SystemExit) as stop:
        TrainCLI(["fit", "--config", str(path), "--print_config"])
    assert stop.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_recipe_repeats_nothing_of_its_bases(path, tmp_path):
    """But for what a publication leaves open or does otherwise, which the recipe says where it stands."""
    own = OmegaConf.to_container(OmegaConf.load(path))
    (tmp_path / "bases.yaml").write_text(f"base: {own.pop('base')}\n")
    below = dict(flatten(OmegaConf.to_container(load_config(tmp_path / "bases.yaml"))))
    said = {line.split(":")[0].strip() for line in path.read_text().splitlines() if re.search("OPEN|DIFFERS", line)}
    repeated = [key for key, value in flatten(own) if key in below and below[key] == value]
    assert [key for key in repeated if key.split(".")[-1] not in said] == []


def test_no_recipe_has_changed_its_meaning():
    assert meanings() == json.loads(RECORDED.read_text()), "see tests/golden/meanings.py"


@pytest.mark.parametrize("subcommand", [False, True])
def test_interpolation_follows_overrides(subcommand, tmp_path, monkeypatch, capsys):
    args = ["--config", "configs/eqvae/tiny-shapes.yaml", f"--trainer.default_root_dir={tmp_path}"]
    if subcommand:
        with pytest.raises(SystemExit):
            TrainCLI(["fit", *args, "--print_config"])
        assert f"save_dir: {tmp_path}\n" in capsys.readouterr().out
    else:
        assert TrainCLI(args, run=False).trainer.logger.save_dir == str(tmp_path)


@pytest.mark.reliability(24, counts="files")
def test_a_foreign_class_is_refused_before_its_import(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tmp_path / "evil.yaml"
    config.write_text("model:\n  class_path: evil.Evil\n")
    with pytest.raises(ValueError, match=r"model: class evil\.Evil is not allowed"):
        TrainCLI(["--config", str(config)], run=False)
    assert not (tmp_path / "imported").exists()
