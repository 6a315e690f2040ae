"""One customer over Python floats: bit for bit what the arrays give."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.model import Severity
from churn_assets.errors import RowsRejected
from churn_assets.features import functions, scalar
from churn_assets.features.compile import compile_features, compile_rules
from churn_assets.features.encode import encode_rows
from churn_assets.features.scalar import RowReader, scalar_features, scalar_rules
from churn_assets_tests.scoring.tiny import CONTRACT as TINY
from churn_assets_tests.strategies import AS_OF_DAYS, CONTRACTS, make_columns, rows

ALL = [*CONTRACTS, TINY]
BY_NAME: dict[str, Any] = {"ids": lambda value: getattr(value, "name", None)}

# Everything the language has, over two columns that may be anything.
ODD = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -2.5,
    1e-300,
    1e300,
    -1e300,
    2.0**53 + 2,
    1e16,
    20_000.25,
    -719_163.0,
    2_932_896.5,
]
numbers = (
    st.sampled_from(ODD) | st.floats(allow_nan=True, allow_infinity=False) | st.integers(-10_000, 10_000).map(float)
)


def same(one: float, two: float) -> bool:
    return (one != one and two != two) or one == two


def cells_of(contract, columns, row):
    """The reader's view of one row of Columns."""
    cells = {}
    for column in contract.scoring_columns:
        value = columns[column.name][row]
        cells[column.name] = float("nan") if value is None or isinstance(value, str) else float(value)
        if column.choices and cells[column.name] < 0:
            cells[column.name] = float("nan")
    return cells


@pytest.mark.parametrize("name", sorted(scalar.NAMESPACE.keys() - {"codes", "lookup"}))
@given(data=st.data())
def test_every_function_gives_the_bits_of_its_array_form(name, data):
    counts = {"clip_": 3, "where_": 3, "min_": 3, "max_": 3, "both": 3, "either": 3}
    binary = ("less", "equal", "greater", "not_equal", "divide", "fill_")
    count = counts.get(name, 2 if name.startswith(binary) else 1)
    values = data.draw(st.lists(numbers, min_size=count, max_size=count))
    with np.errstate(all="ignore"):
        expected = float(np.asarray(functions.NAMESPACE[name](*(np.array([v]) for v in values))).reshape(-1)[0])
    assert same(scalar.NAMESPACE[name](*values), expected), values


def test_both_ways_know_the_same_functions():
    assert scalar.NAMESPACE.keys() == functions.NAMESPACE.keys()


@given(x=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8, unique=True).map(sorted), data=st.data())
def test_a_lookup_gives_the_bits_of_np_interp(x, data):
    y = data.draw(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=len(x), max_size=len(x)))
    by = data.draw(st.sampled_from(x) | st.floats(-2e6, 2e6) | st.just(float("nan")))
    statistic = {"x": x, "y": y}
    expected = float(functions.lookup(statistic, np.array([by]))[0])
    assert same(scalar.NAMESPACE["lookup"](scalar._knots(statistic), by), expected)


@pytest.mark.parametrize("contract", ALL, **BY_NAME)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), as_of=st.floats(0, 25_000))
def test_features_of_one_row_are_those_of_the_row_among_many_bit_for_bit(contract, seed, as_of):
    many = make_columns(contract, 40, seed)
    program = compile_features(contract).fit(many, AS_OF_DAYS)
    matrix, run = program(many, as_of), scalar_features(contract, program)
    for row in range(40):
        values = np.frombuffer(array("f", run(cells_of(contract, many, row), as_of)), dtype=np.float32)
        assert np.array_equal(np.where(np.isinf(values), np.nan, values), matrix[row], equal_nan=True)


@pytest.mark.parametrize("contract", ALL, **BY_NAME)
@given(seed=st.integers(0, 2**32 - 1))
def test_rules_break_for_one_row_as_for_many(contract, seed):
    many = make_columns(contract, 40, seed)
    broken = {rule.name: rule(many, AS_OF_DAYS) for rule in compile_rules(contract)}
    both = [*scalar_rules(contract, Severity.REJECT), *scalar_rules(contract, Severity.WARN)]
    assert {name for name, _ in both} == set(broken)
    for name, rule in both:
        for row in range(40):
            assert (rule(cells_of(contract, many, row), AS_OF_DAYS) == 0.0) == broken[name][row]


@pytest.mark.parametrize("contract", ALL, **BY_NAME)
@given(data=st.data())
def test_the_quick_reader_reads_what_encode_rows_reads(contract, data):
    row = data.draw(rows(contract))
    columns = encode_rows(contract, [row])
    cells, expected = RowReader(contract)(row), cells_of(contract, columns, 0)
    assert cells.keys() == expected.keys()
    assert all(same(cells[name], expected[name]) for name in cells)


_ANY = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just([]) | st.just("2012-02-30")
)


@pytest.mark.parametrize("contract", ALL, **BY_NAME)
@given(data=st.data())
def test_the_quick_reader_refuses_what_encode_rows_refuses(contract, data):
    row = data.draw(rows(contract))
    name = data.draw(st.sampled_from([*row, "unknown"]))
    row = {**row, name: data.draw(_ANY)}
    if data.draw(st.booleans()):
        row.pop(data.draw(st.sampled_from(list(row))))
    outcome, expected = _outcome(RowReader(contract), row), _outcome(lambda row: encode_rows(contract, [row]), row)
    if isinstance(expected, dict):
        cells = cells_of(contract, expected, 0)
        assert all(same(outcome[key], cells[key]) for key in cells)
    else:
        assert outcome == expected


def _outcome(read, row):
    """What reading gives, or the violations."""
    try:
        return read(row)
    except RowsRejected as error:
        return error.violations
