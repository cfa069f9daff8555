"""Values of settings: words among those that there are, numbers finite and in their range, which NaN never is."""

import math
from collections.abc import Iterable

LARGEST_SEED = (1 << 63) - 1  # that the order of samples takes


def require_number(
    name: str, value: float, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    """Refuse a number that is not finite or out of its range.

    Args:
        name: of the setting, as the error has it.
        least: the smallest that is allowed.
        above: what is just too small.
        most: the largest that is allowed.

    Raises:
        ValueError: naming the setting, its range and the value.
    """
    if math.isfinite(value) and least <= value <= most and value > above:
        return
    ends = {"at least": least, "above": above, "at most": most}
    limits = [f"{words} {end:g}" for words, end in ends.items() if math.isfinite(end)]
    raise ValueError(f"{name} must be {' and '.join([*limits, 'finite'])}, got {value}")


def require_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a word that is none of the few that there are.

    Raises:
        ValueError: naming the setting and them.
    """
    if value not in choices:
        raise ValueError(f"{name} {value!r} is unknown: use one of {', '.join(choices)}")


def require_counts(num_workers: int, seed: int, **counts: int | None) -> None:
    """Refuse numbers of a data module that nothing can be read with.

    Args:
        counts: whose least is 1, by the names of its arguments; None takes all.

    Raises:
        ValueError: naming the key, its range and the value.
    """
    for name, count in counts.items():
        require_number(f"data.init_args.{name}", 1 if count is None else count, least=1)
    require_number("data.init_args.num_workers", num_workers, least=0)
    require_number("data.init_args.seed", seed, least=0, most=LARGEST_SEED)
