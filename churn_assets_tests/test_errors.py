"""The errors: the tree in the docstring is that of the classes, and each class is raised and tested."""

import ast
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from churn_assets import errors
from churn_assets.errors import ChurnError, RowsRejected, Violation
from churn_assets_tests.strategies import ROOT

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, Exception) and found.__module__ == errors.__name__
}


def tree_in_docstring() -> dict[str, str]:
    """Class -> parent, as the docstring lists them: a line a parent, which may go on in indented lines."""
    text = re.sub(r",\n +", ", ", errors.__doc__ or "")
    lines = re.findall(r"^([A-Z]\w+): (\w+(?:, \w+)*)$", text, re.MULTILINE)
    return {"ChurnError": "Exception"} | {child: parent for parent, named in lines for child in named.split(", ")}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    assert tree_in_docstring() == {name: found.__mro__[1].__name__ for name, found in CLASSES.items()}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:p/w@1@db/churn is down", "postgresql://…@db/churn is down"),
        ("at http://token@host:5000/x, me@example.org", "at http://…@host:5000/x, me@example.org"),
        ("sqlite:////srv/me@work/mlflow.db", "sqlite:////srv/me@work/mlflow.db"),
        ("http://host/a b@c", "http://host/a b@c"),
    ],
)
def test_no_error_shows_the_user_info_of_a_url(text, shown):
    error = errors.SettingsError(text)
    assert str(error) == shown == errors.one_line(text)
    assert str(pickle.loads(pickle.dumps(error))) == shown
    assert "p/w" not in repr(error)


def test_a_password_that_another_program_quotes_alone_is_left_out():
    text = 'FATAL: no password for user "bob" (p@ss, p%40ss); bobsled'
    url = "postgresql://bob:p%40ss@db/mlflow"
    assert errors.without_user_info(text, url) == 'FATAL: no password for user "…" (…, …); bobsled'


def _nodes(folder: str) -> Iterator[ast.AST]:
    for path in (ROOT / folder).rglob("*.py"):
        if path.name not in (Path(__file__).name, Path(errors.__file__).name):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


# Made somewhere: most are raised on the spot, some by a function that words them.
RAISED = {_name(node.func) for node in _nodes("churn_assets") if isinstance(node, ast.Call)} & CLASSES.keys()
NAMED_BY_TESTS = {_name(node) for node in _nodes("churn_assets_tests")} & CLASSES.keys()
LEAVES = {name for name, found in CLASSES.items() if not found.__subclasses__()}


def test_every_error_is_raised_by_the_package():
    assert set() == LEAVES - RAISED


def test_every_error_that_is_raised_is_expected_by_a_test():
    assert set() == RAISED - NAMED_BY_TESTS


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_says_when_it_is_raised(name):
    assert CLASSES[name].__doc__
    assert issubclass(CLASSES[name], ChurnError)


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - {"RowsRejected", "ContractConflict"}))
def test_every_error_travels_between_processes(name):
    again = pickle.loads(pickle.dumps(CLASSES[name]("found this, expected that; do this")))
    assert type(again) is CLASSES[name]
    assert str(again) == "found this, expected that; do this"


def test_many_violations_are_told_by_the_first_and_a_number():
    one, two = Violation(3, "visits", "-1", "at least 0"), Violation(4, "visits", "-2", "at least 0")
    assert str(RowsRejected([one])) == "row 3, column 'visits': found -1, expected at least 0"
    assert str(RowsRejected([one, two, two])).endswith("expected at least 0 (and 2 more)")
    for kind in (RowsRejected, errors.ContractConflict):
        again = pickle.loads(pickle.dumps(kind([one, two])))
        assert (type(again), again.violations) == (kind, (one, two))
