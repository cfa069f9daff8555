"""What may be wrong with a file, as hypothesis draws it: in its values, or in its bytes; and what must follow.

The suite draws the same few examples each time. `EQVAE_FUZZ_EXAMPLES=5000` draws so many new ones for each test.
"""

import copy
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from eqvae.commands import describe

REFUSED = object()
NUM_EXAMPLES = int(os.environ.get("EQVAE_FUZZ_EXAMPLES", 0))
COMPUTING_SECONDS = 10  # of the processor for an example, which takes hundredths: whatever else a machine does
WAITING_SECONDS = 100  # by the clock, for what waits for ever
ODD_NUMBERS = [0, -1, 1, 3, 10**6, 2**31, 2**63, 10**30, -0.5, 0.5, 1e-40, 1e30, 1e308, math.nan, math.inf, -math.inf]
ODD_TEXTS = ["", "x", "1", "nan", "../../up", "/dev/zero", "a\nb", "\0", "ß" * 300, "shard-00001.safetensors", "{node}"]
ODD_VALUES = [None, True, False, *ODD_NUMBERS, *ODD_TEXTS, [], [[]], {}, {"x": 1}, [None], [1, 2, 3, 4, 5], ["x", "x"]]


def fuzzing(num_examples: int) -> Callable:
    """Settings of a test: the same examples in every run of the suite, other ones in a long run."""
    return settings(
        max_examples=NUM_EXAMPLES or num_examples,
        derandomize=not NUM_EXAMPLES,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        deadline=None,  # by the clock, which says nothing on a busy machine: `outcome` has one of its own
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def outcome(call: Callable[[], Any], *names: object) -> Any:
    """What a call returns, or REFUSED.

    It may refuse by an error of this project alone: a ValueError of one line that says one of the names. Any other
    error goes through, and one that takes too long is one.
    """
    try:
        with _deadline():
            return call()
    except ValueError as caught:
        error = caught
    line = describe(error)
    assert "(trace in " not in line, f"no error of ours: {type(error).__name__}: {line}"
    assert "\n" not in str(error), line
    assert any(str(name) in line for name in names), f"{line!r} names none of {', '.join(map(str, names))}"
    return REFUSED


@contextmanager
def _deadline() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"still at it after {COMPUTING_SECONDS} s of computing, or {WAITING_SECONDS} s")

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, COMPUTING_SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WAITING_SECONDS),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@st.composite
def changed_values(draw: Callable, content: Any, most: int = 2) -> Any:
    """A copy of nested mappings and lists of which one or some entries are another, missing, added or moved."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(content))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        _change(draw, holder, key, places)
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """(mapping or list, key) of every entry, however deep."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from _places(content[key])


def _change(draw: Callable, holder: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    value = holder[key]
    how = draw(st.sampled_from(["replace", "replace", "shift", "remove", "nest", "copy", "add", "deepen"]))
    if how == "replace":
        holder[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
    elif how == "shift":
        holder[key] = _shifted(value, draw(st.sampled_from([-1, 1, 0.5, 1000])))
    elif how == "remove":
        del holder[key]
    elif how == "nest":
        holder[key] = draw(st.sampled_from([[value], {"x": value}, [value, value], str(value)]))
    elif how == "copy":
        other, place = draw(st.sampled_from(places))
        holder[key] = copy.deepcopy(other.get(place) if isinstance(other, dict) else other[place : place + 1])
    elif how == "add":
        extra = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
        holder.update({draw(st.sampled_from(["extra", "", "sha256"])): extra}) if isinstance(
            holder, dict
        ) else holder.append(extra)
    else:
        for _ in range(draw(st.sampled_from([30, 120]))):
            value = [value]
        holder[key] = value


def _shifted(value: Any, by: float) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + by
    if isinstance(value, str):
        return value[: len(value) // 2] + ("x" if by == 1 else "0") + value[len(value) // 2 + 1 :]
    return value[:-1] if isinstance(value, list) else by


@st.composite
def changed_bytes(draw: Callable, content: bytes) -> bytes:
    """A copy of a file's bytes with some flipped, overwritten, cut off, left out or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        how = draw(st.sampled_from(["flip", "flip", "write", "cut", "leave out", "put in", "repeat"]))
        if how == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "write":
            new = draw(
                st.sampled_from([b"\0", b"\xff" * 4, b"9", b"[", b'"', b"\n", b"- ", b"\x80\x02", b"NaN", b"PK"])
            )
            changed[at : at + len(new)] = new
        elif how == "cut":
            del changed[at:]
        elif how == "leave out":
            del changed[at : at + draw(st.integers(1, 40))]
        elif how == "put in":
            changed[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif how == "repeat":
            changed[at:at] = changed[at : at + draw(st.integers(1, 600))]
    return bytes(changed)
