"""Checkpoints of finished sweeps: those that were measured go on request, and are made again for whoever needs them."""

import io

import pytest
from rich.console import Console

from eqvae.locks import Lock
from tests.twostage import synthetic_nodes
from twostage import load_sweep, plan
from twostage.graph.execution import run_nodes
from twostage.graph.executor import Executor
from twostage.graph.node import unique
from twostage.graph.pruning import PRUNED, Freed, prune
from twostage.graph.store import damage, forget, is_done, record_of
from twostage.parts import superfluous_checkpoints
from twostage.parts.training import checkpoint_at

STEPS = [2, 3, 4]
BYTES = 100  # of a checkpoint


def work(kind, folder, settings, inputs, progress):
    """What synthetic nodes leave, and the checkpoints of a generator's steps."""
    synthetic_nodes.run_node(kind, folder, settings, inputs, progress)
    for step in settings.get("at_steps", []) if kind == "generator" else []:
        path = checkpoint_at(folder, step)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(BYTES))
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
