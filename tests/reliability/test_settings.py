"""Settings that change when a run is resumed: each is applied and said, or refused; none is ignored."""

import shutil

import pytest
import torch
from PIL import Image

from eqvae.autoencoders import load_autoencoder
from eqvae.hashes import read_json, write_json
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.settings import changes
from tests.eqvae.test_images import encoded
from tests.reliability.test_run_folder import Run
from tests.tiny import PACKAGED, STAGE_ONE, WITHOUT_VALIDATION, stage_one, train

BACKBONE = "model.init_args.backbone.init_args"


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A run of 4 steps; not to be changed."""
    run = Run(tmp_path_factory.mktemp("finished") / "run", cache)
    run.fit(trainer__max_steps=4)
    return run


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run", finished.cache)


def resume(run, **edits):
    return run.fit("--resume", trainer__max_steps=6, **edits)


APPLIED = [
    ("model.init_args.learning_rate", "0.002", "0.001", lambda cli, group: group["lr"] == pytest.approx(0.001 * 0.3)),
    ("model.init_args.betas", "[0.9, 0.99]", "[0.5, 0.8]", lambda cli, group: group["betas"] == (0.5, 0.8)),
    ("model.init_args.weight_decay", "0.0", "0.1", lambda cli, group: group["weight_decay"] == 0.1),
    ("model.init_args.warmup_steps", "20", "40", lambda cli, group: group["lr"] == pytest.approx(0.002 * 6 / 40)),
    ("model.init_args.seed", "0", "1", lambda cli, group: cli.model.seed == 1),
    ("data.init_args.global_batch_size", "4", "8", lambda cli, group: cli.datamodule.global_batch_size == 8),
    ("data.init_args.seed", "0", "1", lambda cli, group: cli.datamodule.seed == 1),
    ("data.init_args.flip", "True", "False", lambda cli, group: not cli.datamodule.flip),
    ("trainer.precision", "32-true", "bf16-mixed", lambda cli, group: cli.trainer.precision == "bf16-mixed"),
    ("trainer.gradient_clip_val", "1.0", "0.5", lambda cli, group: cli.trainer.gradient_clip_val == 0.5),
    (
        f"{BACKBONE}.gradient_checkpointing",
        "False",
        "True",
        lambda cli, group: cli.model.backbone.gradient_checkpointing,
    ),
]
REFUSED = [
    (f"{BACKBONE}.hidden_size", "16 -> 32: the network cannot change"),
    (f"{BACKBONE}.depth", "1 -> 2: the network cannot change"),
    ("model.init_args.objective", "dit.objectives.Flow -> dit.objectives.Diffusion: that is another run"),
    ("seed_everything", "0 -> 3: it seeded the start weights alone"),
]


@pytest.mark.reliability(26, counts="edits")
@pytest.mark.parametrize(("key", "old", "new", "is_applied"), APPLIED, ids=[edit[0] for edit in APPLIED])
def test_what_can_change_is_said_and_applied(run, caplog, key, old, new, is_applied):
    cli = resume(run, **{key.replace(".", "__"): new})
    assert f"changed: {key} {old} -> {new}" in caplog.text
    assert "changed: trainer.max_steps 4 -> 6" in caplog.text
    assert caplog.text.count("changed: ") == 2
    (group,) = cli.trainer.optimizers[0].param_groups
    assert is_applied(cli, group)
    assert run.last["optimizer_states"][0]["param_groups"][0]["betas"] == group["betas"]


@pytest.mark.reliability(26, counts="edits")
@pytest.mark.parametrize(("key", "message"), REFUSED)
def test_what_cannot_change_is_refused_before_anything_is_read(run, key, message):
    new = message.split(" -> ")[1].split(":")[0]
    before = run.files()
    with pytest.raises(ValueError, match=message) as error:
        resume(run, **{key.replace(".", "__"): new})
    assert str(error.value).startswith(key)
    assert "\n" not in str(error.value)
    assert {path: run.files()[path] for path in before if path.name != "run.json"} == {
        path: content for path, content in before.items() if path.name != "run.json"
    }


def test_nothing_is_said_where_nothing_changes(run, caplog):
    run.fit("--resume", trainer__max_steps=4)
    assert "changed: " not in caplog.text


@pytest.mark.reliability(26, counts="edits")
def test_a_cache_of_another_autoencoder_is_refused(run, tmp_path):
    other = load_autoencoder("shapes-f4c8")
    with torch.no_grad():
        other.last_layer.mul_(1.01)
    other.save_pretrained(tmp_path / "other")
    cli = stage_one(tmp_path / "start", {"model.init_args.autoencoder": tmp_path / "other"})
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    with pytest.raises(ValueError, match=r"data\.init_args\.cache .* holds other latents than the run has learned"):
        resume(run, data__init_args__cache=tmp_path / "start" / "latents")


def test_a_cache_of_other_images_is_refused_and_one_that_has_moved_is_not(run, tmp_path):
    shutil.copytree(run.cache, tmp_path / "moved")
    alone = {"data__init_args__validation_cache": "null"}
    cli = stage_one(tmp_path / "start", PACKAGED | {"data.init_args.train.init_args.seed": 7})
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    spec = read_json(run.cache / "manifest.json")["latents"]
    other = tmp_path / "start" / "latents" / "manifest.json"
    write_json(other, read_json(other) | {"latents": spec})  # the very same latent space
    with pytest.raises(ValueError, match=r"data\.init_args\.cache .* not the images .* so far \(fingerprint\): give"):
        resume(run, data__init_args__cache=other.parent, **alone)
    resume(run, data__init_args__cache=tmp_path / "moved", **alone)


def test_a_folder_with_more_images_is_refused_and_one_that_has_moved_is_not(tmp_path):
    for number in range(8):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(Image.new("RGB", (16, 16), (number,) * 3)))

    def fit(folder, steps, *words):
        train(
            *("fit", "--config", "configs/eqvae/tiny-shapes.yaml", "--data.init_args.train=eqvae.data.FolderSource"),
            f"--data.init_args.train.init_args.root={tmp_path / folder}",
            *("--data.init_args.train.init_args.image_size=16", *words),
            {name: value for name, value in WITHOUT_VALIDATION.items() if "train" not in name},
            {"trainer.max_steps": steps, "trainer.default_root_dir": tmp_path / "run"},
        )

    fit("images", 1)
    (tmp_path / "images").rename(tmp_path / "moved")
    fit("moved", 2, "--resume")
    (tmp_path / "moved" / "9.png").write_bytes((tmp_path / "moved" / "1.png").read_bytes())
    for steps in (2, 3):  # also where nothing but the export is left to be made
        with pytest.raises(
            ValueError, match=r"data\.init_args\.train: these are not the images .* \(num_images\): give"
        ):
            fit("moved", steps, "--resume")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(last)
    for name in ("images", "sealed"):
        del checkpoint[name]
    for path in last.parent.iterdir():
        path.unlink()
    torch.save(checkpoint, last)  # as an earlier release would
    fit("moved", 3, "--resume")


def test_averages_are_not_lost_without_a_word(run):
    with pytest.raises(ValueError, match=r"keep ExponentialMovingAverage in trainer\.callbacks"):
        resume(run, trainer__callbacks="[]")


def test_a_checkpoint_of_the_other_stage_is_refused(run, tmp_path):
    settings = STAGE_ONE | {"trainer.default_root_dir": tmp_path / "one", "trainer.max_steps": 1}
    train("fit", "--config", "configs/eqvae/tiny-shapes.yaml", settings)
    path = tmp_path / "one" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"data\.class_path eqvae\.data\S+ -> dit\.data\S+: that is another run"):
        Run(tmp_path / "two", run.cache).fit(f"--ckpt_path={path}")


def test_without_recorded_settings_the_weights_tell_another_network(run):
    path = run.folder / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(path)
    del checkpoint["settings"], checkpoint["sealed"]
    path.with_name("epoch=0-step=0000004.ckpt").unlink()
    torch.save(checkpoint, path)  # as an earlier release or another program would
    found = {("hidden_size", 32): r"is \(.*\) there", ("depth", 2): r"backbone\.blocks\.1\S+ is only here"}
    for (key, value), what in found.items():
        with pytest.raises(ValueError, match=f"is of another network: .*{what}") as error:
            resume(run, **{f"{BACKBONE}.{key}".replace(".", "__"): value})
        assert str(path) in str(error.value)


def test_changes_of_nested_settings():
    before = {"a": 1, "b": {"class_path": "x", "init_args": {"c": 2, "gone": 0}}, "d": [1], "e": {"class_path": "y"}}
    after = {"a": 1, "b": {"class_path": "x", "init_args": {"c": 3, "new": 0}}, "d": [2], "e": {"class_path": "z"}}
    before["f"], after["f"] = [{"class_path": "x", "decay": 1}, 2], [{"class_path": "x", "decay": 3}, 2]
    expected = [("b.init_args.c", 2, 3), ("d", [1], [2]), ("e.class_path", "y", "z"), ("f.0.decay", 1, 3)]
    assert sorted(changes(before, after)) == expected
    assert list(changes({"a": None}, {"a": {"class_path": "x"}})) == [("a", None, "x")]
