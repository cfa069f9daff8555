"""The report: what it says, that its numbers are the results' numbers, and that the page stands alone."""

# ruff: noqa: RUF001 (the true signs that readers are shown)

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.twostage.synthetic_sweep import add_pictures, power_law, synthetic_results
from twostage.report import figures
from twostage.report.report import (
    comparison_table,
    format_duration,
    format_number,
    render_page,
    summarize,
    write_report,
)


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


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = add_pictures(folder, synthetic_results(num_seeds=2))
    before = copy.deepcopy(results)
    path = write_report(folder, results)
    assert results == before
    return folder, results, path.read_text()


def page_without_charts(folder, results) -> Page:
    """Charts take seconds to draw; most of what the page says can be read without them."""
    return Page(render_page(folder, results, summarize(results), figures=[]))


@pytest.fixture
def coarse(monkeypatch):
    """Charts of few pixels, which are drawn faster."""
    monkeypatch.setattr(figures, "RESOLUTION", 40)


def changed(factors=(2.0, 1.3, 1.6, 2.4), **arguments):
    return synthetic_results(num_seeds=len(factors), factors=factors, **arguments)


def test_report_json_holds_the_results_and_their_summary(report):
    folder, results, _ = report
    saved = json.loads((folder / "report.json").read_text())
    assert saved.pop("summary") == summarize(results)
    assert saved == results


def test_the_page_loads_nothing(report):
    page = Page(report[2])
    assert not page.named("script")
    assert not page.named("link")
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "srcset")]
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert {a["href"] for a in page.named("a") if not a["href"].startswith("#")} == {"report.json"}
    assert not re.search(r"url\(|@import", report[2])


def test_every_picture_has_a_text_and_every_header_a_scope(report):
    page = Page(report[2])
    assert len(page.named("img")) == 3 + 4 + 1 + 20  # charts, PCA, reference, samples
    assert all(image["alt"] for image in page.named("img"))
    assert all(header["scope"] in ("row", "col") for header in page.named("th"))
    assert page.named("html")[0]["lang"] == "en"
    assert page.named("a")[0] == {"class": "skip", "href": "#results"}
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {a["href"][1:] for a in page.named("a") if a["href"].startswith("#")} <= ids


def test_the_numbers_of_the_page_are_those_of_the_json(report):
    folder, results, html = report
    numbers = dict.fromkeys(_numbers(json.loads((folder / "report.json").read_text())))
    shown = Page(html).numbers
    assert len(shown) > 100
    for exact, text in shown:
        assert float(exact) in numbers
        rounded = float(re.sub(r"[,%×≥≤<]|\(not reached\)", "", text.replace("−", "-")))
        assert rounded / (100 if "%" in text else 1) == pytest.approx(float(exact), rel=6e-3, abs=5.1e-4)
    points = [p["fd_efficientnet_lite0"] for curve in results["curves"] for p in curve["points"]]
    assert {float(exact) for exact, _ in shown} >= set(points)


def _numbers(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def test_speedup_and_change_are_the_known_ones():
    comparison = summarize(changed(factors=(2.0, 4.0)))["comparisons"][0]
    assert [seed["ratio"] for seed in comparison["per_seed"]] == pytest.approx([2.0, 4.0])
    assert [seed["treated_steps"] for seed in comparison["per_seed"]] == pytest.approx([800, 400])
    change = comparison["equal_steps"][-1]
    assert (change["num_steps"], change["kind"]) == (1600, "range")
    assert [value["value"] for value in change["values"]] == pytest.approx([2**-0.25 - 1, 4**-0.25 - 1])


def test_means_over_seeds_and_over_transforms():
    results = changed(factors=(2.0, 1.3))
    summary = summarize(results)
    psnr = [a["metrics"]["psnr"] for a in results["autoencoders"] if a["arm"] == "control"]
    row = next(row for row in summary["autoencoders"] if row["arm"] == "control")
    assert row["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(psnr))
    errors = [a["metrics"]["equivariance_latent"] for a in results["autoencoders"] if a["arm"] == "control"]
    last = summary["equivariance"]["latent"][-1]
    assert last["transform"] == "mean of transforms"
    assert last["arms"]["control"]["mean"] == pytest.approx(np.mean([list(e.values()) for e in errors]))


@pytest.mark.parametrize(
    ("factors", "expected", "forbidden"),
    [
        (
            (2.0, 1.3),
            ["In 2 of 2 seeds", "1.28× to 2.00×", "not a confidence interval", "lower (better)"],
            "established",
        ),
        ((2.0, 0.9), ["in 1 of 2 seeds", "includes 1", "no speed-up is established"], "bootstrap"),
        ((0.5, 0.7), ["In 2 of 2 seeds", "slower than the control", "higher (worse)"], "fewer steps"),
        ((2.0,), ["one seed, which says nothing about the spread"], "range"),
        ((2.0, 1.3, 1.6, 2.4), ["95% bootstrap interval over 4 seeds", "In 4 of 4 seeds"], "not a confidence"),
        ((100.0, 2.0), ["2.00× to ≥ 16.00×"], "established"),
    ],
)
def test_the_headline_claims_no_more_than_the_seeds_show(factors, expected, forbidden):
    headline = summarize(changed(factors=factors))["headline"]
    for words in expected:
        assert words in headline
    assert forbidden not in headline


def test_the_headline_of_one_evaluation_computes_no_speedup():
    assert "no speed-up can be computed" in summarize(changed(factors=(2.0,), steps=(100,)))["headline"]


def test_not_reached_is_shown_with_its_bound(tmp_path):
    page = page_without_charts(tmp_path, changed(factors=(0.5, 2.0)))
    assert "< 1.00× (not reached)" in page.text
    assert "no speed-up is established" in page.text


def test_charts_come_in_both_themes_and_widths(report):
    folder, _, html = report
    names = {path.name for path in (folder / "figures").iterdir()}
    variants = ("light", "dark", "narrow-light", "narrow-dark")
    charts = ("learning-curves-sit", "speedups", "equivariance")
    assert names == {f"{chart}-{variant}.png" for chart in charts for variant in variants}
    assert len(Page(html).named("source")) == 3 * len(charts)


def test_one_seed_without_kid_pictures_or_cost(tmp_path, coarse):
    results = changed(factors=(2.0,)) | {"cost": [], "differences": [], "notes": []}
    for curve in results["curves"]:
        for point in curve["points"]:
            del point["kid"]
    page = Page(write_report(tmp_path, results).read_text())
    assert "KID" not in page.text
    assert "one seed" in page.text
    assert "Pictures" not in page.text


def test_a_diverged_point_is_left_out_and_said_so(tmp_path, coarse):
    results = changed(factors=(2.0, 1.3))
    results["curves"][2]["points"][-1]["fd_efficientnet_lite0"] = float("nan")
    page = Page(write_report(tmp_path, results).read_text())
    assert "no finite Fréchet distance (EfficientNet-Lite0) at step 1,600" in page.text
    assert (
        json.loads((tmp_path / "report.json").read_text())["curves"][2]["points"][-1]["fd_efficientnet_lite0"] is None
    )


def test_seeds_are_paired_and_unpaired_ones_ignored():
    results = changed(factors=(2.0, 1.3))
    results["curves"] = [c for c in results["curves"] if (c["arm"], c["seed"]) != ("equivariant", 1)]
    assert [seed["seed"] for seed in summarize(results)["comparisons"][0]["per_seed"]] == [0]


def test_two_generators_and_two_arms_are_each_compared(tmp_path, coarse):
    results = changed(factors=(2.0, 1.3))
    results["generators"].append({"name": "dit", "label": "DiT-tiny"})
    results["arms"].append({"name": "scale", "label": "Scale only", "description": "No turns."})
    results["curves"] += [curve | {"generator": "dit"} for curve in results["curves"]]
    results["curves"] += [curve | {"arm": "scale"} for curve in results["curves"] if curve["arm"] == "equivariant"]
    page = Page(write_report(tmp_path, results).read_text())
    for arm in ("Equivariant fine-tuning", "Scale only"):
        for generator in ("SiT-tiny", "DiT-tiny"):
            assert f"{arm}, {generator}" in page.text


def test_results_that_cannot_be_compared_are_refused(tmp_path):
    results = changed(factors=(2.0,))
    with pytest.raises(ValueError, match="control 'baseline' is not among the arms"):
        summarize(results | {"control": "baseline"})
    with pytest.raises(ValueError, match="nothing to compare"):
        summarize(results | {"curves": results["curves"][:1]})
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        page_without_charts(tmp_path, results | {"pictures": {"pca": [{"label": "a", "file": "absent.png"}]}})


def test_labels_are_escaped(tmp_path):
    results = changed(factors=(2.0,))
    results["arms"][1]["label"] = "<script>alert(1)</script> [bold]"
    assert not page_without_charts(tmp_path, results).named("script")
    assert "[bold]" in comparison_table(results)


def test_the_terminal_table_has_metrics_ranges_and_the_headline():
    results = changed(factors=(2.0, 1.3))
    table = comparison_table(results)
    low, high = (format_number(power_law([1600], scale=9000 * s)[0]) for s in (1.0, 1.04))
    assert f"[{low}, {high}]" in table
    assert "PSNR (dB) ↑" in table
    assert summarize(results)["headline"] in " ".join(table.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1600, "1,600"),
        (1599.4, "1,599"),
        (33.041, "33.04"),
        (0.0072, "0.0072"),
        (5.2e-5, "5.2e-05"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (3.21, "3.2 s"), (245, "4 min 05 s"), (3599.7, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_speedups_are_counted_in_steps_images_and_time_and_with_the_fine_tuning():
    rows = summarize(changed(factors=(2.0, 4.0)))["comparisons"][0]["axes"]
    ratios = {row["axis"]: [seed["ratio"] for seed in row["per_seed"]] for row in rows}
    assert list(ratios) == [
        "training steps",
        "images seen",
        "wall time of the generator's training",
        "device time of the generator's training",
        "device time, the arm's fine-tuning included",
    ]
    *plain, including = ratios.values()
    assert all(values == pytest.approx([2, 4]) for values in plain)
    # 160 s of the control; 80 s and 40 s of the arm, and 10 s of fine-tuning.
    assert including == pytest.approx([160 / 90, 160 / 50])


def test_without_the_cost_of_fine_tuning_there_is_no_ratio_that_includes_it():
    results = changed(factors=(2.0,))
    for autoencoder in results["autoencoders"]:
        autoencoder["device_seconds"] = None
    rows = summarize(results)["comparisons"][0]["axes"]
    assert "device time, the arm's fine-tuning included" not in [row["axis"] for row in rows]


def test_one_seed_has_an_interval_over_its_samples():
    results = changed(factors=(2.0,))
    assert summarize(results)["comparisons"][0]["over_samples"] is None
    draw = np.random.default_rng(0)
    for curve in results["curves"]:
        for point in curve["points"]:
            point["resampled"] = list(point["fd_efficientnet_lite0"] * (1 + 0.01 * draw.normal(size=40)))
    summary = summarize(results)
    interval = summary["comparisons"][0]["over_samples"]
    assert interval["low"] < 2 < interval["high"]
    assert interval["num_resamples"] == 40
    assert f"interval over its samples: {interval['text']}" in summary["headline"]
    several = changed(factors=(2.0, 1.3))
    assert summarize(several)["comparisons"][0]["over_samples"] is None


def test_the_markdown_report_holds_headline_tables_and_commands(report):
    folder, results, _ = report
    text = (folder / "report.md").read_text()
    assert summarize(results)["headline"] in text
    assert results["commands"][-1] in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for rows in tables:
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
        assert len(set(cells)) == 1, rows
        assert set(rows[1]) <= set("|-: ")
    assert "device time, the arm's fine-tuning included" in text
    assert "`model.transforms`" in text


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page with")
CHECK = """<script>
addEventListener("load", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const images = [...document.images];
  const focusable = [...document.querySelectorAll("a[href], summary, [tabindex='0']")];
  console.log("found " + JSON.stringify({
    images: images.length,
    drawn: images.filter(image => image.complete && image.naturalWidth > 0).length,
    focusable: focusable.length,
    focused: focusable.filter(part => { part.focus(); return document.activeElement === part; }).length,
    scrolls: [...document.querySelectorAll(".scroll")].every(part => part.tabIndex === 0),
  }));
});
</script>"""


def chromium(tmp_path, page, *options):
    """Standard error of a headless Chromium that has drawn a page."""
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars"]
    quiet += [f"--user-data-dir={tmp_path / 'profile'}", "--force-device-scale-factor=1"]
    command = [CHROMIUM, *quiet, *options, f"file://{page}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stderr


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_a_browser_draws_every_picture_reaches_everything_by_keyboard_and_complains_of_nothing(report, tmp_path):
    page = tmp_path / "checked.html"
    page.write_text(report[2].replace("</body>", f"{CHECK}</body>"))
    options = ["--enable-logging=stderr", "--v=0", f"--screenshot={tmp_path / 'a.png'}"]
    lines = [line for line in chromium(tmp_path, page, *options).splitlines() if "CONSOLE" in line]
    assert len(lines) == 1, lines
    found = json.loads(re.search(r"found (\{.*?\})", lines[0])[1].replace('\\"', '"'))
    assert found["drawn"] == found["images"] == 28
    assert found["focused"] == found["focusable"] > 10
    assert found["scrolls"]


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_the_page_prints_on_several_sheets(report, tmp_path):
    printed = tmp_path / "report.pdf"
    chromium(tmp_path, report[0] / "report.html", f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3
    assert content.count(b"/Subtype /Image") >= 28, "pictures of closed sections are printed, too"


@pytest.mark.slow
@NEEDS_CHROMIUM
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_drawn_within_the_window(report, tmp_path, width):
    picture = tmp_path / "page.png"
    chromium(tmp_path, report[0] / "report.html", f"--window-size={width},2400", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("L"), dtype=int)
    assert pixels.shape == (2400, width)
    # A page wider than the window would leave no clean margin at its right edge.
    assert np.ptp(pixels[:, -4:]) == 0
    assert np.ptp(pixels) > 200
