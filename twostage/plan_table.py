"""What a sweep will cost, before anything runs: steps and images of each node, and what it will leave on disk."""

from pathlib import Path

from rich.console import Console

from twostage.analysis.intervals import FIRST_LOOK
from twostage.analysis.racing import stop_sentence
from twostage.analysis.summary import is_open
from twostage.graph.node import unique
from twostage.graph.store import has_failed, is_done
from twostage.looks import last_look
from twostage.parts import Estimate, estimate
from twostage.parts.generator import latent_shape
from twostage.planner import Plan, plan
from twostage.schema import Sweep


def dry_run(sweep: Sweep, console: Console) -> None:
    """Print the plan: each node's address, inputs, state and cost, the report last, and what is still to be spent."""
    root = Path(sweep.root)
    planned = plan(sweep)
    estimates = estimate_all(planned)
    results = last_look(sweep, planned, root) if sweep.until_decided else None
    stopped = results.stopped if results else []
    decided_with = results.seeds if results and not is_open(results) else None
    raced = {node.address for node in planned.part(sweep.seeds, stopped).nodes}
    needed = {node.address for node in planned.part(decided_with or sweep.seeds, stopped).nodes}
    seen: dict[str, str] = {}
    for node in planned.nodes:
        inputs = ", ".join(other.name for other in node.inputs.values()) or "-"
        state = "done" if is_done(node, root) else "failed" if has_failed(node, root) else "to do"
        if node.address not in needed and state != "done":
            state = "not needed" if node.address in raced else "stopped"
        state = f"same as {seen[node.address]}" if node.address in seen else state
        seen.setdefault(node.address, node.name)
        _print(console, f"{node.address}  {node.name}  <- {inputs}  [{state}]  {_text(estimates[node.address])}")
    _print(console, f"{'':12}  report  <- all")
    nodes = unique(planned.nodes)
    remaining = [node for node in nodes if not is_done(node, root) and node.address in needed]
    total, is_whole = _sum([estimates[node.address] for node in remaining])
    bound = "" if is_whole else "at least "
    _print(console, f"to do: {len(remaining)} of {len(nodes)} parts, {bound}{_text(total)}")
    if line := _how_far(sweep, decided_with):
        _print(console, line)
    if results is not None:
        for each in results.stopped:
            _print(console, f"stopped: {stop_sentence(results, each)}")


def _how_far(sweep: Sweep, decided_with: list[int] | None) -> str | None:
    """What may be left out of the work that is listed; nothing of a fixed number of seeds."""
    if decided_with is not None:
        return f"decided: with {len(decided_with)} of {len(sweep.seeds)} seeds; others are not needed"
    if sweep.racing:
        return f"racing: hopeless arms are stopped, from {FIRST_LOOK} seeds on; this is the most to do"
    if sweep.until_decided:
        return f"until_decided: seeds are taken one by one, from {FIRST_LOOK} on; this is the most to do"
    return None


def estimate_all(planned: Plan) -> dict[str, Estimate]:
    """Cost of each node, by address; the latents' shape is that which the first generator expects."""
    first = next(iter(planned.branches[0].generators.values()))
    latents = latent_shape(first.training.settings["config"])
    return {node.address: estimate(node, latents) for node in unique(planned.nodes)}


def _sum(estimates: list[Estimate]) -> tuple[Estimate, bool]:
    """Totals, and whether nothing in them was unknown."""
    images = [each.num_images for each in estimates]
    sizes = [each.num_bytes for each in estimates]
    total = Estimate(sum(each.num_steps for each in estimates), sum(n or 0 for n in images), sum(n or 0 for n in sizes))
    return total, None not in images + sizes


def _text(estimate: Estimate) -> str:
    images = "? images" if estimate.num_images is None else f"{estimate.num_images:,} images"
    disk = "? MB" if estimate.num_bytes is None else f"{estimate.num_bytes / 1e6:,.1f} MB"
    return f"{estimate.num_steps:,} steps, {images}, {disk}"


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
