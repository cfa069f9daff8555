"""Decoders trained on with the losses of sd-vae-ft-ema and -mse, on photographs: `python -m studies.decoder`.

Trains what studies/decoder.yaml lists, measures it and its start on held-out images, and prints the tables of
docs/studies/decoder.md. The same command again does what is missing.
"""

import argparse
from pathlib import Path

import torch

from eqvae.autoencoders import load_autoencoder
from eqvae.commands import run_command
from eqvae.evaluation.measuring import measure_reconstruction
from studies.start_search import ROOT, append, read_results, read_table, run_table
from twostage.analysis.intervals import interval_over_seeds

TABLE = ROOT / "studies/decoder.yaml"
START = "start"
METRICS = {
    "rfd_efficientnet_lite0": "rFD",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "perceptual_efficientnet_lite0": "perceptual",
}
DIGITS = {"rFD": 0, "PSNR": 2, "SSIM": 3, "perceptual": 3}
COMPARISONS = {  # what is expected of each: the sign in the table of the model card
    ("ema", START): {"rFD": -1, "PSNR": 1, "SSIM": 0, "perceptual": -1},
    ("mse", "longer"): {"rFD": 1, "PSNR": 1, "SSIM": 1, "perceptual": -1},
}


def measure_reconstructions(table: dict, candidate: dict, folder: Path) -> dict:
    """Per set of held-out images each metric: its value, and its standard deviation over images where it has one."""
    return measured_on(table, folder / "autoencoder")


def measured_on(table: dict, autoencoder: Path | str) -> dict:
    """The same of an autoencoder by its folder or name."""
    opened, measured = load_autoencoder(str(autoencoder)).freeze(), {}
    for one in table["measured"]:
        report = measure_reconstruction(opened, one["data"], one["image_size"], num_images=one["num_images"])
        measured[one["name"]] = {
            short: [report[name], report.get(f"{name}_std")] for name, short in METRICS.items() if name in report
        }
    return {"measured": measured}


def values(lines: list[dict], factor: str, images: str, metric: str) -> list[float]:
    """One value for each seed, in their order; the start's own as often as there are seeds."""
    found = [line["measured"][images][metric][0] for line in lines if line["factor"] == factor]
    seeds = sum(line["factor"] == "ema" for line in lines)
    return found * seeds if factor == START else found


def to_markdown(lines: list[dict]) -> str:
    """Both tables: means over seeds with the spread over images, and differences with their interval over seeds."""
    names = list(lines[0]["measured"])
    rows = ["| images | decoder | " + " | ".join(METRICS.values()) + " |", "| --- | --- | --- | --- | --- | --- |"]
    for images in names:
        for factor in (START, "ema", "longer", "mse"):
            cells = (_mean_cell(lines, factor, images, metric) for metric in METRICS.values())
            rows.append(f"| {images} | {factor} | {' | '.join(cells)} |")
    rows += ["", "| images | difference | " + " | ".join(METRICS.values()) + " |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for images in names:
        for (after, before), signs in COMPARISONS.items():
            cells = (_difference_cell(lines, after, before, images, metric, signs[metric]) for metric in DIGITS)
            rows.append(f"| {images} | {after} - {before} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _mean_cell(lines: list[dict], factor: str, images: str, metric: str) -> str:
    digits, found = DIGITS[metric], values(lines, factor, images, metric)
    spreads = [line["measured"][images][metric][1] for line in lines if line["factor"] == factor]
    spread = "" if spreads[0] is None else f" ± {sum(spreads) / len(spreads):.{digits}f}"
    return f"{sum(found) / len(found):.{digits}f}{spread}"


def _difference_cell(lines: list[dict], after: str, before: str, images: str, metric: str, sign: int) -> str:
    """Mean difference over seeds, Student's interval, and whether the card's sign is seen, its contrary, or neither."""
    pairs = zip(values(lines, after, images, metric), values(lines, before, images, metric), strict=True)
    differences = [a - b for a, b in pairs]
    found, digits = interval_over_seeds(differences), DIGITS[metric]
    assert found.low is not None, "seeds differ"
    assert found.high is not None, "seeds differ"
    seen = "neither"
    if not found.low <= 0 <= found.high:
        seen = {0: "card: none", 1: "as the card"}.get(sign * (1 if found.mean > 0 else -1), "contrary")
    return f"{found.mean:+.{digits}f} ({found.low:+.{digits}f} to {found.high:+.{digits}f}), {seen}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="folder of the results instead of the table's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = read_table(str(TABLE))
    output = Path(arguments.output or table["output"]).resolve()
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.jsonl"
    if all(line["name"] != START for line in read_results(results)):
        about = {"name": START, "factor": START, "fingerprint": load_autoencoder(table["start"]).fingerprint()}
        append(results, about | measured_on(table, table["start"]))
    run_table(table, output, measure_reconstructions)
    print(to_markdown(read_results(results)))


if __name__ == "__main__":
    run_command(main)
