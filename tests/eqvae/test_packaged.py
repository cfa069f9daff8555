"""Packaged configs by their bare names, from any working folder, and paths beside them."""

import re
import sys
from pathlib import Path

import pytest

from eqvae import packaged
from eqvae.packaged import SWEEPS, TRAINING, find_config, packaged_configs
from twostage import load_sweep
from twostage.cli.train import main
from twostage.commands import sweep, train


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A few packaged configs, and a working folder without any."""
    for path in ("eqvae/shapes", "eqvae/shapes-start", "dit/sit-b-2", "dit/both", "eqvae/both", "sweeps/shapes"):
        file = tmp_path / "packaged" / f"{path}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "packaged")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "packaged"


def test_a_bare_name_is_looked_up_among_the_configs_of_the_command(configs):
    assert find_config("shapes", TRAINING) == configs / "eqvae/shapes.yaml"
    assert find_config("sit-b-2", TRAINING) == configs / "dit/sit-b-2.yaml"
    assert find_config("shapes", SWEEPS) == configs / "sweeps/shapes.yaml"
    assert list(packaged_configs(TRAINING)) == ["both", "shapes", "shapes-start", "sit-b-2"]


@pytest.mark.parametrize("path", ["./shapes", "shapes.yaml", "absent-too.yaml", "some/where.yaml"])
def test_a_path_is_a_path(configs, path):
    for name in ("shapes", "shapes.yaml"):
        (configs.parent / "work" / name).touch()
    assert find_config(path, TRAINING) == Path(path)
    assert find_config(Path("shapes"), TRAINING) == configs / "eqvae/shapes.yaml", "a name stays one beside such a file"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shapes-star", "no packaged config is called shapes-star: did you mean shapes-start or shapes?"),
        ("unlike", "no packaged config is called unlike: there are both, shapes, shapes-start, sit-b-2"),
        ("both", "config both may be {0}/eqvae/both.yaml or {0}/dit/both.yaml: give one of these paths"),
        ("configs/dit/sit-b-2.yaml", "no file at configs/dit/sit-b-2.yaml: the packaged config is called sit-b-2"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line_with_the_way_on(configs, name, message):
    with pytest.raises(ValueError, match=re.escape(message.format(configs))) as error:
        find_config(name, TRAINING)
    assert "\n" not in str(error.value)


def test_names_are_replaced_where_the_command_line_names_a_config_and_nowhere_else(configs):
    shapes = str(configs / "eqvae/shapes.yaml")
    words = ["fit", "--config", "shapes", "--name", "shapes", "--config=shapes", "-c", "own.yaml", "--x=shapes"]
    expected = ["fit", "--config", shapes, "--name", "shapes", f"--config={shapes}", "-c", "own.yaml", "--x=shapes"]
    assert train.with_paths(words) == expected


def test_train_reads_a_config_by_its_name_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["eqvae-train", "fit", "--config", "tiny-shapes", "--print_config"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    assert "default_root_dir: runs/tiny-shapes-eq\n" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["eqvae-train", "fit", "--config", "tiny-shape"])
    with pytest.raises(SystemExit) as stop:
        main()
    line = "error: no packaged config is called tiny-shape: did you mean tiny-shapes or tiny-shapes-start"
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("name", packaged_configs(SWEEPS))
def test_a_packaged_sweep_and_the_configs_in_it_are_read_in_an_empty_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_sweep(name, []).name == name


@pytest.mark.parametrize(
    ("program", "start"), [("/opt/bin/eqvae-sweep", "eqvae-sweep"), ("sweep.py", "python sweep.py")]
)
def test_a_report_says_how_the_same_sweep_is_started_again(program, start):
    words = [program, "--config", "tiny-shapes", "--retry", "seeds=[0, 1]"]
    assert sweep.again(words) == f"{start} --config tiny-shapes 'seeds=[0, 1]'"
