"""Axes: places in percent, and ticks that are round, inside, few and named."""

import pytest

from twostage.report.scales import Scale, ratio_ticks, short_duration, short_number, thinned


def test_places_are_even_in_logs_and_in_values():
    assert [Scale(1, 100, in_logs=True).place(value) for value in (1, 10, 100)] == [0, 50, 100]
    assert [Scale(-2, 2).place(value) for value in (-2, 0, 1, 2)] == [0, 50, 75, 100]
    around = Scale.around([3.0, 7.0])
    assert around.place(3.0) == pytest.approx(100 - around.place(7.0))
    assert 0 < around.place(3.0) < 10
    assert Scale.around([5.0]).holds(5.0), "a single value has a scale, too"


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0, 10), [0, 2, 4, 6, 8, 10]),
        (Scale(2590, 3610, in_logs=True), [2600, 2800, 3000, 3200, 3400, 3600]),
        (Scale(90, 1700, in_logs=True), [100, 200, 300, 500, 700, 1000]),
        (Scale(1e-4, 1e4, in_logs=True), [1e-4, 1e-2, 1, 1e2, 1e4]),
        (Scale(-0.05, 0.05), [-0.04, -0.02, 0, 0.02, 0.04]),
    ],
)
def test_ticks_are_round_and_inside(scale, expected):
    assert scale.ticks() == pytest.approx(expected)


@pytest.mark.parametrize("low", [0.003, 0.9, 17.0, 2.6e3, 7.7e6])
@pytest.mark.parametrize("ratio", [1.02, 1.5, 3.9, 4.1, 12, 900, 1e7])
def test_there_are_a_few_ticks_on_any_range(low, ratio):
    scale = Scale(low, low * ratio, in_logs=True)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 7
    assert all(scale.holds(tick) or tick == pytest.approx(scale.high) for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_thinned_values_keep_their_distance_and_the_last():
    scale = Scale(100, 1600, in_logs=True)
    assert thinned([100, 110, 400, 800, 1500, 1600], scale, 10) == [110, 400, 800, 1600]
    assert 1.0 in ratio_ticks(Scale(0.4, 2.5, True))
    assert ratio_ticks(Scale(1.05, 1.6, True))[0] == 1.0


@pytest.mark.parametrize(
    ("value", "text"), [(800, "800"), (9056, "9,056"), (12500, "12.5k"), (3e6, "3M"), (0.02, "0.02"), (-0.5, "-0.5")]
)
def test_numbers_of_an_axis_are_short(value, text):
    assert short_number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (30, "30 s"), (300, "5 min"), (5400, "1.5 h")])
def test_times_of_an_axis_are_short(seconds, text):
    assert short_duration(seconds) == text
