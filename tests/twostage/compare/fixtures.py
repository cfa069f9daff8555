"""Times of parts that no machine was asked for."""

from dataclasses import replace

from twostage.compare.budget import SIZES, Costs, Work

WORK = Work(
    num_arms=2, num_trained=1, num_taken_over=1, tuning_steps=200, num_train=2000, num_held_out=2000, num_workers=0
)
COSTS = Costs(
    ready=0.1,
    diagnosis=2.0,
    tuning_start=3.0,
    tuning_step=0.05,
    encoding_start=1.0,
    encoded_image=0.001,
    reference_image=0.03,
    training_start=1.0,
    training_step={"small": 0.02, "medium": 0.04, "large": 0.15},
    measuring_start=0.5,
    sampled_image={"small": 0.04, "medium": 0.05, "large": 0.1},
    look=0.5,
    report=10.0,
)


def scaled(factor: float) -> Costs:
    """The same on a machine that is so many times slower."""
    changed = {}
    for name, value in vars(COSTS).items():
        changed[name] = {size: factor * value[size] for size in SIZES} if isinstance(value, dict) else factor * value
    return replace(COSTS, **changed)
