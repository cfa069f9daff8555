"""Writers of a latent cache that are killed at random, or meet in one folder."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import eqvae.files
from eqvae.data import ImageDataModule, ShapesSource
from eqvae.latents import LatentCache, ShardWriter, create_cache_writer
from tests.eqvae.tiny import tiny_autoencoder
from tests.tiny import PACKAGED, train

NUM_IMAGES, SHARD_ROWS = 30, 3
FORK = multiprocessing.get_context("fork")  # what a child needs is imported already
STEPS = ("fdopen", "fsync", "chmod", "replace")  # of every file that is written


def write(folder: Path, data: ImageDataModule, opened: Callable[[], object] = lambda: None) -> None:
    torch.set_num_threads(1)
    writer = create_cache_writer(folder, tiny_autoencoder(), data.description(), "float32", shard_rows=SHARD_ROWS)
    opened()
    for batch in data.predict_dataloader():
        writer.add(batch)
    writer.finish()


@pytest.fixture(scope="module")
def data() -> ImageDataModule:
    return ImageDataModule(ShapesSource(NUM_IMAGES, 16), evaluation_batch_size=7)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    write(folder, data)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


class StepsThatKill:
    """Stands for `os` where files are written: this process dies at one of the steps, some of them half done."""

    def __init__(self, at: int, half: bool):
        self.at, self.half, self.count = at, half, 0

    def __getattr__(self, name: str):
        step = getattr(os, name)
        if name not in STEPS:
            return step

        def counted(*arguments):
            self.count += 1
            if self.count == self.at and not self.half:
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(*arguments)
            if self.count == self.at:
                if name == "fdopen":
                    result.write(b"half of a file")
                    result.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def write_and_die(folder: Path, data: ImageDataModule, at: int, half: bool) -> None:
    eqvae.files.os = StepsThatKill(at, half)
    write(folder, data)


@pytest.mark.reliability(16)
def test_a_writer_that_is_killed_at_random_ends_as_if_it_was_not(tmp_path, data, whole, times, reached):
    chance, num_killed, num_kills, num_folders = random.Random(0), 0, times(5, 20), times(1, 4)
    for attempt in range(num_kills):
        folder = tmp_path / f"killed-{attempt % num_folders}"  # each is killed five times
        at = chance.randrange(1, 4 * 2 * NUM_IMAGES // SHARD_ROWS // 5)  # so that something is left to do
        process = FORK.Process(target=write_and_die, args=(folder, data, at, chance.random() < 0.5))
        process.start()
        process.join()
        num_killed += process.exitcode == -signal.SIGKILL
        require_whole_or_refused(folder, whole)
    assert num_killed == num_kills
    for number in range(num_folders):
        folder = tmp_path / f"killed-{number}"
        write(folder, data)
        assert contents(folder) == whole
    reached.count("kills", num_kills)


def require_whole_or_refused(folder: Path, whole: dict[str, bytes]) -> None:
    """A reader never takes half of what a killed writer left."""
    if (folder / "manifest.json").exists():
        assert len(LatentCache(folder)) == NUM_IMAGES
        assert (folder / "manifest.json").read_bytes() == whole["manifest.json"]
        return
    with pytest.raises(ValueError, match="no finished latent cache"):
        LatentCache(folder)
    for shard in folder.glob("shard-*"):
        assert shard.read_bytes() == whole[shard.name]


def meet(folders: list[Path], data: ImageDataModule, barrier, results) -> None:
    """Write all caches beside another process; who has a folder waits until the other one has seen it."""
    for folder in folders:
        barrier.wait()
        try:
            write(folder, data, opened=barrier.wait)
            results.put((os.getpid(), "written"))
        except ValueError as error:
            results.put((os.getpid(), str(error)))
            barrier.wait()


@pytest.mark.reliability(17)
def test_of_two_writers_in_one_folder_one_works_and_the_other_names_it(tmp_path, data, whole, times, reached):
    folders = [tmp_path / str(number) for number in range(times(5, 20))]
    barrier, results = FORK.Barrier(2, timeout=60), FORK.SimpleQueue()
    processes = [FORK.Process(target=meet, args=(folders, data, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for folder in folders:
        said = dict(results.get() for _ in processes)
        ((refused, text),) = [(pid, text) for pid, text in said.items() if text != "written"]
        (owner,) = set(said) - {refused}
        assert f"latent cache {folder} is in use by process {owner} on" in text
    for process in processes:
        process.join()
    assert all(contents(folder) == whole for folder in folders)
    reached.count("meetings", len(folders))


@pytest.mark.reliability(17, counts="locks taken over")
def test_a_dead_writers_folder_is_taken_over(tmp_path, data, whole):
    process = FORK.Process(target=write_and_die, args=(tmp_path, data, 10, True))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / ".writer.lock.owner").is_file()
    write(tmp_path, data)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("config", ["eqvae/tiny-shapes", "dit/tiny-repa-features"])
def test_a_process_that_failed_may_write_again(config, tmp_path, monkeypatch):
    few = {f"data.init_args.{split}.init_args.num_images": count for split, count in (("train", 6), ("validation", 4))}
    few |= {"trainer.default_root_dir": tmp_path} | (PACKAGED if "eqvae" in config else {})
    words = ("predict", "--config", f"configs/{config}.yaml", few)

    def fail(*_, **__):
        raise ValueError("a damaged image")

    for step in ("add", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(ShardWriter, step, fail)
            with pytest.raises(ValueError, match="a damaged image"):
                train(*words)
    train(*words)
    assert len(list(tmp_path.rglob("manifest.json"))) == (2 if "eqvae" in config else 1)
