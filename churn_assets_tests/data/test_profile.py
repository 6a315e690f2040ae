"""The data profile: known shapes are found, the page shows them, nothing comes from elsewhere."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from churn_assets.data.profile import NumberProfile, Spike, cramers_v, profile, roc_auc_alone
from churn_assets.data.validation.validate import validate
from churn_assets.evaluation.metrics import roc_auc
from churn_assets.reporting.profile import render_profile
from churn_assets.synthetic.generate import generate
from churn_assets_tests.html.reader import read
from churn_assets_tests.strategies import CONTRACTS, STORE


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda c: c.name)
def made(request):
    raw = generate(request.param, rows=1500, seed=3)
    customers = validate(request.param, raw, source="generated customers", generated=True).customers
    return request.param, customers, profile(request.param, customers)


def test_the_profile_is_json_and_has_every_column(made):
    contract, customers, table_profile = made
    found = msgspec.to_builtins(table_profile)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [c["name"] for c in found["columns"]] == [c.name for c in contract.kept_columns if c.role != "key"]
    for column in found["columns"]:
        assert column["missing"] == customers[column["name"]].null_count


def test_histograms_hold_every_known_value_once(made):
    _, customers, table_profile = made
    numbers = [column for column in table_profile.columns if isinstance(column, NumberProfile)]
    assert numbers
    for column in numbers:
        drawn = column.histogram
        assert sum(drawn.kept) + sum(drawn.churned) == customers.num_rows - column.missing
        assert drawn.edges == sorted(drawn.edges)


def test_the_page_is_whole_and_loads_nothing(made):
    _, _, found = made
    text = render_profile(found)
    tags = read(text).tags
    assert {tag for tag, _ in tags} & {"script", "link", "img"} == set()
    assert "generated, not real" in text
    for column in found.columns:
        assert column.name in text


def test_hostile_text_is_escaped():
    found = profile(STORE, small())
    hostile = "<script>x</script>"
    columns = [replace(column, doc=hostile) for column in found.columns]
    told = replace(found, title=hostile, source=hostile, columns=columns)
    assert "<script" not in render_profile(told)


def test_spikes_far_values_zeros_and_repeats_are_counted():
    customers = small()
    esent = np.arange(400)
    esent[:50] = 7
    esent[50:60] = 0
    esent[399] = 100_000
    customers = customers.set_column(customers.column_names.index("esent"), "esent", pa.array(esent))
    unusual = next(
        c for c in profile(STORE, customers).columns if isinstance(c, NumberProfile) and c.name == "esent"
    ).unusual
    assert unusual is not None
    assert unusual.spike == Spike(7.0, 50)
    assert unusual.zeros == 10
    assert (unusual.far_out, unusual.far_high) == (1, 100_000.0)
    twice = pa.concat_tables([customers, customers.slice(0, 5)])
    assert profile(STORE, twice).repeated_rows == 5 + profile(STORE, customers).repeated_rows


def test_a_column_of_nulls_or_of_one_value_has_a_profile():
    customers = small()
    for name, cells in (("lastorder", pa.nulls(400, pa.date32())), ("esent", pa.array([3] * 400))):
        customers = customers.set_column(customers.column_names.index(name), name, cells)
    found = {c.name: c for c in profile(STORE, customers).columns if isinstance(c, NumberProfile)}
    assert found["lastorder"].missing_share == 1.0
    assert found["lastorder"].roc_auc is None
    assert found["esent"].roc_auc == 0.5
    render_profile(profile(STORE, customers))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_the_strength_of_a_column_alone_is_the_roc_auc_of_the_metrics(pairs):
    values = np.array([float(v) for v, _ in pairs])
    churned = np.array([c for _, c in pairs])
    found = roc_auc_alone(values, churned)
    if churned.all() or not churned.any():
        assert found is None
    else:
        assert found == pytest.approx(roc_auc(churned.astype(float), values))


def test_the_association_is_1_for_a_category_equal_to_the_label_and_0_for_an_unrelated_one():
    churned = np.arange(400) % 2 == 0
    assert cramers_v(churned.astype(int), churned) == pytest.approx(1.0, abs=0.01)
    assert cramers_v(np.arange(400) // 2 % 3, churned) == pytest.approx(0.0, abs=0.01)
    assert cramers_v(np.zeros(400), churned) is None


def small() -> pa.Table:
    raw = generate(STORE, rows=600, seed=5)
    return validate(STORE, raw, source="generated customers", generated=True).customers.slice(0, 400)
