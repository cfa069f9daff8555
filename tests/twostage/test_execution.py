"""Sweeps of synthetic nodes: killed and continued, edited, failing, side by side, on submitit's local executor."""

import errno
import io
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from eqvae.hashes import write_json
from eqvae.locks import Lock
from tests.twostage import synthetic_nodes
from twostage import load_sweep, plan, run_sweep
from twostage.analysis.intervals import SEQUENTIAL_LEVELS
from twostage.analysis.summary import summarize
from twostage.graph.execution import other_libraries, run_nodes
from twostage.graph.executor import Executor
from twostage.graph.node import Node, unique
from twostage.graph.store import FAILED, LOCK, Outcome, Task, do_task, is_done, record_of
from twostage.graph.workers import InlineExecutor
from twostage.report.report import write_report
from twostage.report.results import collect
from twostage.sweep import seconds_of_a_seed

ROOT = Path(__file__).parents[2]
SMALL = ["seeds=[0]", "evaluation.at_steps=[2,4]"]
FAILING = "autoencoders.equivariant.overrides={model.init_args.betas: [0, 0]}"
INLINE = Executor(num_workers=0)
ARMS = ("control", "equivariant")


def small_sweep(*overrides):
    return load_sweep(ROOT / "configs/sweeps/tiny-shapes.yaml", [*SMALL, *overrides])


def run(sweep, root, executor=INLINE, **options):
    nodes = plan(sweep).nodes
    run_nodes(nodes, root, executor, Console(quiet=True), synthetic_nodes.run_node, **options)
    return nodes


def starts(root):
    """How often each node was begun, by its folder."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in (root / "store").glob("*/starts.txt")}


def start_process(sweep, root, seconds_per_step, executor=INLINE):
    """A sweep in a process of its own. A fork, for a fresh process would import for longer than it works."""

    def work():
        synthetic_nodes.SECONDS_PER_STEP = seconds_per_step
        run(sweep, root, executor)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def wait_until(happened, process, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert process.is_alive(), "the sweep ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.002)


def finished_report(sweep, root, monkeypatch):
    """report.json without what differs between any two runs: dates and seconds."""
    folder = root / "report"
    write_report(folder, collect(sweep, plan(sweep), root, folder, "python sweep.py"))
    results = json.loads((folder / "report.json").read_text())
    for name in ("created", "seconds"):
        del results[name]
    for row in results["cost"]:
        row.pop("seconds") if row.get("num_steps") is None else None
    images = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    return results, images


def test_parts_are_found_by_their_place_whatever_they_are_called(tmp_path):
    """Arms and generators called like parts, and so that names joined by a dash would be those of other parts."""
    plain = small_sweep("seeds=[0,1]", "generators.slow={label: Slow, config: tiny-sit}")
    plain.generators["slow"].overrides = {"model.init_args.learning_rate": 1.0e-5}
    awkward = {"control": "latents-seed0-metrics-latents", "equivariant": "latents"}
    generators = {"sit": "latents", "slow": "latents-seed1-metrics-latents"}
    renamed = replace(
        plain,
        control=awkward["control"],
        autoencoders={awkward[name]: arm for name, arm in plain.autoencoders.items()},
        generators={generators[name]: part for name, part in plain.generators.items()},
    )
    nodes = run(plain, tmp_path)
    assert [node.address for node in plan(renamed).nodes] == [node.address for node in nodes], "the same work"
    found = [_measured(sweep, tmp_path, tmp_path / str(number)) for number, sweep in enumerate((plain, renamed))]
    assert found[0] == found[1]


def _measured(sweep, root, folder):
    """What a sweep's results hold, in order, without the names of arms and generators."""
    results = collect(sweep, plan(sweep), root, folder, "")
    files = [sample.file for sample in results.samples] + [panel.file for panel in results.panels]
    return {
        "autoencoders": [(each.seed, each.metrics, each.equivariance) for each in results.autoencoders],
        "curves": [(curve.seed, curve.points) for curve in results.curves],
        "images": [(folder / file).read_bytes() for file in files],
        "cost": [(cost.stage, cost.seconds, cost.seed, cost.num_steps) for cost in results.cost],
    }


def test_what_an_arm_costs_without_a_common_start_is_its_whole_training(tmp_path):
    begun_anew = [f"autoencoders.{name}.overrides={{model.init_args.autoencoder: shapes-f4c8}}" for name in ARMS]
    sweep = small_sweep("start.config=null", "start.autoencoder=null", *begun_anew)
    run(sweep, tmp_path)
    measured = collect(sweep, plan(sweep), tmp_path, tmp_path / "report", "").autoencoders
    (steps,) = {branch.training.settings["config"]["trainer"]["max_steps"] for branch in plan(sweep).branches}
    found = [(each.arm, each.num_steps, each.device_seconds) for each in measured]
    assert found == [(arm, steps, pytest.approx(0.1 * steps)) for arm in ARMS]


def test_a_sweep_killed_five_times_gives_the_report_of_an_undisturbed_one(tmp_path, monkeypatch):
    sweep, draw, kills = small_sweep(), random.Random(0), 0
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    nodes = unique(run(sweep, undisturbed))
    while kills < 5:
        done = sum(is_done(node, disturbed) for node in nodes)
        target = min(done + draw.randint(1, 3), len(nodes) - 1)
        process = start_process(sweep, disturbed, seconds_per_step=0.02)
        wait_until(lambda target=target: len(list(disturbed.glob("store/*/done.json"))) >= target, process)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    run(sweep, disturbed)
    assert finished_report(sweep, disturbed, monkeypatch) == finished_report(sweep, undisturbed, monkeypatch)
    assert sum(starts(disturbed).values()) > len(nodes), "no kill hit a running node"


@pytest.mark.slow
def test_a_killed_sweep_takes_its_workers_with_it(tmp_path):
    process = start_process(small_sweep(), tmp_path, 0.0, Executor(num_workers=1))
    begun = tmp_path / "store"
    wait_until(lambda: list(begun.glob("*/starts.txt")), process)
    worker = int(next(begun.glob("*/starts.txt")).read_text().split()[0])
    assert worker not in (process.pid, os.getpid())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists() or "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")


def test_an_edited_config_redoes_exactly_what_depends_on_it(tmp_path):
    before = {node.address: node.name for node in run(small_sweep(), tmp_path)}
    edited = run(small_sweep("evaluation.num_images=77"), tmp_path)
    redone = {node.name for node in edited if node.address not in before}
    assert redone == {"reference/images"} | {node.name for node in edited if node.kind == "evaluation"}
    assert set(starts(tmp_path).values()) == {1}
    edited = run(small_sweep("autoencoders.equivariant.overrides={model.init_args.learning_rate: 0.5}"), tmp_path)
    redone = {node.name for node in edited if node.address not in before}
    assert redone == {node.name for node in edited if node.name.startswith("equivariant/")}
    assert set(starts(tmp_path).values()) == {1}


def test_a_comment_in_a_config_redoes_nothing(tmp_path, monkeypatch):
    config = tmp_path / "copy.yaml"
    config.write_text((ROOT / "configs/eqvae/tiny-shapes.yaml").read_text())
    change = f"autoencoders.equivariant.config={config}"
    before = [node.address for node in plan(small_sweep(change)).nodes]
    config.write_text("# said differently\n" + config.read_text())
    assert [node.address for node in plan(small_sweep(change)).nodes] == before
    assert before == [node.address for node in plan(small_sweep()).nodes], "the file's name is no part of the work"


def test_a_failing_node_leaves_others_running_and_is_done_again_on_request(tmp_path):
    sweep = small_sweep(FAILING)
    for _ in range(2):  # the second run does not try again what failed
        with pytest.raises(
            ValueError, match=r"1 of 15 parts failed; 5 more need them: equivariant/seed0/autoencoder"
        ) as error:
            run(sweep, tmp_path)
        assert "--retry" in str(error.value)
        assert "log.txt" in str(error.value)
    done = {node.name for node in plan(sweep).nodes if is_done(node, tmp_path)}
    assert "control/seed0/metrics/sit/step4" in done
    assert not any("equivariant" in name for name in done)
    failed = next(name for name, _ in starts(tmp_path).items() if (tmp_path / "store" / name / "failed.json").is_file())
    assert starts(tmp_path)[failed] == 1
    with pytest.raises(ValueError, match="betas of zero"):
        run(sweep, tmp_path, retry=True)
    assert starts(tmp_path)[failed] == 2


def test_the_log_of_a_failure_is_shown(tmp_path):
    console = Console(record=True, width=200, file=io.StringIO())
    with pytest.raises(ValueError, match="betas of zero"):
        run_nodes(plan(small_sweep(FAILING)).nodes, tmp_path, INLINE, console, synthetic_nodes.run_node)
    shown = console.export_text()
    assert "failed equivariant/seed0/autoencoder: betas of zero do not train" in shown
    assert "the last words of a node" in shown
    assert "log.txt" in shown


def test_two_sweeps_at_once_do_shared_work_once(tmp_path):
    root = tmp_path / "runs"
    sweeps = [small_sweep(), small_sweep("evaluation.num_images=50", "name=other")]
    both = [start_process(sweep, root, seconds_per_step=0.01) for sweep in sweeps]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert set(starts(root).values()) == {1}
    names = {name.split("-")[0] for name in starts(root)}
    assert names == {"ready", "autoencoder", "diagnostics", "latents", "generator", "reference", "evaluation"}
    assert sum(name.startswith("generator") for name in starts(root)) == 2
    assert sum(name.startswith("reference") for name in starts(root)) == 2


def test_who_waited_for_a_part_that_failed_does_not_do_it_again(tmp_path):
    task, begun, outcomes = Task.of(Node("bad", "toy", {}), tmp_path), [], []
    task.folder.mkdir(parents=True)
    with Lock(task.folder.with_name(task.folder.name + LOCK), "another sweep"):
        waiting = threading.Thread(target=lambda: outcomes.append(do_task(task, begun.append, print, wait=True)))
        waiting.start()
        time.sleep(0.5)  # longer than a lock is waited for by those who do not wait
        write_json(task.folder / FAILED, {"error": "it is impossible"})
    waiting.join(60)
    assert (outcomes, begun) == ([Outcome(task.address, "failed", "it is impossible")], [])


def test_a_part_that_failed_under_another_sweep_is_not_begun_again(tmp_path, monkeypatch):
    """Workers do not wait: they say that another is at it, and are asked again."""
    node, asked = Node("bad", "toy", {}), []

    class Busy(InlineExecutor):
        def submit(self, task):
            asked.append(task)
            task.folder.mkdir()
            write_json(task.folder / FAILED, {"error": "it is impossible"})
            self.events.append(Outcome(task.address, "busy", "another"))

    monkeypatch.setattr("twostage.graph.execution.InlineExecutor", Busy)
    monkeypatch.setattr("twostage.graph.execution.BUSY_SECONDS", 0.0)
    with pytest.raises(ValueError, match="bad: it is impossible"):
        run_nodes([node], tmp_path, INLINE, Console(quiet=True), print)
    assert len(asked) == 1


def test_a_second_start_of_a_sweep_says_who_is_at_it(tmp_path, monkeypatch):
    sweep = small_sweep(f"root={tmp_path}")
    with Lock(tmp_path / sweep.name / ".lock", "sweep"):
        process = multiprocessing.get_context("fork").Process(target=_expect_refusal, args=(sweep, os.getpid()))
        process.start()
        process.join(60)
    assert process.exitcode == 0


def _expect_refusal(sweep, owner):
    with pytest.raises(ValueError, match=f"sweep .*{sweep.name} is in use by process {owner} on .*: wait for it"):
        run_sweep(sweep, "", Console(quiet=True))


def node_folder(root, nodes, name):
    return next(node.folder(root) for node in nodes if node.name == name)


@pytest.mark.parametrize("file", ["metrics.json", "done.json", "grid.png"])
def test_a_damaged_result_is_named_and_made_again(tmp_path, file):
    sweep, name = small_sweep(), "control/seed0/metrics/sit/step4"
    nodes = run(sweep, tmp_path)
    damaged = node_folder(tmp_path, nodes, name) / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    console = Console(record=True, width=300, file=io.StringIO())
    run_nodes(nodes, tmp_path, INLINE, console, synthetic_nodes.run_node)
    assert f"again {name}: {damaged} is damaged" in console.export_text()
    assert starts(tmp_path)[damaged.parent.name] == 2
    assert sum(starts(tmp_path).values()) == len(unique(nodes)) + 1
    damaged.unlink()
    run_nodes(nodes, tmp_path, INLINE, console, synthetic_nodes.run_node)
    assert damaged.is_file()


def test_what_a_failed_part_was_made_from_is_read_through_on_request(tmp_path, monkeypatch):
    """A flipped byte in a large file is found where it made a part fail, and its maker works again."""
    monkeypatch.setattr("twostage.graph.store.SMALL_BYTES", 0)
    sweep = small_sweep(FAILING)
    with pytest.raises(ValueError, match="betas of zero"):
        run(sweep, tmp_path)
    nodes = plan(sweep).nodes
    source = node_folder(tmp_path, nodes, "start/autoencoder") / "count.txt"
    source.write_bytes(b"6")  # as long as before
    with pytest.raises(ValueError, match="betas of zero"):
        run(sweep, tmp_path)
    assert starts(tmp_path)[source.parent.name] == 1
    with pytest.raises(ValueError, match="betas of zero"):
        run(sweep, tmp_path, retry=True)
    assert starts(tmp_path)[source.parent.name] == 2


def test_parts_made_with_other_libraries_are_counted(tmp_path):
    console = Console(record=True, width=300, file=io.StringIO())
    nodes = run(small_sweep(), tmp_path, libraries={"torch": "2.11.0", "timm": "1.0"})
    run_nodes(nodes, tmp_path, INLINE, console, synthetic_nodes.run_node, libraries={"torch": "2.14.1", "timm": "1.0"})
    finished = len(unique(nodes))
    assert f"note {finished} finished parts were made with torch 2.11.0, here is 2.14.1" in console.export_text()
    assert "timm" not in console.export_text()
    assert other_libraries(nodes, tmp_path, {"torch": "2.11.0"}) == {}


def test_a_record_says_what_was_done_with_what_and_what_it_left(tmp_path):
    nodes = run(small_sweep(), tmp_path, libraries={"torch": "2.11.0"})
    node = next(node for node in nodes if node.name == "control/seed0/metrics/sit/step4")
    record = record_of(node, tmp_path)
    assert record["libraries"] == {"torch": "2.11.0"}
    assert set(record["files"]) == {"metrics.json", "grid.png", "digest.txt", "count.txt", "starts.txt"}
    assert record["settings"] == node.settings
    assert set(record["inputs"]) == {"autoencoder", "generator", "reference"}


def test_seeds_are_added_until_the_verdict_stands(tmp_path, monkeypatch):
    monkeypatch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
    overrides = ["seeds=[0,1,2,3,4,5]", "until_decided=true", f"root={tmp_path}", "executor.num_workers=0"]
    sweep = small_sweep(*overrides, "autoencoders.equivariant.overrides={model.init_args.learning_rate: 0.125}")
    console = Console(record=True, width=200, file=io.StringIO())
    _, results = run_sweep(sweep, "python sweep.py", console)
    counts = [int(line.split()[0]) for line in console.export_text().splitlines() if "one seed more" in line]
    assert counts == list(range(3, len(results.seeds)))
    assert results.seeds == sweep.seeds[: len(results.seeds)]
    assert results.max_seeds == 6
    verdict = summarize(results).comparisons[0].verdict
    assert verdict.level == SEQUENTIAL_LEVELS[6]
    assert verdict.word != "undecided" or len(results.seeds) == 6


ENDLESS = ["until_decided=true", "executor.num_workers=0", "evaluation.at_steps=[2,4]", "seeds=[0,1,2,3,4]"]


@pytest.mark.parametrize(("left", "num_seeds"), [(-1.0, 3), (1e6, 5)])
def test_no_seed_is_begun_for_which_no_time_is_left(left, num_seeds, tmp_path, monkeypatch):
    """Every verdict is undecided here; the first look is taken whatever time is left."""
    monkeypatch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
    monkeypatch.setattr(synthetic_nodes, "SPREAD", 500)
    sweep = load_sweep(ROOT / "configs/sweeps/tiny-shapes.yaml", [*ENDLESS, f"root={tmp_path}"])
    console = Console(record=True, width=200, file=io.StringIO())
    _, results = run_sweep(sweep, "", console, deadline=time.monotonic() + left)
    assert len(results.seeds) == num_seeds
    assert results.max_seeds == 5, "the level is that of the looks that were planned"
    assert ("no time is left for another" in console.export_text()) == (left < 0)


def test_a_finished_sweep_says_its_answer_again_whatever_time_is_left(tmp_path, monkeypatch):
    """Its looks need none: all their parts are there."""
    monkeypatch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
    monkeypatch.setattr(synthetic_nodes, "SPREAD", 500)
    sweep = load_sweep(ROOT / "configs/sweeps/tiny-shapes.yaml", [*ENDLESS, f"root={tmp_path}"])
    _, first = run_sweep(sweep, "", Console(file=io.StringIO()))
    _, again = run_sweep(sweep, "", Console(file=io.StringIO()), deadline=time.monotonic() - 1)
    assert again.seeds == first.seeds == [0, 1, 2, 3, 4]
    assert summarize(again).comparisons == summarize(first).comparisons


def test_a_seed_takes_as_long_as_the_slowest_so_far_and_shared_parts_take_nothing(tmp_path):
    """Two branches of a seed, one after the other or side by side; the latents of ready arms belong to all seeds."""
    ready = "autoencoders.control.autoencoder=shapes-f4c8"
    planned = plan(small_sweep("seeds=[0,1]", ready))
    run_nodes(planned.nodes, tmp_path, INLINE, Console(quiet=True), synthetic_nodes.run_node)
    for node in unique(planned.nodes):
        slow = node.name.startswith("equivariant/seed1/")
        record = record_of(node, tmp_path) | {"seconds": 5.0 if slow else 1.0}
        write_json(node.folder(tmp_path) / "done.json", record)
    own = list(planned.branch("equivariant", 1).nodes())
    assert seconds_of_a_seed(planned, tmp_path, 2) == 5 * len(own)
    assert seconds_of_a_seed(planned, tmp_path, 1) == 2 * 5 * len(own)


@pytest.mark.slow
def test_submitit_runs_the_same_nodes(tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed (extra `cluster`)")
    executor = Executor(kind="submitit", cluster="local", parameters={"timeout_min": 5})
    names = ("start/autoencoder", "equivariant/seed0/autoencoder", "equivariant/seed0/latents")
    nodes = [node for node in plan(small_sweep(FAILING)).nodes if node.name in names]
    with pytest.raises(ValueError, match=r"1 of 3 parts failed; 1 more need them: .*betas of zero do not train"):
        run_nodes(nodes, tmp_path, executor, Console(quiet=True), synthetic_nodes.run_node)
    done = {node.name for node in nodes if is_done(node, tmp_path)}
    assert done == {"start/autoencoder"}
    assert list(starts(tmp_path).values()) == [1, 1]


def test_slurm_jobs_wait_for_the_jobs_of_their_inputs(tmp_path):
    submitit = pytest.importorskip("submitit", reason="submitit is not installed (extra `cluster`)")
    from twostage.graph.cluster import SubmititExecutor
    from twostage.graph.store import Task

    assert submitit
    settings = Executor(kind="submitit", parameters={"cpus_per_task": 2}, training_parameters={"tasks_per_node": 8})
    executor = SubmititExecutor(synthetic_nodes.run_node, settings)
    tasks = {node.name: Task.of(node, tmp_path) for node in plan(small_sweep()).nodes}
    for number, name in enumerate(("control/seed0/autoencoder", "control/seed0/latents")):
        executor.job_ids[tasks[name].folder] = str(10 + number)
    parameters = executor._parameters(tasks["control/seed0/generators/sit"])
    assert parameters["tasks_per_node"] == 8
    assert parameters["slurm_additional_parameters"]["dependency"] == "afterok:10:11"
    assert "tasks_per_node" not in executor._parameters(tasks["control/seed0/latents"])


def job_of(folder, work):
    """A job for a node in this folder; the real class, which needs no submitit."""
    from twostage.graph.cluster import NodeJob

    return NodeJob(Task("part", "autoencoder", "part", folder / "part", {}, {}), work)


def test_the_other_processes_of_a_job_end_with_a_first_one_that_never_begins(tmp_path, monkeypatch):
    """It waits for the lock of another job, which leaves a failure; they waited for its word until the time was up."""
    job = job_of(tmp_path, lambda *_: None)
    monkeypatch.setattr("twostage.graph.cluster.CHECK_SECONDS", 0.05)
    monkeypatch.setenv("SLURM_PROCID", "1")
    second = multiprocessing.get_context("fork").Process(target=job)
    second.start()
    monkeypatch.setenv("SLURM_PROCID", "0")

    def begin():
        with pytest.raises(RuntimeError, match="by another job"):
            job()

    with Lock(tmp_path / ("part" + LOCK), "part"):
        first = threading.Thread(target=begin)
        first.start()
        time.sleep(0.5)
        write_json(job.task.folder / FAILED, {"name": "part", "kind": "autoencoder", "error": "by another job"})
    first.join()
    second.join(10)
    assert second.exitcode == 0
    second.kill()


def test_a_job_that_is_queued_again_has_not_failed(tmp_path):
    """Submitit has asked SLURM for another run of it, and leaves by -1."""

    def work(*_):
        raise SystemExit(-1)

    job = job_of(tmp_path, work)
    with pytest.raises(SystemExit):
        job()
    assert not (job.task.folder / FAILED).exists()
    job.work = lambda *_: None
    assert job() == "done"


@pytest.mark.parametrize("fails", ["done.json", "failed.json"])
def test_a_full_disk_is_the_reason_of_a_failure_to_record(tmp_path, monkeypatch, fails):
    """It may be full for the record of it, too; then the worker ended, as if killed."""

    def write(path, content):
        if fails == "failed.json" or path.name == fails:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_json(path, content)

    monkeypatch.setattr("twostage.graph.store.write_json", write)
    outcome = do_task(Task("part", "autoencoder", "part", tmp_path / "part", {}, {}), lambda *_: None, lambda *_: None)
    assert (outcome.state, outcome.error.partition(":")[0]) == ("failed", "[Errno 28] No space left on device")
    assert (tmp_path / "part" / FAILED).exists() == (fails == "done.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device stands for a full disk here")
def test_a_log_on_a_full_disk_is_the_reason_of_a_failure(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "log.txt").symlink_to("/dev/full")
    task = Task("part", "autoencoder", "part", tmp_path / "part", {}, {})
    outcome = do_task(task, lambda *_: print("a line of the work"), lambda *_: None)
    assert (outcome.state, outcome.error) == ("failed", "[Errno 28] No space left on device")
    print("standard output is what it was")
