"""What real nodes leave: snapshots, copies of ready autoencoders, costs, hyper-parameters in TensorBoard."""

import copy
import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from torchvision.io import write_png

from dit.checkpoints import load_generator
from eqvae.autoencoders import load_autoencoder
from eqvae.hashes import write_json
from eqvae.latents import open_cache
from eqvae.training.checkpoints import load_checkpoint
from tests.reliability.runs import same
from tests.test_clusters import SLURM
from tests.tiny import STAGE_ONE, STAGE_TWO, stage_one
from twostage import load_sweep, plan
from twostage.parts import diagnostics, evaluation, reference, run_node, snapshot
from twostage.parts.command import train_cli
from twostage.parts.training import SaveAtSteps, checkpoint_at, read_cost

ROOT = Path(__file__).parents[2]


def text(overrides):
    return "{" + ", ".join(f"{key}: {value}" for key, value in overrides.items()) + "}"


@pytest.fixture(scope="module")
def nodes():
    config = f"config: {ROOT}/configs/eqvae/tiny-shapes.yaml"
    arms = {f"step{step}": f"{{label: S, {config}, at_step: {step}, overrides: {text(STAGE_ONE)}}}" for step in (2, 6)}
    arms["ready"] = f"{{label: R, {config}, autoencoder: shapes-f4c8, overrides: {text(STAGE_ONE)}}}"
    overrides = [f"autoencoders.{name}={arm}" for name, arm in arms.items()]
    overrides += ["seeds=[0]", "evaluation.at_steps=[2,4]", f"generators.sit.overrides={text(STAGE_TWO)}"]
    return {node.name: node for node in plan(load_sweep(ROOT / "configs/sweeps/tiny-shapes.yaml", overrides)).nodes}


@pytest.fixture(scope="module")
def done(nodes, tmp_path_factory):
    """Folders of the nodes that have been done, by name; doing one does its inputs first."""
    root, folders, progress = tmp_path_factory.mktemp("store"), {}, []

    def do(name):
        node = nodes[name]
        if name not in folders:
            inputs = {role: do(other.name) for role, other in node.inputs.items()}
            folder = root / f"{node.kind}-{node.address}"
            if not folder.exists():
                folder.mkdir()
                run_node(node.kind, folder, node.settings, inputs, lambda *report: progress.append(report))
            folders[name] = folder
        return folders[name]

    do.progress = progress
    return do


def weights(folder):
    return load_autoencoder(folder / "autoencoder").state_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"metrics\.json holds no measurements"),
        ({"resampled": [1.0]}, r"metrics\.json holds no measurements"),
        ({"fd_x": None}, r"metrics\.json: fd_x is None, not a number"),
        ({"fd_x": "3.5"}, r"metrics\.json: fd_x is '3\.5', not a number"),
        ({"fd_x": 1.0, "resampled": [1.0, "x"]}, r"metrics\.json: resampled\[1\] is 'x', not a number"),
    ],
)
def test_measurements_that_are_none_are_refused_by_name(tmp_path, content, message):
    write_json(tmp_path / "metrics.json", content)
    with pytest.raises(ValueError, match=message):
        evaluation.result(tmp_path)
    if "resampled" not in content:
        with pytest.raises(ValueError, match=message):
            diagnostics.result(tmp_path)


def test_labels_of_real_images_go_by_the_names_of_their_classes(tmp_path):
    """Validation folders that lack a class count the others from 0, too."""
    for split, names in {"train": "abc", "validation": "ac"}.items():
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            write_png(torch.zeros(3, 16, 16, dtype=torch.uint8), str(tmp_path / split / name / "1.png"))
    sources = {
        split: {"class_path": "eqvae.data.FolderSource", "init_args": {"root": str(tmp_path / split), "image_size": 16}}
        for split in ("train", "validation")
    }
    settings = {"data": {"class_path": "eqvae.data.ImageDataModule", "init_args": sources}, "num_images": 2}
    settings |= {"grid_images": 2, "extractor": "efficientnet_lite0", "extractor_weights": None}
    (tmp_path / "node").mkdir()
    reference.run(tmp_path / "node", settings, {}, lambda *report: None)
    assert reference.labels(tmp_path / "node").tolist() == reference.labels(tmp_path / "node", ["a", "c"]).tolist()
    assert reference.labels(tmp_path / "node", ["a", "b", "c"]).tolist() == [0, 2]
    for known in (["a", "b"], ["a", "c", "c"]):
        with pytest.raises(ValueError, match=r"evaluation\.labels data: the validation images have a class 'c'"):
            reference.labels(tmp_path / "node", known)


def test_a_diverged_measurement_is_kept(tmp_path):
    """No seed may be dropped because of what it gave."""
    write_json(tmp_path / "metrics.json", {"fd_x": float("nan"), "kid": 1.0})
    assert math.isnan(evaluation.result(tmp_path)["fd_x"])


@pytest.mark.parametrize("change", [{"num_steps": 0}, {"seconds": None}, {"num_devices": 0}, {"images_seen": "x"}])
def test_a_cost_that_is_none_is_refused_by_name(tmp_path, change):
    write_json(tmp_path / "cost.json", {"seconds": 2.0, "num_steps": 4, "images_seen": 8, "num_devices": 1} | change)
    with pytest.raises(ValueError, match=r"cost\.json is .*: remove its folder and train again"):
        read_cost(tmp_path)


@pytest.mark.slow
def test_a_snapshot_of_the_last_step_is_the_exported_autoencoder(done):
    exported, last, early = done("step6/seed0/autoencoder"), done("step6/seed0/snapshot"), done("step2/seed0/snapshot")
    assert all(torch.equal(value, weights(last)[name]) for name, value in weights(exported).items())
    assert not all(torch.equal(value, weights(last)[name]) for name, value in weights(early).items())
    normalizations = [load_autoencoder(folder / "autoencoder").normalization for folder in (exported, last, early)]
    for name in ("shift", "scale"):
        assert getattr(normalizations[0], name) == pytest.approx(getattr(normalizations[1], name), rel=1e-5)
        assert getattr(normalizations[0], name) != pytest.approx(getattr(normalizations[2], name), rel=1e-5)
    assert done("step2/seed0/autoencoder") == exported


@pytest.mark.slow
def test_a_ready_autoencoder_is_kept_as_it_was(done):
    assert load_autoencoder(done("ready/seed0/autoencoder") / "autoencoder").fingerprint() == (
        load_autoencoder("shapes-f4c8").fingerprint()
    )
    assert (done("ready/seed0/diagnostics") / "panel.png").is_file()


@pytest.mark.slow
def test_a_generator_s_cost_progress_and_hyper_parameters_are_kept(done):
    folder = done("ready/seed0/generators/sit")
    cost = read_cost(folder)
    assert cost["images_per_step"] == STAGE_TWO["data.init_args.global_batch_size"]
    assert cost["seconds_per_step"] > 0
    assert done.progress[-1] == (4, 4, 16)
    assert [path.name for path in sorted((folder / "checkpoints").glob("step=*.ckpt"))] == [
        "step=0000002.ckpt",
        "step=0000004.ckpt",
    ]
    events = EventMultiplexer()
    links = folder.parent / "links"
    links.mkdir()
    (links / "sit").symlink_to(folder, target_is_directory=True)
    events.AddRunsFromDirectory(str(links)).Reload()
    assert any(events.SummaryMetadata(run, "_hparams_/session_start_info") for run in events.Runs())


def test_a_resumed_training_keeps_the_step_it_goes_on_from(tmp_path):
    """It is whole already, or lacks: saved within the next step, of two batches here, it would be neither."""

    def fit(folder, max_steps, checkpoint=None):
        settings = {
            "trainer.max_steps": max_steps,
            "model.init_args.accumulate_batches": 2,
            "trainer.limit_val_batches": 0,
        }
        cli = stage_one(folder, settings, callbacks=[SaveAtSteps(folder, [2, 4])])
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint)
        return {step: checkpoint_at(folder, step) for step in (2, 4)}

    saved = fit(tmp_path, 2)
    whole = saved[2].read_bytes()
    fit(tmp_path, 4, str(saved[2]))
    assert saved[2].read_bytes() == whole
    assert load_checkpoint(saved[4])["global_step"] == 4
    lacking = fit(tmp_path / "other", 4, str(saved[2]))
    for step in (2, 4):
        expected, found = load_checkpoint(saved[step]), load_checkpoint(lacking[step])
        assert same(found["state_dict"], expected["state_dict"])
        assert same(found["optimizer_states"], expected["optimizer_states"])


def test_a_snapshot_is_exported_where_its_training_would_run(tmp_path, monkeypatch):
    """A device without values stands for a GPU."""
    cli = stage_one(tmp_path)
    torch.save({"state_dict": cli.model.state_dict(), "global_step": 5}, tmp_path / "step.ckpt")
    exported = []
    monkeypatch.setattr("twostage.parts.snapshot.train_cli", lambda *_: cli)
    monkeypatch.setattr("twostage.parts.snapshot.checkpoint_at", lambda *_: tmp_path / "step.ckpt")
    monkeypatch.setattr(type(cli.trainer.strategy), "root_device", torch.device("meta"))
    monkeypatch.setattr(
        type(cli.model), "export", lambda module, _, folder, steps: exported.append((module.device, steps))
    )
    snapshot.run(tmp_path, {"config": {}, "at_step": 5}, {"training": tmp_path}, lambda *_: None)
    assert exported == [(torch.device("meta"), 5)]
    assert cli.model.autoencoder.last_layer.device.type == "meta"


@pytest.mark.parametrize(("tasks", "devices"), [(None, 1), (1, 1), (2, 2)])
def test_a_part_computes_on_as_many_devices_as_there_are_processes_for(nodes, tmp_path, monkeypatch, tasks, devices):
    """Lightning would start others by the command of the sweep, and refuses more of them than a job has tasks."""
    if tasks is not None:
        for name, value in (SLURM | {"SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": str(tasks)}).items():
            monkeypatch.setenv(name, value)
    config = copy.deepcopy(next(node.settings["config"] for node in nodes.values() if node.kind == "snapshot"))
    config["model"]["init_args"]["autoencoder"] = "shapes-f4c8"
    config |= {"trainer": config["trainer"] | {"devices": 2, "accelerator": "cpu", "strategy": "ddp"}}
    assert train_cli(tmp_path, config, []).trainer.world_size == devices


def test_a_checkpoint_tells_the_names_of_the_classes_that_it_has_learned(done):
    folder = done("ready/seed0/generators/sit")
    names = open_cache(done("ready/seed0/latents") / "latents").manifest["dataset"]["class_names"]
    assert load_generator(checkpoint_at(folder, 4)).class_names == names
