"""One small training on generated customers, shared by the tests of several folders."""

import pyarrow as pa
import pytest

from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.synthetic.generate import generate
from churn_assets.training.candidate import NAMES, Candidate, train_candidate
from churn_assets.training.feature_table import feature_table
from churn_assets.training.select import Choice, choose_model
from churn_assets.training.split import split_table
from churn_assets_tests.strategies import STORE

SMALL = {
    "logistic": {},
    "boosted": {"rounds": 40, "patience": 10},
    "deep": {"rounds": 15, "max_depth": 7},
    "network": {"epochs": 2, "width": 16},
}


@pytest.fixture(scope="session")
def customers() -> pa.Table:
    repaired, _ = apply_repairs(generate(STORE, rows=3000, seed=7), STORE)
    return validate(STORE, repaired, source="generated customers", generated=True).customers


@pytest.fixture(scope="session")
def splits(customers: pa.Table) -> pa.Table:
    return split_table(STORE, customers)


@pytest.fixture(scope="session")
def features(customers: pa.Table, splits: pa.Table) -> pa.Table:
    return feature_table(STORE, customers, splits)


@pytest.fixture(scope="session")
def candidates(features: pa.Table, splits: pa.Table) -> list[Candidate]:
    return [train_candidate(name, STORE, features, splits, SMALL[name]) for name in NAMES]


@pytest.fixture(scope="session")
def choice(candidates: list[Candidate], features: pa.Table, splits: pa.Table) -> Choice:
    return choose_model(STORE, candidates, features, splits)
