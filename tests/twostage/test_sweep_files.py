"""Sweep files: the shipped ones can be planned, bad ones are refused with the line, addresses follow what matters."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from twostage import dry_run, load_sweep, plan, run_sweep
from twostage.checks import config_problems
from twostage.configs import value_at
from twostage.graph.node import unique
from twostage.looks import looks
from twostage.parts import PARTS, estimate
from twostage.parts.evaluation import sampling_of
from twostage.parts.sizes import batch_size
from twostage.sweep import record

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("configs/sweeps/*.yaml"))
DEMO = ROOT / "configs/sweeps/tiny-shapes.yaml"


def test_the_promised_sweeps_are_there():
    expected = {"scenes", "tiny-shapes", "shapes-repa", "shapes-maskgit", "cifar10", "transforms", "epochs"}
    expected |= {"regularizers", "demo", "calibration"}
    expected |= {f"imagenet-{name}" for name in ("dit-b", "sit-xl", "repa", "maskgit")}
    assert {path.stem for path in SHIPPED} == expected


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_planned_with_its_control(path):
    sweep = load_sweep(path, [])
    assert sweep.name == path.stem
    control = sweep.autoencoders[sweep.control]
    planned = plan(sweep)
    training = planned.branch(sweep.control, sweep.seeds[0]).training
    assert (training is None) == (control.autoencoder is not None), "a ready one is not trained"
    if training is not None:
        config = training.settings["config"]
        assert value_at(config, "model.init_args.transforms") is None, "the control trains with the ordinary loss"
    assert {(branch.arm, branch.seed) for branch in planned.branches} == {
        (arm, seed) for arm in sweep.autoencoders for seed in sweep.seeds
    }
    for branch in planned.branches:
        for generator in branch.generators.values():
            assert list(generator.evaluations) == sweep.evaluation.at_steps
    names = [node.name for node in planned.nodes]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_measures_at_seven_points_or_more_a_factor_of_root_two_apart(path):
    steps = load_sweep(path, []).evaluation.at_steps
    assert len(steps) >= (5 if path.stem == "demo" else 7), "the demo's study was registered with five"
    assert steps == [round(steps[-1] * 2 ** (-half / 2)) for half in reversed(range(len(steps)))]


def test_equal_arms_have_other_seeds_and_their_generators_the_same():
    planned = plan(load_sweep("calibration", ["seeds=[3]"]))
    first, second = planned.branch("control", 3), planned.branch("again", 3)
    keys = ("seed_everything", "model.init_args.seed", "data.init_args.seed")

    def seeds(node):
        return {value_at(node.settings["config"], key) for key in keys}

    assert (seeds(first.training), seeds(second.training)) == ({3}, {1003})
    own, other = (branch.generators["sit"].training for branch in (first, second))
    assert seeds(own) == seeds(other) == {3}
    assert own.settings == other.settings
    assert own.address != other.address, "on latents of another autoencoder"


@pytest.mark.parametrize(
    ("change", "error"),
    [("seed_offset=-1", "must be 0 or more"), ("autoencoder=scenes-f4c8", "a ready autoencoder is not trained")],
)
def test_a_seed_offset_is_of_an_arm_that_trains(change, error):
    with pytest.raises(ValueError, match=rf"autoencoders\.again\.seed_offset: {error}"):
        load_sweep("calibration", [f"autoencoders.again.{change}"])


@pytest.mark.parametrize(
    ("sweep", "changes", "message"),
    [
        (
            "calibration",
            ["autoencoders.again.seed_offset=1", "seeds=[0,1,2]"],
            "autoencoders.again.seed_offset: its training with seed 0 is that of control with seed 1: give one that is",
        ),
        (
            "calibration",
            ["autoencoders.again.seed_offset=4294967295", "seeds=[0,1]"],
            "autoencoders.again.seed_offset: with seed 1 it is above 4294967295, the largest there is",
        ),
        (
            "demo",
            ["autoencoders.equivariant.autoencoder=scenes-f4c8-control"],
            "autoencoders.equivariant.autoencoder: is that of control, with the same numbers: leave one of them out",
        ),
        (
            "demo",
            ["evaluation.num_images=100000"],
            "evaluation.num_images: is 100000, the validation set of autoencoders.control has 2000 images",
        ),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(sweep, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_sweep(sweep, changes)


def test_one_ready_autoencoder_with_other_images_is_another_arm():
    fewer = "autoencoders.equivariant.overrides={data.init_args.train.init_args.num_images: 1000}"
    load_sweep("demo", ["autoencoders.equivariant.autoencoder=scenes-f4c8-control", fewer])


def test_an_arm_that_would_not_be_measured_is_refused():
    limit = ["autoencoders.again.overrides={trainer.limit_val_batches: 0}"]
    with pytest.raises(ValueError, match=r"autoencoders\.again\.overrides: trainer\.limit_val_batches 0 would leave"):
        load_sweep("calibration", limit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.init_args.validation: null", r"validation null would measure samples against training images"),
        ("data.init_args.validation.init_args.seed: 0", r"validation names the images of data\.init_args\.train"),
    ],
)
def test_samples_are_measured_against_held_out_images(change, message):
    with pytest.raises(ValueError, match=rf"autoencoders\.equivariant\.overrides: data\.init_args\.{message}"):
        load_sweep(DEMO, [f"autoencoders.equivariant.overrides={{{change}}}"])


def test_a_generator_may_have_any_name(tmp_path):
    """Also that of a part: nodes are known by their place, not by what they are called."""
    sit = "{label: S, config: configs/dit/tiny-sit.yaml}"
    sweep = load_sweep(DEMO, [f"generators.latents={sit}", f"generators.autoencoder={sit}", f"root={tmp_path}"])
    planned = plan(sweep)
    record(sweep, planned, tmp_path)
    links = [path for path in (tmp_path / sweep.name / "nodes").rglob("*") if path.is_symlink()]
    assert len(links) == len(planned.nodes)
    assert len({node.address for node in planned.nodes}) < len(planned.nodes), "two generators of one config are one"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_of_a_shipped_sweep_is_explained_once(path):
    lines = [re.match(r"(\s*)([\w.-]+):\s*(\S.*)?$", line) for line in path.read_text().splitlines()]
    keys = {}
    for match in filter(None, lines):
        if match[3] and not match[3].startswith("#"):  # a value; names of arms and generators have none
            keys[match[2]] = keys.get(match[2], False) or "#" in match[3]
    assert not [key for key, explained in keys.items() if not explained]


@pytest.mark.parametrize("name", ["tiny-shapes", "epochs", "imagenet-dit-b", "imagenet-maskgit"])
def test_a_dry_run_prints_every_node_and_what_it_costs(tmp_path, name):
    sweep = load_sweep(ROOT / f"configs/sweeps/{name}.yaml", [f"root={tmp_path}"])
    console = Console(record=True, width=100)
    dry_run(sweep, console)
    text = console.export_text()
    for node in plan(sweep).nodes:
        assert f"{node.address}  {node.name}  <- " in text
    steps = sum(estimate(node, None).num_steps for node in unique(plan(sweep).nodes))
    assert re.search(rf"to do: \d+ of \d+ parts, (at least )?{steps:,} steps", text)
    assert not list(tmp_path.iterdir())


def test_the_paper_s_batches_are_the_paper_s():
    for name, sizes in (
        ("imagenet-dit-b", {160, 256}),
        ("imagenet-repa", {160, 256}),
        ("imagenet-maskgit", {160, 512}),
    ):
        nodes = plan(load_sweep(ROOT / f"configs/sweeps/{name}.yaml", [])).nodes
        assert {batch_size(node.settings["config"]) for node in nodes if node.trains} == sizes


def test_generators_learn_from_their_own_images():
    branch = plan(load_sweep(ROOT / "configs/sweeps/imagenet-dit-b.yaml", [])).branch("equivariant", 0)
    key = "config.data.init_args.train.init_args.root"
    assert value_at(branch.training.settings, key) == "data/openimages/train"
    assert value_at(branch.latents.settings, key) == "data/imagenet/train"


def test_a_sweep_validates_no_generator():
    """Losses on different latents do not compare, so held-out images are not encoded and no time goes into it."""
    branch = plan(load_sweep(DEMO, [])).branch("equivariant", 0)
    generator = branch.generators["sit"].training.settings["config"]
    assert value_at(generator, "data.init_args.cache") == "{latents}/latents"
    assert value_at(generator, "data.init_args.validation_cache", "missing") is None
    assert value_at(generator, "trainer.limit_val_batches") == 0
    assert value_at(branch.latents.settings["config"], "model.init_args.cache.validation") is False


def test_epochs_are_snapshots_of_one_training():
    branches = plan(load_sweep(ROOT / "configs/sweeps/epochs.yaml", [])).branches
    trainings = {branch.training.address for branch in branches if branch.arm != "control"}
    snapshots = {
        branch.autoencoder.address: branch.autoencoder.settings["at_step"]
        for branch in branches
        if branch.autoencoder.kind == "snapshot"
    }
    assert len(trainings) == 1
    assert sorted(snapshots.values()) == [156, 312, 468, 624, 780]


def test_a_ready_autoencoder_is_measured_and_cached_once_for_all_seeds():
    ready = "{label: Ready, config: configs/eqvae/tiny-shapes.yaml, autoencoder: shapes-f4c8}"
    planned = plan(load_sweep(DEMO, [f"autoencoders.ready={ready}"]))
    mine = [node for branch in planned.branches if branch.arm == "ready" for node in branch.nodes()]
    counts = {kind: len({node.address for node in mine if node.kind == kind}) for kind in PARTS}
    assert [counts[kind] for kind in ("ready", "diagnostics", "latents", "generator")] == [1, 1, 1, 2]
    assert counts["autoencoder"] == 0


def test_a_changed_folder_is_other_work(tmp_path):
    for name in ("config.json", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"1")
    before = {node.name: node.address for node in plan(load_sweep(DEMO, [f"start.autoencoder={tmp_path}"])).nodes}
    (tmp_path / "weights.safetensors").write_bytes(b"2")
    after = {node.name: node.address for node in plan(load_sweep(DEMO, [f"start.autoencoder={tmp_path}"])).nodes}
    assert {name for name in before if before[name] == after[name]} == {"reference/images"}


def test_a_generator_has_its_own_sampler():
    dit = "{label: DiT, config: configs/dit/tiny-dit.yaml, sampling: {sampler: ddim, guidance_scale: 2}}"
    shift = "evaluation.sampling.options={timestep_shift: 0.3}"
    branch = plan(load_sweep(DEMO, [f"generators.dit={dit}", "evaluation.metrics=[fd]", shift])).branch("control", 0)
    chosen = [branch.generators[name].evaluations[200].settings for name in ("sit", "dit")]
    keys = ("sampler", "num_inference_steps", "guidance_scale", "options")
    assert [[settings["sampling"][key] for key in keys] for settings in chosen] == [
        ["euler", 10, 1.0, {"timestep_shift": 0.3}],
        ["ddim", 10, 2.0, {"timestep_spacing": "linspace"}],
    ]
    assert [settings["metrics"] for settings in chosen] == [["fd"], ["fd"]]


def test_samples_follow_the_objectives_shift_unless_told_otherwise():
    """Equal samples have one address, however they are asked for."""
    trained = "generators.sit.overrides={model.init_args.objective.init_args.timestep_shift: 0.3}"
    shifts = [
        plan(load_sweep(DEMO, words)).branch("control", 0).generators["sit"].evaluations[200].settings["sampling"]
        for words in ([], [trained], [trained, "evaluation.sampling.options={timestep_shift: 1}"])
    ]
    assert [shift["options"] for shift in shifts] == [{"timestep_shift": each} for each in (1.0, 0.3, 1.0)]


def evaluations(*overrides):
    """Addresses of the evaluations of the demo, by place."""
    small = ["seeds=[0]", "evaluation.at_steps=[200]", "evaluation.sampling.sampler=null"]
    nodes = plan(load_sweep(DEMO, [*small, *overrides])).nodes
    return {node.name: node.address for node in nodes if node.kind == "evaluation"}


@pytest.mark.parametrize(
    "same",
    [
        "sampler=heun",
        "num_inference_steps=10",
        "guidance_scale=1",
        "guidance_interval=[0,1000]",
        "options={timestep_shift: 1}",
        "uint8_rule=round",
    ],
)
def test_a_default_that_is_written_down_changes_no_address(same):
    assert evaluations(f"evaluation.sampling.{same}") == evaluations()
    key, value = same.split("=")
    assert evaluations(f"generators.sit.sampling={{{key}: {value}}}") == evaluations()


@pytest.mark.parametrize(
    "other",
    [
        "sampler=midpoint",
        "guidance_scale=1.5",
        "guidance_interval=[0.2,0.7]",
        "guidance_channels=first3",
        "guidance_schedule=linear",
        "options={timestep_shift: 0.3}",
        "uint8_rule=truncate",
    ],
)
def test_every_setting_of_sampling_reaches_the_evaluations(other):
    found, before = evaluations(f"evaluation.sampling.{other}"), evaluations()
    assert not set(found.values()) & set(before.values())
    key, value = other.split("=")
    sweep = load_sweep(DEMO, [f"evaluation.sampling.{other}"])
    sampling = asdict(sampling_of(sweep.evaluation, sweep.generators["sit"]))
    assert json.loads(json.dumps(sampling[key])) == yaml.safe_load(value)


def test_further_seeds_measure_none_anew():
    first, *others = (
        {node.name: node.address for node in plan(load_sweep(DEMO, words)).nodes}
        for words in (["seeds=[0]"], ["seeds=[0,1]"], ["seeds=[0,1,2]", "until_decided=true"])
    )
    for other in others:
        assert {name: other[name] for name in first} == first


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_configs_of_a_shipped_sweep_are_read(path):
    assert config_problems(load_sweep(path, [])) == []


def test_a_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="root: "):
        run_sweep(load_sweep(DEMO, [f"root={tmp_path / 'file'}"]), "", Console(quiet=True))


def test_sweep_files_are_plain_yaml():
    for path in SHIPPED:
        assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_seeds_are_looked_at_one_by_one_where_that_is_asked_for():
    sweep = load_sweep(DEMO, ["seeds=[5,3,1,4,2]", "until_decided=true"])
    assert looks(sweep) == [[5, 3, 1], [5, 3, 1, 4], [5, 3, 1, 4, 2]]
    assert looks(load_sweep(DEMO, ["seeds=[5,3,1]"])) == [[5, 3, 1]]
    whole, part = plan(sweep).nodes, plan(sweep, [5, 3, 1]).nodes
    assert {node.address for node in part} < {node.address for node in whole}
