"""Expected loss by segment adds up, and says how much of it is chance."""

import numpy as np
import pyarrow as pa

from churn_assets.scoring.call_list import MISSING, RISK_BAND, by_segment, segment_table
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, scorer_of

SCORER = scorer_of()
TABLE = customers(500, 4)
PROBABILITY = SCORER.score_table(TABLE, AS_OF).probability
SEGMENTS = by_segment(CONTRACT, TABLE, PROBABILITY, SCORER.band(PROBABILITY))


def test_every_column_of_choices_and_the_band_divides_all_customers_and_all_loss():
    assert list(dict.fromkeys(s.column for s in SEGMENTS)) == ["paperless", "city", RISK_BAND]
    for column in ("paperless", "city", RISK_BAND):
        own = [s for s in SEGMENTS if s.column == column]
        assert sum(s.customers for s in own) == 500
        assert np.isclose(sum(s.expected_churners for s in own), PROBABILITY.sum())
        assert np.isclose(sum(s.share_of_loss for s in own), 1.0)
        assert [s.expected_loss for s in own] == sorted((s.expected_loss for s in own), reverse=True)


def test_a_segment_is_the_customers_of_one_value_missing_among_them():
    cities = TABLE["city"].to_pylist()
    for segment in (s for s in SEGMENTS if s.column == "city"):
        rows = [i for i, city in enumerate(cities) if (city or MISSING) == segment.segment]
        assert segment.customers == len(rows)
        assert np.isclose(segment.expected_loss, PROBABILITY[rows].sum() * CONTRACT.value.customer_value)
        assert np.isclose(segment.mean_probability, PROBABILITY[rows].mean())


def test_the_interval_holds_the_churners_that_chance_gives():
    rng = np.random.default_rng(3)
    bom = next(s for s in SEGMENTS if (s.column, s.segment) == ("city", "BOM"))
    own = PROBABILITY[np.array(TABLE["city"].to_pylist()) == "BOM"]
    drawn = (rng.random((2000, len(own))) < own).sum(axis=1)
    assert 0.92 < np.mean((drawn >= bom.low) & (drawn <= bom.high)) < 0.98


def test_the_table_has_a_column_a_field_and_no_customers_give_no_segments():
    table = segment_table(SEGMENTS)
    assert isinstance(table, pa.Table)
    assert table.num_rows == len(SEGMENTS)
    assert by_segment(CONTRACT, TABLE.slice(0, 0), PROBABILITY[:0], np.array([])) == []
