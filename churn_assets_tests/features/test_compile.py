"""One function for one row and ten million: the same bits, whatever the company a row keeps."""

import ast
import datetime as dt
import itertools
import json
import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.expressions import FITTED, FUNCTIONS, columns_read, parse_features
from churn_assets.features import functions
from churn_assets.features.compile import CHUNK_ROWS, as_of_days, compile_features, compile_rules
from churn_assets.features.encode import encode_rows
from churn_assets_tests.contract.small import SMALL, small
from churn_assets_tests.features.interpreter import FUNCTIONS as PLAIN
from churn_assets_tests.features.interpreter import Interpreter
from churn_assets_tests.strategies import AS_OF, AS_OF_DAYS, CONTRACTS, STORE, columns, make_columns, rows, tables

BY_NAME: dict[str, Any] = {"ids": lambda value: getattr(value, "name", None)}
MANY = 2 * CHUNK_ROWS + 3


def _rows_of(columns, which):
    return {name: values[which] for name, values in columns.items()}


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda c: c.name)
def fitted(request):
    """A fitted program, many rows that keep its contract, and their matrix."""
    many = make_columns(request.param, MANY, seed=1)
    program = compile_features(request.param).fit(many, AS_OF_DAYS)
    return program, many, program(many, AS_OF_DAYS)


@pytest.mark.parametrize("row", [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS, MANY - 1])
def test_one_row_alone_is_the_row_among_many_bit_for_bit(fitted, row):
    program, many, matrix = fitted
    alone = program(_rows_of(many, slice(row, row + 1)), AS_OF_DAYS)
    assert alone.tobytes() == matrix[row : row + 1].tobytes()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, MANY))
def test_shuffled_rows_give_shuffled_rows_bit_for_bit(fitted, seed, size):
    program, many, matrix = fitted
    some = np.random.default_rng(seed).permutation(MANY)[:size]
    assert program(_rows_of(many, some), AS_OF_DAYS).tobytes() == matrix[some].tobytes()


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, MANY), max_size=4))
def test_cutting_a_table_changes_no_bit(fitted, cuts):
    program, many, matrix = fitted
    edges = [0, *sorted(cuts), MANY]
    parts = [_rows_of(many, slice(a, b)) for a, b in itertools.pairwise(edges)]
    assert b"".join(program(part, AS_OF_DAYS).tobytes() for part in parts) == matrix.tobytes()


def test_the_instant_may_differ_from_row_to_row(fitted):
    program, many, _ = fitted
    instants = AS_OF_DAYS + np.arange(MANY, dtype=float) % 50
    together = program(many, instants)
    for row in (0, 7, CHUNK_ROWS, MANY - 1):
        alone = program(_rows_of(many, slice(row, row + 1)), float(instants[row]))
        assert alone.tobytes() == together[row : row + 1].tobytes()


def test_no_rows_give_no_rows(fitted):
    program, many, matrix = fitted
    assert program(_rows_of(many, slice(0, 0)), AS_OF_DAYS).shape == (0, matrix.shape[1])


def test_the_matrix_is_float32_in_c_order(fitted):
    program, _, matrix = fitted
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.shape[1] == len(program.specs) == len(program.names)
    for index, spec in enumerate(program.specs):
        assert spec.kind == ("category" if spec.choices else "number")
        if spec.choices:
            present = matrix[:, index][~np.isnan(matrix[:, index])]
            assert set(present) <= set(range(len(spec.choices)))


@pytest.mark.parametrize("contract", CONTRACTS, **BY_NAME)
def test_the_matrix_has_the_feature_columns_and_then_the_features(contract):
    names = [c.name for c in contract.feature_columns] + [f.name for f in contract.features if f.model]
    assert list(compile_features(contract).names) == names


@pytest.mark.parametrize("contract", CONTRACTS, **BY_NAME)
@given(data=st.data())
def test_no_row_that_keeps_the_contract_makes_an_infinity(contract, data):
    table = data.draw(columns(contract, 300))
    matrix = compile_features(contract).fit(table, AS_OF_DAYS)(table, AS_OF_DAYS)
    assert not np.isinf(matrix).any()


@pytest.mark.parametrize("contract", CONTRACTS, **BY_NAME)
def test_missing_values_stay_missing(contract):
    """A feature is missing where a column it reads is, unless its expression speaks of missing values."""
    many = make_columns(contract, 50, seed=3)
    complete = {n: np.where(np.isnan(v), 1.0, v) if v.dtype == float else v for n, v in many.items()}
    program = compile_features(contract).fit(complete, AS_OF_DAYS)
    reads = columns_read(contract)
    forgiving = {
        e.name
        for e in parse_features(contract)
        for node in ast.walk(e.tree)
        if isinstance(node, ast.Call) and node.func.id in ("isnull", "fill", *FITTED)  # type: ignore[attr-defined]
    }
    tried = 0
    for name, read in reads.items():
        if name not in program.names or forgiving & {name, *_through(contract, name)}:
            continue
        for column in read:
            holed = {**complete, column: np.full(50, np.nan)}
            assert np.isnan(program(holed, AS_OF_DAYS)[:, program.names.index(name)]).all()
            tried += 1
    assert tried


def _through(contract, name):
    """The features that a feature reads, however far down."""
    trees = {e.name: e for e in parse_features(contract)}
    direct = trees[name].names & trees.keys()
    return direct.union(*(_through(contract, other) for other in direct))


# -- the same language, twice ------------------------------------------------------------------------


def _numbers():
    leaves = st.sampled_from(["spend", "visits", "member", "0", "1", "2.5", "100", "days(as_of - joined)"])
    return st.recursive(leaves, _bigger_numbers, max_leaves=12)


def _bigger_numbers(inner):
    days = st.sampled_from(["joined", "seen", "as_of"]) | st.builds("({} + {})".format, st.just("seen"), inner)
    conditions = (
        st.builds("({} {} {})".format, inner, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), inner)
        | st.builds("({} {} {})".format, days, st.sampled_from(["<", ">=", "=="]), days)
        | st.builds("({} {} '{}')".format, days, st.sampled_from(["<", ">"]), st.just("2012-02-29"))
        | st.builds("(plan {} '{}')".format, st.sampled_from(["==", "!="]), st.sampled_from("abc"))
        | st.sampled_from(["isnull(plan)", "isnull(seen)"])
    )
    logic = conditions | st.builds("({} {} {})".format, conditions, st.sampled_from(["and", "or"]), conditions | inner)
    return (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("(-{})".format, inner)
        | st.builds("{}({})".format, st.sampled_from(["log1p", "sqrt", "abs", "floor", "round", "isnull"]), inner)
        | st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "fill", "typical", "accrued"]), inner, inner)
        | st.builds("clip({}, {}, {})".format, inner, inner, inner)
        | st.builds("where({}, {}, {})".format, logic, inner, inner)
        | st.builds("{}({})".format, st.sampled_from(["month", "weekday"]), days)
        | st.builds("days({} - {})".format, days, days)
        | st.builds("(not {})".format, logic)
        | logic
    )


@settings(max_examples=300)
@given(one=_numbers(), two=_numbers(), many=tables(small(x="visits"), max_size=6))
def test_numpy_and_plain_python_evaluate_an_expression_alike(one, two, many):
    contract = small(x=one, y=f"x - ({two})")
    encoded = encode_rows(contract, many)
    program = compile_features(contract).fit(encoded, AS_OF_DAYS)
    matrix = program(encoded, AS_OF_DAYS)
    for index in range(len(many)):
        row = {name: values[index] for name, values in encoded.items() if values.dtype != object}
        for expression in parse_features(contract):
            value = Interpreter(contract, row, AS_OF_DAYS, program.state).of(expression.tree)
            row[expression.name] = value
            with np.errstate(over="ignore"):
                wanted = np.float32(value)
            wanted = np.nan if np.isinf(wanted) else wanted  # type: ignore[assignment]
            got = matrix[index, program.names.index(expression.name)]
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-30, err_msg=expression.text)


def test_the_plain_interpreter_knows_every_function():
    assert set(FUNCTIONS) == set(PLAIN) | set(FITTED)


@given(many=tables(small(x="visits"), max_size=6))
def test_numpy_and_plain_python_evaluate_a_rule_alike(many):
    from churn_assets.contract.load import parse_contract

    text = "joined <= seen or plan == 'a' and not member == 1"
    contract = parse_contract(SMALL.replace('"joined <= seen"', f'"{text}"'))
    encoded = encode_rows(contract, many)
    (rule,) = compile_rules(contract)
    tree = ast.parse(text, mode="eval").body
    for index, broken in enumerate(rule(encoded, AS_OF_DAYS)):
        row = {name: values[index] for name, values in encoded.items() if values.dtype != object}
        assert broken == (Interpreter(contract, row, AS_OF_DAYS, {}).of(tree) == 0.0)
    assert rule.columns == ("joined", "member", "plan", "seen")


# -- cases worth a name ------------------------------------------------------------------------------

ROW = {
    "id": "1", "joined": "2013-01-20", "seen": "2014-01-19", "spend": 50.0, "visits": 0, "member": True, "plan": "b",
}  # fmt: skip
NONE = {**ROW, "seen": None, "spend": None, "plan": None}

CASES = {
    "a division by zero is missing": ("spend / visits", ROW, math.nan),
    "a division of constants by zero is missing": ("1 / 0", ROW, math.nan),
    "nought by nought is missing": ("visits / visits", ROW, math.nan),
    "an overflow is missing": ("spend * 1e300 * 1e300", ROW, math.nan),
    "more than float32 holds is missing": ("spend * 1e300", ROW, math.nan),
    "less than float32 holds is zero": ("spend / 1e300", ROW, 0.0),
    "a logarithm of what it cannot take is missing": ("log1p(visits - 1)", ROW, math.nan),
    "a root of a negative is missing": ("sqrt(visits - 1)", ROW, math.nan),
    "a constant is given to every row": ("3", ROW, 3.0),
    "a constant condition may meet a column": ("1 and spend > 0", ROW, 1.0),
    "a constant may be the smaller": ("min(spend, 7)", ROW, 7.0),
    "days are counted": ("days(as_of - joined)", ROW, 365.0),
    "days may be negative": ("days(joined - as_of)", ROW, -365.0),
    "a date may be moved": ("days((joined + 30) - joined)", ROW, 30.0),
    "a day before is one day": ("days(as_of - seen)", ROW, 1.0),
    "a half is rounded to even": ("round(spend / 20)", ROW, 2.0),
    "the floor of a negative is below": ("floor(0 - spend / 20)", ROW, -3.0),
    "January is 1": ("month(as_of)", ROW, 1.0),
    "Monday is 0": ("weekday(as_of)", ROW, 0.0),
    "a month beyond the calendar is missing": ("month(joined + 1e9)", ROW, math.nan),
    "a choice is compared by its text": ("plan == 'b'", ROW, 1.0),
    "another choice differs": ("plan != 'b'", ROW, 0.0),
    "a date is compared with a text": ("joined < '2013-01-21'", ROW, 1.0),
    "true is one": ("member + 1", ROW, 2.0),
    "what is missing compares as missing": ("spend > 0", NONE, math.nan),
    "a missing choice compares as missing": ("plan == 'b'", NONE, math.nan),
    "a missing choice does not differ": ("plan != 'b'", NONE, math.nan),
    "missing is found": ("isnull(spend)", NONE, 1.0),
    "a missing choice is found": ("isnull(plan)", NONE, 1.0),
    "a missing date is found": ("isnull(seen)", NONE, 1.0),
    "present is not missing": ("isnull(spend) + isnull(plan) + isnull(seen)", ROW, 0.0),
    "missing is filled": ("fill(spend, 7)", NONE, 7.0),
    "present is not filled": ("fill(spend, 7)", ROW, 50.0),
    "not missing is missing": ("not spend", NONE, math.nan),
    "false and missing is false": ("visits and spend", NONE, 0.0),
    "true and missing is missing": ("member and spend", NONE, math.nan),
    "true or missing is true": ("member or spend", NONE, 1.0),
    "false or missing is missing": ("visits or spend", NONE, math.nan),
    "a branch not taken may be missing": ("where(member, 1, spend)", NONE, 1.0),
    "a branch taken may be missing": ("where(member, spend, 1)", NONE, math.nan),
    "a missing condition takes no branch": ("where(spend > 0, 1, 2)", NONE, math.nan),
    "the smallest of missing is missing": ("min(visits, spend)", NONE, math.nan),
    "clipped is within": ("clip(spend, 0, 10)", ROW, 10.0),
}


@pytest.mark.parametrize(("expression", "row", "value"), CASES.values(), ids=CASES)
def test_each_function_has_its_value(expression, row, value):
    contract = small(x=expression)
    program = compile_features(contract)
    matrix = program(encode_rows(contract, [row]), AS_OF_DAYS)
    np.testing.assert_array_equal(matrix[0, program.names.index("x")], np.float32(value))


def test_every_function_is_in_the_table_of_values():
    called = {
        node.func.id  # type: ignore[attr-defined]
        for expression, *_ in CASES.values()
        for node in ast.walk(ast.parse(expression))
        if isinstance(node, ast.Call)
    }
    assert called | set(FITTED) | {"abs", "max"} == set(FUNCTIONS)


def test_the_time_of_day_of_the_instant_does_not_count():
    contract = small(x="days(as_of - joined)")
    encoded = encode_rows(contract, [ROW])
    program = compile_features(contract)
    assert program(encoded, AS_OF_DAYS + 0.99).tobytes() == program(encoded, AS_OF_DAYS).tobytes()


@pytest.mark.parametrize(
    "instant",
    [
        AS_OF,
        "2014-01-20",
        "2014-01-20T23:59:59",
        dt.datetime(2014, 1, 20, 12, 0),
        dt.datetime(2014, 1, 20, 23, 0, tzinfo=dt.UTC),
        dt.datetime(2014, 1, 21, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "2014-01-19T22:00:00-05:00",
    ],
)
def test_an_instant_may_be_given_in_many_ways(instant):
    assert as_of_days(instant) == AS_OF_DAYS


def test_a_deep_sum_still_compiles():
    contract = small(x="where(" * 24 + "visits" + " < 1, 1, 2)" * 24, y=" + ".join(["visits"] * 49))
    assert compile_features(contract)(encode_rows(contract, [ROW]), AS_OF_DAYS)[0, -1] == 0.0


# -- what is learned ----------------------------------------------------------------------------------

pairs = st.lists(
    st.tuples(st.integers(0, 5) | st.just(math.nan), st.integers(-20, 200) | st.just(math.nan)), max_size=60
)


@given(pairs=pairs, bins=st.integers(2, 10))
def test_knots_are_medians_of_present_values(pairs, bins):
    values, by = (np.array([p[i] for p in pairs], float) for i in (0, 1))
    knots = functions.learn_typical(values, by, bins)
    used = [(v, b) for v, b in pairs if not math.isnan(v) and not math.isnan(b) and v != 0]
    if not used:
        assert knots == {"x": [0.0], "y": [None]}
        return
    assert knots["x"] == sorted(set(knots["x"]))
    assert min(b for _, b in used) <= knots["x"][0]
    assert knots["x"][-1] <= max(b for _, b in used)
    edges = [*np.unique(np.quantile([b for _, b in used], np.linspace(0, 1, bins + 1)[1:-1])), math.inf]
    parts = {}
    for value, at in used:
        parts.setdefault(next(i for i, edge in enumerate(edges) if at < edge), []).append((value, at))
    assert knots["y"] == [statistics.median(v for v, _ in parts[i]) for i in sorted(parts)]
    assert knots["x"] == [statistics.median(b for _, b in parts[i]) for i in sorted(parts)]


@given(pairs=pairs)
def test_an_accrued_statistic_starts_at_zero(pairs):
    values, by = (np.array([p[i] for p in pairs], float) for i in (0, 1))
    knots = functions.learn_accrued(values, by, 10)
    assert knots["x"][0] == 0.0
    assert knots["x"] == sorted(set(knots["x"]))
    assert knots["y"][0] == (0.0 if len(knots["x"]) > 1 else None)


@given(seed=st.integers(0, 2**32 - 1))
def test_statistics_do_not_depend_on_the_order_of_rows(seed):
    many = make_columns(STORE, 400, seed=5)
    order = np.random.default_rng(seed).permutation(400)
    program = compile_features(STORE)
    assert program.fit(many, AS_OF_DAYS).state == program.fit(_rows_of(many, order), AS_OF_DAYS).state


def test_statistics_do_not_depend_on_the_label():
    """With the label among the columns, and with another label, the same is learned."""
    many = make_columns(STORE, 400, seed=5)
    program = compile_features(STORE)
    states = [
        program.fit({**many, "churned": label, "retained": 1.0 - label}, AS_OF_DAYS).state
        for label in (np.zeros(400), np.arange(400) % 2.0)
    ]
    assert states[0] == states[1] == program.fit(many, AS_OF_DAYS).state
    assert "churned" not in program.source
    assert "retained" not in program.source


@pytest.mark.parametrize("contract", [STORE, small(x="typical(spend, visits)")], **BY_NAME)
@pytest.mark.parametrize("rows_seen", [1, 400])
def test_statistics_survive_json(contract, rows_seen):
    many = make_columns(contract, 400, seed=7)
    program = compile_features(contract).fit(_rows_of(many, slice(0, rows_seen)), AS_OF_DAYS)
    text = json.dumps(program.state, allow_nan=False)
    again = compile_features(contract).with_state(json.loads(text))
    assert again(many, AS_OF_DAYS).tobytes() == program(many, AS_OF_DAYS).tobytes()


def test_a_statistic_of_no_values_is_missing():
    contract = small(x="typical(spend, visits)", y="accrued(spend, visits)")
    encoded = encode_rows(contract, [NONE, NONE])
    program = compile_features(contract).fit(encoded, AS_OF_DAYS)
    assert np.isnan(program(encoded, AS_OF_DAYS)[:, -2:]).all()


def test_a_lookup_at_a_missing_value_is_missing():
    """np.interp answers for NaN when there is one knot only."""
    for knots in ({"x": [1.0], "y": [5.0]}, {"x": [1.0, 2.0], "y": [5.0, 6.0]}):
        got = functions.lookup(knots, np.array([np.nan, 0.0, 9.0]))
        np.testing.assert_array_equal(got, [np.nan, knots["y"][0], knots["y"][-1]])


def test_a_statistic_may_read_another():
    contract = small(x="typical(spend, visits)", y="typical(spend - typical(spend, visits), x) + x")
    many = make_columns(contract, 300, seed=9)
    program = compile_features(contract).fit(many, AS_OF_DAYS)
    assert len(program.state) == 2
    assert np.isfinite(program(many, AS_OF_DAYS)[:, -2:]).any(axis=0).all()


# -- what a program is -------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", CONTRACTS, **BY_NAME)
def test_the_program_is_the_same_each_time_it_is_compiled(contract):
    assert compile_features(contract).source == compile_features(contract).source


def test_the_program_has_no_builtins():
    program = compile_features(STORE)
    assert not program._run.__globals__["__builtins__"]


def test_names_of_columns_cannot_become_code():
    name = "x']; import os #"
    contract = _renamed(name)
    encoded = {n if n != "visits" else name: v for n, v in make_columns(small(x="visits"), 5, 0).items()}
    assert compile_features(contract)(encoded, AS_OF_DAYS).shape[0] == 5


def _renamed(name):
    from churn_assets.contract.load import parse_contract

    text = SMALL.replace('name = "visits"', f'name = "{name}"').replace("spend / visits", "spend")
    return parse_contract(text)


@pytest.mark.parametrize("contract", CONTRACTS, **BY_NAME)
@given(data=st.data())
def test_a_row_that_breaks_no_rule_passes(contract, data):
    encoded = encode_rows(contract, [data.draw(rows(contract))])
    for rule in compile_rules(contract):
        assert rule(encoded, AS_OF_DAYS).shape == (1,)
        assert rule(encoded, AS_OF_DAYS).dtype == bool
