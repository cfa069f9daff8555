"""Checkpoints of finished sweeps: those that were measured go on request, and are made again for whoever needs them."""

import io

import pytest
from rich.console import Console

from eqvae.locks import Lock
from tests.twostage import synthetic_nodes
from twostage import load_sweep, plan
from twostage.graph.execution import run_nodes
from twostage.graph.executor import Executor
from twostage.graph.node import Node, unique
from twostage.graph.pruning import PRUNED, Freed, prune
from twostage.graph.store import damage, forget, is_done, record_of
from twostage.parts import superfluous_checkpoints
from twostage.parts.training import checkpoint_at

STEPS = [2, 3, 4]
BYTES = len(synthetic_nodes.CHECKPOINT)


def work(kind, folder, settings, inputs, progress):
    """What synthetic nodes leave; the checkpoints that they read are there."""
    synthetic_nodes.run_node(kind, folder, settings, inputs, progress)
    if kind == "snapshot":
        assert checkpoint_at(inputs["training"], settings["at_step"]).is_file()
    if kind == "evaluation":
        assert checkpoint_at(inputs["generator"], settings["at_step"]).is_file()


def nodes_of(*overrides):
    steps = f"evaluation.at_steps={STEPS}".replace(" ", "")
    return unique(plan(load_sweep("tiny-shapes", ["seeds=[0]", steps, *overrides])).nodes)


def run(nodes, root) -> str:
    console = Console(record=True, width=300, file=io.StringIO())
    run_nodes(nodes, root, Executor(num_workers=0), console, work)
    return console.export_text()


def generators(nodes):
    return [node for node in nodes if node.kind == "generator"]


def checkpoints(node, root):
    return sorted(path.name for path in (node.folder(root) / "checkpoints").glob("*.ckpt"))


def starts(node, root):
    return len((node.folder(root) / "starts.txt").read_text().splitlines())


@pytest.fixture
def pruned(tmp_path):
    """A finished sweep of two generators after pruning: its nodes, and what was freed."""
    nodes = nodes_of()
    run(nodes, tmp_path)
    return nodes, prune(nodes, tmp_path, superfluous_checkpoints)


def test_the_last_checkpoint_stays(pruned, tmp_path):
    nodes, freed = pruned
    assert freed == Freed(num_nodes=2, num_bytes=2 * 2 * BYTES)
    for node in generators(nodes):
        assert checkpoints(node, tmp_path) == ["step=0000004.ckpt"]
        assert damage(node, tmp_path, thorough=True) is None
        assert sorted(record_of(node, tmp_path)[PRUNED]) == [
            f"checkpoints/step=000000{step}.ckpt" for step in STEPS[:2]
        ]
    assert prune(nodes, tmp_path, superfluous_checkpoints) == Freed(0, 0)


def test_a_pruned_sweep_is_done(pruned, tmp_path):
    nodes, _ = pruned
    assert run(nodes, tmp_path).splitlines() == [f"{len(nodes)} of {len(nodes)} parts are already done"]


def test_whoever_needs_a_removed_checkpoint_gets_it_again(pruned, tmp_path):
    """Other samples of the last step need no training; of an earlier one they do, once for both of them."""
    further = nodes_of("evaluation.num_images=77")
    last = [node for node in further if node.kind != "evaluation" or node.settings["at_step"] == STEPS[-1]]
    run(last, tmp_path)
    assert [starts(node, tmp_path) for node in generators(last)] == [1, 1]
    said = run(further, tmp_path)
    assert said.count("needs checkpoints/step=0000002.ckpt, which was removed when it had been measured") == 2
    for node in generators(further):
        assert starts(node, tmp_path) == 2
        assert len(checkpoints(node, tmp_path)) == len(STEPS)
        assert PRUNED not in record_of(node, tmp_path)
    assert all(is_done(node, tmp_path) for node in further)


def toys(*steps):
    """A training that keeps two checkpoints and, for each step, what measures it after a part of its own."""
    training = Node("train", "train", {})
    slow = [Node(f"slow{step}", "slow", {"step": step}) for step in steps]
    measured = [
        Node(f"measure{step}", "measure", {"step": step}, {"of": training, "after": other}, reads={"of": [f"{step}"]})
        for step, other in zip(steps, slow, strict=True)
    ]
    return training, slow, measured


def run_toys(nodes, root, meanwhile=lambda: None):
    """Do toy nodes; `meanwhile` stands for another process at the time of a slow one."""

    def do(kind, folder, settings, inputs, progress):
        if kind == "train":
            with open(folder / "starts.txt", "a") as starts:
                starts.write("once\n")
            for step in (1, 2):
                (folder / str(step)).write_text("weights")
        elif kind == "slow":
            meanwhile()
        else:
            (inputs["of"] / str(settings["step"])).read_text()

    run_nodes(nodes, root, Executor(num_workers=0), Console(quiet=True), do)


def prune_first(nodes, root):
    prune(nodes, root, lambda node, folder: [folder / "1"] if node.kind == "train" else [])


def test_what_another_sweep_prunes_meanwhile_is_made_again_in_time(tmp_path):
    training, (slow,), (measured,) = toys(1)
    run_toys([training], tmp_path)
    run_toys([training, slow, measured], tmp_path, meanwhile=lambda: prune_first([training], tmp_path))
    assert is_done(measured, tmp_path)
    assert starts(training, tmp_path) == 2


def test_nothing_is_made_again_for_a_part_that_has_failed(tmp_path):
    training, _, _ = toys()
    failing = Node("fails", "measure", {"step": 3}, {"of": training}, reads={"of": ["1"]})
    with pytest.raises(ValueError, match="fails"):
        run_toys([training, failing], tmp_path)
    prune_first([training], tmp_path)
    with pytest.raises(ValueError, match="fails: failed before"):
        run_toys([training, failing], tmp_path)
    assert starts(training, tmp_path) == 1


def test_a_snapshot_of_a_finished_training_changes_no_other_part(tmp_path):
    """The training alone is done again, for the checkpoint that it did not keep."""
    half = "autoencoders.half={label: Half, config: tiny-shapes, at_step: 60}"
    before, after = nodes_of(), nodes_of(half)
    run(before, tmp_path)
    assert {node.address for node in before} < {node.address for node in after}
    said = run(after, tmp_path)
    assert "half/seed0/snapshot needs checkpoints/step=0000060.ckpt, which was not kept" in said
    assert {node.name: starts(node, tmp_path) for node in before if starts(node, tmp_path) > 1} == {
        "equivariant/seed0/autoencoder": 2
    }
    assert all(is_done(node, tmp_path) for node in after)


def test_what_is_still_to_be_measured_stays(tmp_path):
    nodes = nodes_of()
    run(nodes, tmp_path)
    lacking = next(node for node in nodes if node.name == "control/seed0/metrics/sit/step2")
    forget(lacking, tmp_path)
    assert prune(nodes, tmp_path, superfluous_checkpoints).num_nodes == 1
    control, treated = generators(nodes)
    assert len(checkpoints(control, tmp_path)) == len(STEPS)
    assert len(checkpoints(treated, tmp_path)) == 1


def test_nothing_goes_where_the_one_that_stays_is_missing(tmp_path):
    nodes = nodes_of()
    run(nodes, tmp_path)
    for node in generators(nodes):
        checkpoint_at(node.folder(tmp_path), STEPS[-1]).unlink()
    assert prune(nodes, tmp_path, superfluous_checkpoints) == Freed(0, 0)


def test_a_part_that_another_process_is_at_is_left_alone(tmp_path):
    nodes = nodes_of()
    run(nodes, tmp_path)
    folder = generators(nodes)[0].folder(tmp_path)
    with Lock(folder.with_name(f"{folder.name}.lock"), "another"), pytest.raises(ValueError, match="sit"):
        prune(nodes, tmp_path, superfluous_checkpoints)
    assert len(checkpoints(generators(nodes)[0], tmp_path)) == len(STEPS)
