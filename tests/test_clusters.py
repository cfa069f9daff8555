"""Clusters: whose task a process is, the SLURM script beside stand-ins for SLURM, and the task for spot machines."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from lightning import Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tests.tiny import STAGE_ONE, stage_one, train

SLURM = dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
SLURM |= {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "eqvae", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "GROUP_RANK": "0"}
ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "docs" / "cluster"


def submit(folder: Path, code: int, *words: str) -> tuple[int, list[str]]:
    """Runs the script as a job whose training ends with a code; returns the script's own, and the commands it ran."""
    for name, end in (("srun", code), ("scontrol", 0)):
        (folder / name).write_text(f'#!/bin/bash\necho {name} "$@" >> {folder}/commands\nexit {end}\n')
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    command = ["bash", str(CLUSTER / "train.sbatch"), *words]
    environment = os.environ | job | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    ran = folder / "commands"
    return ended.returncode, ran.read_text().splitlines() if ran.exists() else []


@pytest.mark.parametrize(("code", "again"), [(143, True), (0, False), (1, False), (130, False)])
def test_a_job_is_queued_again_where_its_training_was_told_to_save(code, again, tmp_path):
    ended, (trained, *further) = submit(tmp_path, code, "tiny-sit", "--trainer.max_steps=2")
    assert ended == code
    assert further == (["scontrol requeue 17"] if again else [])
    program, *words = shlex.split(trained)[1:]
    assert program == "eqvae-train"
    expected = "fit --config tiny-sit --resume --trainer.num_nodes 2 --trainer.devices 4 --trainer.max_steps=2"
    assert " ".join(words) == expected


@pytest.mark.parametrize(("launched", "environment"), [({}, SLURMEnvironment), (TORCHRUN, TorchElasticEnvironment)])
def test_processes_of_slurm_and_of_torchrun_within_slurm_are_told_apart(launched, environment, tmp_path, monkeypatch):
    for name, value in (SLURM | launched).items():
        monkeypatch.setenv(name, value)
    found = stage_one(tmp_path).trainer._accelerator_connector.cluster_environment
    assert type(found) is environment
    assert getattr(found, "auto_requeue", False) is False


@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_stops_the_first_process_stops_the_others(rank, tmp_path, monkeypatch):
    """Under srun they would wait for it half an hour, with their devices."""
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("it waits for the first process"))
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # Lightning sets it to this process's, for all that comes after
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    for name, value in (TORCHRUN | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    settings = STAGE_ONE | {"trainer.default_root_dir": tmp_path, "trainer.devices": 2, "trainer.accelerator": "cpu"}
    with pytest.raises(ValueError, match=r"holds a run .*: continue it with --resume"):
        train("fit", "--config", "configs/eqvae/tiny-shapes.yaml", settings)


def test_a_job_needs_a_config(tmp_path):
    code, ran = submit(tmp_path, 0)
    assert code != 0
    assert ran == []


def test_a_spot_machine_runs_the_same_command(tmp_path):
    task = yaml.safe_load((CLUSTER / "spot.yaml").read_text())
    (tmp_path / "eqvae-train").write_text('#!/bin/bash\necho "$@"\n')
    (tmp_path / "eqvae-train").chmod(0o755)
    places = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SKYPILOT_NUM_GPUS_PER_NODE": "1"}
    ran = subprocess.run(["bash", "-c", task["run"]], env=os.environ | task["envs"] | places, capture_output=True)
    expected = "fit --config tiny-shapes --resume --trainer.default_root_dir /runs/my-run --trainer.devices 1"
    assert ran.stdout.decode().split() == expected.split()
    assert "/runs" in task["file_mounts"]


def test_the_container_installs_from_files_that_are_there():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (constraints,) = [line.partition("CONSTRAINTS=")[2] for line in lines if line.startswith("ARG CONSTRAINTS")]
    assert (ROOT / constraints).is_file()
    left_out = (ROOT / ".dockerignore").read_text().split()
    needed = ("configs", "constraints", "dit", "eqvae", "twostage", "setup.cfg", "setup.py", "README.md", "LICENSE")
    assert not set(needed) & set(left_out)
