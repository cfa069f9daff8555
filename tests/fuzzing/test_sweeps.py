"""Sweep files and configs of `train.py`: planned and run as they say, or refused with the line or key."""

import copy
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console

from eqvae.bases import load_config
from eqvae.training.cli import TrainCLI
from tests.fuzzing.mutations import REFUSED, changed_bytes, changed_values, fuzzing, outcome
from twostage import dry_run, load_sweep, plan
from twostage.parts.evaluation import sampling_of
from twostage.parts.part import read_anew
from twostage.schema import Sweep

DEMO = Path("configs/sweeps/tiny-shapes.yaml")
TRAIN = [Path("configs/dit/tiny-sit.yaml"), Path("configs/eqvae/tiny-shapes.yaml")]
LARGEST_SEED = 2**32 - 1


EVALUATION = {
    "at_steps": [100],
    "num_images": 300,
    "sampling": {
        "sampler": "euler",
        "num_inference_steps": 10,
        "guidance_scale": 1.5,
        "guidance_interval": [0.0, 0.5],
        "options": {"timestep_shift": 0.5},
    },
    "grid_images": 40,
    "grid_guidance_scale": 2.5,
    "metrics": ["fd"],
    "num_resamples": 5,
}
SMALL = {"seeds": [0], "evaluation": EVALUATION}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """With a single seed and evaluation: a plan of a dozen parts. As it is, it is planned."""
    content, path = yaml.safe_load(DEMO.read_text()) | SMALL, tmp_path_factory.mktemp("demo") / "sweep.yaml"
    content["generators"]["sit"]["sampling"] = {"num_inference_steps": 5}
    path.write_text(yaml.safe_dump(content))
    require_sound(planned(path, path.parent / "runs"))
    return content


@pytest.fixture(autouse=True)
def _any_code(monkeypatch):
    """Which code a part runs is no question of its settings, and takes most of the time of a plan."""
    monkeypatch.setattr("twostage.parts.part.code_version", lambda *_: "")
    yield
    read_anew()


def planned(path: Path, root: Path) -> Sweep:
    """What `sweep.py --dry-run` does; the sweep it read."""
    sweep = load_sweep(path, [f"root={root}"])
    dry_run(sweep, Console(quiet=True))
    return sweep


def require_sound(sweep: Sweep) -> None:
    """Refuse no number at the end of days of training."""
    assert all(0 <= seed <= LARGEST_SEED for seed in sweep.seeds)
    about = sweep.evaluation
    for generator in sweep.generators.values():
        found = sampling_of(about, generator)
        numbers = [found.guidance_scale, *found.guidance_interval, *filter(is_number, found.options.values())]
        assert all(map(math.isfinite, numbers))
        assert found.num_inference_steps > 0
    assert math.isfinite(about.grid_guidance_scale)
    assert about.grid_images > 0
    assert about.num_resamples >= 0
    for node in plan(sweep).nodes:
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in node.settings.values())


def is_number(value: object) -> bool:
    return isinstance(value, int | float)


@fuzzing(60)
@given(draw=st.data())
def test_a_sweep_of_other_values_is_planned_or_refused(demo, tmp_path, draw):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(draw.draw(changed_values(demo)), sort_keys=False))
    sweep = outcome(lambda: planned(path, tmp_path / "runs"), path, "command line")
    if sweep is not REFUSED:
        require_sound(sweep)
    assert not (tmp_path / "runs").exists()


@fuzzing(80)
@given(draw=st.data())
def test_a_sweep_of_other_bytes_is_planned_or_refused(demo, tmp_path, draw):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(draw.draw(changed_bytes(yaml.safe_dump(demo, sort_keys=False).encode())))
    sweep = outcome(lambda: planned(path, tmp_path / "runs"), path, "command line")
    if sweep is not REFUSED:
        require_sound(sweep)


@fuzzing(25)
@given(draw=st.data())
def test_a_sweep_over_another_config_is_planned_or_refused(demo, tmp_path, draw):
    """The configs that a sweep names are read in the plan, before `train.py` reads them."""
    sweep = copy.deepcopy(demo)
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(draw.draw(changed_values(OmegaConf.to_container(load_config(TRAIN[0])))), sort_keys=False)
    )
    sweep["generators"]["sit"]["config"] = str(tmp_path / "config.yaml")
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    outcome(lambda: planned(path, tmp_path / "runs"), path)


@pytest.mark.parametrize("config", TRAIN, ids=lambda path: path.parent.name)
@fuzzing(8)
@given(draw=st.data())
def test_a_config_of_train_is_read_or_refused(config, tmp_path, draw):
    """Read alone: what is built of it, its classes check."""
    content, path = OmegaConf.to_container(load_config(config)), tmp_path / "config.yaml"
    if draw.draw(st.booleans()):
        path.write_text(yaml.safe_dump(draw.draw(changed_values(content)), sort_keys=False))
    else:
        path.write_bytes(draw.draw(changed_bytes(config.read_bytes())))
    outcome(lambda: read(path), "")


def read(path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        TrainCLI(["fit", "--config", str(path), "--print_config"])
    assert stop.value.code in (0, None)
