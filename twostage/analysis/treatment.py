"""Was the treatment given? What a fine-tuning for equivariance did to the autoencoder, held against the paper's.

EQ-VAE's own (arXiv 2502.09509, table 1, SD-VAE) brings the rotation error from .89 to .56 and the scale error from .69
to .43 of the image's energy and leaves reconstructions as they were. An arm that does not do as much does not say what
equivariance is worth; one that pays for it in reconstruction says it together with that price.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from twostage.analysis.records import START, Arm, AutoencoderMeasurement

EQUIVARIANCE = "equivariance"
"""The treatment that is checked."""

LARGEST_RATIO = 0.65  # of both errors to the start's
LARGEST_LOSS = 0.3  # dB of PSNR below the control
KINDS = ("rotation", "scale")


@dataclass(frozen=True)
class Treatment:
    """What an arm's fine-tuning did, means over its seeds, and beside it over the same seeds of the control.

    Args:
        arm, label: which.
        reference: whose errors and distance of reconstructions stand below the ratios: "start", or "control" where
            the start was not measured.
        rotation, scale: mean latent error of the turns, of the scalings, over the reference's; None where unmeasured.
        psnr: dB above the control.
        reconstruction_distance: Fréchet distance of reconstructions over the reference's; its bound is of the start's.
        failures: what the paper's treatment does and this one does not, in words; empty for one that was given.
    """

    arm: str
    label: str
    reference: str
    rotation: float | None
    scale: float | None
    psnr: float | None
    reconstruction_distance: float | None
    failures: list[str] = field(default_factory=list)


def treatments(measured: Sequence[AutoencoderMeasurement], arms: Iterable[Arm], control: str) -> list[Treatment]:
    """The check of each arm that is meant to be equivariant, but for a control that has no start to be held against.

    Args:
        measured: autoencoders of the sweep, of some or all seeds.
        control: name of the arm with the ordinary loss.
    """
    checked = [arm for arm in arms if arm.treatment == EQUIVARIANCE and _of(measured, arm.name)]
    return [_check(arm, measured, control) for arm in checked if arm.name != control or _of(measured, START)]


def _check(arm: Arm, measured: Sequence[AutoencoderMeasurement], control: str) -> Treatment:
    own, reference = _of(measured, arm.name), START if _of(measured, START) else control
    beside = _in_seeds(_of(measured, control), own)
    before = _of(measured, START) or beside
    ratios = {kind: _ratio(_error(own, kind), _error(before, kind)) for kind in KINDS}
    psnr = _difference(_metric(own, "psnr"), _metric(beside, "psnr"))
    distance = _ratio(_distance(own), _distance(before))
    failures = [
        f"{kind} error {ratio:.2f} of the {reference}'s, more than {LARGEST_RATIO}"
        for kind, ratio in ratios.items()
        if ratio is not None and ratio > LARGEST_RATIO
    ]
    if psnr is not None and psnr < -LARGEST_LOSS:
        failures.append(f"PSNR {-psnr:.1f} dB below the control's, more than {LARGEST_LOSS}")
    if distance is not None and distance > 1 and reference == START:  # a control's own fine-tuning lowers it
        failures.append(f"rFD {distance:.2f} of the start's, more than 1")
    return Treatment(arm.name, arm.label, reference, ratios["rotation"], ratios["scale"], psnr, distance, failures)


def treatment_line(treatment: Treatment) -> str:
    """The check in a line: "EQ: treated: rotation error 0.62 of the start's, ...", "EQ: not treated as published: ...".

    Of an arm that lacks a number, such as a diverged one, it says neither.
    """
    if treatment.failures:
        return f"{treatment.label}: not treated as published: {'; '.join(treatment.failures)}"
    of = f"of the {treatment.reference}'s"
    told = [
        ("rotation error {:.2f} " + of, treatment.rotation),
        ("scale error {:.2f} " + of, treatment.scale),
        ("PSNR {:+.1f} dB to the control", treatment.psnr),
        ("rFD {:.2f} " + of, treatment.reconstruction_distance),
    ]
    known = ", ".join(text.format(value) for text, value in told if value is not None)
    if all(value is not None for _, value in told):
        return f"{treatment.label}: treated: {known}"
    return f"{treatment.label}: treatment not measured in full{': ' if known else ''}{known}"


def _of(measured: Sequence[AutoencoderMeasurement], arm: str) -> list[AutoencoderMeasurement]:
    return [each for each in measured if each.arm == arm]


def _in_seeds(
    measured: Sequence[AutoencoderMeasurement], others: Sequence[AutoencoderMeasurement]
) -> list[AutoencoderMeasurement]:
    """Those of the others' seeds, which an arm that a race stopped has fewer of; all where none is shared."""
    seeds = {each.seed for each in others}
    return [each for each in measured if each.seed in seeds] or list(measured)


def _error(measured: Sequence[AutoencoderMeasurement], kind: str) -> float | None:
    """Mean over the probes of a kind and over seeds, as the paper prints it."""
    probes = [each.equivariance.get("latent", {}) for each in measured]
    return _mean(value for errors in probes for name, value in errors.items() if name.startswith(kind))


def _metric(measured: Sequence[AutoencoderMeasurement], name: str) -> float | None:
    return _mean(each.metrics.get(name) for each in measured)


def _distance(measured: Sequence[AutoencoderMeasurement]) -> float | None:
    """Fréchet distance of reconstructions, on whichever features it was taken."""
    names = [name for each in measured for name in each.metrics if name == "rfid" or name.startswith("rfd_")]
    return _metric(measured, names[0]) if names else None


def _mean(values: Iterable[float | None]) -> float | None:
    """None where a value is missing, or where there is none."""
    numbers = list(values)
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known and len(known) == len(numbers) else None


def _ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference
