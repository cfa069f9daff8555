"""A machine without any network runs what the README says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ISOLATED = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
TESTS = "tests/test_readme.py tests/eqvae/test_autoencoders_files.py"


@pytest.mark.reliability(30, long=True)
def test_the_readme_runs_without_a_network(tmp_path, reached):
    """The network has no route and no device but itself, through which processes meet."""
    if not shutil.which("ip") or subprocess.run([*ISOLATED, "ip link set lo up"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network without routes")
    pytest_words = f"-m pytest -q -p no:cacheprovider --basetemp={tmp_path / 'tests'} {TESTS}"
    command = [*ISOLATED, f"ip link set lo up && exec {sys.executable} {pytest_words}"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout
    reached.says(f"without a network: {ran.stdout.splitlines()[-1].partition(',')[0].partition(' in ')[0]}")
