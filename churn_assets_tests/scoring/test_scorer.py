"""Thresholds, bands, ranges and refusals of the one scorer."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import DataError, RowsRejected
from churn_assets.scoring.scorer import BAND_NAMES, Bands, Thresholds, feature_ranges
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows, scorer_of, training

SCORER = scorer_of("boosted")


def test_the_chosen_threshold_decides():
    probability = np.array([0.29, 0.3, 0.31])
    np.testing.assert_array_equal(probability >= SCORER.thresholds.value, [False, True, True])
    assert not (probability >= Thresholds(SCORER.thresholds.values, "capacity").value).any()


def test_bands_are_cut_where_the_card_says():
    bands = SCORER.band(np.array([0.0, 0.2999, 0.3, 0.6999, 0.7, 1.0]))
    assert bands.tolist() == ["low", "low", "medium", "medium", "high", "high"]


@given(probability=st.floats(0, 1), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_band_of_one_probability_is_that_of_an_array(probability, cuts):
    for value in (probability, *cuts):
        bands = Bands(min(cuts), max(cuts))
        assert bands.band(value) == BAND_NAMES[bands.codes(np.array([value]))[0]]


@pytest.mark.parametrize("values", [{"f1": 1.2}, {"f1": float("nan")}, {"profit": 0.5}], ids=str)
def test_invalid_thresholds_are_refused(values):
    with pytest.raises(ValueError, match=r"threshold"):
        Thresholds(values, "f1")


@pytest.mark.parametrize("cuts", [(0.7, 0.3), (-0.1, 0.5), (0.5, 1.5), (0.1, float("nan"))])
def test_invalid_bands_are_refused(cuts):
    with pytest.raises(ValueError, match="expected 0 <= medium <= high <= 1"):
        Bands(*cuts)


def test_as_of_may_have_any_of_its_forms():
    table = customers(30)
    expected = SCORER.score_table(table, AS_OF).probability
    days = (dt.date(2014, 1, 20) - dt.date(1970, 1, 1)).days
    for as_of in (
        days,
        float(days),
        dt.date(2014, 1, 20),
        dt.datetime(2014, 1, 20, 23, tzinfo=dt.UTC),
        "2014-01-20T08:00:00Z",
        np.full(30, float(days)),
    ):
        np.testing.assert_array_equal(SCORER.score_table(table, as_of).probability, expected)
    later = SCORER.score_table(table, "2014-06-20").margin
    assert (later != SCORER.score_table(table, AS_OF).margin).any()


def test_one_instant_a_row_reaches_every_chunk():
    table = customers(40_000)
    at = np.where(np.arange(40_000) < 20_000, 16090.0, 16400.0)
    mixed = SCORER.score_table(table, at).margin
    np.testing.assert_array_equal(mixed[:20_000], SCORER.score_table(table.slice(0, 20_000), 16090.0).margin)
    np.testing.assert_array_equal(mixed[20_000:], SCORER.score_table(table.slice(20_000), 16400.0).margin)


def test_ranges_are_the_extremes_of_the_numbers():
    program, matrix, _ = training()
    ranges = feature_ranges(program.specs, matrix)
    assert "city" not in ranges
    assert ranges["sent"] == (np.nanmin(matrix[:, 0]), np.nanmax(matrix[:, 0]))


def test_an_unknown_category_is_refused_in_tables_and_rows():
    table = customers(5)
    wrong = table.set_column(table.schema.get_field_index("city"), "city", [["BLR", "PARIS", None, "DEL", "BOM"]])
    with pytest.raises(RowsRejected, match="row 1, column 'city': found 'PARIS'"):
        SCORER.score_table(wrong, AS_OF)
    with pytest.raises(RowsRejected, match="row 1, column 'city': found 'PARIS'"):
        SCORER.score_rows(json_rows(wrong), AS_OF)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "12", -1, None])
def test_a_bad_number_is_refused_not_scored(value):
    row = json_rows(customers(1))[0] | {"sent": value}
    with pytest.raises(RowsRejected, match="row 0, column 'sent'"):
        SCORER.score_rows([row], AS_OF)


def test_a_row_without_a_finite_score_is_an_error_never_a_number():
    class Broken:
        kind, cost = "broken", 0.0

        def margin(self, matrix):
            return np.where(np.arange(len(matrix)) == 3, np.nan, 0.0)

    with pytest.raises(DataError, match="row 3 has no finite score"):
        dataclasses.replace(SCORER, model=Broken()).score_table(customers(5), AS_OF)  # type: ignore[arg-type]


def test_no_rows_have_no_scores():
    assert SCORER.score_rows([], AS_OF).probability.shape == (0,)
    assert SCORER.score_table(customers(5).slice(5), AS_OF).probability.shape == (0,)
