"""The report's page in a real browser: its switches, its slider, its draws, its keyboard, its print, any width."""

import base64
import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.twostage.synthetic_sweep import METRIC, add_images, synthetic_results
from tests.twostage.view.browser import CHROMIUM, open_tab
from twostage.analysis.summary import summarize
from twostage.analysis.verdict import verdict_over_seeds
from twostage.report.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page with: install chromium"),
    pytest.mark.skipif(sys.platform == "win32", reason="Chromium is told what to do over a pipe of POSIX"),
]
READY = "document.readyState == 'complete' && document.documentElement.classList.contains('scripted')"
SHOWN = "[...document.querySelectorAll('{}')].filter(each => each.checkVisibility() && each.getClientRects().length)"


KEYS = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
COMPLAINTS = """window.complaints = [];
for (const kind of ["error", "securitypolicyviolation"]) addEventListener(kind, () => complaints.push(kind), true);"""


def shown(selector: str) -> str:
    """The number of elements that are drawn; of parts of charts `checkVisibility` alone does not tell."""
    return SHOWN.format(selector) + ".length"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Page and results: four seeds, images of two of them at two steps."""
    folder = tmp_path_factory.mktemp("report")
    pictured = add_images(folder, synthetic_results(2, steps=(100, 1600)))
    images = {"panels": pictured.panels, "samples": pictured.samples, "reference_grid": pictured.reference_grid}
    results = replace(synthetic_results(4), **images)
    return write_report(folder, results), results


@pytest.fixture(scope="module")
def opened(report, tmp_path_factory):
    """A tab that has drawn the page once, which takes seconds; what a test switches, it switches back."""
    with open_tab(tmp_path_factory.mktemp("profile"), seconds=60) as tab:
        tab.tell("Page.addScriptToEvaluateOnNewDocument", source=COMPLAINTS)
        still(tab)
        tab.tell("Page.navigate", url=report[0].as_uri())
        tab.wait(f"window.complaints && {READY}")
        yield tab


@pytest.fixture
def page(opened):
    """The page on a desktop."""
    size(opened, 1280)
    still(opened)
    return opened


def still(tab, scheme="light"):
    """Nothing glides to its place."""
    features = {"prefers-reduced-motion": "reduce", "prefers-color-scheme": scheme}
    tab.tell("Emulation.setEmulatedMedia", features=[{"name": name, "value": each} for name, each in features.items()])


def size(tab, width, height=900):
    tab.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


def press(tab, key):
    about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
    text = {"text": "\r"} if key == "Enter" else {}
    tab.tell("Input.dispatchKeyEvent", type="keyDown", **about, **text)
    tab.tell("Input.dispatchKeyEvent", type="keyUp", **about)


def test_nothing_fails_and_nothing_is_asked_of_the_network(page):
    assert page.value("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.value("complaints") == []
    # Of a page whose policy lets nothing be loaded, a request is refused.
    page.value("fetch('https://example.org').catch(() => {}); document.body.append(new Image())")
    asked = [each for each in page.addresses if not each.startswith(("data:", "file:"))]
    assert asked == []


def test_one_switch_counts_all_charts_in_another_unit(page):
    shown = "[...document.querySelectorAll('.chart[data-axis]')].filter(each => each.checkVisibility())"
    units = f"{shown}.map(each => each.dataset.axis)"
    assert page.value(units) == ["num_steps", "num_steps"]
    for unit in ("images_seen", "device_seconds", "charged", "num_steps"):
        page.click(f"document.querySelector('input[value={unit}]')")
        assert page.value(units) == [unit, unit]


def test_an_arm_is_switched_off_and_on_in_charts_and_images(page):
    marks = shown('.arm[data-arm="equivariant"] .mark, .images [data-arm="equivariant"] img')
    before = page.value(marks)
    assert before > 5
    page.click("document.querySelector('.arms input[value=equivariant]')")
    assert page.value(marks) == 0
    assert page.value(shown('.arm[data-arm="control"] .mark')) > 0
    page.click("document.querySelector('.arms input[value=equivariant]')")
    assert page.value(marks) == before


def test_a_pointer_and_the_arrow_keys_tell_the_values_of_all_arms(page, report):
    results = report[1]
    plot = "document.querySelector('#curves .chart:not(.unchosen) .plot')"
    page.value(f"{plot}.scrollIntoView({{block: 'center'}})")
    x, y, width = page.value(f"(b => [b.x, b.y + b.height / 2, b.width])({plot}.getBoundingClientRect())")
    page.tell("Input.dispatchMouseEvent", type="mouseMoved", x=x + width * 0.98, y=y)
    told = page.value("document.querySelector('.told').innerText")
    assert "1,600 steps" in told
    for arm in ("control", "equivariant"):
        values = [curve.points[-1].metrics[METRIC] for curve in results.curves if curve.arm == arm]
        assert f"{np.mean(values):,.0f}" in told
    page.tell("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    page.wait("!document.querySelector('.told')")
    page.value(f"{plot}.focus()")
    for key, expected in (("ArrowRight", "100"), ("ArrowRight", "200"), ("End", "1,600"), ("ArrowLeft", "800")):
        press(page, key)
        assert page.value("document.querySelector('.told p').innerText") == f"{expected} steps"
    press(page, "Escape")
    assert not page.value("document.querySelector('.told')")


def test_columns_of_the_leaderboard_sort_both_ways(page, report):
    rows = "[...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[0].innerText.trim())"
    heads = page.value("[...document.querySelectorAll('.sortable thead th')].map(head => head.innerText)")
    place = next(number for number, head in enumerate(heads) if head.startswith("PSNR"))
    psnr = {row.arm_label: row.columns["psnr"].value for row in summarize(report[1]).leaderboard}
    rising = sorted(psnr, key=psnr.__getitem__)
    for expected, sort in ((rising, "ascending"), (rising[::-1], "descending")):
        page.click(f"document.querySelectorAll('.sortable thead th button')[{place}]")
        assert page.value(rows) == expected
        assert page.value("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == sort


def test_a_slider_moves_the_samples_of_all_arms_at_once(page):
    alts = "[...document.querySelectorAll('.along')][0].querySelectorAll('.step:not(.unchosen) img')"
    steps = f"[...{alts}].map(image => image.alt.match(/after (\\d+) steps/)[1])"
    assert page.value(steps) == ["1600", "1600"]
    page.value("document.querySelector('.slider input').focus()")
    press(page, "Home")
    page.wait(f"({steps})[0] == '100'")
    assert page.value(steps) == ["100", "100"]
    assert page.value("document.querySelector('.slider output').innerText") == "100 steps"


def test_an_image_is_enlarged_by_mouse_and_by_keyboard(page):
    page.click("document.querySelector('.panels img')")
    assert page.value("document.querySelector('dialog').open")
    width = page.value("document.querySelector('dialog img').getBoundingClientRect().width")
    assert width > 1200
    press(page, "Escape")
    page.wait("!document.querySelector('dialog').open")
    page.value("document.querySelector('.images img').focus()")
    press(page, "Enter")
    assert page.value("document.querySelector('dialog').open")
    page.click("document.querySelector('dialog button')")
    page.wait("!document.querySelector('dialog').open")


def test_drawn_seeds_are_judged_as_python_judges_them(page, report):
    (comparison,) = summarize(report[1]).comparisons
    speed_ups = {each.seed: each.speed_up for each in comparison.per_seed}
    changes = comparison.equal_steps[-1].changes
    for place in (0, 1, 1, 1):
        page.click(f"document.querySelectorAll('.draw button')[{place}]")
        found = json.loads(page.value("document.querySelector('.drawn').dataset.result"))
        verdict = verdict_over_seeds(
            {seed: speed_ups[seed] for seed in found["seeds"]}, {seed: changes[seed] for seed in found["seeds"]}
        )
        assert found["word"] == verdict.word
        assert found["ratio"] == pytest.approx(verdict.ratio, rel=1e-12)
        if verdict.low is None:
            assert found["ends"] is None
        else:
            assert found["ends"] == pytest.approx([verdict.low, verdict.high], rel=1e-9)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_and_can_be_read(page, width, scheme):
    still(page, scheme)
    size(page, width)
    page.value("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.value("document.documentElement.scrollWidth") <= width
    pixels = np.asarray(Image.open(io.BytesIO(picture(page))).convert("L"), dtype=int)
    assert np.ptp(pixels) > 180, "text and page contrast"
    assert (np.median(pixels) > 128) == (scheme == "light")
    clipped = """[...document.querySelectorAll('.plot text')].filter(each => each.checkVisibility() && (box =>
        box.left < -1 || box.right > innerWidth + 1)(each.getBoundingClientRect())).map(each => each.textContent)"""
    assert page.value(clipped) == []


def picture(tab) -> bytes:
    return base64.b64decode(tab.tell("Page.captureScreenshot", format="png")["data"])


def test_everything_that_can_be_used_is_reached_by_keyboard(page):
    usable = "[...document.querySelectorAll('a[href], summary, button, input, select, [tabindex=\"0\"]')]"
    usable += ".filter(each => each.checkVisibility() && !each.disabled)"
    page.value("for (const each of document.querySelectorAll('details')) each.open = true")
    count = page.value(f"{usable}.length")
    assert count > 40
    assert page.value(f"{usable}.filter(e => {{ e.focus(); return document.activeElement === e; }}).length") == count
    assert page.value("[...document.querySelectorAll('.scroll')].every(part => part.tabIndex === 0)")


def test_the_page_prints_on_several_sheets_with_closed_sections(page):
    content = base64.b64decode(page.tell("Page.printToPDF", printBackground=False)["data"])
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3
    assert content.count(b"/Subtype /Image") >= 8, "images of closed sections are printed, too"


def test_without_its_script_everything_is_there(page):
    """Last of all, for it leaves a page without a script."""
    images = page.value("document.querySelectorAll('main img').length")
    page.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.tell("Page.reload")
        page.wait("!document.documentElement.classList.contains('scripted') && document.readyState == 'complete'")
        page.value("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.value(shown(".chart")) == 10
        assert page.value(shown(".step")) == page.value("document.querySelectorAll('.step').length") == 4
        assert page.value("document.querySelectorAll('main img').length") == images
        assert page.value(shown("button, select, input")) == 0
    finally:
        page.tell("Emulation.setScriptExecutionDisabled", value=False)
