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
from scipy.stats import spearmanr

from churn_assets.data.profile import NumberProfile, Spike, cramers_v, profile, roc_auc_alone
from churn_assets.data.relations import cohens_d, correlations, d_of_association
from churn_assets.data.validation.validate import validate
from churn_assets.evaluation.metrics import roc_auc
from churn_assets.reporting.profile import render_profile
from churn_assets.synthetic.generate import generate
from churn_assets_tests.html.phone import Tables
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


# -- relations ----------------------------------------------------------------------------------------


def test_cohens_d_of_shifted_values_is_the_shift():
    draw = np.random.default_rng(4)
    churned = np.arange(4000) % 4 == 0
    effect = cohens_d("x", draw.normal(size=4000) * 3.0 + 1.5 * churned, churned)
    assert effect is not None
    assert effect.low < 0.5 < effect.high
    assert effect.d == pytest.approx(0.5, abs=0.1)
    reverse = cohens_d("x", draw.normal(size=4000), ~churned)
    assert reverse is not None
    assert reverse.low < 0.0 < reverse.high


def test_a_column_without_spread_has_no_effect_size():
    churned = np.array([True, True, False, False])
    assert cohens_d("x", np.array([1.0, 1.0, 2.0, 2.0]), churned) is None
    assert cohens_d("x", np.array([1.0, np.nan, 2.0, 3.0]), churned) is None
    assert d_of_association("x", 1.0, 0.2) is None
    assert d_of_association("x", None, 0.2) is None


def test_a_yes_no_column_has_the_same_effect_as_a_number_and_as_a_category():
    draw = np.random.default_rng(5)
    churned = np.arange(5000) % 5 == 0
    values = (draw.random(5000) < np.where(churned, 0.6, 0.3)).astype(float)
    as_number = cohens_d("x", values, churned)
    as_category = d_of_association("x", cramers_v(values.astype(int), churned), 0.2)
    assert as_number is not None
    assert as_category is not None
    assert as_category.d == pytest.approx(as_number.d, abs=0.03)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4) | st.none()), min_size=2, max_size=50))
def test_correlations_are_those_of_scipy(pairs):
    first = np.array([float(a) for a, _ in pairs])
    second = np.array([np.nan if b is None else float(b) for _, b in pairs])
    ((_, found), (mirrored, _)) = correlations({"a": first, "b": second}).values
    known = ~np.isnan(second)
    assert found == mirrored
    if len(set(first[known])) < 2 or len(set(second[known])) < 2:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(first[known], second[known]).statistic)


def test_the_profile_has_effects_correlations_and_missing_shares_over_time():
    customers = small()
    cohort = STORE.time.cohort
    order = np.argsort(customers[cohort].cast(pa.int32()).to_numpy(), kind="stable")
    late = np.zeros(400, dtype=bool)
    late[order[200:]] = True
    cells = pa.array(np.arange(400) % 90, mask=late)
    customers = customers.set_column(customers.column_names.index("esent"), "esent", cells)
    table_profile = profile(STORE, customers)
    sizes = [abs(effect.d) for effect in table_profile.effects]
    assert sizes == sorted(sizes, reverse=True)
    assert {effect.column for effect in table_profile.effects} >= {"avgorder", "favday", "refill"}
    shares = table_profile.cohort.missing["esent"]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    text = render_profile(table_profile)
    for title in ("Cohen&#39;s d", "Correlation of columns", "Missing share by cohort"):
        assert title in text
    tables = Tables(text)
    assert tables.count == 3
    assert tables.wide == []
