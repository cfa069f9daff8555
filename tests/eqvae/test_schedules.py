"""Learning rates as functions of the step, and that both stages follow them."""

import math

import pytest
import torch
from diffusers.optimization import SchedulerType, get_scheduler
from lightning.pytorch.callbacks import Callback

from eqvae.training.schedules import OF_DIFFUSERS, OWN, learning_rate_factor, require_schedule
from tests.tiny import stage_one, stage_two


def factors(max_steps, **options):
    return [learning_rate_factor(step, max_steps, **options) for step in range(max_steps + 1)]


def test_warm_up_is_linear_and_constant_stays():
    assert factors(10, warmup_steps=4) == [0.25, 0.5, 0.75] + [1.0] * 8


def test_cosine_falls_to_zero_at_the_last_step():
    found = factors(12, warmup_steps=2, decay="cosine")
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[2:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(11)], abs=1e-12)


@pytest.mark.parametrize("max_steps", [100, 1_500_000])
def test_cosine_in_the_last_tenth_ends_at_one_percent(max_steps):
    """Halton-MaskGIT: constant for nine tenths, half-way down after 0.95, 1 % at the end."""
    tenth = max_steps // 10

    def factor(step):
        return learning_rate_factor(step, max_steps, tenth // 2, "cosine_in_last_tenth")

    assert factor(0) == 2 / tenth
    assert {factor(step) for step in range(tenth, 9 * tenth + 1, tenth)} == {1.0}
    assert factor(9 * tenth + 1) < 1
    assert factor(9 * tenth + tenth // 2) == pytest.approx((1 + 0.01) / 2, abs=1e-9)
    assert factor(max_steps) == factor(max_steps + 5) == pytest.approx(0.01, abs=1e-12)


def in_diffusers(name, max_steps, warmup_steps, learning_rate, **settings):
    """The rates that an optimizer has at each step under diffusers' schedule of this name."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=max_steps, **settings)
    rates = []
    for _ in range(max_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("decay", "settings"),
    [
        ("linear", {}),
        ("constant_with_warmup", {}),
        ("cosine_with_restarts", {}),
        ("cosine_with_restarts:3", {"num_cycles": 3}),
        ("polynomial:2", {"power": 2.0}),
        ("piecewise_constant:1:5,0.1:10,0.01", {"step_rules": "1:5,0.1:10,0.01"}),
    ],
)
def test_schedules_of_diffusers_are_diffusers(decay, settings):
    warmup_steps = 0 if "step_rules" in settings else 4
    rates = [0.5 * factor for factor in factors(24, warmup_steps=warmup_steps, decay=decay)[:24]]
    # Its polynomial ends at a rate of 1e-7, ours at that share of the rate.
    assert rates == pytest.approx(in_diffusers(decay.partition(":")[0], 24, 4, 0.5, **settings), abs=1e-7)
    assert len(set(rates)) > 2


def test_every_name_of_diffusers_is_there():
    assert {each.value for each in SchedulerType} <= {*OWN, *OF_DIFFUSERS}


def test_an_unknown_decay_is_refused(tmp_path):
    cases = {
        "square": "decay: square is none of constant, cosine, .*polynomial",
        "linear:2": "'linear:2' of the learning rate: linear takes no setting",
        "cosine_with_restarts:x": "'cosine_with_restarts:x' of the learning rate: invalid literal",
        "piecewise_constant": "write piecewise_constant:RULES, and no warmup_steps",
        "piecewise_constant:a": "'piecewise_constant:a' of the learning rate",
        "polynomial:-1": "'polynomial:-1' of the learning rate: power must be above 0",
        "cosine_with_restarts:-2": "num_cycles must be above 0",
    }
    for decay, expected in cases.items():
        with pytest.raises(ValueError, match=expected):
            require_schedule(decay, 0)
    with pytest.raises(ValueError, match="and no warmup_steps"):
        learning_rate_factor(0, 10, 2, "piecewise_constant:1:5,0.1")
    with pytest.raises(ValueError, match=r"model\.init_args\.warmup_steps must be at least 0"):
        stage_one(tmp_path, {"model.init_args.warmup_steps": -5})
    with pytest.raises(ValueError, match=r"model\.init_args\.gradient_clip_norm must be at least 0"):
        stage_one(tmp_path, {"model.init_args.gradient_clip_norm": -1})
    with pytest.raises(ValueError, match="decay: square is none of"):
        stage_one(tmp_path, {"model.init_args.decay": "square"})


class LearningRates(Callback):
    """Keeps the learning rate of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("stage", ["one", "two"])
def test_both_stages_follow_it(stage, tmp_path, request):
    options = {
        "trainer.max_steps": 20,
        "model.init_args.decay": "cosine_in_last_tenth",
        "model.init_args.learning_rate": 1e-3,
        "model.init_args.warmup_steps": 2,
    }
    rates = LearningRates()
    if stage == "one":
        images = {"num_images": 80, "image_size": 16}
        options |= {f"data.init_args.train.init_args.{name}": value for name, value in images.items()}
        options |= {"trainer.limit_val_batches": 0}
        run = stage_one(tmp_path, options, callbacks=[rates])
    else:
        run = stage_two(tmp_path, request.getfixturevalue("cache"), options, callbacks=[rates])
    run.trainer.fit(run.model, run.datamodule)
    expected = [0.5e-3] + [1e-3] * 18 + [1e-3 * (1 + 0.01) / 2]
    assert rates.seen == pytest.approx(expected, rel=1e-9)
