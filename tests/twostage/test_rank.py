"""Reports in one table: who is compared with whom, who stands above whom, and what is written."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import json
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import yaml

from tests.twostage.synthetic_sweep import METRIC, synthetic_results, with_metric
from twostage.analysis.summary import summarize
from twostage.rank.boards import Report, boards, read_reports
from twostage.rank.files import rank_text, ranks_table, write_ranks
from twostage.report.files import report_json

SWEEP = {
    "evaluation": {"num_images": 500, "num_resamples": 50},
    "autoencoders": {"control": {"label": "Ordinary", "config": "a"}, "equivariant": {"config": "b"}},
    "generators": {"sit": {"label": "SiT", "config": "tiny-sit"}},
}


def report(name, factors, sweep=SWEEP, **changes):
    results = replace(synthetic_results(len(factors), factors=factors), name=name, title=name, sweep=sweep, **changes)
    return Report(name, f"{name}/report.json", results)


def entries(board):
    return [(each.report, each.arm_label.split()[0], rank_text(each, board)) for each in board.entries]


FAST, MIDDLE, SLOW = (3.0, 2.9, 3.1), (2.0, 1.9, 2.1), (0.5, 0.52, 0.48)
WIDE = (1.5, 3.1, 2.2)


def test_overlapping_intervals_of_two_reports_share_a_rank_and_the_control_stands_once():
    (board,) = boards([report("slow", SLOW), report("middle", MIDDLE), report("fast", FAST), report("wide", WIDE)])
    ranks = {name: rank for name, arm, rank in entries(board) if arm == "Equivariant"}
    assert ranks["slow"] == "5"
    assert ranks["fast"] == "=1"
    assert ranks["wide"] in ("=1", "=2")
    assert sum(arm == "Ordinary" for _, arm, _ in entries(board)) == 1
    verdicts = {each.report: each.verdict.word for each in board.entries if each.verdict}
    assert verdicts == {"slow": "slower", "middle": "faster", "fast": "faster", "wide": verdicts["wide"]}


def test_what_was_measured_otherwise_stands_on_another_board():
    other = json.loads(json.dumps(SWEEP))
    other["evaluation"]["num_images"] = 5000
    words = json.loads(json.dumps(SWEEP))
    words["autoencoders"]["control"]["label"] = "Another word for it"
    words["evaluation"] |= {"num_resamples": 7, "labels": "balanced"}  # which reports had before they said so
    images = SWEEP | {"generator_images": {"data.init_args.train.init_args.num_images": 50}}
    reports = [report("a", MIDDLE), report("b", FAST, other), report("c", FAST, words), report("d", FAST, {})]
    found = boards([*reports, report("e", FAST, images)])
    assert [{each.report for each in board.entries} for board in found] == [{"a", "c"}, {"b"}, {"d"}, {"e"}]
    (board,) = boards(reports, together=True)
    assert len(board.entries) == 4 + 1
    assert [each.speed_up.rank for each in board.entries if each.report == "a" and each.verdict] == [4]


def test_other_recipes_under_the_same_paths_stand_on_another_board():
    """A report of before, which knows none, stays with packaged configs where they are one kind."""
    ours = {"start": "0", "autoencoders.control": "1", "autoencoders.equivariant": "2", "generators.sit": "3"}
    same, other = ours | {"autoencoders.equivariant": "7"}, ours | {"generators.sit": "9"}
    known = [report(name, MIDDLE, recipes=each) for name, each in (("a", ours), ("b", same), ("c", other))]
    assert boards_of([*known, report("before", FAST)]) == [{"a", "b"}, {"c"}, {"before"}]
    assert boards_of([*known[:2], report("before", FAST)]) == [{"a", "b", "before"}]
    files = json.loads(json.dumps(SWEEP))
    files["generators"]["sit"]["config"] = "runs/mine/generator.yaml"
    mine = [report(name, MIDDLE, files, recipes=ours) for name in "ab"]
    assert boards_of([*mine, *(report(name, FAST, files) for name in "cd")]) == [{"a", "b"}, {"c"}, {"d"}]


def boards_of(reports):
    return [{each.report for each in board.entries} for board in boards(reports)]


@pytest.mark.parametrize(("factor", "shown"), [(1 / 30, "≥ 16.00×"), (30, "≤ 0.06×")])
def test_a_bound_is_shown_as_one_and_without_an_interval(factor, shown, tmp_path):
    """One arm is at the other's last level from its first point on."""

    def far(curve, point):
        return point.metrics[METRIC] * (factor * (1 + curve.seed / 50) if curve.arm == "equivariant" else 1)

    ahead = report("a", (1, 1.01, 1.02))
    (board,) = boards([replace(ahead, results=with_metric(ahead.results, far))])
    assert shown in ranks_table([board])
    page = write_ranks(tmp_path, [board]).read_text()
    assert f">{shown}</data>" in page
    assert "0.00 to" not in page + ranks_table([board])


def test_one_seed_has_no_rank():
    (board,) = boards([report("one", (2.0,)), report("middle", MIDDLE)])
    assert {each.speed_up.rank for each in board.entries if each.report == "one" and each.verdict} == {None}
    assert entries(board)[-1][0] == "one", "what has no rank stands last"


def test_page_json_and_table_hold_the_same_numbers(tmp_path):
    found = boards([report("slow", SLOW), report("<fast>", FAST)])
    page = write_ranks(tmp_path, found).read_text()
    saved = json.loads((tmp_path / "ranks.json").read_text())
    assert [each["speed_up"]["rank"] for each in saved[0]["entries"]] == [1, 2, 3]
    assert "&lt;fast&gt;" in page
    assert "<fast>" not in page
    assert "default-src 'none'" in page.replace("&#39;", "'")
    table = ranks_table(found)
    for text in ("3.00", "0.50", "faster", "slower", "control"):
        assert text in table
        assert text in page


def written(folder, name, factors):
    results = replace(synthetic_results(len(factors), factors=factors), name=name, sweep=SWEEP)
    path = folder / name / "report" / "report.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(report_json(results, summarize(results)))
    return path


def test_the_command_ranks_files_folders_and_published_studies(tmp_path, monkeypatch, capsys):
    if not hasattr(pytest.importorskip("huggingface_hub"), "EvalResultEntry"):
        pytest.skip("this huggingface-hub knows no .eval_results")
    files = written(tmp_path, "fast", FAST), written(tmp_path, "slow", SLOW).parents[1]
    words = ["demo", *map(str, files), "--output", str(tmp_path / "ranks")]
    words += ["--every-eval-ever", "A Laboratory", "--hub-results", "someone/latents:speed"]
    monkeypatch.setattr(sys, "argv", ["rank.py", *words])
    import_module("twostage.cli.rank").main()
    lines = capsys.readouterr().out.splitlines()
    page = tmp_path / "ranks" / "ranks.html"
    assert lines[-2:] == [f"wrote {page}", f"next: python -m webbrowser {page}"]
    assert "12 files for others" in lines[-3]
    record = json.loads((tmp_path / "ranks/every_eval_ever/demo/equivariant-sit.json").read_text())
    assert record["source_metadata"]["source_organization_name"] == "A Laboratory"
    (entry,) = yaml.safe_load((tmp_path / "ranks/eval_results/fast/equivariant-sit.yaml").read_text())
    assert entry["dataset"] == {"id": "someone/latents", "task_id": "speed"}
    assert len(json.loads((tmp_path / "ranks/ranks.json").read_text())) == 2


def test_mistakes_are_told(tmp_path):
    path = written(tmp_path, "fast", FAST)
    with pytest.raises(ValueError, match="is given twice"):
        read_reports([path, path.parent])
    with pytest.raises(ValueError, match="no report at"):
        read_reports([tmp_path / "nowhere" / "report.json"])
    path.write_text("{")
    with pytest.raises(ValueError, match=r"report\.json is damaged"):
        read_reports([path])
