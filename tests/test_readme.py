"""Every command of the README runs, in order, at reduced size, and leaves what the README says."""

import json
import re
import runpy
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.tiny import PACKAGED, STAGE_ONE, STAGE_TWO

README = Path(__file__).parents[1] / "README.md"
READ_ALONE = ("compare.py", "sample.py", "verify.py")
SMALL_SWEEP = [
    "seeds=[0]",
    "evaluation.at_steps=[2,4]",
    "evaluation.num_images=20",
    "evaluation.sampling.num_inference_steps=2",
    "evaluation.grid_images=10",
]


def commands() -> list[str]:
    """Lines of the README's bash blocks that call Python."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python ")]


def reduced(words: list[str], runs: Path) -> list[str]:
    """The same sweep with its files below `runs` and small sizes."""
    stage_one = json.dumps(STAGE_ONE | PACKAGED).replace('"', "")
    control = json.dumps(STAGE_ONE | PACKAGED | {"model.init_args.transforms": None}).replace('"', "")
    parts = {"autoencoders.control": control, "autoencoders.equivariant": stage_one}
    parts["generators.sit"] = json.dumps(STAGE_TWO).replace('"', "")
    return words + SMALL_SWEEP + [f"root={runs}"] + [f"{part}.overrides={value}" for part, value in parts.items()]


def run(words: list[str], monkeypatch) -> None:
    """A command in this process; one that takes a time or a study as it is, is only read."""
    name = words[0].removesuffix(".py")
    with monkeypatch.context() as patch:
        if words[0] in READ_ALONE:
            patch.setattr(f"twostage.commands.{name}.run", lambda arguments: None)
        patch.setattr(sys, "argv", words)
        import_module(f"twostage.cli.{name}").main()


def test_ci_runs_the_two_commands_in_their_order_in_one_copy():
    made = [line for line in README.read_text().splitlines() if line.startswith("make ")]
    script = (README.parent / ".ci/run").read_text().splitlines()
    assert made == ["make demo", "make test"]
    assert script[-3:] == ['cd "$work_folder"', *made]
    assert "set -euo pipefail" in script
    assert "trap 'rm -rf \"$work_folder\"' EXIT" in script


@pytest.mark.slow
def test_the_sweep_runs_and_is_found_done(tmp_path, monkeypatch, capsys):
    """The other commands run in tests/test_road.py and tests/test_guides.py."""
    words = reduced(shlex.split(commands()[-1])[1:], tmp_path)
    assert words[0] == "sweep.py"
    run(words, monkeypatch)
    report = tmp_path / "tiny-shapes/report/report.html"
    assert str(report) in capsys.readouterr().out
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/done.json")}
    assert len(finished) == 15
    links = [path for path in (tmp_path / "tiny-shapes/nodes").rglob("*") if path.is_symlink()]
    assert {link.resolve() for link in links} == {path.parent for path in finished}

    run(words, monkeypatch)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "a second start did finished parts again"
    results = json.loads((report.parent / "report.json").read_text())
    assert {row["arm"] for row in results["curves"]} == {"control", "equivariant"}
    keys = {row["key"] for row in results["differences"]}
    assert all(key.startswith("model.init_args.transforms") for key in keys)
    assert keys


def test_the_road_needs_no_override_to_be_right():
    assert len(commands()) >= 8
    assert not [line for line in commands() if "init_args" in line]


def documented() -> list[str]:
    """Commands of the documentation, too long to run whole."""
    pages = [README, *sorted(README.parent.glob("docs/*.md"))]
    return [line for page in pages for line in page.read_text().splitlines() if line.startswith("python ")]


@pytest.mark.parametrize("command", documented())
def test_documented_commands_are_read(command, monkeypatch, capsys):
    words = shlex.split(command)[1:]
    if words[0] == "sweep.py":
        ready = "start.autoencoder=shapes-f4c8"  # in the place of a folder that another command makes
        words = [ready if word.startswith("start.autoencoder=") else word for word in words]
        run([*words, "--dry-run"], monkeypatch)
        assert re.search(r"/seed0/metrics/\w+/step", capsys.readouterr().out)
        return
    if words[0] == "-m":  # a study's own
        monkeypatch.setattr(sys, "argv", [*words[1:], "--help"])
        with pytest.raises(SystemExit) as stop:
            runpy.run_module(words[1], run_name="__main__")
        assert stop.value.code == 0
        return
    if words[0] in READ_ALONE:
        run(words, monkeypatch)
        return
    with pytest.raises(SystemExit) as stop:
        run([*words, "--print_config" if words[0] == "train.py" else "--help"], monkeypatch)
    assert stop.value.code == 0
