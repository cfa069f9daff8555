"""In which precision latents and features are computed for a cache, whatever the trainer's precision is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ENCODING_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRAINER_PRECISIONS = ("32-true", "bf16-mixed")


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
    switches = [backends.cuda.matmul, backends.cudnn.conv, *onednn]  # pyright: ignore[reportAttributeAccessIssue]
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in [] if reduced else switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def at_least_float32(values: Tensor) -> Tensor:
    """What losses are computed in: float32 of 16 bits, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def require_float32_weights(precision: str) -> None:
    """Refuse a trainer's precision that rounds weights and inputs.

    Raises:
        ValueError: naming it and those that do not.
    """
    if str(precision) not in TRAINER_PRECISIONS:
        raise ValueError(
            f"trainer.precision {precision}: use {' or '.join(TRAINER_PRECISIONS)}; float16 overflows in losses summed "
            "over pixels, and weights of 16 bits are rounded and lose small updates"
        )
