"""The lineage: it changes with what a model uses, and with nothing else of a contract."""

import dataclasses
from typing import Any

import pytest

from churn_assets.contract.lineage import describe_change, unknown_inputs
from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets_tests.contract.test_model import LEAVES, _with_change
from churn_assets_tests.scoring.tiny import CONTRACT, TEXT
from churn_assets_tests.strategies import CONTRACTS, STORE

USED = {  # of the tables whose fields a model uses; those of columns and features are below
    *(("label", name) for name in ("column", "churned_when", "kept_when", "horizon_days")),
    ("time", "as_of"),
    ("columns",),  # one column less
}
OTHERS = [path for path in LEAVES if path[0] != "features" and path[:1] != ("columns",)] + [("columns",)]
USED_OF_COLUMN = {"name", "kind", "role", "choices"}


@pytest.mark.parametrize("path", OTHERS, ids=".".join)
def test_the_lineage_changes_with_key_label_day_and_columns_alone(path):
    assert (_with_change(STORE, path).lineage != STORE.lineage) == (path in USED)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Column)])
def test_of_a_column_name_kind_role_and_choices_count(field):
    changed: dict[str, Any] = {
        "kind": Kind.CATEGORY,
        "role": Role.INPUT,
        "choices": ("yes", "no"),
        "low": 0.0,
        "high": 9.0,
        "name": "post",
        "monotone": "rising",
        "nullable": True,
    }
    column = dataclasses.replace(STORE.column("paperless"), **{field: changed.get(field, ("x",))})
    columns = tuple(column if c.name == "paperless" else c for c in STORE.columns)
    assert (dataclasses.replace(STORE, columns=columns).lineage != STORE.lineage) == (field in USED_OF_COLUMN)


LAST = 'sent_vs_typical = { expression = "sent / typical(sent, tenure_days)", doc = "against what is typical" }'


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ('"sent / typical(sent, tenure_days)"', '"sent  /  typical(sent,tenure_days)"', ""),
        ("against what is typical", "compared", ""),
        ('doc = "against what is typical"', 'doc = "x", monotone = "falling", topic = "sent", reason_high = "y"', ""),
        (LAST, LAST + '\nhalf = { expression = "sent / 2", model = false }', ""),
        ('title = "Tiny customers"', 'title = "Others"', ""),
        ("high = 1000\n", "high = 2000\n", ""),
        ("monthly_value = 25.0", "monthly_value = 30.0", ""),
        ("pr_auc_floor = 0.5", "pr_auc_floor = 0.6", ""),
        ('name = "tiny"', 'name = "other"', ""),
        ('cohort = "created"', "", ""),
        ("created <= lastorder", "created < lastorder", ""),
        (LAST, LAST + '\nhalf = { expression = "sent / 2" }', "with feature 'half'"),
        (LAST, "", "without feature 'sent_vs_typical'"),
        ("days(as_of - lastorder)", "days(as_of - lastorder) + 1", "feature 'recency_days' defined otherwise"),
        ("horizon_days = 30", "horizon_days = 60", "the label defined otherwise"),
        ('"MAA"]', '"MAA", "CCU"]', "column 'city' defined otherwise"),
        ('name = "id"', 'name = "number"', "the customer id defined otherwise"),
        ('[[columns]]\nname = "paperless"\nkind = "boolean"\ndoc = "No paper."\n', "", "without column 'paperless'"),
    ],
)
def test_a_change_of_lineage_is_described(before, after, change):
    assert before in TEXT
    edited = parse_contract(TEXT.replace(before, after), "tiny.toml")
    assert describe_change(CONTRACT, edited) == change
    assert (edited.lineage == CONTRACT.lineage) == (not change)


def test_the_parts_of_an_intermediate_feature_count_where_a_model_input_reads_it():
    through = LAST.replace("tenure_days)", "age)") + '\nage = { expression = "tenure_days + 1", model = false }'
    contracts = [parse_contract(TEXT.replace(LAST, through.replace("+ 1", f"+ {n}")), "tiny.toml") for n in (1, 2)]
    assert describe_change(*contracts) == "feature 'age' defined otherwise"


def test_the_lineages_of_two_contracts_differ_and_one_survives_the_file():
    assert len({contract.lineage for contract in CONTRACTS}) == len(CONTRACTS)
    for contract in CONTRACTS:
        again: Contract = parse_contract(contract.text, "again.toml")
        assert again.lineage == contract.lineage


def test_a_model_may_use_less_than_a_contract_allows_and_nothing_else():
    less = parse_contract(TEXT.replace(LAST, ""), "tiny.toml")
    assert unknown_inputs(less, CONTRACT) == []
    assert unknown_inputs(CONTRACT, less) == ["feature 'sent_vs_typical'"]
    longer = parse_contract(TEXT.replace("horizon_days = 30", "horizon_days = 60"), "tiny.toml")
    assert unknown_inputs(CONTRACT, longer) == ["the label"]
