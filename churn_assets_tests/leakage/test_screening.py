"""Which columns are accused before training: leaks alone and in pairs, and no honest column."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import audit_tables as tables
from benchmarks.audit_tables import screened
from churn_assets.data.readers.read import read_table
from churn_assets.data.validation.validate import validate
from churn_assets.leakage.screening import screen
from churn_assets.training.split import split_table
from churn_assets_tests.cases import BIGGER, draft_of, needs_cases

HONEST = {
    "noise, 92 % churn": tables.noise(0.92, 3000),
    "noise, 50 % churn": tables.noise(0.5, 600),
    "noise, 5 % churn": tables.noise(0.05, 3000),
    "independent given the label": tables.independent_given_label(),
    "one honest column": tables.one_honest_column(),
}


@pytest.mark.parametrize("table", HONEST.values(), ids=HONEST)
def test_no_honest_column_is_accused(table):
    assert screened(*table).findings == ()


@pytest.mark.parametrize(
    ("table", "column", "limit", "other"),
    [
        (tables.start_and_duration(), "tenure_days", "pair_pr_auc_lift", "'start'"),
        (tables.count_and_rate(), "total", "pair_pr_auc_lift", "'rate'"),
    ],
    ids=["a start and a duration", "a rate and a total"],
)
def test_a_pair_that_tells_the_label_together_is_found(table, column, limit, other):
    result = screened(*table)
    assert [(finding.column, finding.limit) for finding in result.findings] == [(column, limit)]
    assert other in result.findings[0].description
    assert result.left_out == (column,)
    assert all(c.single_column_pr_auc_lift < 0.6 for c in result.columns.values())


def test_a_headline_too_good_to_be_true_names_the_columns_behind_it():
    churned, cells = tables.three_together()
    result = screened(churned, cells)
    assert {finding.limit for finding in result.findings} == {"headline_pr_auc_lift"}
    assert len(result.findings) == 1
    assert result.findings[0].column in "abc"
    assert result.findings[0].value > 0.98


@pytest.mark.parametrize(("more", "attested"), [("[audit]\naccused = 'refuse'", ""), ("", "tenure_days")])
def test_an_attested_column_and_one_of_a_contract_that_refuses_are_found_and_kept(more, attested):
    result = screened(*tables.start_and_duration(), more=more, attested=attested)
    assert [finding.column for finding in result.findings] == ["tenure_days"]
    assert result.findings[0].attested == ("somebody" if attested else "")
    assert result.left_out == ()


def test_a_leak_that_stands_twice_is_left_out_twice():
    churned, cells = tables.independent_given_label()
    result = screened(
        churned, {**cells, "again": cells["months"] * 2.0}, more="[audit]\nsingle_column_pr_auc_lift = 0.5"
    )
    accused = {finding.column for finding in result.findings}
    assert accused == {"months", "again"}  # each would carry the model without the other


@pytest.mark.parametrize("hidden", [False, True], ids=["alone", "behind a stronger leak"])
def test_columns_that_carry_the_model_are_found_also_behind_a_leak(hidden):
    churned, cells = tables.two_halves()
    leak = churned * 3.0 + np.random.default_rng(1).normal(0, 0.9, len(churned))
    result = screened(churned, {**cells, "leak": leak} if hidden else cells)
    carriers = {f.column for f in result.findings if f.limit == "headline_loss_when_removed"}
    assert carriers == {"sign", "code"}
    assert set(result.left_out) == carriers | ({"leak"} if hidden else set())
    assert not hidden or result.columns["sign"].headline_loss_when_removed < 0.1


def test_the_honest_partner_of_an_accused_column_carries_nothing_without_it():
    result = screened(*tables.start_and_duration())
    assert result.columns["start"].headline_loss_when_removed > 0.5
    assert result.left_out == ("tenure_days",)


@needs_cases
@pytest.mark.parametrize("name", ["noise_base92", "independent_given_label", "no_signal"])
def test_no_column_of_the_cases_is_accused(name):
    contract = draft_of(BIGGER / f"{name}.csv").contract
    customers = validate(contract, read_table(BIGGER / f"{name}.csv", contract)).customers
    assert screen(contract, customers, split_table(contract, customers)).findings == ()
