"""Sweeps of synthetic nodes in which hopeless arms are stopped: interrupted, in another order, on a cluster's path."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.twostage import synthetic_nodes
from tests.twostage.synthetic_sweep import synthetic_results
from tests.twostage.test_execution import ROOT, starts
from twostage import dry_run, load_sweep, plan, run_sweep
from twostage.analysis.summary import summarize
from twostage.commands.sweep import _more_seeds
from twostage.graph.execution import run_nodes
from twostage.graph.executor import Executor
from twostage.graph.workers import InlineExecutor
from twostage.looks import last_look
from twostage.planner import Plan

ARM = "{{label: {}, config: tiny-shapes, overrides: {{model.init_args.kl_weight: {}}}}}"
OVERRIDES = [
    "seeds=[0,1,2,3]", "until_decided=true", "evaluation.at_steps=[2,4]", "executor.num_workers=0",
    "autoencoders.control.overrides={model.init_args.transforms: null, model.init_args.kl_weight: 0.15}",
    "autoencoders.equivariant.overrides={model.init_args.kl_weight: 0.13}",
    f"autoencoders.bad={ARM.format('Bad', 0.6)}",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _synthetic(monkeypatch):
    monkeypatch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
    monkeypatch.setattr(synthetic_nodes, "NUM_STEPS", 1)


def racing_sweep(root, *overrides):
    path = ROOT / "configs/sweeps/tiny-shapes.yaml"
    return load_sweep(path, [*OVERRIDES, "racing=true", f"root={root}", *overrides])


def run(sweep, **options):
    console = Console(record=True, width=200, file=io.StringIO())
    _, results = run_sweep(sweep, "python sweep.py", console, **options)
    return results, console.export_text()


def trainings(root, planned: Plan):
    """{(arm, seed)} of generators that were trained."""
    begun = starts(root)
    return {
        (branch.arm, branch.seed)
        for branch in planned.branches
        if branch.generators["sit"].training.folder(root).name in begun
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
        patch.setattr(synthetic_nodes, "NUM_STEPS", 1)
        root = tmp_path_factory.mktemp("undisturbed")
        sweep = racing_sweep(root)
        return root, sweep, *run(sweep)


def test_a_hopeless_arm_is_trained_with_no_further_seed(undisturbed):
    root, sweep, results, printed = undisturbed
    had = {each.arm: len(each.seeds) for each in results.stopped}
    assert had["bad"] < len(results.seeds)
    expected = {(arm, seed) for arm in sweep.autoencoders for seed in results.seeds_of(arm)}
    assert trainings(root, plan(sweep)) == expected
    assert {(curve.arm, curve.seed) for curve in results.curves} == expected
    told = [line for line in printed.splitlines() if line.startswith("EQ: ")]
    assert len(told) == 1, "of the treatment at the first look alone"
    assert f"stopped Bad was stopped after seed {had['bad'] - 1} ({had['bad']} of at most 4 seeds): " in printed
    verdicts = {each.arm: each.verdict for each in summarize(results).comparisons}
    assert (verdicts["bad"].word, verdicts["bad"].num_seeds) == ("slower", had["bad"])
    saved = json.loads((root / sweep.name / "report" / "report.json").read_text())
    assert [each["arm"] for each in saved["stopped"]] == list(had)


def test_a_sweep_that_was_interrupted_stops_the_same_arms(undisturbed, tmp_path):
    """After its first look, and in the middle of the second, with parts of that one done."""
    _, _, whole, _ = undisturbed
    sweep = racing_sweep(tmp_path)
    first, _ = run(sweep, deadline=0.0)
    assert len(first.seeds) == 3
    nodes = [node for node in plan(sweep, [3]).part([3], first.stopped).nodes if "equivariant" in node.name]
    begun = [node for node in plan(sweep, [3]).nodes if node.name.startswith("start")] + nodes
    run_nodes(begun, tmp_path, Executor(num_workers=0), Console(quiet=True), synthetic_nodes.run_node)
    again, _ = run(sweep)
    assert again.stopped == whole.stopped
    assert again.curves == whole.curves
    assert set(starts(tmp_path).values()) == {1}, "nothing is done twice"


def test_the_order_in_which_parts_end_decides_nothing(undisturbed, tmp_path, monkeypatch):
    """On the path of a cluster, to which a look's parts are handed at once, worked on from the last to the first."""
    _, _, whole, _ = undisturbed

    class Backwards(InlineExecutor):
        orders_tasks = True

        def __init__(self, work, settings):
            super().__init__(work)
            self.handed = []

        def free(self):
            return 10_000

        def submit(self, task):
            self.handed.append(task)

        def poll(self, seconds):
            able = [
                task for task in self.handed if all((source / "done.json").is_file() for source in task.inputs.values())
            ]
            for task in able[-1:]:
                self.handed.remove(task)
                super().submit(task)
            return super().poll(seconds)

    monkeypatch.setattr("twostage.graph.cluster.SubmititExecutor", Backwards)
    results, _ = run(racing_sweep(tmp_path, "executor.kind=submitit"))
    assert (results.stopped, results.curves) == (whole.stopped, whole.curves)


def test_the_plan_says_who_was_stopped_and_leaves_those_parts_out(undisturbed):
    root, sweep, results, _ = undisturbed
    lines = printed_plan(sweep)
    assert last_look(sweep, plan(sweep), root).stopped == results.stopped
    had = len(next(each.seeds for each in results.stopped if each.arm == "bad"))
    states = {line.split()[1]: line.split("[")[1].split("]")[0] for line in lines if "  <- " in line and "[" in line}
    assert states[f"bad/seed{had - 1}/generators/sit"] == "done"
    assert states[f"bad/seed{had}/generators/sit"] == "stopped"
    to_do = [name for name, state in states.items() if state == "to do"]
    assert any(line.startswith(f"to do: {len(to_do)} of ") for line in lines)
    assert "racing: hopeless arms are stopped, from 3 seeds on; this is the most to do" in lines
    assert sum(line.startswith("stopped: Bad was stopped after seed") for line in lines) == 1


def test_the_plan_of_a_race_that_has_not_begun_stops_nobody(tmp_path):
    lines = printed_plan(racing_sweep(tmp_path))
    assert not any("[stopped]" in line or line.startswith("stopped") for line in lines)
    assert not any("racing" in line for line in printed_plan(racing_sweep(tmp_path, "racing=false")))


@pytest.mark.parametrize(
    ("factors", "states", "last"),
    [
        ((3.0, 2.9, 3.1), {"not needed"}, "decided: with 3 of 4 seeds; others are not needed"),
        (
            (2.0, 0.5, 1.1),
            {"to do"},
            "until_decided: seeds are taken one by one, from 3 on; this is the most to do",
        ),
    ],
)
def test_the_plan_of_a_decided_sweep_lists_no_work_for_other_seeds(factors, states, last, tmp_path, monkeypatch):
    results = replace(synthetic_results(3, factors=factors), max_seeds=4)
    monkeypatch.setattr("twostage.plan_table.last_look", lambda *_: results)
    lines = printed_plan(racing_sweep(tmp_path, "racing=false"))
    assert {line.split("[")[1].split("]")[0] for line in lines if "/seed3/metrics" in line} == states
    assert lines[-1] == last


def printed_plan(sweep):
    console = Console(record=True, width=300, file=io.StringIO())
    dry_run(sweep, console)
    return console.export_text().splitlines()


def test_without_a_race_every_arm_has_every_seed_and_the_same_numbers(undisturbed):
    """The race is not binding: switched off, the sweep goes on with the arms that were stopped."""
    root, _, raced, _ = undisturbed
    before = sum(starts(root).values())
    results, _ = run(racing_sweep(root, "racing=false", "name=other"))
    assert results.stopped == []
    assert {(curve.arm, curve.seed) for curve in results.curves} == {
        (arm.name, seed) for arm in results.arms for seed in results.seeds
    }
    kept = {(curve.arm, curve.seed): curve for curve in results.curves}
    assert all(kept[curve.arm, curve.seed] == curve for curve in raced.curves if curve.seed in results.seeds)
    assert sum(starts(root).values()) > before


def test_a_size_that_is_asked_for_stops_arms_that_do_not_reach_it(undisturbed):
    root, _, raced, _ = undisturbed
    results, printed = run(racing_sweep(root, "smallest_speed_up=4", "name=fast-ones"))
    assert len(results.seeds) < len(raced.seeds), "nothing is left to decide"
    sizes = [defeat.smallest_speed_up for each in results.stopped for defeat in each.defeats]
    assert 4.0 in sizes
    assert "lies below 4.00 times" in printed
    assert _more_seeds(["--config", "x"], results) is None, "other seeds than were planned may not be added"
