"""Times of a batch, whose number the processor knows: whoever decides by it need not wait for the device."""

import torch
from torch import Tensor


def filled(time: float, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Times [B], all the same, on the device of x [B, ...].

    Args:
        dtype: of the times; None: int64 for a whole number, else that of x.
    """
    dtype = dtype or (torch.int64 if isinstance(time, int) else x.dtype)
    times = torch.full((len(x),), time, dtype=dtype, device=x.device)
    number = torch.tensor(time, dtype=dtype).item()  # rounded as the times are
    times.number = number  # pyright: ignore[reportAttributeAccessIssue]  (a tensor takes further attributes)
    return times


def number_of(times: Tensor) -> float:
    """The number in times [B] that are all the same; only of times that `filled` did not make is it read off."""
    number = getattr(times, "number", None)
    return float(times[0]) if number is None else number
