"""The report's page in a real browser: drawn whole, reached by keyboard, printed, and within its window."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

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
def test_a_browser_draws_every_image_reaches_everything_by_keyboard_and_complains_of_nothing(report, tmp_path):
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
    assert content.count(b"/Subtype /Image") >= 28, "images of closed sections are printed, too"


@pytest.mark.slow
@NEEDS_CHROMIUM
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_drawn_within_the_window(report, tmp_path, width):
    image = tmp_path / "page.png"
    chromium(tmp_path, report[0] / "report.html", f"--window-size={width},2400", f"--screenshot={image}")
    pixels = np.asarray(Image.open(image).convert("L"), dtype=int)
    assert pixels.shape == (2400, width)
    # A page wider than the window would leave no clean margin at its right edge.
    assert np.ptp(pixels[:, -4:]) == 0
    assert np.ptp(pixels) > 200
