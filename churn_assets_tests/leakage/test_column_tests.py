"""A column alone: what it isolates, and whether anything but the label explains it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.model import Column, Kind
from churn_assets.data.validation.validate import validate
from churn_assets.features.compile import FeatureSpec, compile_features
from churn_assets.features.encode import encode_table
from churn_assets.leakage.column_tests import (
    EchoTest,
    RidgeBaseline,
    isolated_churners,
    least_run,
    measure_columns,
    ranked,
)
from churn_assets.synthetic.generate import generate
from churn_assets.synthetic.leaks import FINDABLE, plant_leak
from churn_assets.training.feature_table import as_of_of
from churn_assets_tests.strategies import STORE, TELECOM

LIMIT = STORE.audit.echo_roc_auc
NUMBER = Column("count", Kind.NUMBER)


def measured(contract, raw):
    customers = validate(contract, raw).customers
    columns, as_of = encode_table(contract, customers), as_of_of(customers)
    program = compile_features(contract).fit(columns, as_of)
    churned = customers["churned"].to_numpy().astype(np.int8)
    return measure_columns(contract, columns, program(columns, as_of), program.specs, churned, np.arange(len(churned)))


def echoes(contract, raw):
    return {
        name
        for name, alone in measured(contract, raw).items()
        if alone.values.is_echo(LIMIT) or (alone.gaps is not None and alone.gaps.is_echo(LIMIT))
    }


@pytest.fixture(scope="module", params=[STORE, TELECOM], ids=lambda c: c.name)
def honest(request):
    return request.param, generate(request.param, rows=5000, seed=11)


def test_legitimate_columns_are_not_echoes(honest):
    assert echoes(*honest) == set()


@pytest.mark.parametrize("kind", FINDABLE)
@pytest.mark.parametrize("strength", [0.65, 0.9])
def test_a_planted_leak_is_an_echo_and_nothing_else_is(honest, kind, strength):
    contract, raw = honest
    table, planted, leak = plant_leak(contract, raw, kind, strength, seed=4)
    assert echoes(planted, table) == {leak}


def test_two_leaks_and_a_repeated_leak_are_detected(honest):
    contract, raw = honest
    table, planted, first = plant_leak(contract, raw, "label_echo", 0.8, seed=1)
    table, planted, second = plant_leak(planted, table, "late_update", 0.8, seed=2)
    table, planted, third = plant_leak(planted, table, "label_echo", 0.8, seed=3)
    place = table.column_names.index(third)
    table = table.set_column(place, third, table[first])
    result = measured(planted, table)
    assert result[first].repeats == (third,)
    assert echoes(planted, table) == {first, second, third}


def test_with_too_few_churners_there_is_no_echo():
    table, planted, leak = plant_leak(STORE, generate(STORE, rows=300, seed=1), "label_echo", 0.9, seed=1)
    assert not measured(planted, table)[leak].values.is_echo(LIMIT)


def test_the_label_itself_is_an_echo_and_isolates_everyone():
    raw = generate(STORE, rows=2000, seed=1)
    table, planted, leak = plant_leak(STORE, raw, "label_echo", 0.9, seed=1)
    label = (np.asarray(raw["retained"].to_pylist()) == "0").astype(float)
    table = table.set_column(table.column_names.index(leak), leak, [label])
    result = measured(planted, table)[leak]
    assert result.values.is_echo(LIMIT)
    assert result.isolated_share == 1.0
    assert result.pr_auc_lift == pytest.approx(1.0)


def test_without_other_columns_only_the_intercept_remains():
    rng = np.random.default_rng(0)
    label = (rng.random(1000) < 0.3).astype(np.int8)
    ridge = RidgeBaseline(np.zeros((1000, 1), np.float32), [FeatureSpec("x", "number")], label, np.arange(1000) % 5)
    assert ridge.without([0]).sum() == 1


@given(isolated_rows=st.integers(1, 400), mixed=st.integers(50, 300), seed=st.integers(0, 1000), high=st.booleans())
def test_the_isolated_share_is_that_of_the_churners_beyond_every_kept_customer(isolated_rows, mixed, seed, high):
    rng = np.random.default_rng(seed)
    # Churned and kept in turn: no run of churners in the middle.
    values = np.concatenate([np.arange(2 * mixed), np.full(isolated_rows, 1e6 if high else -1e6)])
    label = np.concatenate([np.arange(2 * mixed) % 2, np.ones(isolated_rows)]).astype(np.int8)
    order = rng.permutation(len(values))
    share, longest = isolated_churners(values[order], label[order], NUMBER)
    at_the_edge = int(high)  # the last of the row is a churner, and stands beside them
    long_enough = isolated_rows + at_the_edge >= least_run(label)
    assert share == pytest.approx((isolated_rows + at_the_edge) / (isolated_rows + mixed) if long_enough else 0.0)
    assert longest.startswith("count ") is long_enough


def test_missing_values_and_choices_are_runs_of_their_own():
    values = np.array([np.nan] * 40 + [0.0] * 400 + [1.0] * 40)
    label = np.array([1] * 40 + [0] * 400 + [1] * 40, dtype=np.int8)
    assert isolated_churners(values, label, NUMBER) == (1.0, "count missing")
    state = Column("state", Kind.CATEGORY, choices=("open", "closed"))
    share, longest = isolated_churners(values[40:], label[40:], state)
    assert (share, longest) == (1.0, "state = closed")


@pytest.mark.parametrize(("share", "least"), [(0.02, 10), (0.2, 30), (0.5, 120), (0.92, 1380)])
def test_a_run_of_churners_says_less_where_most_customers_churn(share, least):
    assert least_run((np.arange(1000) < 1000 * share).astype(np.int8)) == least


def test_ranks_ignore_what_is_missing_and_share_ties():
    assert ranked(np.array([5.0, np.nan, 5.0, 9.0])).tolist() == pytest.approx([-1 / 6, 0.0, -1 / 6, 1 / 3])


def test_the_ridge_leaves_out_features():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3000, 2)).astype(np.float32)
    label = (rng.random(3000) < 0.4).astype(np.int8)
    specs = [FeatureSpec("a", "number"), FeatureSpec("b", "number")]
    ridge = RidgeBaseline(matrix, specs, label, np.arange(3000) % 5)
    target = ranked(matrix[:, 0].astype(float))
    assert np.corrcoef(ridge.predict(target, ridge.without([])), target)[0, 1] > 0.99
    assert abs(np.corrcoef(ridge.predict(target, ridge.without([0])), target)[0, 1]) < 0.1


@given(left_out=st.sets(st.integers(0, 5), max_size=5), labels=st.sampled_from([(0, 1), (0,), (1,)]))
def test_to_leave_features_out_is_never_to_have_had_them(left_out, labels):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(600, 6)).astype(np.float32)
    matrix[:, 1] = matrix[:, 0]
    matrix[:, 2] = np.where(rng.random(600) < 0.2, np.nan, matrix[:, 2])
    matrix[:, 3] = rng.integers(0, 3, 600)
    label, fold = (rng.random(600) < 0.4).astype(np.int8), np.arange(600) % 5
    specs = [FeatureSpec(name, "number", choices=("x", "y", "z") if name == "d" else ()) for name in "abcdef"]
    target = matrix[:, 0] + rng.normal(size=600)
    whole = RidgeBaseline(matrix, specs, label, fold)
    stay = [index for index in range(6) if index not in left_out]
    part = RidgeBaseline(matrix[:, stay], [specs[index] for index in stay], label, fold)
    expected = part.predict(target, part.without([]), labels)
    predicted = whole.predict(target, whole.without(list(left_out)), labels)
    assert predicted == pytest.approx(expected, abs=1e-8, nan_ok=True)


@pytest.mark.parametrize(
    "echo",
    [
        EchoTest(0.60, 0.0, 0.0, 1.0, 0.05),
        EchoTest(0.90, 0.2, 0.1, 1.0, 0.05),
        EchoTest(0.90, 0.0, 0.0, 0.0, 0.05),
        EchoTest(0.90, 0.0, 0.0, 1.6, 0.05),
        EchoTest(0.90, 0.0, 0.0, 1.0, 0.4),
    ],
    ids=["too weak", "tied to other columns", "an independent cause", "shares its causes", "not precise"],
)
def test_one_missing_condition_is_enough_for_no_echo(echo):
    assert not echo.is_echo(LIMIT)
    assert EchoTest(0.62, 0.05, 0.1, 1.1, 0.1).is_echo(LIMIT)
