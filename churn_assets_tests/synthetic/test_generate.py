"""Generated customers keep the contract, repeat themselves, and can be learnt from, not memorised."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Kind, Rule
from churn_assets.data.validation.validate import validate, validate_features_only
from churn_assets.errors import DataError
from churn_assets.features.compile import as_of_days, compile_features
from churn_assets.features.encode import encode_table
from churn_assets.synthetic.generate import AS_OF, BASE_RATE, generate, generate_batches
from churn_assets_tests.data.contracts import small_contract
from churn_assets_tests.data.violations import plant_dirt
from churn_assets_tests.strategies import CONTRACTS, STORE

EACH = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)

ODD = parse_contract(
    small_contract(
        """
    [time]
    as_of = "taken"
    [[rules]]
    name = "in_order"
    expression = "begun <= ended"
    [[rules]]
    name = "small_part"
    expression = "part <= whole"
    [[columns]]
    name = "ended"
    kind = "date"
    role = "input"
    low = 2023-01-01
    high = 2023-06-30
    [[columns]]
    name = "begun"
    kind = "date"
    role = "input"
    nullable = true
    [[columns]]
    name = "taken"
    kind = "date"
    role = "input"
    [[columns]]
    name = "part"
    kind = "number"
    low = -5.5
    high = -1.25
    [[columns]]
    name = "whole"
    kind = "integer"
    low = -6
    high = 3
    [[columns]]
    name = "flag"
    kind = "boolean"
    true = ["Y"]
    false = ["N"]
    [[columns]]
    name = "free"
    kind = "number"
    [[columns]]
    name = "note"
    kind = "text"
    role = "input"
    [[columns]]
    name = "only"
    kind = "category"
    choices = ["7"]
    [[columns]]
    name = "old"
    kind = "text"
    role = "ignore"
    """,
        kind="boolean",
    ),
    "odd.toml",
)


@pytest.mark.parametrize("contract", [*CONTRACTS, ODD], ids=lambda c: c.name)
@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 700))
def test_generated_customers_keep_the_contract(contract, seed, rows):
    table = generate(contract, rows, seed)
    assert table.num_rows == rows
    result = validate_features_only(contract, table)
    assert result.report.rows_rejected == 0, result.report.causes
    assert len(set(table[contract.key.name].to_pylist())) == rows


@EACH
def test_the_same_seed_gives_the_same_table_whatever_the_batches(contract):
    table = generate(contract, 70_000, 4)
    parts = list(generate_batches(contract, 70_000, 4, batch_rows=9_999))
    assert max(batch.num_rows for batch in parts) <= 9_999
    assert pa.Table.from_batches(parts).equals(table)
    assert not generate(contract, 100, 5).equals(table.slice(0, 100))


@EACH
def test_about_a_fifth_churn(contract):
    customers = validate(contract, generate(contract, 20_000, 6)).customers
    assert pc.mean(customers["churned"]).as_py() == pytest.approx(BASE_RATE, abs=0.02)


def test_no_date_lies_after_the_snapshot_asked_for():
    table = generate(STORE, 2000, 1, AS_OF.replace(year=2020))
    assert validate(STORE, table).report.as_of <= AS_OF.replace(year=2020)


# The real table's quantiles .25, .5, .75 (dates repaired), which the store's hints follow.
REAL = {"esent": (16, 32, 42), "eopenrate": (2.0, 13.2, 40.0), "avgorder": (40.0, 51.0, 74.3), "tenure": (94, 160, 624)}


@pytest.mark.parametrize("name", REAL)
def test_the_stores_marginals_are_near_the_real_tables(name):
    columns = encode_table(STORE, validate(STORE, generate(STORE, 20_000, 2)).customers)
    values = as_of_days(AS_OF) - columns["created"] if name == "tenure" else columns[name]
    spread = REAL[name][2] - REAL[name][0]
    for share, real in zip((0.25, 0.5, 0.75), REAL[name], strict=True):
        assert abs(np.quantile(values, share) - real) < 0.2 * spread


@EACH
def test_churn_can_be_predicted_but_not_perfectly(contract):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import average_precision_score

    customers = validate(contract, generate(contract, 12_000, 3)).customers
    columns, now = encode_table(contract, customers), as_of_days(AS_OF)
    matrix = compile_features(contract).fit(columns, now)(columns, now)
    churned = np.asarray(customers["churned"])
    model = HistGradientBoostingClassifier(max_iter=60, max_depth=4, random_state=0)
    model.fit(matrix[:8000], churned[:8000])
    score = average_precision_score(churned[8000:], model.predict_proba(matrix[8000:])[:, 1])
    assert 2 * BASE_RATE < score < 0.95


def test_a_contract_that_no_customer_can_keep_is_an_error():
    never = Rule("never", "esent < 0")
    with pytest.raises(DataError, match="no customer can be generated that keeps contract 'store'"):
        generate(dataclasses.replace(STORE, rules=(never,)), 50, 1)


@EACH
def test_planted_dirt_names_its_rows(contract):
    clean = generate(contract, 400, 1)
    dirty, planted = plant_dirt(contract, clean, 0.5, 1)
    assert plant_dirt(contract, clean, 0.5, 1) == (dirty, planted)
    assert len({item.row for item in planted}) >= 180
    reasons = {item.reason for item in planted}
    wanted = {"kind", "infinite", "null", "bounds", "choices", "label", "duplicate_id", "conflicting_label"}
    assert reasons == wanted
    untouched = sorted(set(range(400)) - {item.row for item in planted})
    assert validate_features_only(contract, dirty.take(pa.array(untouched))).report.rows_rejected == 0


def test_a_column_of_any_kind_can_be_generated():
    kinds = {column.kind for column in (*STORE.columns, *ODD.columns)}
    assert kinds == set(Kind)
