"""Planted leaks are what they say they are."""

import numpy as np
import pytest

from churn_assets.data.validation.validate import validate
from churn_assets.errors import DataError
from churn_assets.evaluation.metrics import roc_auc
from churn_assets.synthetic.generate import generate
from churn_assets.synthetic.leaks import FINDABLE, KINDS, plant_leak
from churn_assets_tests.strategies import STORE, TELECOM

RAW = generate(STORE, rows=6000, seed=5)


@pytest.mark.parametrize("strength", [0.65, 0.8, 0.9])
@pytest.mark.parametrize("kind", FINDABLE)
def test_a_leak_alone_has_the_roc_auc_it_was_planted_with(kind, strength):
    table, _, leak = plant_leak(STORE, RAW, kind, strength, seed=1)
    churned = np.asarray(table["retained"].to_pylist()) == "0"
    values = table[leak].to_numpy(zero_copy_only=False).astype(float)
    found = roc_auc(churned, np.where(np.isnan(values), -1.0, values))
    assert max(found, 1.0 - found) == pytest.approx(strength, abs=0.03)


@pytest.mark.parametrize("contract", [STORE, TELECOM], ids=lambda c: c.name)
@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_table_keeps_the_contract_that_comes_with_it(contract, kind):
    raw = generate(contract, rows=400, seed=2)
    table, planted, leak = plant_leak(contract, raw, kind, 0.8, seed=3)
    assert validate(planted, table).report.rows_rejected == 0
    assert planted.column(leak).attested == planted.column(leak).suspect == ""
    assert table.drop_columns([leak]).equals(raw)
    assert plant_leak(contract, raw, kind, 0.8, seed=3)[0].equals(table)


def test_a_second_leak_of_a_kind_gets_a_name_of_its_own():
    table, planted, first = plant_leak(STORE, RAW, "label_echo", 0.8, seed=1)
    _, both, second = plant_leak(planted, table, "label_echo", 0.8, seed=2)
    assert first != second
    assert {first, second} <= set(both.by_name)


@pytest.mark.parametrize(
    ("kind", "strength", "words"),
    [
        ("echo", 0.8, "no kind of leak 'echo'; expected one of: "),
        ("label_echo", 1.0, "expected a ROC AUC from 0.55 to 0.95"),
    ],
)
def test_a_leak_that_cannot_be_planted_is_an_error_of_one_line(kind, strength, words):
    with pytest.raises(DataError, match=words) as caught:
        plant_leak(STORE, RAW, kind, strength, seed=1)
    assert "\n" not in str(caught.value)


def test_a_leak_needs_both_classes():
    kept = RAW.filter(np.asarray(RAW["retained"].to_pylist()) == "1")
    with pytest.raises(DataError, match="column 'retained' has one class only"):
        plant_leak(STORE, kept, "label_echo", 0.8, seed=1)
