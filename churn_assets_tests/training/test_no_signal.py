"""A table without signal ends with a model that says so and contacts nobody; one with signal does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.audit_tables import contract_of, noise, one_honest_column, table_of
from churn_assets.contract.model import Contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.validation.validate import validate
from churn_assets.scoring.bundle import load_bundle, read_card
from churn_assets.scoring.call_list import call_list
from churn_assets.training.candidate import train_candidate
from churn_assets.training.export import provenance, write_choice
from churn_assets.training.feature_table import feature_table
from churn_assets.training.select import choose_model
from churn_assets.training.split import split_table
from churn_assets_tests.cases import BIGGER, draft_of, needs_cases


def contacted(folder: Path, contract: Contract, raw: pa.Table) -> tuple[bool, bool, int]:
    """`no_signal` of card and scorer of a model of this table, and how many customers its list contacts."""
    customers = validate(contract, raw).customers
    splits = split_table(contract, customers)
    features = feature_table(contract, customers, splits)
    candidates = [train_candidate("logistic", contract, features, splits)]
    choice = choose_model(contract, candidates, features, splits)
    bundle = write_choice(contract, choice, candidates, customers, folder, provenance(customers, None, "run", None))
    scorer, day = load_bundle(bundle), 20_454.0
    probability = scorer.score_table(customers, day).probability
    listed = call_list(scorer, customers[contract.key.name], probability, day)
    return read_card(bundle).no_signal, scorer.no_signal, int(np.sum(listed["contact"].to_numpy()))


def test_nobody_is_contacted_without_signal(tmp_path):
    churned, cells = noise(0.4, 1500)
    shuffled = np.random.default_rng(1).permutation(churned)
    card, scorer, contacts = contacted(tmp_path / "bundles", contract_of(cells), table_of(shuffled, cells))
    assert (card, scorer, contacts) == (True, True, 0)


def test_a_model_with_signal_contacts_customers(tmp_path):
    churned, cells = one_honest_column(1500)
    card, scorer, contacts = contacted(tmp_path / "bundles", contract_of(cells), table_of(churned, cells))
    assert (card, scorer) == (False, False)
    assert contacts > 0


@needs_cases
def test_nobody_is_contacted_for_the_case_without_signal(tmp_path):
    path = BIGGER / "no_signal.csv"
    contract = draft_of(path).contract
    assert contacted(tmp_path / "bundles", contract, read_table(path, contract)) == (True, True, 0)
