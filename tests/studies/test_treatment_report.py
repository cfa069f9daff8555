"""When a fine-tuning counts as a treatment."""

import pytest

from studies.treatment_report import failures, ratios, to_markdown


def line(name: str, rotation: float, scale: float, psnr: float, rfd: float, **further) -> dict:
    probes = {f"rotation {turn}": rotation for turn in (90, 180, 270)} | {f"scale {s}": scale for s in ("0.25", "0.50")}
    errors = dict.fromkeys(("raw", "centred", "standardized", "whitened"), probes)
    numbers = {"rotation": rotation, "scale": scale, "psnr": psnr, "rfd_efficientnet_lite0": rfd, "errors": errors}
    about = {"name": name, "base": "cifar10", "intrinsic_dimension": 20.0, "high_frequency_share": 0.3, "settings": {}}
    return about | numbers | further


START = line("begin", 1.0, 0.6, 26.0, 900)
CONTROL = line("plain", 1.0, 0.6, 27.0, 800, start="begin", factor="control", settings={"model.transforms": None})


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [
        ((0.65, 0.39, 26.71, 900), []),
        ((0.66, 0.39, 26.71, 900), ["rotation 0.66"]),
        ((0.60, 0.42, 26.8, 900), ["scale 0.70"]),
        ((0.60, 0.30, 26.5, 900), ["PSNR -0.50 dB"]),
        ((0.60, 0.30, 26.9, 990), ["rFD +10%"]),
    ],
)
def test_each_bound_of_the_paper_counts(tuned, expected):
    assert failures(line("eq", *tuned), START, CONTROL) == expected


def test_ratios_are_to_the_start():
    assert ratios(line("eq", 0.5, 0.3, 26, 900), START, "whitened") == pytest.approx((0.5, 0.5))


def test_the_control_is_the_one_with_the_same_settings():
    same = {"model.learning_rate": 2e-3}
    tuned = line("eq", 0.6, 0.3, 26.9, 850, start="begin", factor="preset", settings=same)
    table = to_markdown({"begin": START}, [CONTROL, tuned])
    assert table.splitlines()[-1].endswith("| no: no control |")
    control = CONTROL | {"name": "plain2", "settings": same | CONTROL["settings"]}
    assert (
        to_markdown({"begin": START}, [CONTROL, control, tuned])
        .splitlines()[-1]
        .endswith("| -0.10 | 850 | 20.0 | 0.30 | yes |")
    )
    failed = {
        "name": "broken",
        "base": "cifar10",
        "start": "begin",
        "factor": "preset",
        "settings": {},
        "failed": "why",
    }
    assert "failed: why" in to_markdown({"begin": START}, [CONTROL, failed])


def test_a_chain_of_fine_tunings_is_compared_with_the_same_chain_of_controls():
    decoder = {"model.trainable": "decoder"}
    tuned = line("eq", 0.6, 0.3, 26.0, 950, start="begin", factor="preset")
    recovered = line("eq-decoder", 0.6, 0.3, 27.3, 850, start="eq", factor="decoder", settings=decoder)
    both = line("plain-decoder", 1.0, 0.6, 27.5, 780, start="plain", factor="control", settings=decoder)
    rows = to_markdown({"begin": START}, [CONTROL, tuned, recovered, both]).splitlines()
    assert "no: PSNR -1.00 dB, rFD +6%" in rows[4]
    assert rows[5].endswith("| -0.20 | 850 | 20.0 | 0.30 | yes |")
