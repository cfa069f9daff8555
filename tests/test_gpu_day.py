"""`benchmarks/gpu.py`: steps end in their time and are kept at once, what is done is skipped, all are real."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path.insert(0, BENCHMARKS)
gpu, gpu_steps = importlib.import_module("gpu"), importlib.import_module("gpu_steps")
sys.path.remove(BENCHMARKS)
Step = gpu_steps.Step
SAYS = "import json; print('a line'); print(json.dumps({'value': 3}, indent=2))"


def rehearsal(folder: Path, tiny: bool = True, device: str = "cpu"):
    return gpu_steps.StepSettings(device, tiny, None, folder, folder / "gpu")


def kept(folder: Path, part: str = "speed") -> dict:
    return json.loads((folder / f"gpu-{part}.json").read_text())


def test_steps_are_kept_skipped_and_tried_again(tmp_path, capsys):
    """One says something, one fails until a file is there."""
    here = tmp_path / "there"
    fails = f"import pathlib, sys; sys.exit(0 if pathlib.Path({str(here)!r}).exists() else 'not there yet')"
    steps = [Step("says", ["-c", SAYS], 60), Step("fails", ["-c", fails], 60)]
    first = gpu.run_part("speed", steps, tmp_path, 60)
    assert first == kept(tmp_path)
    assert first["says"]["report"] == {"value": 3}
    assert (first["says"]["done"], first["fails"]["done"], first["fails"]["returncode"]) == (True, False, 1)
    assert "not there yet" in first["fails"]["output"]
    here.touch()
    second = gpu.run_part("speed", steps, tmp_path, 60)
    assert second["fails"]["done"]
    assert (second["says"]["tries"], second["fails"]["tries"]) == (1, 2)
    assert "speed says: done before" in capsys.readouterr().out


def test_a_step_ends_in_its_time_with_what_it_started(tmp_path):
    """Its child would write a file."""
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    starts = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    found = gpu.run_part("speed", [Step("long", ["-c", starts], 0.8)], tmp_path, 60)["long"]
    assert (found["done"], found["out_of_time"], found["output"]) == (False, True, "begun\n")
    assert found["seconds"] < 2
    assert not (tmp_path / "late").exists()


def test_no_step_begins_when_the_part_is_over(tmp_path):
    times = iter([0.0, 1.0, 50.0])  # begun, before the first step, before the second
    steps = [Step(name, ["-c", "pass"], 40) for name in ("a", "b")]
    assert set(gpu.run_part("speed", steps, tmp_path, 60, lambda: next(times))) == {"a"}
    again = gpu.run_part("speed", steps, tmp_path, 60)
    assert set(again) == {"a", "b"}


def test_a_step_that_was_tried_gives_way_to_new_ones(tmp_path):
    steps = [Step("fails", ["-c", "raise SystemExit(2)"], 40), Step("new", ["-c", "pass"], 40)]
    gpu.run_part("speed", steps[:1], tmp_path, 60)
    assert list(kept(tmp_path)) == ["fails"]
    times = iter([0.0, 1.0, 59.0])
    assert gpu.run_part("speed", steps, tmp_path, 60, lambda: next(times))["new"]["done"]


def test_tests_are_read_one_by_one(tmp_path):
    xml = tmp_path / "tests.xml"
    xml.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.cuda.test_a" name="one"><properties><property name="error" value="1e-7"/>'
        '</properties></testcase><testcase classname="tests.cuda.test_a" name="two"><failure message="too far"/>'
        '</testcase><testcase classname="tests.cuda.test_a" name="three"><skipped/></testcase></testsuite></testsuites>'
    )
    assert gpu.read_tests(xml) == {
        "run": 2,
        "passed": 1,
        "failed": {"test_a::two": "too far"},
        "properties": {"test_a::one": {"error": "1e-7"}},
    }


def test_a_report_counts_with_a_warning_behind_it_and_none_is_not_done(tmp_path):
    warns = f"{SAYS}; print('a warning at the exit')"
    steps = [Step("warns", ["-c", warns], 30, reports=True), Step("silent", ["-c", "pass"], 30, reports=True)]
    found = gpu.run_part("speed", steps, tmp_path, 60)
    assert (found["warns"]["done"], found["warns"]["report"]) == (True, {"value": 3})
    assert not found["silent"]["done"]


def test_tests_that_failed_are_found_once_and_again_when_asked_for(tmp_path):
    xml = tmp_path / "tests.xml"
    case = '<testsuite><testcase classname="a" name="b"><failure message="c"/></testcase></testsuite>'
    fails = f"import pathlib, sys; pathlib.Path({str(xml)!r}).write_text({case!r}); sys.exit(1)"
    steps = [Step("tests", ["-c", fails], 30, xml)]
    found = gpu.run_part("correct", steps, tmp_path, 60)["tests"]
    assert (found["done"], found["tests"]["failed"]) == (True, {"a::b": "c"})
    assert gpu.run_part("correct", steps, tmp_path, 60)["tests"]["tries"] == 1
    assert gpu.run_part("correct", steps, tmp_path, 60, again=True)["tests"]["tries"] == 2


def test_the_command_begins_where_the_package_is_not_installed(tmp_path):
    """As on a bare machine; an installed package is hidden by `-S`, whose other packages a path gives."""
    paths = [path for path in sys.path if path.endswith("site-packages")]
    words = ["gpu.py", "--list", "--part", "speed", "--tiny"]
    lines = (
        "import sys, runpy",
        f"sys.path[0:1] = [{BENCHMARKS!r}, *{paths!r}]",
        f"sys.argv = {words!r}",
        f"runpy.run_path({BENCHMARKS + '/gpu.py'!r}, run_name='__main__')",
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-S", "-c", "\n".join(lines)], **options)
    assert "speed ceilings: python" in done.stdout, done.stderr


def test_a_name_of_no_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--only waitz: no step of speed"):
        gpu.require_known(["waitz"], {"speed": [Step("waits", [], 1)]})


def test_tests_of_which_none_ran_are_not_done(tmp_path):
    xml = tmp_path / "tests.xml"
    writes = f"import pathlib; pathlib.Path({str(xml)!r}).write_text('<testsuites/>')"
    found = gpu.run_part("correct", [Step("tests", ["-c", writes], 60, xml)], tmp_path, 60)
    assert not found["tests"]["done"]


def test_a_rehearsal_gives_the_report_of_a_benchmark(tmp_path):
    (step,) = gpu.chosen(gpu_steps.speed(rehearsal(tmp_path)), ["ceilings"])
    found = gpu.run_part("speed", [step], tmp_path, 60)["ceilings"]
    assert found["report"]["benchmark"] == "ceilings"
    assert found["report"]["matmul_tflops"]["32"] > 0


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("part", gpu_steps.PARTS)
def test_options_of_all_steps_are_known(part, tiny, tmp_path, monkeypatch):
    """Everything but the work: each benchmark reads its command line, each file of tests is there."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    read = []
    for step in gpu_steps.PARTS[part](rehearsal(tmp_path, tiny, "cuda")):
        script, *words = step.command
        assert step.seconds <= 540
        if Path(script).parent == Path(BENCHMARKS):
            module = importlib.import_module(Path(script).stem)
            monkeypatch.setattr(module, "run_command", lambda work: None)
            monkeypatch.setattr(sys, "argv", [script, *words])
            module.main()  # argparse refuses what it does not know
        elif script == "-m":
            assert (ROOT / words[4]).is_file()
        else:
            assert (ROOT / script).is_file()
        read.append(step.name)
    assert len(read) == len(set(read))


def test_every_test_for_a_gpu_belongs_to_a_step(tmp_path):
    steps = [*gpu_steps.correct(rehearsal(tmp_path, tiny=False)), *gpu_steps.speed(rehearsal(tmp_path, tiny=False))]
    named = {Path(word).name for step in steps for word in step.command if word.startswith("tests/cuda/")}
    marked = {path.name for path in ROOT.glob("tests/cuda/test_*.py") if _asks_for_a_gpu(path)}
    assert marked == named


def _asks_for_a_gpu(path: Path) -> bool:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    return bool(names & {"ON_EACH", "on_each"}) or "pytest.mark.gpu" in path.read_text()


def test_the_command_lists_steps_and_says_what_is_not_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gpu.PARTS, "speed", lambda settings: [Step("fails", ["-c", "raise SystemExit(3)"], 30)])
    words = ["gpu.py", "--part", "speed", "--device", "cpu", "--tiny", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*words, "--list"])
    gpu.main()
    assert "speed fails: python -c raise SystemExit(3)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        gpu.main()
    assert "not done: speed fails; the same command tries these again" in capsys.readouterr().err


def test_a_sweep_without_images_is_refused(tmp_path):
    settings = gpu_steps.StepSettings("cuda", False, None, tmp_path / "none", tmp_path)
    with pytest.raises(ValueError, match=r"--data .*none does not exist: give the folder of CIFAR-10's parquet files"):
        gpu_steps.sweep(settings)
