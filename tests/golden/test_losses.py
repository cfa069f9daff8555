"""Every tiny recipe learns what it learned when its losses were recorded."""

import pytest

from tests.golden.recipes import NUM_STEPS, RECIPES, comparable_steps, train_recipe, write_caches
from tests.golden.recordings import (
    TOLERANCE,
    Entry,
    Processor,
    difference,
    path_of,
    read_entries,
    require_agreement,
    this_processor,
    write_entries,
)

HERE, ELSEWHERE = Processor("AVX2", "2.0", "00000000"), Processor("AVX512", "2.0", "11111111")
LOSSES = {"train/loss": [1 / (step + 1) for step in range(20)], "train/vb": [0.5] * 20}


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return write_caches(tmp_path_factory.mktemp("golden"))


@pytest.mark.reliability(14, counts="recipes")
@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_the_recorded_ones(name, caches, tmp_path, reached, times):
    num_steps = times(15, NUM_STEPS)
    losses = train_recipe(name, tmp_path, caches, num_steps)
    assert {len(values) for values in losses.values()} == {num_steps}
    entries = [entry.first(num_steps) for entry in read_entries(name)]
    found = difference(losses, entries, this_processor(), min(comparable_steps(name), num_steps))
    assert found is None, f"{found}; if results were meant to change: python -m tests.golden"
    is_recorded = this_processor() in [entry.processor for entry in read_entries(name)]
    reached.says("bit-equal" if is_recorded else "within 1e-4, machine not recorded")


@pytest.mark.parametrize("name", RECIPES)
def test_recorded_processors_agree(name):
    """Where unknown processors are compared, the recorded ones are ten times closer than the tolerance."""
    entries = read_entries(name)
    assert len({entry.processor for entry in entries}) == len(entries) >= 2
    require_agreement(entries, comparable_steps(name))


def test_no_recording_is_left_behind():
    assert {path.stem for path in path_of("x").parent.glob("*.txt")} == set(RECIPES)


def changed(step: int, factor: float) -> dict[str, list[float]]:
    return LOSSES | {"train/vb": [value * (factor if at == step else 1) for at, value in enumerate(LOSSES["train/vb"])]}


def test_a_known_processor_must_give_the_same_bits():
    entries = [Entry(ELSEWHERE, changed(0, 2.0)), Entry(HERE, LOSSES)]
    assert difference(LOSSES, entries, HERE, num_steps=5) is None
    found = difference(changed(7, 1 + 2**-23), entries, HERE, num_steps=5)
    assert found.startswith("train/vb at step 7 is 0.50000006, recorded 0.5 on AVX2 2.0 00000000, where the same bits")


@pytest.mark.parametrize("other", [ELSEWHERE, *(HERE._replace(**{name: "other"}) for name in Processor._fields)])
def test_an_unknown_processor_must_be_close(other):
    entries = [Entry(HERE, LOSSES)]
    assert difference(changed(7, 1 + 0.9 * TOLERANCE), entries, other, num_steps=20) is None
    found = difference(changed(7, 1 - 1.1 * TOLERANCE), entries, other, num_steps=20)
    assert found.startswith(
        "train/vb at step 7 is 0.499945, recorded 0.5 on AVX2 2.0 00000000, where a relative 0.0001"
    )
    assert difference(changed(7, 3.0), entries, other, num_steps=7) is None
    fewer = {"train/loss": LOSSES["train/loss"]}
    assert difference(fewer, entries, other, 20) == "logged are train/loss, recorded train/loss, train/vb"


def test_recordings_of_two_versions_of_the_code_are_refused():
    entries = [Entry(HERE, LOSSES), Entry(ELSEWHERE, changed(7, 1 + 0.2 * TOLERANCE))]
    require_agreement(entries, 7)
    with pytest.raises(ValueError, match="train/vb of the recorded processors parts at step 7: record all"):
        require_agreement(entries, 8)


def test_text_keeps_every_bit(tmp_path):
    losses = {"train/loss": [1.17549435e-38, 0.1, 16777215.0], "train/vb": [-0.0, 1e30, 3.0]}
    write_entries("x", [Entry(HERE, losses), Entry(ELSEWHERE, LOSSES)], tmp_path)
    entries = read_entries("x", tmp_path)
    assert [entry.processor for entry in entries] == [HERE, ELSEWHERE]
    assert difference(losses, entries, HERE, num_steps=0) is None
    with pytest.raises(FileNotFoundError, match=r"no recorded losses at .*y.txt: run `python -m tests.golden y`"):
        read_entries("y", tmp_path)
