"""One run, one folder: a used one is refused, two processes never share one, `last.ckpt` is the newest."""

import os
import signal
import subprocess
import sys

import pytest
import yaml
from lightning.pytorch.callbacks import Callback

from eqvae.locks import Lock
from eqvae.training.checkpoints import load_checkpoint
from eqvae.training.cli import TrainCLI
from tests.reliability.runs import TRAINED, same
from tests.tiny import STAGE_TWO, train

CALLBACKS = (
    "[{class_path: eqvae.training.averaging.ExponentialMovingAverage, init_args: {decay: 0.9}}, "
    "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, "
    "init_args: {every_n_train_steps: 4, save_last: true, save_top_k: -1}}]"
)


class Run:
    """`train.py fit` of a small generator in a folder; saves every fourth step."""

    def __init__(self, folder, cache):
        self.folder, self.cache = folder, cache

    def fit(self, *words, **overrides) -> TrainCLI:
        folders = {"trainer.default_root_dir": self.folder, "data.init_args.cache": self.cache}
        overrides = {key.replace("__", "."): value for key, value in overrides.items()}
        settings = STAGE_TWO | folders | {"trainer.callbacks": CALLBACKS} | overrides
        return train("fit", "--config", "configs/dit/tiny-sit.yaml", settings, *words)

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").iterdir())

    @property
    def last(self) -> dict:
        return load_checkpoint(self.folder / "checkpoints" / "last.ckpt")

    def files(self) -> dict:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(cache, tmp_path):
    return Run(tmp_path / "run", cache)


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """The last checkpoint of a run of 8 steps that nothing interrupts."""
    run = Run(tmp_path_factory.mktemp("whole"), cache)
    run.fit(trainer__max_steps=8)
    return run.last


class StopAt(Callback):
    """Sends this process a signal within a step."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def on_before_optimizer_step(self, trainer, *_):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def stop_at(monkeypatch):
    """Function that lets the next runs be told to end within a step; None lets them be."""
    original = TrainCLI.instantiate_trainer

    def choose(step):
        def instantiate(cli, **kwargs):
            trainer = original(cli, **kwargs)
            trainer.callbacks.insert(0, StopAt(step))
            return trainer

        monkeypatch.setattr(TrainCLI, "instantiate_trainer", original if step is None else instantiate)

    return choose


def test_a_used_folder_is_refused_with_the_ways_on(run):
    run.fit()
    before = run.files()
    for words in ((), ("--trainer.max_steps=9",)):
        with pytest.raises(ValueError, match=r"holds a run \(.*last\.ckpt\)") as error:
            run.fit(*words)
        for way in (str(run.folder), "--resume", "--overwrite", "trainer.default_root_dir"):
            assert way in str(error.value)
        assert "\n" not in str(error.value)
    assert run.files() == before


def test_overwrite_leaves_nothing_of_the_earlier_run_and_everything_else(run):
    run.fit(trainer__max_steps=9)
    for name in ("precious.txt", "checkpoints/notes.txt", "latents/manifest.json"):
        (run.folder / name).parent.mkdir(exist_ok=True)
        (run.folder / name).write_text("mine")
    events = set(run.folder.rglob("events.out.*"))
    run.fit("--overwrite", trainer__max_steps=5)
    assert run.checkpoints == ["epoch=0-step=0000004.ckpt", "last.ckpt", "notes.txt"]
    assert run.last["global_step"] == 5
    assert (run.folder / "precious.txt").is_file()
    assert (run.folder / "latents" / "manifest.json").is_file()
    assert len(set(run.folder.rglob("events.out.*"))) == 1
    assert not events & set(run.folder.rglob("events.out.*"))
    config = yaml.safe_load(next(run.folder.rglob("config.yaml")).read_text())
    assert (config["overwrite"], config["resume"]) == (False, False), "that config, given again, must not overwrite"


def test_the_last_step_is_saved_whatever_the_interval(run):
    run.fit(trainer__max_steps=6)
    assert run.checkpoints == ["epoch=0-step=0000004.ckpt", "last.ckpt"]
    assert run.last["global_step"] == 6


class End(Callback):
    """Ends a run after a step, as limits of time and early stopping do."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step >= self.step


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_ends_early_keeps_its_last_step_with_raw_and_averaged_weights(run, whole, step, monkeypatch):
    """Of step 3 there is no periodic checkpoint: the last one held averages in place of the raw weights."""
    original = TrainCLI.instantiate_trainer

    def instantiate(cli, **kwargs):
        trainer = original(cli, **kwargs)
        trainer.callbacks.insert(0, End(step))
        return trainer

    monkeypatch.setattr(TrainCLI, "instantiate_trainer", instantiate)
    run.fit(trainer__max_steps=8)
    last = run.last
    assert last["global_step"] == step
    assert not same(last["state_dict"], last["current_model_state"])
    monkeypatch.setattr(TrainCLI, "instantiate_trainer", original)
    run.fit("--resume", trainer__max_steps=8)
    assert all(same(run.last[part], whole[part]) for part in TRAINED)


@pytest.mark.parametrize("mistake", [["--resume"], ["--ckpt_path=missing.ckpt"], ["--data.init_args.cache=missing"]])
def test_a_mistake_beside_overwrite_removes_nothing(run, mistake):
    run.fit(trainer__max_steps=2)
    before = run.files()
    with pytest.raises(ValueError, match=r"--resume finds|no checkpoint at|no finished latent cache"):
        run.fit("--overwrite", *mistake, trainer__max_steps=2)
    assert run.files() == before


def test_a_mistake_in_its_data_leaves_nothing_of_a_run(run, tmp_path):
    with pytest.raises(ValueError, match="nowhere is no finished latent cache"):
        run.fit(data__init_args__cache=tmp_path / "nowhere")
    assert not run.folder.exists()


def test_a_checkpoint_of_another_run_replaces_none_whose_own_are_damaged(run, cache, tmp_path):
    run.fit(trainer__max_steps=2)
    (run.folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    other = Run(tmp_path / "other", cache)
    other.fit(trainer__max_steps=2)
    with pytest.raises(ValueError, match=r"holds a run \(.*last\.ckpt\): remove it in favour of .* with --overwrite"):
        run.fit(f"--ckpt_path={other.folder / 'checkpoints' / 'last.ckpt'}", trainer__max_steps=4)


def test_a_signal_before_the_first_periodic_save_leaves_one_last_checkpoint(run, whole, stop_at):
    stop_at(1)
    with pytest.raises(SystemExit) as stop:
        run.fit(trainer__max_steps=8)
    assert stop.value.code == 143
    assert run.checkpoints == ["last.ckpt"]
    stop_at(None)
    run.fit("--resume", trainer__max_steps=8)
    assert run.checkpoints == ["epoch=0-step=0000004.ckpt", "epoch=0-step=0000008.ckpt", "last.ckpt"]
    assert run.last["global_step"] == 8
    assert all(same(run.last[part], whole[part]) for part in TRAINED)


def test_resume_passes_over_damaged_checkpoints_and_says_so(run, whole, stop_at, caplog, recwarn):
    stop_at(6)
    with pytest.raises(SystemExit):
        run.fit(trainer__max_steps=8)
    stop_at(None)
    path = run.folder / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    run.fit("--resume", trainer__max_steps=8)
    assert any(f"{path} is damaged: passed over" in str(warning.message) for warning in recwarn)
    assert f"resuming from {path.with_name('epoch=0-step=0000004.ckpt')}, step 4" in caplog.text
    assert all(same(run.last[part], whole[part]) for part in TRAINED)


def test_resume_of_damaged_checkpoints_alone_is_refused(run):
    run.fit(trainer__max_steps=2)
    (run.folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="has no intact checkpoint to resume from: begin anew with --overwrite"):
        run.fit("--resume")
    run.fit("--overwrite", trainer__max_steps=2)
    assert run.last["global_step"] == 2


def test_resume_without_a_checkpoint_begins(run, caplog):
    """So that a job script needs one command alone."""
    run.fit("--resume", trainer__max_steps=2)
    assert "at step 0: no checkpoint yet" in caplog.text
    assert run.last["global_step"] == 2


@pytest.mark.parametrize("other", ["--overwrite", "--ckpt_path=last.ckpt"])
def test_resume_and_its_contrary_are_refused(run, other):
    with pytest.raises(ValueError, match="--resume finds the newest checkpoint by itself"):
        run.fit("--resume", other)


def test_an_earlier_checkpoint_is_no_way_on_unless_the_later_ones_go(run, whole):
    run.fit(trainer__max_steps=8)
    earlier = run.folder / "checkpoints" / "epoch=0-step=0000004.ckpt"
    with pytest.raises(ValueError, match=r"has gone on to .*, step 8: continue from there with --resume"):
        run.fit(f"--ckpt_path={earlier}", trainer__max_steps=8)
    run.fit(f"--ckpt_path={earlier}", "--overwrite", trainer__max_steps=6)
    assert run.checkpoints == ["epoch=0-step=0000004.ckpt", "last.ckpt"]
    run.fit(f"--ckpt_path={run.folder / 'checkpoints' / 'last.ckpt'}", trainer__max_steps=8)
    assert all(same(run.last[part], whole[part]) for part in TRAINED)


def test_a_checkpoint_of_another_run_begins_a_new_folder(run, whole, cache, tmp_path):
    run.fit(trainer__max_steps=6)
    other = Run(tmp_path / "other", cache)
    other.fit(f"--ckpt_path={run.folder / 'checkpoints' / 'last.ckpt'}", trainer__max_steps=8)
    assert other.checkpoints == ["epoch=0-step=0000008.ckpt", "last.ckpt"]
    assert all(same(other.last[part], whole[part]) for part in TRAINED)


def test_a_finished_run_is_extended_as_if_it_had_never_ended(run, whole):
    for steps in (4, 6, 8):
        run.fit("--resume", trainer__max_steps=steps)
        assert run.last["global_step"] == steps
    assert all(same(run.last[part], whole[part]) for part in TRAINED)
    with pytest.raises(ValueError, match=r"has 8 steps, trainer\.max_steps is 4: raise it"):
        run.fit("--resume", trainer__max_steps=4)


def test_a_run_goes_on_with_other_accumulation(run):
    """Lightning counts batches, of which there are now more or fewer to a step."""
    for steps, accumulated in ((2, 2), (4, 1), (6, 4)):
        run.fit("--resume", trainer__max_steps=steps, trainer__accumulate_grad_batches=accumulated)
        assert run.last["global_step"] == steps


def test_a_folder_in_use_is_refused_with_its_owner(run):
    held = "import sys, eqvae.locks as l; lock = l.Lock(sys.argv[1], '').acquire(); print('on', flush=1); input()"
    path = run.folder / ".run.lock"
    owner = subprocess.Popen([sys.executable, "-c", held, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert owner.stdout.readline() == b"on\n"
        with pytest.raises(
            ValueError, match=rf"run folder {run.folder} is in use by process {owner.pid} on \S+, since"
        ):
            run.fit()
        assert not (run.folder / "checkpoints").exists()
    finally:
        owner.kill()
        owner.wait()
    run.fit(trainer__max_steps=2)  # the dead owner's lock is taken over
    assert run.last["global_step"] == 2
    assert not path.with_name(".run.lock.owner").exists()


def test_a_lock_falls_with_its_owner_though_children_live_on(tmp_path):
    script = (
        "import os, sys, time, eqvae.locks as l; lock = l.Lock(sys.argv[1], 'it').acquire()\n"
        "child = os.fork()\n"
        "if not child: time.sleep(60)\n"
        "print(child, flush=True); time.sleep(60)"
    )
    path = tmp_path / "lock"
    owner = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    child = int(owner.stdout.readline())
    try:
        with pytest.raises(ValueError, match=f"it is in use by process {owner.pid}"):
            Lock(path, "it").acquire()
        owner.kill()
        owner.wait()
        with Lock(path, "it"):
            os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)
