"""A real browser for tests of pages: Chromium, told what to do over its own pipe (Chrome DevTools Protocol)."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
READS, WRITES = 3, 4  # descriptors that Chromium takes its pipe at
ABOVE = 10
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars"]


class Tab:
    """One tab: its scripts, its mouse, what it asked the network for."""

    def __init__(self, reads: int, writes: int, seconds: float):
        self.reads, self.writes, self.seconds = reads, writes, seconds
        self.received, self.session, self.last = b"", {}, 0
        self.addresses: list[str] = []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Runtime"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> dict:
        """The answer to one command of the protocol."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters} | self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.last:
            if answer.get("method") == "Network.requestWillBeSent":
                self.addresses.append(answer["params"]["request"]["url"])
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.reads], [], [], self.seconds)
            assert ready, f"Chromium said nothing for {self.seconds} seconds"
            self.received += os.read(self.reads, 1 << 16)
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is."""
        return self.tell("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + self.seconds
        while not (value := self.value(script)):
            assert time.monotonic() < end, f"never became true: {script}; {self.value('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def click(self, element: str) -> None:
        """A press of the left button in the middle of what an expression of JavaScript finds."""
        middle = "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
        x, y = self.value(f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); {middle} }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose_file(self, selector: str, path: Path) -> None:
        """What a person does in the file dialogue of an input."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path, width: int = 1280, height: int = 900) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def open_tab(profile: Path, seconds: float = 120) -> Iterator[Tab]:
    """A tab of a browser that runs meanwhile, its answers waited for so many seconds."""
    (reads_here, writes_there), (reads_there, writes_here) = os.pipe(), os.pipe()
    reads_high, writes_high = (fcntl.fcntl(end, fcntl.F_DUPFD, ABOVE) for end in (reads_there, writes_there))

    def place_pipe() -> None:
        os.dup2(reads_high, READS)
        os.dup2(writes_high, WRITES)

    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "--remote-debugging-pipe", "--window-size=1280,900"]
    process = subprocess.Popen(
        command, preexec_fn=place_pipe, pass_fds=(READS, WRITES), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for end in (reads_there, writes_there, reads_high, writes_high):
        os.close(end)
    try:
        yield Tab(reads_here, writes_here, seconds)
    finally:
        process.kill()
        process.wait()
        for end in (reads_here, writes_here):
            os.close(end)
