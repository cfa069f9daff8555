"""One damaged image in a hundred: named all at once, or left out up to a limit, and found beforehand by a command."""

import contextlib
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from eqvae.commands import run_command
from eqvae.data import (
    FolderSource,
    ImageDataModule,
    InMemorySource,
    ParquetSource,
    ShapesSource,
    find_unreadable,
    open_image,
)
from eqvae.data import encoded as reading
from tests.eqvae.test_images import encoded
from tests.tiny import stage_one
from twostage.cli import evaluate

NUM_IMAGES, SIDE = 1000, 16


def header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def image_file(number: int) -> bytes:
    image = np.full((SIDE, SIDE, 3), (number % 256, number // 256, 0), np.uint8)
    return encoded(Image.fromarray(image))


DAMAGED = {  # number of the image -> what lies in its place, 1 % of all
    7: image_file(7)[:-30],
    101: image_file(101)[:45],
    102: b"",
    300: b"",
    301: b"<html>not found</html>",
    555: b"text\n" * 100,
    556: header_of(0, 0),
    557: b"P6 0 16 255\n",
    800: header_of(60_000, 60_000),
    999: header_of(60_000, 60_000),
}


def name_of(number: int) -> str:
    return f"{number:04d}.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        (root / name_of(number)).write_bytes(DAMAGED.get(number, image_file(number)))
    return root


def memory(name: str) -> int:
    """kB of this process: resident now (VmRSS) or at most (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


def number_in(image: torch.Tensor) -> int:
    return int(image[0, 0, 0]) + 256 * int(image[1, 0, 0])


@pytest.mark.reliability(21)
def test_the_default_stops_and_names_all_in_one_line(folder, reached):
    Path("/proc/self/clear_refs").write_text("5")  # a new peak of the memory in use begins
    before = memory("VmRSS")
    source = FolderSource(str(folder), SIDE)
    assert number_in(source[6][0]) == 6
    with pytest.raises(ValueError, match=f"10 of {NUM_IMAGES} images are unreadable: ") as error:
        source[301]
    message = str(error.value)
    assert "\n" not in message
    assert all(str(folder / name_of(number)) in message for number in DAMAGED)
    assert message.index(name_of(301)) < message.index(name_of(999)) < message.index(name_of(300)), "from there on"
    grown = memory("VmHWM") - before
    assert grown < 1_000_000, "a header of 60,000 x 60,000 pixels was believed"
    reached.count("damaged images named", len(DAMAGED))
    reached.says(f"{grown // 1000} MB")


def test_a_long_list_is_cut_and_a_long_search_ends(folder, monkeypatch):
    monkeypatch.setattr(reading, "NUM_NAMED", 3)
    with pytest.raises(ValueError, match=r"10 of 1000 .*0007\.png.*0101\.png.*0102\.png.*, and 7 more: replace"):
        FolderSource(str(folder), SIDE)[7]
    monkeypatch.setattr(reading, "SEARCH_SECONDS", -1)
    expected = (
        r"1 of the 1 images looked at so far, of 1000, is unreadable: .*0007\.png.*`evaluate\.py images` looks at all"
    )
    with pytest.raises(ValueError, match=expected):
        FolderSource(str(folder), SIDE)[7]


@pytest.mark.reliability(21)
@pytest.mark.filterwarnings("ignore:skipped image")
def test_skipping_is_counted_keeps_the_order_and_has_a_limit(folder, reached):
    source = FolderSource(str(folder), SIDE, on_error="skip", max_skipped=10)
    read = [number_in(source[index][0]) for index in range(NUM_IMAGES)]
    readable = [number for number in range(NUM_IMAGES) if number not in DAMAGED]
    following = {number: next((n for n in readable if n > number), readable[0]) for number in DAMAGED}
    assert read == [following.get(number, number) for number in range(NUM_IMAGES)]
    assert source.num_skipped == len(DAMAGED)
    limited = FolderSource(str(folder), SIDE, on_error="skip", max_skipped=9)
    with pytest.raises(ValueError, match="10 images cannot be read, more than max_skipped 9: ") as error:
        [limited[index] for index in range(NUM_IMAGES)]
    assert all(name_of(number) in str(error.value) for number in DAMAGED)
    with pytest.raises(ValueError, match="max_skipped must not be negative"):
        FolderSource(str(folder), SIDE, max_skipped=-1)
    reached.count("skipped and counted", len(DAMAGED))


@pytest.mark.filterwarnings("ignore:skipped image")
def test_the_limit_holds_for_all_loader_processes_together(folder):
    source = FolderSource(str(folder), SIDE, on_error="skip", max_skipped=9)
    data = ImageDataModule(source, evaluation_batch_size=50, num_workers=2)
    batches = iter(data.sequential_loader("train"))
    with pytest.raises(ValueError, match="more than max_skipped 9"):
        list(batches)
    batches._shutdown_workers()  # left to the collector, they would end in another test, after a timeout
    assert source.num_skipped == 10


def test_a_source_in_memory_counts_what_it_skipped(folder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(image_file(1))
    source = InMemorySource(FolderSource(str(tmp_path), SIDE, on_error="skip"))
    with pytest.warns(UserWarning, match="skipped image 0"):
        assert number_in(source[0][0]) == 1
    with pytest.warns(UserWarning, match="1 of 2 train images could not be read"):
        ImageDataModule(source, validation=ShapesSource(2, SIDE)).teardown("fit")


def test_training_stops_with_the_list_in_one_line(tmp_path, capsys):
    """Whatever process reads them: the command's last word is one line, not the trace of a loader."""
    for number in range(12):
        (tmp_path / name_of(number)).write_bytes(b"" if number in (3, 8) else image_file(number))

    def fit():
        cli = stage_one(tmp_path / "run")
        cli.datamodule.sources["train"], cli.datamodule.num_workers = FolderSource(str(tmp_path), 32), 2
        cli.trainer.fit(cli.model, cli.datamodule)

    with pytest.raises(SystemExit):
        run_command(fit)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith("error: 2 of 12 images are unreadable: ")
    assert all(str(tmp_path / name_of(number)) in line for number in (3, 8))


def test_a_data_set_is_checked_beforehand(folder, tmp_path, monkeypatch, capsys):
    def check(where):
        words = ["images", "--data", where, "--image-size", SIDE, "--output", tmp_path / "found.json"]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
        evaluate.main()

    with pytest.raises(SystemExit) as stop:
        check(folder)
    assert stop.value.code == 1
    assert f"error: 10 of {NUM_IMAGES} images are unreadable: {folder / name_of(7)}" in capsys.readouterr().err
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["num_images"], found["num_unreadable"]) == (NUM_IMAGES, 10)
    assert [name_of(number) in line for number, line in zip(DAMAGED, found["unreadable"], strict=True)] == [True] * 10
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").write_bytes(image_file(3))
    check(tmp_path / "good")
    printed = "".join(capsys.readouterr().out.split())  # lines are cut where the terminal ends
    assert f"all1imagesof{tmp_path / 'good'}canberead" in printed


def test_rows_of_parquet_files_are_named(tmp_path):
    rows = [{"bytes": b"" if row in (1, 4) else image_file(row), "path": None} for row in range(6)]
    pyarrow.parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"image": [None, *rows]}), tmp_path / "b.parquet")
    search = find_unreadable(ParquetSource(str(tmp_path / "*.parquet"), SIDE))
    expected = [("a", 1), ("a", 4), ("b", 0), ("b", 2), ("b", 5)]
    assert [line.split(" is not")[0] for line in search.problems] == [
        f"{tmp_path / name}.parquet: row {row}" for name, row in expected
    ]


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_strip_that_would_fill_the_memory_is_refused(size, tmp_path):
    """Its short side resized to 256 pixels, it would have 4 billion."""
    Image.new("L", size).save(tmp_path / "strip.png")
    assert open_image(tmp_path / "strip.png").size == size
    with pytest.raises(ValueError, match=r"1 of 1 images is unreadable: .*strip\.png .*its sides differ too much"):
        FolderSource(str(tmp_path), 256)[0]


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_an_image_never_escapes_as_another_error(seed):
    """Flipped bytes make decoders raise all kinds of exceptions."""
    generator = np.random.default_rng(seed)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        whole = np.frombuffer(encoded(Image.fromarray(generator.integers(0, 256, (9, 7, 3), np.uint8)), kind), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[generator.integers(0, len(whole), 4)] = generator.integers(0, 256, 4)
            with contextlib.suppress(ValueError):
                assert open_image(damaged.tobytes(), "x").mode == "RGB"


def test_a_pipe_among_the_images_is_refused_at_once(tmp_path):
    """Opening it would wait for ever."""
    (tmp_path / "a.png").write_bytes(image_file(1))
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png is no file but a pipe, a socket or a device: remove it"):
        FolderSource(str(tmp_path), SIDE)
    for name in ("c.parquet", "d.tar"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is no regular file"):
            reading.matching_files(str(tmp_path / name), name.rpartition(".")[2])
    os.mkfifo(tmp_path / "notes")  # no image by its name
    (tmp_path / "b.png").unlink()
    assert len(FolderSource(str(tmp_path), SIDE)) == 1
