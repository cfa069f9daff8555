"""Table and figures of a search over start autoencoders: `python -m studies.start_report RESULTS --figures FOLDER`.

RESULTS is the file that `studies.start_search` leaves, or a copy of it. The table is printed as Markdown; every
candidate has a row, failed ones too.
"""

import argparse
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from studies.start_measures import mean_of
from studies.start_search import read_results

matplotlib.use("Agg")

COLUMNS = (
    ("rotation", lambda line: f"{line['rotation']:.2f}"),
    ("scale", lambda line: f"{line['scale']:.2f}"),
    ("mean removed", lambda line: _both(line, "centred")),
    ("standardized", lambda line: _both(line, "standardized")),
    ("whitened", lambda line: _both(line, "whitened")),
    ("thumbnail", lambda line: f"{line['thumbnail_share']['centred']:.2f}"),
    ("HF", lambda line: f"{line['high_frequency_share']:.2f}"),
    ("TwoNN", lambda line: f"{line['intrinsic_dimension']:.1f}"),
    ("PSNR", lambda line: f"{line['psnr']:.2f}"),
    ("SSIM", lambda line: f"{line['ssim']:.3f}"),
    ("rFD", lambda line: f"{line['rfd_efficientnet_lite0']:.0f}"),
    ("minutes", lambda line: f"{line['train_seconds'] / 60:.0f}"),
)


def _both(line: dict, basis: str) -> str:
    return "/".join(f"{mean_of(line['errors'][basis], kind):.2f}" for kind in ("rotation", "scale"))


def to_markdown(lines: list[dict]) -> str:
    """One row for each candidate, in the order in which they were run."""
    names = [name for name, _ in COLUMNS]
    rows = [f"| candidate | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for line in lines:
        cells = ["failed: " + line["failed"], *[""] * (len(names) - 1)] if "failed" in line else []
        rows.append(f"| `{line['name']}` | {' | '.join(cells or [show(line) for _, show in COLUMNS])} |")
    return "\n".join(rows) + "\n"


def draw_errors(lines: list[dict], path: Path) -> None:
    """Rotation error against the share of the latents that a thumbnail explains, and against the scale error."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), constrained_layout=True)
    colours = {base: f"C{index}" for index, base in enumerate(sorted({line["base"] for line in lines}))}
    for base, colour in colours.items():
        chosen = [line for line in lines if line["base"] == base]
        axes[0].scatter(*_columns(chosen, lambda line: line["thumbnail_share"]["centred"]), color=colour, label=base)
        axes[1].scatter(*_columns(chosen, lambda line: line["scale"]), color=colour)
    axes[0].set(xlabel="share of the latents that a thumbnail explains", ylabel="rotation error")
    axes[1].set(xlabel="scale error", ylabel="rotation error")
    for place in ("axvline", "axhline"):
        getattr(axes[1], place)(0.6, color="0.7", linewidth=1, zorder=0)
    axes[0].axhline(0.6, color="0.7", linewidth=1, zorder=0)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _columns(lines: list[dict], across) -> tuple[list[float], list[float]]:
    return [across(line) for line in lines], [line["rotation"] for line in lines]


def draw_spectra(lines: list[dict], names: list[str], path: Path) -> None:
    """Power of the latents by radial frequency, channels at variance 1."""
    figure, axis = plt.subplots(figsize=(5, 3.6), constrained_layout=True)
    for line in lines:
        if line["name"] in names:
            axis.plot(line["spectrum_frequency"][1:], line["spectrum_power"][1:], marker="o", label=line["name"])
    axis.axhline(1, color="0.7", linewidth=1, zorder=0)
    axis.set(xlabel="cycles per latent pixel", ylabel="power (white: 1)", yscale="log")
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="results.jsonl of a search")
    parser.add_argument("--figures", type=Path, help="folder of errors.png and spectra.png")
    parser.add_argument("--spectra", nargs="*", default=[], help="candidates whose spectra are drawn")
    arguments = parser.parse_args()
    lines = read_results(arguments.results)
    print(to_markdown(lines), end="")
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        measured = [line for line in lines if "failed" not in line]
        draw_errors(measured, arguments.figures / "start-search-errors.png")
        draw_spectra(measured, arguments.spectra, arguments.figures / "start-search-spectra.png")


if __name__ == "__main__":
    main()
