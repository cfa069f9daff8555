"""Configs that build on others."""

import re

import pytest
import yaml
from omegaconf import OmegaConf

from eqvae import packaged
from eqvae.bases import load_config, on_top
from eqvae.training.cli import TrainCLI
from twostage import configs


def write(folder, **files):
    """YAML files of these names and contents."""
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def content(path):
    return OmegaConf.to_container(load_config(path))


@pytest.mark.parametrize(
    ("base", "value", "expected"),
    [
        (1, 2, 2),
        (1, None, None),
        ({"a": 1}, None, None),
        ([1, 2], [3], [3]),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}, "e": 5}, {"a": 1, "b": {"c": 4, "d": 3}, "e": 5}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        (
            {"class_path": "x.A", "init_args": {"a": 1, "b": 2}},
            {"class_path": "x.A", "init_args": {"a": 3}},
            {"class_path": "x.A", "init_args": {"a": 3, "b": 2}},
        ),
        (
            {"class_path": "x.A", "init_args": {"a": 1}},
            {"class_path": "x.B", "init_args": {"c": 3}},
            {"class_path": "x.B", "init_args": {"c": 3}},
        ),
        (
            {"class_path": "x.A", "init_args": {"a": 1}},
            {"init_args": {"c": 3}},
            {"class_path": "x.A", "init_args": {"a": 1, "c": 3}},
        ),
        (
            [{"class_path": "x.A", "init_args": {"a": 1}}, {"class_path": "x.B"}],
            [{"class_path": "x.C"}, {"class_path": "x.A", "init_args": {"b": 2}}],
            [{"class_path": "x.C"}, {"class_path": "x.A", "init_args": {"a": 1, "b": 2}}, {"class_path": "x.B"}],
        ),
        ([{"class_path": "x.A"}], [{"class_path": "x.B"}] * 2, [{"class_path": "x.B"}] * 2),
        ([{"class_path": "x.A"}], [], []),
    ],
)
def test_what_goes_on_top_of_what(base, value, expected):
    assert on_top(base, value) == expected


def test_bases_are_named_by_path_or_by_name_and_go_on_top_of_each_other(tmp_path, monkeypatch):
    (tmp_path / "bases").mkdir()
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    write(tmp_path / "bases", packed={"seed_everything": 1, "trainer": {"max_steps": 2, "devices": 3}})
    write(
        tmp_path / "own", first={"base": "packed", "trainer": {"max_steps": 4}}, second={"trainer": {"devices": "${x}"}}
    )
    write(tmp_path, own_recipe={"base": ["own/first.yaml", "./own/second.yaml"], "seed_everything": 5})
    expected = {"seed_everything": 5, "trainer": {"max_steps": 4, "devices": "${x}"}}
    assert content(tmp_path / "own_recipe.yaml") == expected
    write(tmp_path / "bases", packed={"trainer": {"precision": "32-true"}})
    expected["trainer"] = {"precision": "32-true"} | expected["trainer"]
    assert content(tmp_path / "own_recipe.yaml") == expected, "a changed base is read again"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": {"base": "tiny-sitt"}}, "config {}/a.yaml: base: no packaged config is called tiny-sitt: did you mean "),
        ({"a": {"base": "./b.yaml"}}, "config {}/b.yaml cannot be read: No such file or directory"),
        ({"a": {"base": {"b": 1}}}, "config {}/a.yaml: base {{'b': 1}} is neither a config's name or path nor a list"),
        ({"a": {"base": [1]}}, "config {}/a.yaml: base [1] is neither a config's name or path nor a list of them"),
        ({"a": {"base": "./a.yaml"}}, "config {0}/a.yaml is its own base, by way of {0}/a.yaml: remove `base` from"),
        (
            {"a": {"base": "./b.yaml"}, "b": {"base": ["./a.yaml"]}},
            "config {0}/a.yaml is its own base, by way of {0}/b.yaml: remove `base` from one of them",
        ),
        ({"a": {"base": "./b.yaml"}, "b": []}, "config {}/b.yaml holds no keys with values"),
    ],
)
def test_a_base_that_cannot_be_is_refused_in_one_line(tmp_path, files, message):
    path = write(tmp_path, **files) / "a.yaml"
    with pytest.raises(ValueError, match="^" + re.escape(message.format(tmp_path))):
        load_config(path)
    with pytest.raises(ValueError, match="^" + re.escape(message.format(tmp_path))):
        TrainCLI(["fit", "--config", str(path), "--print_config"])


def test_the_command_line_reads_a_config_of_ones_own_on_a_packaged_one(tmp_path, monkeypatch, capsys):
    write(tmp_path, mine={"base": "tiny-sit", "trainer": {"max_steps": 7}})
    monkeypatch.chdir(tmp_path)
    for words in (["--config", "mine.yaml"], ["--config=mine.yaml"], ["-c", "mine.yaml"]):
        with pytest.raises(SystemExit) as stop:
            TrainCLI(["fit", *words, "--trainer.devices=1", "--print_config"])
        printed = yaml.safe_load(capsys.readouterr().out)
        assert stop.value.code == 0
        assert printed["trainer"]["max_steps"] == 7
        assert printed["model"]["init_args"]["backbone"]["init_args"]["hidden_size"] == 128
        assert "base" not in printed


def test_a_sweep_reads_a_config_with_its_bases(tmp_path):
    write(tmp_path, mine={"base": "tiny-sit", "trainer": {"max_steps": 7}})
    config = configs.resolved_config(tmp_path / "mine.yaml", {"model.init_args.learning_rate": 1})
    assert (config["trainer"]["max_steps"], config["model"]["init_args"]["learning_rate"]) == (7, 1)
    assert config["trainer"]["logger"]["init_args"]["save_dir"] == "runs/tiny-sit"


def test_a_sweep_reads_the_config_that_a_run_has_left(tmp_path, capsys, monkeypatch):
    """Without the options of the command, and with checkpoints and logs in the folder of each of its own trainings."""
    monkeypatch.chdir(write(tmp_path, mine={"base": "tiny-sit", "trainer": {"max_steps": 7}}))
    with pytest.raises(SystemExit):
        TrainCLI(["fit", "--config", "mine.yaml", "--print_config"])
    (tmp_path / "left.yaml").write_text(capsys.readouterr().out)
    left = yaml.safe_load((tmp_path / "left.yaml").read_text())
    assert "ckpt_path" in left
    assert left["trainer"]["callbacks"][1]["init_args"]["dirpath"] == "runs/tiny-sit/checkpoints"
    of_a_sweep = configs.common_overrides(seed=1)
    config = configs.resolved_config(tmp_path / "left.yaml", of_a_sweep)
    assert set(config) <= {"seed_everything", "trainer", "model", "data", "optimizer", "lr_scheduler"}
    assert config["trainer"]["max_steps"] == 7
    packaged_one = configs.resolved_config("tiny-sit", of_a_sweep)["trainer"]
    assert config["trainer"]["callbacks"][1]["init_args"]["dirpath"] == f"{configs.NODE}/checkpoints"
    assert packaged_one["callbacks"][1]["init_args"]["dirpath"] == f"{configs.NODE}/checkpoints"
    assert config["trainer"]["logger"]["init_args"]["save_dir"] == packaged_one["logger"]["init_args"]["save_dir"]
    assert "runs/tiny-sit" not in str(config["trainer"])
