"""Learning rates as functions of the step, and that both stages follow them."""

import math

import pytest
from lightning.pytorch.callbacks import Callback

from eqvae.training.schedules import learning_rate_factor
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


def test_an_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="decay 'linear' of the learning rate is unknown: use one of constant, cosine"):
        learning_rate_factor(0, 10, decay="linear")


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
