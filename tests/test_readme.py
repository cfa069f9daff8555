"""Every command of the README runs, in order, at reduced size, and leaves what the README says."""

import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from eqvae.autoencoders import load_autoencoder
from tests.tiny import STAGE_ONE, STAGE_TWO, options

README = Path(__file__).parents[1] / "README.md"
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
    """The same command with its files below `runs` and small sizes."""
    words = [word.replace("runs/", f"{runs}/") if word.startswith("runs/") else word for word in words]
    if words[0] == "train.py" and "configs/eqvae/tiny-shapes.yaml" in words:
        return words + options(STAGE_ONE | {"trainer.default_root_dir": runs / "tiny-shapes-eq"})
    if words[0] == "train.py":
        folders = {
            "trainer.default_root_dir": runs / "tiny-sit",
            "data.init_args.cache": runs / "tiny-shapes-eq/latents",
        }
        return words + options(STAGE_TWO | folders | {"trainer.max_steps": 50})
    if words[0] == "sweep.py":
        stage_one = json.dumps(STAGE_ONE).replace('"', "")
        control = json.dumps(STAGE_ONE | {"model.init_args.transforms": None}).replace('"', "")
        parts = {"autoencoders.control": control, "autoencoders.equivariant": stage_one}
        parts["generators.sit"] = json.dumps(STAGE_TWO).replace('"', "")
        return words + SMALL_SWEEP + [f"root={runs}"] + [f"{part}.overrides={value}" for part, value in parts.items()]
    return [word.replace("200", "20").replace("500", "20") for word in words]


def run(words: list[str], monkeypatch) -> None:
    """A command in this process; one that takes a time or a study as it is, is only read."""
    module = import_module(f"twostage.cli.{words[0].removesuffix('.py')}")
    with monkeypatch.context() as patch:
        if words[0] in ("compare.py", "verify.py"):
            patch.setattr(module, "_run", lambda arguments: None)
        patch.setattr(sys, "argv", words)
        module.main()


def test_ci_runs_the_two_commands_in_their_order_in_one_copy():
    made = [line for line in README.read_text().splitlines() if line.startswith("make ")]
    script = (README.parent / ".ci/run").read_text().splitlines()
    assert made == ["make demo", "make test"]
    assert script[-3:] == ['cd "$work_folder"', *made]
    assert "set -euo pipefail" in script
    assert "trap 'rm -rf \"$work_folder\"' EXIT" in script


@pytest.mark.slow
def test_every_command_runs(tmp_path, monkeypatch, capsys):
    found = commands()
    assert len(found) >= 8, "the README lost its examples"
    for command in found:
        run(reduced(shlex.split(command)[1:], tmp_path), monkeypatch)

    exported = load_autoencoder(tmp_path / "tiny-shapes-eq/autoencoder").fingerprint()
    assert exported != load_autoencoder("shapes-f4c8").fingerprint()
    manifest = json.loads((tmp_path / "tiny-shapes-eq/latents/manifest.json").read_text())
    samples = json.loads((tmp_path / "samples/samples.json").read_text())
    assert manifest["autoencoder_fingerprint"] == samples["autoencoder_fingerprint"] == exported
    assert (tmp_path / "tiny-shapes-eq/latents-validation/manifest.json").is_file()
    assert not [line for line in found if "init_args" in line], "the road needs no override to be right"
    assert (tmp_path / "latents.png").stat().st_size > 10_000
    assert samples["num_steps"] == 50
    report = tmp_path / "tiny-shapes/report/report.html"
    assert str(report) in capsys.readouterr().out
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/done.json")}
    assert len(finished) == 15
    links = [path for path in (tmp_path / "tiny-shapes/nodes").rglob("*") if path.is_symlink()]
    assert {link.resolve() for link in links} == {path.parent for path in finished}

    run(reduced(shlex.split(found[-1])[1:], tmp_path), monkeypatch)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "a second start did finished parts again"
    results = json.loads((report.parent / "report.json").read_text())
    assert {row["arm"] for row in results["curves"]} == {"control", "equivariant"}
    keys = {row["key"] for row in results["differences"]}
    assert all(key.startswith("model.init_args.transforms") for key in keys)
    assert keys


def documented() -> list[str]:
    """Commands of the documentation, too long to run whole."""
    pages = sorted(README.parent.glob("docs/*.md"))
    return [line for page in pages for line in page.read_text().splitlines() if line.startswith("python ")]


@pytest.mark.parametrize("command", documented())
def test_documented_commands_are_read(command, monkeypatch, capsys):
    words = shlex.split(command)[1:]
    if words[0] == "sweep.py":
        ready = "start.autoencoder=shapes-f4c8"  # in the place of a folder that another command makes
        words = [ready if word.startswith("start.autoencoder=") else word for word in words]
        run([*words, "--dry-run"], monkeypatch)
        assert re.search(r"equivariant/seed0/metrics/\w+/step", capsys.readouterr().out)
        return
    if words[0] == "sample.py":
        with monkeypatch.context() as parsing:
            parsing.setattr("twostage.cli.sample._run", lambda arguments: None)
            run(words, parsing)
        return
    with pytest.raises(SystemExit) as stop:
        run(
            [*words, "--help" if words[0] in ("evaluate.py", "compare.py", "verify.py") else "--print_config"],
            monkeypatch,
        )
    assert stop.value.code == 0
