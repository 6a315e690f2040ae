"""One row at a time gives what the Scorer gives, for every kind of model and calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import DataError, RowsRejected
from churn_assets.features.compile import as_of_days
from churn_assets.scoring.online.scorer import OneRow, calibrate_one
from churn_assets_tests.scoring.tiny import AS_OF, CALIBRATIONS, KINDS, customers, json_rows, scorer_of

AT = as_of_days(AS_OF)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_the_row_of_the_table(kind):
    scorer, table = scorer_of(kind), customers(60, seed=11)
    scores, one = scorer.score_table(table, AS_OF), OneRow(scorer)
    bands, decisions = scorer.band(scores.probability), scorer.decide(scores.probability)
    for index, row in enumerate(json_rows(table)):
        found = one.score(row, AT)
        assert found.probability == pytest.approx(scores.probability[index], abs=1e-9)
        assert found.margin == pytest.approx(scores.margin[index], abs=1e-9)
        assert (found.decision, found.band) == (bool(decisions[index]), str(bands[index]))


@pytest.mark.parametrize("name", CALIBRATIONS)
@given(margin=st.floats(-800, 800))
def test_a_calibration_of_one_float_is_that_of_an_array(name, margin):
    calibration = CALIBRATIONS[name]
    assert calibrate_one(calibration)(margin) == pytest.approx(
        float(calibration.apply(np.array([margin]))[0]), abs=1e-12
    )


def test_values_outside_the_training_range_are_named_with_the_range():
    scorer = scorer_of()
    (row,) = json_rows(customers(1, seed=3))
    outside = {
        name: (value, low, high) for name, value, low, high in OneRow(scorer).score({**row, "sent": 999}, AT).outside
    }
    assert outside["sent"] == (999.0, *scorer.ranges["sent"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_beyond_32_bits_is_missing_as_in_a_table(kind):
    scorer = scorer_of(kind)
    one, row = OneRow(scorer), json_rows(customers(1, seed=3))[0]
    features = one._features
    found = {}
    for value in (1e39, -1e39, float("inf"), float("nan")):
        one._features = lambda cells, at, value=value: (value, *features(cells, at)[1:])
        found[value] = one.score(row, AT)
    assert len({scored.probability for scored in found.values()}) == 1
    assert all(math.isfinite(told[1]) for scored in found.values() for told in scored.outside)


def test_a_row_that_breaks_a_rule_is_refused_with_its_values():
    (row,) = json_rows(customers(1, seed=3))
    with pytest.raises(RowsRejected, match=r"lastorder '2011-01-01'.*created_before_last_order"):
        OneRow(scorer_of()).score({**row, "created": "2012-01-01", "lastorder": "2011-01-01"}, AT)


def test_a_score_that_is_no_number_is_refused():
    one = OneRow(scorer_of())
    one._calibrate = lambda margin: float("nan")
    with pytest.raises(DataError, match="no finite score"):
        one.score(json_rows(customers(1, seed=3))[0], AT)
