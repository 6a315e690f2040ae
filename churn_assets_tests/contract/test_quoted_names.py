"""column("...") names any column, whatever it is called."""

import ast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.expressions import in_expression, is_plain, written
from churn_assets.contract.load import parse_contract
from churn_assets.errors import ExpressionError
from churn_assets.features.compile import compile_features, compile_rules
from churn_assets_tests.data.contracts import with_columns

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(NAMES)
def test_any_name_can_be_written_and_is_read_back_as_it_is(name):
    tree = ast.parse(in_expression(name), mode="eval").body
    read = tree.id if isinstance(tree, ast.Name) else tree.args[0].value  # type: ignore[attr-defined]
    assert read == name
    assert is_plain(name) == isinstance(tree, ast.Name)


@given(NAMES.filter(lambda name: name not in ("id", "left", "as_of", "churned", "double", "no_more")))
def test_a_column_of_any_name_can_be_computed_with(name):
    reads = in_expression(name)
    contract = parse_contract(with_columns([name], {"double": f"2 * {reads}"}, {"no_more": f"{reads} <= 5"}))
    program = compile_features(contract)
    columns = {name: np.array([1.0, 7.0, np.nan])}
    np.testing.assert_array_equal(program(columns, 0.0)[:, 1], [2.0, 14.0, np.nan])
    assert compile_rules(contract)[0](columns, 0.0).tolist() == [False, True, False]


def test_fitted_statistics_of_columns_named_like_sums_are_kept_apart():
    features = {"of_sum": "typical(a + b, t)", "of_column": 'typical(column("a + b"), t)'}
    contract = parse_contract(with_columns(["a", "b", "a + b", "t"], features))
    columns = {"a": np.ones(100), "b": np.ones(100), "a + b": np.full(100, 50.0), "t": np.arange(100.0)}
    matrix = compile_features(contract).fit(columns, 0.0)(columns, 0.0)
    assert (matrix[:, -2:] == [2.0, 50.0]).all()


def test_category_columns_can_be_quoted_too():
    text = with_columns(["x"], {"is_a": 'column("the plan") == "a"', "gone": 'isnull(column("the plan"))'})
    text += '[[columns]]\nname = "the plan"\nkind = "category"\nchoices = ["a", "b"]\nnullable = true\n'
    program = compile_features(parse_contract(text))
    matrix = program({"x": np.zeros(3), "the plan": np.array([0, 1, -1], dtype=np.int32)}, 0.0)
    np.testing.assert_array_equal(matrix[:, 2:], [[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0]])


def test_plain_names_are_written_as_they_always_were():
    assert written(ast.parse("typical(esent, days(as_of - created))", mode="eval").body) == (
        "typical(esent, days(as_of - created))"
    )


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("column(x)", "column takes one name in quotes"),
        ('column("x", "x")', "column takes one name in quotes"),
        ('column("y")', "unknown name 'y'; known: Total Charges, as_of, x"),
        ('1 + column("Total Charge")', "position 5"),
    ],
)
def test_a_wrong_use_of_column_is_one_line_with_its_position(expression, words):
    with pytest.raises(ExpressionError) as caught:
        parse_contract(with_columns(["x", "Total Charges"], {"f": expression}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
