"""What pip installs: the sources, the configs, the commands; and that they run where there is no checkout."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.tiny import WITHOUT_VALIDATION, options
from twostage.graph.code_version import OWN

ROOT = Path(__file__).parents[1]
NEEDED = (*OWN, "configs", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
BUILD = """
import sys, tarfile
from pathlib import Path
from setuptools import build_meta

out = sys.argv[1]
with tarfile.open(Path(out) / build_meta.build_sdist(out)) as archive:
    archive.extractall(out, filter="data")
"""
WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built as pip and `build` do it: the wheel out of the source distribution, with setuptools as it is installed."""
    pytest.importorskip("setuptools", reason="setuptools is not installed (extra `test`)")
    out, copy = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("checkout")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, copy / name)
    run(["-c", BUILD, str(out)], copy)
    run(["-c", WHEEL, str(out)], next(path for path in out.iterdir() if path.is_dir()))
    return zipfile.ZipFile(next(out.glob("*.whl")))


def run(words: list[str], folder: Path, path: str = "") -> str:
    """The output of Python in a folder, with nothing but `path` in front of the installed libraries."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": path} if path else {}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_it_holds_every_file_of_the_packages_the_configs_and_nothing_else(wheel):
    """Sources, templates, the packaged autoencoders, `py.typed`."""
    files = [file for package in OWN for file in (ROOT / package).rglob("*") if file.is_file()]
    expected = {file.relative_to(ROOT).as_posix(): file for file in files if "__pycache__" not in file.parts}
    configs = {file.relative_to(ROOT / "configs").as_posix(): file for file in (ROOT / "configs").rglob("*.yaml")}
    assert len(configs) > 40
    expected |= {f"eqvae/recipes/{name}": file for name, file in configs.items()}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == set(expected)
    assert all(wheel.read(name) == file.read_bytes() for name, file in expected.items())


def test_its_commands_are_those_of_the_package(wheel):
    names = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = ConfigParser()
    parser.read_file(io.StringIO(wheel.read(names).decode()))
    commands = ("train", "sample", "evaluate", "sweep", "compare", "verify", "rank", "export", "view")
    expected = {f"eqvae-{command}": f"twostage.cli.{command}:main" for command in commands}
    assert dict(parser["console_scripts"]) == expected


COMMANDS = """
import runpy, sys
import twostage
from twostage.cli import sweep, train

print(twostage.__file__)
for main, words in ((train.main, ["eqvae-train", "fit", *sys.argv[1:]]),
                    (sweep.main, ["eqvae-sweep", "--config", "tiny-shapes", "--dry-run"])):
    sys.argv = words
    main()
"""


@pytest.mark.slow
def test_its_commands_run_in_an_empty_folder_and_plan_the_work_of_the_checkout(wheel, tmp_path):
    """Addresses hold the versions of all sources that a part reaches."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    wheel.extractall(site)
    empty.mkdir()
    small = options(WITHOUT_VALIDATION | {"trainer.max_steps": 1})
    output = run(["-P", "-c", COMMANDS, "--config", "tiny-shapes", *small], empty, str(site))
    assert output.startswith(str(site))
    assert (empty / "runs/tiny-shapes-eq/autoencoder/normalization.json").is_file()
    from twostage import load_sweep, plan

    planned = {f"{node.address}  {node.name}" for node in plan(load_sweep("tiny-shapes", [])).nodes}
    lines = output.splitlines()
    assert {"  ".join(line.split("  ")[:2]) for line in lines if "  <- " in line and "report" not in line} == planned
