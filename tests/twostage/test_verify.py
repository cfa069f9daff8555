"""`verify`: a study is read from its report, its sweep run again with fresh seeds, and nothing else of it changed."""

import gzip
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.twostage import synthetic_nodes
from twostage import load_sweep, plan, run_sweep
from twostage.cli.verify import main
from twostage.report.recipes import recipes
from twostage.verify import find_study, read_study, verify
from twostage.verify.packaged import packaged_studies
from twostage.verify.run import fresh_seeds, notes, prepare

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The report.json of a sweep of three seeds whose parts are counted instead of trained."""
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)
        sweep = load_sweep("demo", [f"root={root}", "executor.num_workers=0", "seeds=[0,1,2]"])
        report, _ = run_sweep(sweep, "python sweep.py --config demo", QUIET)
    return report.parent / "report.json"


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr("twostage.sweep.run_node", synthetic_nodes.run_node)


def test_a_fresh_seed_of_the_same_sweep_is_shown_beside_the_study(study, tmp_path, counting):
    results = read_study(study)
    overrides = [f"root={tmp_path}", "executor.num_workers=0"]
    report, found = verify(results, "demo", fresh_seeds(results), overrides, "python verify.py demo", QUIET)
    assert found.seeds == [3]
    assert found.published.seeds == [0, 1, 2]
    assert found.published.curves == results.curves
    assert found.sweep == results.sweep | {"name": "verify-demo", "seeds": [3]}
    saved = json.loads((report.parent / "report.json").read_text())
    (agreement,) = saved["summary"]["agreements"]
    assert list(agreement["published"]) == ["0", "1", "2"]
    assert list(agreement["fresh"]) == ["3"]
    assert "published study" in report.read_text()
    assert (tmp_path / "verify-demo" / "verify.yaml").is_file()


def test_a_report_says_which_sweep_it_is_of_and_not_where_it_ran(study):
    keys = read_study(study).sweep
    assert keys["evaluation"]["at_steps"] == [200, 283, 400, 566, 800]
    assert keys["autoencoders"]["equivariant"]["autoencoder"] == "scenes-f4c8-eq"
    assert not {"root", "executor"} & set(keys)


def test_a_seed_of_the_study_is_no_fresh_one(study, tmp_path):
    with pytest.raises(ValueError, match="1 is one of the study's own, 0, 1, 2: give a fresh one"):
        prepare(read_study(study), [7, 1], [f"root={tmp_path}"])
    assert not any(tmp_path.iterdir())


def test_it_runs_on_as_many_processes_as_there_are_cores_unless_told(study, tmp_path, monkeypatch):
    monkeypatch.setattr("twostage.compare.timing.num_cores", lambda: 3)
    results, root = read_study(study), f"root={tmp_path}"
    assert prepare(results, [7], [root]).executor.num_workers == 2, "one pair"
    assert prepare(results, [7, 8], [root]).executor.num_workers == 3
    assert prepare(results, [7], [root, "executor.num_workers=5"]).executor.num_workers == 5


def test_what_would_change_the_numbers_cannot_be_set(study, tmp_path):
    with pytest.raises(ValueError, match=r"evaluation\.num_images: a study is verified as it was run; only root and"):
        prepare(read_study(study), [7], [f"root={tmp_path}", "evaluation.num_images=5"])


def test_other_versions_and_another_autoencoder_are_told(study):
    results = read_study(study)
    moved = [replace(each, metrics=each.metrics | {"psnr": each.metrics["psnr"] + 1}) for each in results.autoencoders]
    here = replace(results, versions=results.versions | {"torch": "9.0"}, autoencoders=moved, hardware="an abacus")
    versions, hardware, *others = notes(results, here)
    assert versions == f"The study was made with torch {results.versions['torch']}, here 9.0."
    assert hardware == f"The study was made on {results.hardware}; this on an abacus."
    assert [other.split(" (")[0] for other in others] == [
        f"{arm} measures otherwise than in the study" for arm in ("control", "equivariant")
    ]
    assert notes(results, results) == []


def test_a_config_that_was_edited_since_is_told(study, tmp_path):
    """Of the generator alone; seeds and the folder that it lies in are no part of it."""
    configs = [tmp_path / name / "generator.yaml" for name in ("one", "two", "three")]
    for path, rate in zip(configs, (1e-4, 1e-4, 1e-6), strict=True):
        path.parent.mkdir()
        path.write_text(f"base: tiny-sit\nmodel: {{init_args: {{learning_rate: {rate}}}}}\n")
    sweeps = [load_sweep("tiny-shapes", [f"generators.sit.config={path}"]) for path in configs]
    before, moved, edited = (recipes(plan(sweep, [seed])) for seed, sweep in enumerate(sweeps))
    assert before == moved
    assert sorted(before) == ["autoencoders.control", "autoencoders.equivariant", "generators.sit", "start"]
    results = read_study(study)
    then, now, unknown = (replace(results, recipes=each) for each in (before, edited, {}))
    (told,) = notes(then, now)
    assert told == "Not what the study was made with: the recipes of generators.sit (configs, or what they name)."
    assert notes(unknown, now) == notes(then, unknown) == []


def test_a_study_is_found_by_name_file_and_folder(study, tmp_path):
    assert find_study(study) == study
    assert find_study(study.parent) == study
    assert find_study(study.parents[1]) == study
    packed = tmp_path / "mine.json.gz"
    packed.write_bytes(gzip.compress(study.read_bytes()))
    assert read_study(find_study(packed)) == read_study(study)
    for name, path in packaged_studies().items():
        assert find_study(name) == path
        assert read_study(path).name == name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged"),
        (b"[1]", "is no report of a sweep"),
        (b"{}", "report .*missing"),
    ],
)
def test_a_damaged_report_is_refused_with_its_name(content, message, tmp_path):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_study(tmp_path / "report.json")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(ValueError, match=r"cut\.json\.gz is damaged"):
        read_study(tmp_path / "cut.json.gz")


def test_a_report_of_before_is_refused(study, tmp_path):
    values = json.loads(study.read_text())
    del values["sweep"]
    (tmp_path / "report.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="does not hold its sweep file: write it again"):
        read_study(tmp_path / "report.json")


def test_an_unknown_study_is_refused_with_the_ones_there_are(tmp_path):
    with pytest.raises(ValueError, match="no published study is called dmeo: "):
        find_study("dmeo")
    with pytest.raises(ValueError, match=r"no report at .*nowhere/report\.json"):
        find_study(tmp_path / "nowhere" / "report.json")


def test_the_command_ends_with_its_report_and_another_seed(study, tmp_path, counting, monkeypatch, capsys):
    words = ["verify.py", str(study), "--seeds", "8", "--set", f"root={tmp_path}", "executor.num_workers=0"]
    monkeypatch.setattr("sys.argv", words)
    main()
    *_, wrote, following = capsys.readouterr().out.splitlines()
    assert wrote == f"wrote {tmp_path / 'verify-demo/report/report.html'}"
    assert following.startswith(f"next: python verify.py {study} --seeds 8 9 --set root={tmp_path}")
