"""A comparison from the command line to its last line, its parts being synthetic and its times given."""

import io
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from eqvae.bases import load_config
from eqvae.hashes import write_json
from tests.twostage import synthetic_nodes
from tests.twostage.compare.fixtures import COSTS, WORK, scaled
from tests.twostage.synthetic_sweep import METRIC, synthetic_results
from twostage import load_sweep, plan
from twostage.analysis.records import Arm
from twostage.compare.answer import answer
from twostage.compare.budget import Rung, choose, smallest_budget
from twostage.compare.contestants import parse_contestants, read_field
from twostage.compare.files import contents, write_files
from twostage.compare.images import find_images
from twostage.compare.request import PLAN, Request, kept_plan
from twostage.compare.run import compare, compare_autoencoders
from twostage.compare.timing import choose_workers, take_times
from twostage.graph.node import unique
from twostage.graph.store import is_done

ROOT = Path(__file__).parents[3]
REQUEST = Request(["eq:shapes-f4c8", "ordinary:shapes-f4c8"], "shapes:300", None, 32, 300.0, 20)


def foretold(folders, control, images, image_size, gauge):
    """What a forecast is asked, as a line."""
    assert all(folder.name == "autoencoder" and folder.parent.is_dir() for folder in folders.values())
    return [f"forecast: {' '.join(folders)}, {control} first, {images} of {image_size}, {gauge.quantity}"]


def run(request, folder):
    console = Console(record=True, width=200, file=io.StringIO())
    report = compare(request, folder, "python compare.py", console).report
    assert report == folder / "report/report.html"
    return console.export_text().splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a comparison whose time was up, and what it printed in its first and second run."""
    folder = tmp_path_factory.mktemp("runs") / "own"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twostage.compare.run.take_times", lambda *given: scaled(0.5))
        patch.setattr("twostage.compare.run.choose_workers", lambda num_arms: 0)
        patch.setattr("twostage.compare.run.REPORT_SECONDS", 1e9)
        patch.setattr("twostage.compare.run.forecast", foretold)
        patch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
        patch.setattr("twostage.sweep.write_report", lambda folder, results: folder / "report.html")
        patch.setattr(synthetic_nodes, "SPREAD", 500)
        first = run(REQUEST, folder)
        begun = {path: path.stat().st_mtime_ns for path in folder.parent.glob("store/*/starts.txt")}
        second = run(REQUEST, folder)
        assert {path: path.stat().st_mtime_ns for path in begun} == begun
    return folder, first, second


def test_it_prints_plan_verdicts_ranking_and_time(finished):
    _, first, _ = finished
    text = "\n".join(first)
    assert "timed in" in first[1]
    assert "plan: SiT, " in text
    assert "times in 9 of 10 cases" in text
    assert "ordinary:shapes-f4c8 against eq:shapes-f4c8: undecided: " in text
    assert "ranking" not in text, "of two"
    assert first[-1].startswith("time: ")
    assert first[-1].endswith("of 5 min 00 s")


def test_it_prints_a_forecast_before_anything_is_decided(finished):
    _, first, second = finished
    words = "eq:shapes-f4c8 ordinary:shapes-f4c8, eq:shapes-f4c8 first, shapes:2000:1 of 32"
    for lines in (first, second):
        places = [place for place, line in enumerate(lines) if line.startswith(f"forecast: {words}")]
        assert len(places) == 1
        assert places[0] < next(place for place, line in enumerate(lines) if " against " in line)


def test_no_seed_is_begun_after_its_time_and_a_second_run_says_the_same(finished):
    folder, first, second = finished
    sweep = load_sweep(folder / "comparison.yaml", [])
    assert len(sweep.seeds) > 3
    assert any("3 seeds: 1 of 1 comparisons undecided; no time is left for another" in line for line in first)
    found = [[line for line in lines if " against " in line] for lines in (first, second)]
    assert found[0] == found[1] != []
    assert not any("timed in" in line for line in second), "the plan that lies there is taken"
    done = [is_done(node, folder.parent) for node in unique(plan(sweep).nodes)]
    assert all(is_done(node, folder.parent) for node in plan(sweep, [0, 1, 2]).nodes)
    assert not all(done)


def test_the_file_that_it_writes_is_the_sweep_that_ran(finished):
    folder, _, _ = finished
    sweep = load_sweep(folder / "comparison.yaml", [], to_run=True)
    assert asdict(sweep) == asdict(load_sweep(folder / "sweep.yaml", []))
    work = replace(WORK, num_trained=2, tuning_steps=20, num_train=300)
    rung = choose(work, scaled(0.5), 299)
    assert len(sweep.seeds) == rung.num_seeds
    assert (sweep.evaluation.at_steps, sweep.evaluation.num_images) == (rung.at_steps, rung.num_images)
    assert sweep.until_decided
    assert list(sweep.autoencoders) == ["eq-shapes-f4c8", "ordinary-shapes-f4c8"]
    arms = {name: plan(sweep, [0]).branch(name, 0) for name in sweep.autoencoders}
    assert arms["eq-shapes-f4c8"].training.settings["config"]["model"]["init_args"]["transforms"] == "paper"
    assert arms["ordinary-shapes-f4c8"].training.settings["config"]["model"]["init_args"]["transforms"] is None
    loss = arms["eq-shapes-f4c8"].training.settings["config"]["model"]["init_args"]["reconstruction"]
    recipe = load_config(ROOT / "configs/eqvae/scenes.yaml").model.init_args.reconstruction
    assert loss == recipe, "that of the recipes: with pixels alone EQ was not faster"
    backbone = arms["eq-shapes-f4c8"].generators["sit"].training.settings["config"]["model"]["init_args"]["backbone"]
    wanted = {"input_size": 8, "in_channels": 8, "num_classes": 10, "patch_size": 2}
    assert wanted.items() <= backbone["init_args"].items()


def test_equal_arms_differ_in_the_seeds_of_their_fine_tuning_alone(tmp_path):
    field = read_field(parse_contestants(["ordinary:shapes-f4c8", "again:shapes-f4c8"]), 32)
    images, rung = find_images("shapes:300", None, 32), Rung("small", 200, 100, 3)
    write_files(tmp_path, contents(tmp_path, field, images, rung, 20, 0, first_seed=40))
    sweep = load_sweep(tmp_path / "comparison.yaml", [])
    assert sweep.seeds == [40, 41, 42]
    ordinary, again = (plan(sweep, [41]).branch(name, 41) for name in sweep.autoencoders)
    configs = [branch.training.settings["config"] for branch in (ordinary, again)]
    assert [config["seed_everything"] for config in configs] == [41, 41 + 1_000_000]
    assert [config["model"]["init_args"]["transforms"] for config in configs] == [None, None]
    drawn = [branch.generators["sit"].training.settings["config"]["seed_everything"] for branch in (ordinary, again)]
    assert drawn == [41, 41]


def test_more_than_two_are_ranked_by_the_speed_up_over_the_control():
    results = synthetic_results(4)
    slower = [
        replace(curve, arm="slower", points=_slowed(curve.points, curve.seed))
        for curve in results.curves
        if curve.arm == "control"
    ]
    arms = [*results.arms, Arm("slower", "Slower one", "")]
    lines = answer(replace(results, arms=arms, curves=[*results.curves, *slower], max_seeds=5))
    assert lines[0].startswith("Equivariant fine-tuning against Ordinary fine-tuning: faster by 1.")
    assert lines[0].endswith("; 97.71 % interval of this look, 4 seeds")
    assert lines[1].startswith("Slower one against Ordinary fine-tuning: slower by 1.")
    assert re.fullmatch(
        r"ranking: 1\. Equivariant fine-tuning \(1\.\d+. .*\), 2\. Ordinary fine-tuning \(control\), "
        r"3\. Slower one \(0\.\d+. .*\)",
        lines[2],
    )
    assert len(lines) == 3, "nothing is left to decide"


def _slowed(points, seed):
    """A curve that lies a tenth higher, in each seed a little more."""
    worse = 1.1 + 0.01 * seed
    return [replace(point, metrics=point.metrics | {METRIC: worse * point.metrics[METRIC]}) for point in points]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 600.0}, r"holds a comparison with --budget 5m, not 10m: give that to go on with it, or another"),
        (
            {"autoencoders": ["shapes-f4c8", "scenes-f4c8"]},
            r"a comparison of eq:\S+ ordinary:\S+, not shapes",
        ),
        ({"data": "scenes:300"}, "with --data shapes:300, not scenes:300"),
        ({"first_seed": 9}, "with --first-seed 0, not 9"),
    ],
)
def test_another_request_is_refused_with_the_way_on(finished, changes, message):
    with pytest.raises(ValueError, match=message):
        run(replace(REQUEST, **changes), finished[0])


def test_a_folder_of_a_version_without_first_seeds_is_gone_on_with(tmp_path):
    kept = {"request": {name: value for name, value in asdict(REQUEST).items() if name != "first_seed"}}
    write_json(tmp_path / PLAN, kept)
    assert kept_plan(tmp_path, REQUEST) == kept
    with pytest.raises(ValueError, match="with --first-seed 0, not 5: give that to go on with it, or another --output"):
        kept_plan(tmp_path, replace(REQUEST, first_seed=5))


@pytest.mark.parametrize("first_seed", [1, 19, 110])
def test_a_first_seed_that_shares_seeds_with_another_is_refused(first_seed, tmp_path):
    with pytest.raises(ValueError, match=rf"--first-seed {first_seed} shares seeds .*: give a multiple of 20, such as"):
        compare_autoencoders(["a", "b"], first_seed=first_seed, output=tmp_path / "here")
    assert not any(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a comparison: give another folder"):
        run(REQUEST, tmp_path)


def test_too_small_a_budget_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("twostage.compare.run.take_times", lambda *given: COSTS)
    with pytest.raises(ValueError, match="--budget 20s is too small here: the smallest comparison takes"):
        run(replace(REQUEST, budget=20.0), tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cores", "devices", "num_workers"), [(1, 0, 0), (2, 0, 2), (16, 0, 3), (16, 1, 0), (16, 2, 2)]
)
def test_workers_are_one_per_core_or_device_and_arm(cores, devices, num_workers, monkeypatch):
    monkeypatch.setattr("twostage.compare.timing.num_cores", lambda: cores)
    monkeypatch.setattr("torch.cuda.device_count", lambda: devices)
    assert choose_workers(3) == num_workers


def test_times_are_taken_of_every_kind_of_part_and_of_sizes_that_may_fit(monkeypatch):
    monkeypatch.setattr("twostage.compare.timing.run_node", synthetic_nodes.run_node)
    monkeypatch.setattr(synthetic_nodes, "SECONDS_PER_STEP", 0.01)
    field = read_field(parse_contestants(["shapes-f4c8", "eq:shapes-f4c8"]), 32)
    work = replace(WORK, num_train=300, tuning_steps=20)
    images = find_images("shapes:300", None, 32)
    costs = take_times(field, images, work, 1.0)
    assert list(costs.training_step) == ["small"] == list(costs.sampled_image)
    for name in ("ready", "diagnosis", "tuning_step", "encoded_image", "reference_image", "look"):
        assert getattr(costs, name) > 0, name
    assert costs.training_step["small"] >= 0.01
    assert smallest_budget(work, costs) > 2 * 3 * 200 * 0.01  # two arms of three seeds and 200 steps
