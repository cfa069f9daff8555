"""In which precision networks compute: that of caches, whatever the trainer's is, and which one is fastest here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from eqvae.devices import matmul_flops

ENCODING_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRAINER_PRECISIONS = ("32-true", "bf16-mixed")
AUTO = "auto"
Float32Products = Literal["highest", "high"]  # torch's names
WORTHWHILE = 1.5  # times as fast in bfloat16; less is lost on the casts around each product


@contextmanager
def encoding(precision: str, device: torch.device) -> Iterator[None]:
    """Networks run in this precision inside, also below a trainer's autocast.

    "float32" is that of IEEE 754 in every product and sum: no autocast, no TF32 on a CUDA device (neither matrix
    products nor convolutions), no bfloat16 inside oneDNN on a processor, whatever `torch.set_float32_matmul_precision`
    says. "bfloat16" is autocast: weights and what normalizations sum up stay float32. Weights must be float32.

    Raises:
        ValueError: for another precision.
    """
    if precision not in ENCODING_PRECISIONS:
        raise ValueError(f"encoding_precision {precision!r} is unknown: use one of {', '.join(ENCODING_PRECISIONS)}")
    reduced = precision != "float32"
    backends = torch.backends
    # torch makes all but the first at run time, and declares none of them.
    onednn = [backends.mkldnn.matmul, backends.mkldnn.conv]  # pyright: ignore[reportAttributeAccessIssue]
    switches = [backends.cuda.matmul, *onednn]
    before, of_convolutions = [switch.fp32_precision for switch in switches], _convolutions()
    old_name = _old_name()
    try:
        if not reduced:
            # The old name of the same setting, too: where the two differ, torch raises when it is asked for either.
            torch.set_float32_matmul_precision("highest")
            for switch in switches:
                switch.fp32_precision = "ieee"
            _set_convolutions("ieee")
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            yield
    finally:
        if not reduced:
            torch.set_float32_matmul_precision(old_name)
            for switch, value in zip(switches, before, strict=True):
                switch.fp32_precision = value
            _set_convolutions(of_convolutions)


@contextmanager
def float32_products(precision: Float32Products, device: torch.device) -> Iterator[None]:
    """How a CUDA device multiplies float32 inside, in products of matrices and in convolutions; others do as before.

    "highest" is IEEE 754; "high" is TF32, which rounds factors to 10 bits of mantissa and adds in float32, several
    times as fast. torch's own default is neither: TF32 in convolutions alone.
    """
    if device.type != "cuda":
        yield
        return
    before, of_convolutions = _old_name(), _convolutions()
    try:
        torch.set_float32_matmul_precision(precision)
        _set_convolutions({"highest": "ieee", "high": "tf32"}[precision])
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        _set_convolutions(of_convolutions)


def _convolutions() -> str:
    """How cuDNN convolves float32: "ieee", "tf32", or "none", which is IEEE 754 likewise."""
    return torch.backends.cudnn.conv.fp32_precision  # pyright: ignore[reportAttributeAccessIssue]  (made at run time)


def _set_convolutions(precision: str) -> None:
    """By torch's old name and by its new one: where they differ, torch raises when it is asked for the old."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.conv.fp32_precision = precision  # pyright: ignore[reportAttributeAccessIssue]


def _old_name() -> str:
    """What `torch.set_float32_matmul_precision` was last told; torch refuses to say it where the new names differ."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "high" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "highest"


def at_least_float32(values: Tensor) -> Tensor:
    """What losses are computed in: float32 of 16 bits, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def require_float32_weights(precision: str, known: Sequence[str] = TRAINER_PRECISIONS) -> None:
    """Refuse a trainer's precision that rounds weights and inputs.

    Raises:
        ValueError: naming it and those that do not.
    """
    if str(precision) not in known:
        raise ValueError(
            f"trainer.precision {precision}: use {' or '.join(TRAINER_PRECISIONS)}; float16 overflows in losses summed "
            "over pixels, and weights of 16 bits are rounded and lose small updates"
        )


def choose_precision(device: torch.device) -> tuple[str, str]:
    """The faster one of `ENCODING_PRECISIONS` on this device, and a line that says why.

    A product of random matrices is timed in both: bfloat16 is many times as fast on a GPU and on a processor with tiles
    for it (AMX), and slower on one that has to emulate it.
    """
    speeds = {}
    for name in ENCODING_PRECISIONS:
        with encoding(name, device):
            speeds[name] = matmul_flops(device) / 1e9
    fast = speeds["bfloat16"] > WORTHWHILE * speeds["float32"]
    measured = " and ".join(f"{speed:,.0f} GFLOP/s in {name}" for name, speed in speeds.items())
    chosen = "bfloat16" if fast else "float32"
    return chosen, f"precision {chosen}: products of matrices run at {measured} on this {device.type} device"
