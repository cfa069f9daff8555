"""The GPU day: what wants a CUDA device, in steps that each run in a process of their own and are kept at once.

`--part correct` runs the tests that are marked `gpu`, `speed` the benchmarks at published sizes, `sweep` the CIFAR-10
sweep with five seeds. Results lie in OUTPUT/gpu-PART.json after each step. A part ends when its minutes are over; the
same command goes on with what is not done yet. No step needs a network.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[0:0] = [str(ROOT), str(Path(__file__).parent)]  # the package need not be installed where this runs

from gpu_steps import PARTS, Step, StepSettings  # noqa: E402

from eqvae.commands import run_command  # noqa: E402
from eqvae.files import write_atomically  # noqa: E402

ENOUGH = 0.6  # of a step's time, or of the part's: with less left it is not begun
SHORTEST = 20.0  # seconds that are worth beginning a step for that goes on where it was ended
TESTS_FAILED = 1  # pytest's exit code where it ran them all
LONGEST_TEXT = 4000  # characters of an output that are kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--part", nargs="+", choices=PARTS, default=list(PARTS), help="what to run")
    add("--only", nargs="+", metavar="STEP", help="of these parts, these steps alone")
    add("--minutes", type=float, default=9.0, help="a part's time; what is left is done by the next run")
    add("--output", type=Path, default=Path("runs/gpu"), help="folder of the results")
    add("--data", type=Path, default=Path("../shared/data"), help="folder of CIFAR-10's parquet files")
    add("--reference", help="checkout of the public DiT or SiT, timed beside ours")
    add("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: a rehearsal")
    add("--tiny", action="store_true", help="steps of seconds, for a rehearsal")
    add("--list", action="store_true", help="print the steps and stop")
    run_command(lambda: run(parser.parse_args()))


def run(arguments: argparse.Namespace) -> None:
    """Do the parts; raises if a step is not done at the end."""
    settings = StepSettings(arguments.device, arguments.tiny, arguments.reference, arguments.data, arguments.output)
    every = {part: PARTS[part](settings) for part in arguments.part}  # what is refused is refused before the first
    require_known(arguments.only or [], every)
    lacking, failed = [], []
    for part, all_steps in every.items():
        steps = chosen(all_steps, arguments.only)
        if arguments.list:
            print("".join(f"{part} {step.name}: python {' '.join(step.command)}\n" for step in steps), end="")
            continue
        done = run_part(part, steps, arguments.output, 60 * arguments.minutes, again=arguments.only is not None)
        failed += [f"{part} {name}" for name, each in done.items() if each.get("tests", {}).get("failed")]
        lacking += [f"{part} {step.name}" for step in steps if not done.get(step.name, {}).get("done")]
    if failed and not lacking:
        raise ValueError(f"tests failed in {', '.join(failed)}: --only STEP tries them again")
    if lacking:
        raise ValueError(f"not done: {', '.join(lacking)}; the same command tries these again")


def require_known(names: list[str], parts: dict[str, list[Step]]) -> None:
    """Refuse names of no step, of which nothing would run."""
    known = {step.name for steps in parts.values() for step in steps}
    for name in names:
        if name not in known:
            raise ValueError(f"--only {name}: no step of {', '.join(parts)}; --list shows them")


def chosen(steps: list[Step], names: list[str] | None) -> list[Step]:
    return [step for step in steps if names is None or step.name in names]


def run_part(
    part: str,
    steps: list[Step],
    folder: Path,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    again: bool = False,
) -> dict[str, Any]:
    """Do the steps that are not done, those first that were tried least, until the time is over.

    Args:
        clock: that the time is read from.
        again: also tests that failed, which a later run leaves as they were found.

    Returns:
        What `gpu-PART.json` holds of each step by its name.
    """
    path, end = folder / f"gpu-{part}.json", clock() + seconds
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for step in sorted(steps, key=lambda step: known.get(step.name, {}).get("tries", 0)):
        before = known.get(step.name, {})
        if before.get("done") and not (again and before["returncode"]):
            print(f"{part} {step.name}: done before", flush=True)
            continue
        left = end - clock()
        if left < (SHORTEST if step.resumes else ENOUGH * min(step.seconds, seconds)):
            print(f"{part} {step.name}: left for the next run", flush=True)
            continue
        known[step.name] = run_step(step, folder / part, min(step.seconds, left)) | {
            "tries": before.get("tries", 0) + 1
        }
        write_atomically(path, json.dumps(known, indent=1).encode())
        print(f"{part} {step.name}: {told(known[step.name])}", flush=True)
    return known


def told(result: dict[str, Any]) -> str:
    """One line on how a step ended."""
    ended = "done" if result["done"] else "out of time" if result["out_of_time"] else f"failed ({result['returncode']})"
    tests = result.get("tests")
    return f"{ended} in {result['seconds']:.0f} s" + (
        f", {tests['passed']} of {tests['run']} tests passed" if tests else ""
    )


def run_step(step: Step, folder: Path, seconds: float) -> dict[str, Any]:
    """Run one step for at most so many seconds and read what it left."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in step.leaves:
        leftover.unlink(missing_ok=True)
    log, started = folder / f"{step.name}.log", time.monotonic()
    with log.open("w") as file:
        returncode = run_process([sys.executable, *step.command], file, step.folder or ROOT, seconds)
    text = log.read_text(errors="replace")
    report = last_object(text)
    result = {
        "done": returncode == 0 and (report is not None or not step.reports),
        "returncode": returncode,
        "out_of_time": returncode is None,
        "seconds": round(time.monotonic() - started, 1),
        "command": " ".join(step.command),
    }
    if step.tests is not None and step.tests.is_file():
        result["tests"] = read_tests(step.tests)
        # One that failed is a finding, and the same tests would find it again: the step is done. None that ran is not.
        result["done"] = returncode in (0, TESTS_FAILED) and result["tests"]["run"] > 0
    if report is not None:
        result["report"] = report
    if returncode != 0 or not result["done"]:
        result["output"] = text[-LONGEST_TEXT:]
    for source, target in step.returns.items():
        if source.is_file():
            shutil.copyfile(source, target)
    return result


def run_process(command: list[str], output: Any, folder: Path, seconds: float) -> int | None:
    """Exit code of a process in a group of its own, ended with all its children when the time is over: then None."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read_tests(path: Path) -> dict[str, Any]:
    """Of pytest's XML: how many ran and passed, what failed with its message, and the properties of each."""
    run, failed, properties = 0, {}, {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name')}"
        if case.find("skipped") is not None:
            continue
        run += 1
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            failed[name] = (problem.get("message") or problem.text or "")[:300]
        kept = {
            each.get("name"): each.get("value") for each in case.iter("property") if each.get("name") != "reliability"
        }
        if kept:
            properties[name] = kept
    return {"run": run, "passed": run - len(failed), "failed": failed, "properties": properties}


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object of an output, whatever is printed behind it; None where there is none."""
    start = text.rfind("\n{\n") + 1 if "\n{\n" in text else 0
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


if __name__ == "__main__":
    main()
