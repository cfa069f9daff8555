"""How soon a fine-tuning pays, on curves whose speed-ups are known."""

import pytest

from studies.how_soon import tables
from tests.studies.test_contrasts import results_of


def test_each_snapshot_has_its_share_of_the_last_ones_gain():
    text = tables(results_of(eighth=(1.0, 1.02, 0.98), half=(1.3, 1.31, 1.29), whole=(1.69, 1.68, 1.7)))
    rows = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in text.splitlines()[2:5]
    }
    assert [rows[arm][1] for arm in ("Eighth", "Half", "Whole")] == ["0%", "50%", "100%"]
    assert rows["Half"][0].startswith("1.30")
    assert [rows[arm][2] for arm in ("Eighth", "Half", "Whole")] == ["no", "yes", "yes"]
    assert text.endswith("**First faster: Half.**")


def test_where_none_is_faster_it_says_so():
    assert tables(results_of(half=(1.0, 1.02, 0.98), whole=(1.03, 0.99, 1.0))).endswith("**None is faster.**")


def test_a_bound_is_refused():
    with pytest.raises(ValueError, match="has no speed-up but a bound"):
        tables(results_of(half=(100.0, 1.0, 1.0), whole=(1.3, 1.3, 1.3)))
