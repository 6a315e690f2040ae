"""The fingerprint: words may change, figures may not."""

import dataclasses
import subprocess
import sys
from enum import StrEnum

import pytest

from churn_assets.contract.check import with_excluded
from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import PRICES, PROSE, UNSCORED, Contract, Kind
from churn_assets_tests.contract.small import SMALL
from churn_assets_tests.strategies import CONTRACTS, STORE


def _changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, StrEnum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, "x")
    return "x"  # where None stood


def _places(value, path=()):
    """Every (path, field name) of a dataclass tree; of tuples of dataclasses the first is enough."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        yield (*path, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _places(inner, (*path, field.name))
        elif isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]):
            yield from _places(inner[0], (*path, field.name))


def _with_change(value, path):
    """`value` with the leaf at `path` changed; a table is changed by leaving it out or doubling it."""
    name, *rest = path
    inner = getattr(value, name)
    if rest and isinstance(inner, tuple):
        return dataclasses.replace(value, **{name: (_with_change(inner[0], rest), *inner[1:])})
    if rest:
        return dataclasses.replace(value, **{name: _with_change(inner, rest)})
    if isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]):
        return dataclasses.replace(value, **{name: inner[:-1]})
    return dataclasses.replace(value, **{name: _changed(inner)})


DROPPED = "dropped"  # features that are left out: what the contract reads, moved
LEAVES = [
    path
    for path in _places(STORE)
    if (not dataclasses.is_dataclass(getattr(STORE, path[0])) or len(path) > 1) and path[0] != DROPPED
]


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_the_fingerprint_changes_with_everything_but_words_and_how_models_are_watched(path):
    changed = _with_change(STORE, path)
    unscored = path[-1] in PROSE or path[0] in UNSCORED or (path[0] == "value" and path[-1] in PRICES)
    assert (changed.fingerprint == STORE.fingerprint) == unscored


def test_which_columns_a_model_reads_is_no_part_of_the_fingerprint():
    without = with_excluded(STORE, ["esent", "lastorder"])
    assert set(without.left_out) > {"opens", "emails_pace", "recency_days"}
    assert without.all_features == STORE.features
    assert without.fingerprint == STORE.fingerprint
    assert with_excluded(without, ()) == without.whole == STORE


def test_every_part_of_the_contract_was_tried():
    assert {path[0] for path in LEAVES} == {field.name for field in dataclasses.fields(Contract)} - {DROPPED}
    assert {path[-1] for path in LEAVES} >= PROSE, "a name in PROSE that no part of the contract has"


def test_the_fingerprint_does_not_see_layout():
    same = SMALL.replace("high = 100", "high   =  100.0").replace(
        "[value]\nmonthly_value", "# words\n[value]\n\nmonthly_value"
    )
    assert same != SMALL
    assert parse_contract(same, "elsewhere.toml").fingerprint == parse_contract(SMALL, "small.toml").fingerprint


def test_a_list_of_kept_values_leaves_the_fingerprints_of_one_value_as_they_were():
    assert [contract.fingerprint[:12] for contract in CONTRACTS] == ["e5e064f8e169", "decd4f8be15c"]
    one, two = (parse_contract(SMALL.replace('= "no"', f"= {kept}")) for kept in ('["no"]', '["no", 2.0]'))
    assert one.fingerprint == parse_contract(SMALL).fingerprint != two.fingerprint
    assert (one.label.kept_values, two.label.kept_values) == (("no",), ("no", "2"))


def test_a_column_that_is_ignored_may_differ_from_another_only_by_case():
    assert parse_contract(SMALL.replace('name = "note"', 'name = "Plan"')).column("Plan")


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_a_contract_fingerprints_alike_in_another_process(contract):
    code = "import sys, pathlib; from churn_assets.contract.load import load_contract as load"
    code += f"; print(load(pathlib.Path({str(contract.path)!r})).fingerprint)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == contract.fingerprint


def test_the_two_contracts_have_two_fingerprints():
    assert len({contract.fingerprint for contract in CONTRACTS}) == len(CONTRACTS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_the_columns_are_divided_among_the_roles(contract):
    assert contract.key.kind is Kind.ID
    assert contract.kept_columns == (contract.key, *contract.scoring_columns)
    assert set(contract.feature_columns) <= set(contract.scoring_columns)
    assert contract.label_column not in contract.kept_columns
    assert all(contract.column(name) is column for name, column in contract.by_name.items())


def test_a_customer_is_worth_the_months_he_stays():
    assert STORE.value.customer_value == STORE.value.monthly_value * STORE.value.months
