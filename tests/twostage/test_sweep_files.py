"""Sweep files: the shipped ones can be planned, bad ones are refused with the line, addresses follow what matters."""

import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from twostage import dry_run, load_sweep, plan, run_sweep
from twostage.checks import config_problems
from twostage.configs import value_at
from twostage.dry_run import batch_size, estimate
from twostage.graph.code_version import SOURCES, _files, _meaning
from twostage.parts.nodes import KINDS
from twostage.plan import unique

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("configs/sweeps/*.yaml"))
DEMO = ROOT / "configs/sweeps/tiny-shapes.yaml"


def test_the_promised_sweeps_are_there():
    expected = {"tiny-shapes", "shapes-repa", "shapes-maskgit", "cifar10", "transforms", "epochs"}
    expected |= {f"imagenet-{name}" for name in ("dit-b", "sit-xl", "repa", "maskgit")}
    assert {path.stem for path in SHIPPED} == expected


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_planned_with_its_control(path):
    sweep = load_sweep(path, [])
    assert sweep.name == path.stem
    control = sweep.autoencoders[sweep.control]
    found = {node.name: node for node in plan(sweep)}
    config = found[f"autoencoder-{sweep.control}-seed{sweep.seeds[0]}"].settings["config"]
    assert value_at(config, "model.init_args.transforms") is None, "the control trains with the ordinary loss"
    assert control.autoencoder is None
    for generator in sweep.generators:
        for arm in sweep.autoencoders:
            for step in sweep.evaluation.at_steps:
                assert f"metrics-{generator}-{arm}-seed{sweep.seeds[0]}-step{step}" in found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_of_a_shipped_sweep_is_explained_once(path):
    lines = [re.match(r"(\s*)([\w.-]+):\s*(\S.*)?$", line) for line in path.read_text().splitlines()]
    keys = {}
    for match in filter(None, lines):
        if match[3] and not match[3].startswith("#"):  # a value; names of arms and generators have none
            keys[match[2]] = keys.get(match[2], False) or "#" in match[3]
    assert not [key for key, explained in keys.items() if not explained]


@pytest.mark.parametrize("name", ["tiny-shapes", "epochs", "imagenet-dit-b", "imagenet-maskgit"])
def test_a_dry_run_prints_every_node_and_what_it_costs(name):
    sweep, console = load_sweep(ROOT / f"configs/sweeps/{name}.yaml", []), Console(record=True, width=100)
    dry_run(sweep, console)
    text = console.export_text()
    for node in plan(sweep):
        assert f"{node.address}  {node.name}  <- " in text
    steps = sum(estimate(node, None).num_steps for node in unique(plan(sweep)))
    assert re.search(rf"to do: \d+ of \d+ parts, (at least )?{steps:,} steps", text)
    assert not Path(sweep.root).exists()


def test_the_paper_s_batches_are_the_paper_s():
    for name, sizes in (
        ("imagenet-dit-b", {160, 256}),
        ("imagenet-repa", {160, 256}),
        ("imagenet-maskgit", {160, 512}),
    ):
        nodes = plan(load_sweep(ROOT / f"configs/sweeps/{name}.yaml", []))
        assert {
            batch_size(node.settings["config"]) for node in nodes if node.kind in ("autoencoder", "generator")
        } == sizes


def test_generators_learn_from_their_own_pictures():
    nodes = {node.name: node for node in plan(load_sweep(ROOT / "configs/sweeps/imagenet-dit-b.yaml", []))}
    key = "config.data.init_args.train.init_args.root"
    assert value_at(nodes["autoencoder-equivariant-seed0"].settings, key) == "data/openimages/train"
    assert value_at(nodes["latents-equivariant-seed0"].settings, key) == "data/imagenet/train"


def test_epochs_are_snapshots_of_one_training():
    nodes = plan(load_sweep(ROOT / "configs/sweeps/epochs.yaml", []))
    trainings = {node.address for node in nodes if node.kind == "autoencoder" and node.arm not in (None, "control")}
    snapshots = {node.address: node.settings["at_step"] for node in nodes if node.kind == "snapshot"}
    assert len(trainings) == 1
    assert sorted(snapshots.values()) == [156, 312, 468, 624, 780]


def test_a_ready_autoencoder_is_measured_and_cached_once_for_all_seeds():
    ready = "{label: Ready, config: configs/eqvae/tiny-shapes.yaml, autoencoder: shapes-f4c8}"
    nodes = plan(load_sweep(DEMO, [f"autoencoders.ready={ready}"]))
    mine = {kind: {n.address for n in nodes if n.arm == "ready" and n.kind == kind} for kind in KINDS}
    assert [len(mine[kind]) for kind in ("ready", "diagnostics", "latents", "generator")] == [1, 1, 1, 2]
    assert not mine["autoencoder"]


def test_a_changed_folder_is_other_work(tmp_path):
    for name in ("config.json", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"1")
    before = {node.name: node.address for node in plan(load_sweep(DEMO, [f"start.autoencoder={tmp_path}"]))}
    (tmp_path / "weights.safetensors").write_bytes(b"2")
    after = {node.name: node.address for node in plan(load_sweep(DEMO, [f"start.autoencoder={tmp_path}"]))}
    assert {name for name in before if before[name] == after[name]} == {"reference"}


def test_code_counts_and_comments_do_not(tmp_path):
    texts = ('"""About."""\nx = 1  # one\n', '"""Else."""\n\n\nx = 1\n', "x = 2\n")
    meanings = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_text(text)
        meanings.append(_meaning(tmp_path / f"{number}.py"))
    assert meanings[0] == meanings[1] != meanings[2]
    assert set(SOURCES) == set(KINDS)
    for kind, places in SOURCES.items():
        assert all(_files(ROOT / place) for place in places), kind
        assert all((ROOT / place).exists() for place in places), kind


def test_a_generator_has_its_own_sampler():
    dit = "{label: DiT, config: configs/dit/tiny-dit.yaml, sampler: ddim, num_inference_steps: 3}"
    nodes = {node.name: node for node in plan(load_sweep(DEMO, [f"generators.dit={dit}", "evaluation.metrics=[fd]"]))}
    chosen = [nodes[f"metrics-{name}-control-seed0-step200"].settings for name in ("sit", "dit")]
    keys = ("sampler", "num_inference_steps", "metrics")
    assert [[settings[key] for key in keys] for settings in chosen] == [["euler", 10, ["fd"]], ["ddim", 3, ["fd"]]]


def lines_with(change, text=None):
    """The demo's file with one line replaced, and the number of that line."""
    old, new = change
    text = text or DEMO.read_text()
    assert old in text
    return text.replace(old, new, 1), text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title:", "tittle:"), "'tittle' not in 'Sweep'. Did you mean: 'title'?"),
        (("    label: Ordinary loss", "    labell: Ordinary loss"), "'labell' not in 'Arm'. Did you mean: 'label'?"),
        (("control: control", "control: nobody"), "control: is none of autoencoders"),
        (("configs/dit/tiny-sit.yaml", "configs/dit/missing.yaml"), "no file at configs/dit/missing.yaml"),
        (("seeds: [0, 1]", "seeds: []"), "seeds: is empty"),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "repeats one"),
        (("seeds: [0, 1]", "seeds: [zero]"), "could not be converted to Integer"),
        (("at_steps: [50, 100, 200]", "at_steps: [100, 50]"), "must ascend"),
        (("at_steps: [50, 100, 200]", "at_steps: []"), "must ascend"),
        (("  autoencoder: shapes-f4c8", "  autoencoder: tests"), "the folder tests cannot be read"),
        (("num_workers: 2", "num_workers: -1"), "must not be negative"),
        (("name: tiny-shapes", "name: ../up"), "must be one folder name"),
        (("    overrides: {model.init_args.transforms: null}", "    at_step: 61"), "must lie in 1 to"),
        (("  sampler: euler ", "  sampler: oiler "), "evaluation.sampler: oiler is unknown: use one of euler"),
        (
            ("  sampler: euler ", "  sampler: ddim "),
            "ddim does not sample dit.objectives.Flow of configs",
        ),
        (
            ("    config: configs/dit/tiny-sit.yaml", "    sampler: halton\n    config: configs/dit/tiny-sit.yaml"),
            "generators.sit.sampler: halton does not sample",
        ),
        (("  grid_images: 40", "  metrics: [kid, fid]"), "evaluation.metrics: use some of fd, sfd"),
        (("  grid_images: 40", "  metrics: [kid]"), "evaluation.metrics: lacks fd, which the speed-up is computed on"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, change, message):
    text, line = lines_with(change)
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_sweep(broken, [])
    assert f"sweep file {broken}, line {line}: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1\ntitle: x\n", "line 2: did not find expected"),
        ("name: x", "line 1: lacks"),
        ("name: &a [*a]\n", "line 1: YAML recursive"),
        ("name: ${title}\ntitle: ${name}\n", "line"),
        ("- a\n- b\n", "line 1: is a list"),
        ("", "line 1: lacks"),
    ],
)
def test_unreadable_and_cyclic_files_are_refused(tmp_path, text, message):
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_sweep(broken, [])
    assert "broken.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_override_is_the_command_line_s():
    with pytest.raises(ValueError, match="command line, seeds: seeds: is empty"):
        load_sweep(DEMO, ["seeds=[]"])


def test_unknown_keys_of_configs_are_refused_before_anything_runs(tmp_path):
    text, line = lines_with(("  equivariant:", "  equivariant:\n    overrides: {model.init_args.transfroms: null}"))
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    assert load_sweep(broken, [])
    with pytest.raises(ValueError, match=rf"line {line}: autoencoders\.equivariant: .*transfroms"):
        load_sweep(broken, [], to_run=True)


def test_what_a_sweep_needs_is_missed_when_it_is_to_run():
    with pytest.raises(ValueError, match=r"line \d+: generator_pictures: .*no readable folder at data/imagenet/train"):
        load_sweep(ROOT / "configs/sweeps/imagenet-dit-b.yaml", [], to_run=True)
    with pytest.raises(ValueError, match=r"line 8: start\.autoencoder: nothing at weights/vqgan"):
        load_sweep(ROOT / "configs/sweeps/imagenet-maskgit.yaml", [], to_run=True)
    for source in ("./nowhere", "runs/nowhere", "no-such-name", "nowhere.safetensors"):
        with pytest.raises(ValueError, match=f"nothing at {source}"):
            load_sweep(DEMO, [f"start.autoencoder={source}"], to_run=True)


def test_a_folder_that_cannot_be_read_is_refused_in_any_case(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: config\.json"):
        load_sweep(DEMO, [f"start.autoencoder={tmp_path}"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no \.safetensors weights"):
        load_sweep(DEMO, [f"start.autoencoder={tmp_path}"])


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
