"""The report: what it says, that its numbers are the results' numbers, and that the page stands alone."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.twostage.synthetic_sweep import METRIC, changed, only, power_law, with_metric
from twostage.analysis.records import Arm, GeneratorEntry, Panel
from twostage.analysis.summary import summarize
from twostage.report.figures import draw_figures, standalone
from twostage.report.files import read_report
from twostage.report.page import render_page
from twostage.report.report import terminal_table, write_report
from twostage.report.text import format_number


class Page(HTMLParser):
    """Tags with attributes, the (value, text) of every <data>, and all visible text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.numbers: list[tuple[str, str]] = []
        self.text = ""
        self._value: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self._value = dict(attrs)["value"]

    def handle_data(self, data):
        self.text += data
        if self._value is not None:
            self.numbers.append((self._value, data))
            self._value = None

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder, results) -> Page:
    """What the page of some results says, without files."""
    summary = summarize(results)
    return Page(render_page(folder, results, summary, draw_figures(results, summary)))


def test_report_json_holds_the_results_and_their_summary(report):
    folder, results, _ = report
    saved = json.loads((folder / "report.json").read_text())
    summary = saved.pop("summary")
    assert read_report(folder / "report.json") == results
    assert summary["headline"] == summarize(results).headline
    verdict = only(results).verdict
    assert summary["comparisons"][0]["verdict"] == json.loads(json.dumps(asdict(verdict)))


def test_the_page_loads_nothing_and_runs_its_own_script_alone(report):
    page = Page(report[2])
    (policy,) = [each["content"] for each in page.named("meta") if "http-equiv" in each]
    script = re.search(r"<script>(.*?)</script>", report[2], re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [each.get("type") for each in page.named("script")] == ["application/json", None]
    assert len(script.splitlines()) < 300
    assert not page.named("link")
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "srcset")]
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert {a["href"] for a in page.named("a") if not a["href"].startswith("#")} == {"report.json"}
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket", report[2])


def test_every_image_and_chart_has_a_text_and_every_header_a_scope(report):
    page = Page(report[2])
    assert len(page.named("img")) == 4 + 1 + 20  # panels, reference, samples
    assert all(image["alt"] for image in page.named("img"))
    plots = [each for each in page.named("svg") if each.get("class") == "plot"]
    assert len(plots) == 4 + 4 + 2  # curves and speed-ups in four units, errors of latents and of images
    assert all(each["role"] == "img" and each["aria-label"] for each in plots)
    assert all(header["scope"] in ("row", "col", "rowgroup") for header in page.named("th"))
    assert page.named("html")[0]["lang"] == "en"
    assert page.named("a")[0] == {"class": "skip", "href": "#results"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.named("a") if a["href"].startswith("#")} <= set(ids)


def test_the_numbers_of_the_page_are_those_of_the_json(report):
    folder, results, html = report
    numbers = dict.fromkeys(_numbers(json.loads((folder / "report.json").read_text())))
    shown = Page(html).numbers
    assert len(shown) > 100
    for exact, text in shown:
        assert float(exact) in numbers
        rounded = float(re.sub(r"[,%×≥≤]", "", text.replace("−", "-")))
        value = np.expm1(float(exact)) if "%" in text else float(exact)
        assert rounded / (100 if "%" in text else 1) == pytest.approx(value, rel=6e-3, abs=5.1e-4)
    points = [point.metrics[METRIC] for curve in results.curves for point in curve.points]
    assert {float(exact) for exact, _ in shown} >= set(points)


def _numbers(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def test_a_slower_arm_s_ratio_is_below_one_and_never_not_reached(tmp_path):
    page = page_of(tmp_path, changed(factors=(0.5, 2.0)))
    assert "0.50×" in page.text
    assert "not reached" not in page.text


def test_every_chart_is_a_file_of_its_own_too(report):
    folder, results, _ = report
    units = ("num_steps", "images_seen", "device_seconds", "charged")
    names = {f"{name}-{unit}.svg" for name in ("learning-curves-sit", "speedups") for unit in units}
    names |= {"equivariance-latent.svg", "equivariance-decoded.svg"}
    assert {path.name for path in (folder / "figures").iterdir()} == names
    for path in (folder / "figures").iterdir():
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        words = " ".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))
        assert "Equivariant fine-tuning" in words
    summary = summarize(results)
    plot = draw_figures(results, summary).speed_ups[0]
    assert standalone(results, plot).encode() == (folder / "figures/speedups-num_steps.svg").read_bytes()


def test_points_of_curves_stand_where_their_values_are(report):
    """Along a log axis equal factors are equally far apart, and hovering tells the mean."""
    page = Page(report[2])
    points = [each for each in page.named("svg") if "point" in each.get("class", "")]
    assert len(points) == 4 * 2 * 5
    steps = [each for each in points if each["data-step"] == "400"]
    results = report[1]
    for arm in ("control", "equivariant"):
        label = next(each.label for each in results.arms if each.name == arm)
        values = [c.points[2].metrics[METRIC] for c in results.curves if c.arm == arm]
        told = f"{label}: {format_number(float(np.mean(values)))} ({format_number(min(values))} to"
        assert sum(told in each["data-told"] for each in steps) == 4
    places = [float(each["data-place"]) for each in points[:5]]
    assert np.diff(places) == pytest.approx([np.diff(places)[0]] * 4, abs=0.02)
    heights = [float(each["y"]) for each in points[:5]]
    assert heights == sorted(heights), "falling curves go down"


def test_the_badge_says_the_verdict_with_interval_and_seeds(tmp_path):
    for factors, word in (((2.0, 1.9, 2.1), "Faster 2.00×"), ((0.5, 0.52, 0.48), "Slower 2.00×"),
                          ((2.0, 0.5, 1.1), "Undecided")):  # fmt: skip
        page = page_of(tmp_path, changed(factors=factors))
        start = page.text.index(word)
        assert "95 % interval" in page.text[start : start + 60]
        assert "3 seeds" in page.text[start : start + 80]


def test_five_arms_and_two_generators_have_one_table_and_one_sentence(tmp_path):
    results = changed(factors=(2.0, 1.9, 2.1))
    extra = [Arm(f"arm-{i}", f"Arm {i}") for i in range(3)]
    treated = [curve for curve in results.curves if curve.arm == "equivariant"]
    curves = results.curves + [replace(curve, arm=arm.name) for arm in extra for curve in treated]
    curves += [replace(curve, generator="dit") for curve in curves]
    results = replace(
        results,
        arms=[*results.arms, *extra],
        curves=curves,
        generators=[*results.generators, GeneratorEntry("dit", "D")],
    )
    page = page_of(tmp_path, results)
    assert page.text.count("reaches the same Fréchet distance") == 2, "at the top and above the open table"
    assert len(page.named("tr")) > 10
    assert len([each for each in page.named("details") if each.get("class") == "comparison"]) == 8
    assert len([each for each in page.named("details") if "open" in each and each.get("class") == "comparison"]) == 1
    header = page.text[page.text.index("Skip to the results") : page.text.index("Leaderboard")]
    assert len(header.split()) < 90


def test_one_seed_without_kid_images_or_cost(tmp_path):
    results = changed(factors=(2.0,))
    curves = [
        replace(curve, points=[replace(point, metrics={METRIC: point.metrics[METRIC]}) for point in curve.points])
        for curve in results.curves
    ]
    page = Page(write_report(tmp_path, replace(results, cost=[], differences=[], notes=[], curves=curves)).read_text())
    assert "KID" not in page.text
    assert "one training per arm" in page.text
    assert "Samples from the same noise" not in page.text


def test_a_diverged_point_is_said_so_and_leaves_the_verdict_open(tmp_path):
    def diverge(curve, point):
        gone = (curve.arm, curve.seed, point.num_steps) == ("equivariant", 0, 1600)
        return float("nan") if gone else point.metrics[METRIC]

    results = with_metric(changed(factors=(2.0, 1.9, 2.1)), diverge)
    page = Page(write_report(tmp_path, results).read_text())
    assert "no finite Fréchet distance (EfficientNet-Lite0) at step 1,600" in page.text
    assert "seed 0 has no value at the last step, and a seed may not be dropped" in page.text
    saved = json.loads((tmp_path / "report.json").read_text())
    diverged = next(curve for curve in saved["curves"] if (curve["arm"], curve["seed"]) == ("equivariant", 0))
    assert diverged["points"][-1]["metrics"][METRIC] is None


def test_two_generators_and_two_arms_are_each_compared_and_claimed_together(tmp_path):
    results = changed(factors=(2.0, 1.9, 2.1))
    curves = results.curves + [replace(curve, generator="dit") for curve in results.curves]
    curves += [replace(curve, arm="scale") for curve in curves if curve.arm == "equivariant"]
    results = replace(
        results,
        generators=[*results.generators, GeneratorEntry("dit", "DiT-tiny")],
        arms=[*results.arms, Arm("scale", "Scale only", "No turns.")],
        curves=curves,
    )
    page = Page(write_report(tmp_path, results).read_text())
    for arm in ("Equivariant fine-tuning", "Scale only"):
        for generator in ("SiT-tiny", "DiT-tiny"):
            assert f"{arm}, {generator}" in page.text
    summary = summarize(results)
    assert "Of all 4 comparisons: 4 faster" in summary.headline
    single = summary.comparisons[0].verdict.p
    assert [claim.adjusted_p for claim in summary.joint] == pytest.approx([4 * single] * 4)
    assert [claim.stands for claim in summary.joint] == [4 * single <= 0.05] * 4
    at_looks = summarize(replace(results, max_seeds=10))
    level = at_looks.comparisons[0].verdict.level
    assert level < 0.02
    assert [claim.stands for claim in at_looks.joint] == [4 * single <= level] * 4


def test_a_metric_that_may_be_negative_is_compared_in_differences(tmp_path):
    results = with_metric(changed(factors=(2.0, 1.9, 2.1)), lambda curve, point: point.metrics[METRIC] - 2500)
    comparison = only(results)
    assert not comparison.in_logs
    assert comparison.verdict.word == "faster"
    page = page_of(tmp_path, results)
    assert "straight lines in the value" in page.text
    assert "the value differs by −" in page.text


def test_results_that_cannot_be_compared_are_refused(tmp_path):
    results = changed(factors=(2.0,))
    with pytest.raises(ValueError, match="nothing to compare"):
        summarize(replace(results, curves=results.curves[:1]))
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        page_of(tmp_path, replace(results, panels=[Panel("a", "absent.png")]))


def test_labels_are_escaped(tmp_path):
    results = changed(factors=(2.0,))
    results = replace(results, arms=[results.arms[0], Arm("equivariant", "<script>alert(1)</script> [bold]")])
    scripts = page_of(tmp_path, results).named("script")
    assert scripts == [{}], "the page's own"
    assert "[bold]" in terminal_table(results)


def test_the_terminal_table_has_metrics_ranges_and_the_headline():
    results = changed(factors=(2.0, 1.3))
    table = terminal_table(results)
    low, high = (format_number(power_law([1600], scale=9000 * s)[0]) for s in (1.0, 1.04))
    assert f"[{low}, {high}]" in table
    assert "PSNR (dB) ↑" in table
    assert summarize(results).headline in " ".join(table.split())


def test_the_markdown_report_holds_headline_tables_and_commands(report):
    folder, results, _ = report
    text = (folder / "report.md").read_text()
    assert summarize(results).headline in text
    assert results.commands[-1] in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for rows in tables:
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
        assert len(set(cells)) == 1, rows
        assert set(rows[1]) <= set("|-: ")
    assert "device time, the arm's fine-tuning included" in text
    assert "`model.transforms`" in text
