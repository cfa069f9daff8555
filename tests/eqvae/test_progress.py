"""The progress line: what it says in a terminal and elsewhere, and how a training and sampling move it."""

import io
import re
import threading

import pytest
import torch
from rich.console import Console

from dit.sample_files import SampleFolder
from eqvae.progress import ProgressLine
from twostage.commands.sampling_progress import SamplingProgress


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def __call__(self) -> float:
        return self.now


def line(is_terminal: bool, monkeypatch, **settings) -> tuple[ProgressLine, io.StringIO, Clock]:
    output, clock = io.StringIO(), Clock(monkeypatch)
    made = ProgressLine("training", 10, console=Console(file=output, force_terminal=is_terminal, width=100), **settings)
    made.bars.get_time = clock  # of rich's tasks
    made.bars.tasks[0]._get_time = clock
    made.bars.tasks[0].start_time = 0.0
    return made, output, clock


@pytest.mark.parametrize("is_terminal", [True, False])
def test_it_tells_images_a_second_a_note_and_the_time_left(is_terminal, monkeypatch):
    progress, _, clock = line(is_terminal, monkeypatch)
    for step in range(1, 5):
        clock.now += 2.0
        progress.update(step, images_per_unit=32, note="loss 0.5")
    assert progress.text() == "training: 4 of 10, 16.0 images/s, loss 0.5, 0:00:12 left"
    progress.rename("validating")
    assert progress.text().startswith("validating: 4 of 10")


def test_a_file_gets_a_line_a_period_and_no_control_characters(monkeypatch):
    progress, output, clock = line(False, monkeypatch, period=5)
    with progress:
        for step in range(1, 11):
            clock.now += 2.0
            progress.update(step)
    lines = output.getvalue().splitlines()
    assert [each.split(",")[0] for each in lines] == [f"training: {step} of 10" for step in (3, 6, 9, 10)]
    assert "\x1b" not in output.getvalue()


def test_a_terminal_gets_one_line_that_ends_complete(monkeypatch):
    progress, output, clock = line(True, monkeypatch)
    with progress:
        for step in range(1, 11):
            clock.now += 1.0
            progress.update(step, images_per_unit=4, note="loss 0.25")
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.getvalue()).strip().splitlines()[-1]
    assert re.search(r"training ━+ 10/10 4\.0 images/s, loss 0\.25 .* left 0:00:00", last)


def test_sampling_moves_with_every_step_and_never_beyond_its_part(tmp_path):
    folder = SampleFolder(tmp_path, {"num_images": 30}, part_size=20)
    seen = []
    with SamplingProgress(folder, num_steps=4) as progress:
        with progress.part(20) as stepped:
            for step in range(4):  # two batches of ten, as on a processor, each from a thread of its own
                threads = [threading.Thread(target=stepped, args=(step, torch.zeros(10, 1), 0.0)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                seen.append(progress.line.done)
            stepped(4, torch.zeros(10, 1), 1.0)  # one that takes more steps than it is told
            assert progress.line.done == 20
        assert seen == [5, 10, 15, 20]
        with progress.part(10):
            pass
        assert progress.line.done == 30


def test_sampling_that_goes_on_begins_where_it_was(tmp_path):
    folder = SampleFolder(tmp_path, {"num_images": 30}, part_size=20)
    folder.write(range(20), torch.zeros(20, 3, 4, 4, dtype=torch.uint8), {})
    assert SamplingProgress(folder, num_steps=4).line.done == 20
