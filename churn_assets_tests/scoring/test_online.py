"""One row at a time gives what the Scorer gives, for every kind of model and calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import ContractConflict, DataError, RowsRejected
from churn_assets.features.compile import as_of_days
from churn_assets.scoring.online import CustomerScorer, InputWarning, calibrate_value
from churn_assets_tests.scoring.tiny import AS_OF, CALIBRATIONS, KINDS, customers, json_rows, scorer_of

AT = as_of_days(AS_OF)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_the_row_of_the_table(kind):
    scorer, table = scorer_of(kind), customers(60, seed=11)
    scores, one = scorer.score_table(table, AS_OF), CustomerScorer(scorer)
    bands, decisions = scorer.band(scores.probability), scores.probability >= scorer.thresholds.value
    for index, row in enumerate(json_rows(table)):
        score = one.score(row, AT)
        assert score.probability == pytest.approx(scores.probability[index], abs=1e-9)
        assert score.margin == pytest.approx(scores.margin[index], abs=1e-9)
        assert (score.churn, score.risk_band) == (bool(decisions[index]), str(bands[index]))


@pytest.mark.parametrize("name", CALIBRATIONS)
@given(margin=st.floats(-800, 800))
def test_a_calibration_of_one_float_is_that_of_an_array(name, margin):
    calibration = CALIBRATIONS[name]
    assert calibrate_value(calibration)(margin) == pytest.approx(
        float(calibration.apply(np.array([margin]))[0]), abs=1e-12
    )


def test_values_outside_the_training_range_are_named_with_the_range():
    scorer = scorer_of()
    (row,) = json_rows(customers(1, seed=3))
    low, high = scorer.ranges["sent"]
    expected = InputWarning("sent", "999", f"{low:g} to {high:g}")
    assert expected in CustomerScorer(scorer).score({**row, "sent": 999}, AT).warnings
    assert expected in CustomerScorer(scorer).score_many([row, {**row, "sent": 999}], AT)[1].warnings


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_many_customers_get_the_scores_and_warnings_of_each_alone(kind, data):
    scorer = CustomerScorer(scorer_of(kind))
    rows = json_rows(customers(8, seed=data.draw(st.integers(0, 50))))
    for row in rows:
        row["sent"] = data.draw(st.integers(0, 1000))
        row["spent"] = data.draw(st.one_of(st.none(), st.floats(0, 1e4, allow_subnormal=False)))
    at = float(data.draw(st.integers(15_500, 17_500)))
    try:
        together = scorer.score_many(rows, at)
    except RowsRejected as rejected:
        with pytest.raises(RowsRejected):
            scorer.score(rows[rejected.violations[0].row], at)
        return
    for row, score in zip(rows, together, strict=True):
        alone = scorer.score(row, at)
        assert alone.probability == pytest.approx(score.probability, abs=1e-9)
        assert alone.warnings == score.warnings


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_beyond_32_bits_is_missing_as_in_a_table(kind):
    scorer = scorer_of(kind)
    one, row = CustomerScorer(scorer), json_rows(customers(1, seed=3))[0]
    features = one._features
    scores = {}
    for value in (1e39, -1e39, float("inf"), float("nan")):
        one._features = lambda cells, at, value=value: (value, *features(cells, at)[1:])
        scores[value] = one.score(row, AT)
    assert len({scored.probability for scored in scores.values()}) == 1
    assert all(math.isfinite(float(w.found)) for scored in scores.values() for w in scored.warnings)


def test_a_row_that_breaks_a_rule_is_refused_with_its_values():
    (row,) = json_rows(customers(1, seed=3))
    with pytest.raises(ContractConflict, match=r"lastorder '2011-01-01'.*created_before_last_order"):
        CustomerScorer(scorer_of()).score({**row, "created": "2012-01-01", "lastorder": "2011-01-01"}, AT)


def test_a_score_that_is_no_number_is_refused():
    one = CustomerScorer(scorer_of())
    one._calibrate = lambda margin: float("nan")
    with pytest.raises(DataError, match="no finite score"):
        one.score(json_rows(customers(1, seed=3))[0], AT)
