"""Forecasts: the numbers are the predictors', and what is said of them goes with the study's record."""

import json
from dataclasses import asdict

import pytest

from eqvae.data import open_source
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample
from tests.eqvae.tiny import tiny_autoencoder
from twostage.compare.forecast import Gauge, Record, forecast, sentence

QUANTITY = next(iter(PREDICTORS["slope"].metrics())).name
NEAR, FAR = Record(0.0, 75, 41), Record(1.5, 75, 66)
GAUGE = Gauge(QUANTITY, "lower", 0.1, (NEAR, FAR))


def test_the_record_is_that_of_pairs_as_far_apart():
    assert GAUGE.record_of(1.0, 1.149) == NEAR
    assert GAUGE.record_of(1.0, 0.849) == FAR
    assert (NEAR.share, FAR.share) == (41 / 75, 66 / 75)


@pytest.mark.parametrize(("better", "winner", "loser"), [("lower", "eq:a", "a"), ("higher", "a", "eq:a")])
def test_the_better_number_is_foretold_to_be_faster(better, winner, loser):
    gauge = Gauge(QUANTITY, better, 0.1, (NEAR, FAR))
    line = sentence(gauge, "eq:a", "a", {"eq:a": 1.0, "a": 2.0})
    assert line.startswith(f"forecast: a generator learns faster on {winner} than on {loser}: ")
    assert f"1 against 2, {better} is better; of 75 pairs about as far apart 88% came as foretold" in line


@pytest.mark.parametrize("own", [1.95, 2.0])
def test_what_lies_too_near_is_not_foretold(own):
    assert sentence(GAUGE, "eq:a", "a", {"eq:a": own, "a": 2.0}).startswith("forecast: none for eq:a against a: ")
    sure = Gauge(QUANTITY, "lower", 0.1, (Record(0.0, 10, 9),))
    assert sentence(sure, "eq:a", "a", {"eq:a": own, "a": 2.0}).startswith("forecast: none") is (own == 2.0)


def test_numbers_are_those_of_the_autoencoders(tmp_path):
    folders, values = {}, {}
    source = open_source("shapes:120:1", 32)
    for seed, word in enumerate(("control", "a", "b")):
        autoencoder = tiny_autoencoder(seed=seed)
        folders[word] = tmp_path / word
        autoencoder.save_pretrained(folders[word])
        values[word] = PREDICTORS["slope"](autoencoder_to_sample(autoencoder, source))[QUANTITY]
    gauge = Gauge(QUANTITY, "lower", 1e-9, (Record(0.0, 10, 8),))
    lines = list(forecast(folders, "control", "shapes:120:1", 32, gauge))
    assert lines == [sentence(gauge, word, "control", values) for word in ("a", "b")]
    assert all("80%" in line for line in lines)


def test_what_cannot_be_measured_is_said_and_stops_nothing(tmp_path):
    tiny_autoencoder().save_pretrained(tmp_path / "a")
    lines = list(forecast({"a": tmp_path / "a", "b": tmp_path / "gone"}, "a", "shapes:120:1", 32, GAUGE))
    assert len(lines) == 1
    assert lines[0].startswith("forecast: none: ")
    assert "gone" in lines[0]


def test_a_gauge_is_kept_in_a_file(tmp_path):
    (tmp_path / "gauge.json").write_text(json.dumps(asdict(GAUGE)))
    assert Gauge.load(tmp_path / "gauge.json") == GAUGE


@pytest.mark.parametrize(
    "changed",
    [{"quantity": "none/such"}, {"better": "open"}, {"spread": 0.0}, {"records": (FAR,)}, {"records": (NEAR, NEAR)}],
)
def test_what_is_no_gauge_is_refused(changed):
    with pytest.raises(ValueError, match="gauge"):
        Gauge(**{"quantity": QUANTITY, "better": "lower", "spread": 0.1, "records": (NEAR, FAR)} | changed)
