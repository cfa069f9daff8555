"""The check of a treatment: against the paper's bounds, on the start or else the control, before generators train."""

import io

import pytest
from rich.console import Console

from tests.twostage.synthetic_nodes import run_node
from tests.twostage.test_execution import INLINE, small_sweep
from twostage import plan
from twostage.analysis.records import START, Arm, AutoencoderMeasurement
from twostage.analysis.treatment import EQUIVARIANCE, treatment_line, treatments
from twostage.graph.execution import Milestone, run_nodes
from twostage.report.results import arms_of
from twostage.sweep import run_sweep

ARMS = [Arm("control", "Ordinary loss"), Arm("eq", "EQ", treatment=EQUIVARIANCE), Arm("noise", "Noise")]


def measured(arm, seed, rotation, scale, psnr, distance):
    errors = {"rotation 90": rotation - 0.1, "rotation 180": rotation + 0.1, "scale 0.5": scale}
    metrics = {"psnr": psnr, "rfd_efficientnet_lite0": distance}
    return AutoencoderMeasurement(arm, seed, metrics, {"latent": errors, "decoded": {"rotation 90": 9.0}})


def check(rotation, scale, psnr, distance, start=True):
    autoencoders = [measured(START, None, 1.0, 0.8, 20.0, 100.0)] if start else []
    autoencoders += [measured("control", seed, 1.1, 0.8, 25.0, 90.0) for seed in (0, 1)]
    autoencoders += [measured("eq", 0, rotation, scale, psnr, distance), measured("noise", 0, 1.0, 0.8, 9.0, 900.0)]
    (found,) = treatments(autoencoders, ARMS, "control")
    return found


def test_what_the_paper_s_did_is_a_treatment():
    found = check(rotation=0.63, scale=0.5, psnr=24.8, distance=99.0)
    assert (found.rotation, found.scale) == pytest.approx((0.63, 0.625))
    assert (found.psnr, found.reconstruction_distance) == pytest.approx((-0.2, 0.99))
    assert treatment_line(found) == (
        "EQ: treated: rotation error 0.63 of the start's, scale error 0.62 of the start's, "
        "PSNR -0.2 dB to the control, rFD 0.99 of the start's"
    )


def test_the_control_counts_in_the_seeds_that_an_arm_has():
    """A race stops arms after fewer seeds, and seeds differ by more than a treatment costs."""
    autoencoders = [measured("control", seed, 1.0, 0.8, 25.0 + seed, 90.0 + 9 * seed) for seed in range(4)]
    autoencoders += [measured("eq", seed, 0.5, 0.4, 24.9 + seed, 90.0 + 9 * seed) for seed in (0, 1)]
    for start in ([], [measured(START, None, 1.0, 0.8, 20.0, 100.0)]):
        (found,) = treatments(start + autoencoders, ARMS, "control")
        assert found.psnr == pytest.approx(-0.1)
        assert found.reconstruction_distance == pytest.approx(0.945 if start else 1)
        assert not found.failures


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"rotation": 0.66}, "rotation error 0.66 of the start's, more than 0.65"),
        ({"scale": 0.6}, "scale error 0.75 of the start's, more than 0.65"),
        ({"psnr": 24.6}, "PSNR 0.4 dB below the control's, more than 0.3"),
        ({"distance": 110.0}, "rFD 1.10 of the start's, more than 1"),
    ],
)
def test_each_bound_is_one(change, failure):
    found = check(**{"rotation": 0.63, "scale": 0.5, "psnr": 24.8, "distance": 99.0} | change)
    assert found.failures == [failure]
    assert treatment_line(found) == f"EQ: not treated as published: {failure}"


def test_without_a_start_the_control_is_what_errors_are_compared_with():
    found = check(rotation=0.66, scale=0.5, psnr=24.8, distance=90.0, start=False)
    assert (found.reference, found.rotation, found.failures) == ("control", pytest.approx(0.6), [])


def test_reconstructions_are_judged_against_a_start_alone():
    """The bound is the paper's, of the start; a control was fine-tuned for reconstruction itself."""
    worse = {"rotation": 0.6, "scale": 0.5, "psnr": 24.8, "distance": 95.0}
    found = check(**worse, start=False)
    assert (found.failures, found.reconstruction_distance) == ([], pytest.approx(95 / 90))
    assert "rFD 1.06 of the control's" in treatment_line(found)
    assert check(**worse).failures == [], "of the start's 100"


def test_seeds_are_averaged_and_a_diverged_one_is_not_left_out():
    several = [measured("control", 0, 1.0, 1.0, 20.0, 100.0)]
    several += [measured("eq", 0, 0.4, 0.4, 20.0, 100.0), measured("eq", 1, 0.8, 0.8, 20.0, 100.0)]
    (found,) = treatments(several, ARMS[:2], "control")
    assert found.rotation == pytest.approx(0.6)
    several.append(measured("eq", 2, 0.4, 0.4, float("nan"), 100.0))
    (found,) = treatments(several, ARMS[:2], "control")
    assert (found.psnr, found.rotation) == (None, pytest.approx(1.6 / 3))


def test_an_arm_that_lacks_a_number_is_not_called_treated():
    autoencoders = [measured("control", 0, 1.0, 1.0, 20.0, 100.0), measured("eq", 0, 0.5, 0.5, float("nan"), 90.0)]
    (found,) = treatments(autoencoders, ARMS, "control")
    assert treatment_line(found) == (
        "EQ: treatment not measured in full: rotation error 0.50 of the control's, scale error 0.50 of the control's, "
        "rFD 0.90 of the control's"
    )
    unmeasured = AutoencoderMeasurement("eq", 0, {"psnr": 20.1, "rfd_efficientnet_lite0": 90.0}, {})
    (found,) = treatments([autoencoders[0], unmeasured], ARMS, "control")
    assert treatment_line(found).startswith("EQ: treatment not measured in full: PSNR +0.1 dB")


def test_a_control_is_not_held_against_itself():
    arms = [Arm("control", "Ordinary loss", treatment=EQUIVARIANCE)]
    autoencoders = [measured("control", 0, 0.5, 0.4, 20.0, 90.0)]
    assert treatments(autoencoders, arms, "control") == []
    (found,) = treatments([measured(START, None, 1.0, 0.8, 20.0, 100.0), *autoencoders], arms, "control")
    assert (found.rotation, found.failures) == (pytest.approx(0.5), [])


def test_arms_that_train_with_transforms_are_meant_to_be_equivariant():
    sweep = small_sweep()
    assert {arm.name: arm.treatment for arm in arms_of(sweep)} == {"control": None, "equivariant": EQUIVARIANCE}
    ready = small_sweep("autoencoders.equivariant.autoencoder=shapes-f4c8", "autoencoders.equivariant.treatment=null")
    assert [arm.treatment for arm in arms_of(ready)] == [None, None], "of a ready one the file must say it"
    with pytest.raises(ValueError, match=r"autoencoders\.equivariant\.treatment: use equivariance, or leave it out"):
        small_sweep("autoencoders.equivariant.treatment=noise")


def test_a_milestone_is_begun_first_and_said_once_before_the_rest(tmp_path):
    nodes = plan(small_sweep()).nodes
    first = [node for node in nodes if node.kind in ("autoencoder", "diagnostics")]
    for _ in range(2):
        printed = io.StringIO()
        milestone = Milestone(first, lambda: ["[checked]"])
        run_nodes(nodes, tmp_path, INLINE, Console(file=printed, width=200), run_node, milestone=milestone)
        printed.seek(0)
        lines = [
            line.split()[1] if line.startswith("done") else line.strip() for line in printed if "whole" not in line
        ]
        assert lines.count("[checked]") == 1
        before = {line for line in lines[: lines.index("[checked]")] if "/" in line}
        assert not any("generators" in line or "latents" in line for line in before)
    assert before == set(), "all of it was done already"


def test_a_sweep_says_it_before_its_generators_train(tmp_path, monkeypatch):
    monkeypatch.setattr("twostage.sweep.run_node", run_node)
    printed = io.StringIO()
    run_sweep(small_sweep(f"root={tmp_path}", "executor.num_workers=0"), "sweep.py", Console(file=printed, width=300))
    text = printed.getvalue()
    told = text.index("EQ: ")
    assert told < text.index("done control/seed0/generators")
    report = (tmp_path / "tiny-shapes/report/report.html").read_text()
    assert "Was the treatment given?" in report
