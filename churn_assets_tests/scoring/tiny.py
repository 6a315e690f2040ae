"""A small contract, customers for it, and one scorer of each kind of model, all made in a moment."""

from __future__ import annotations

import datetime as dt
import itertools
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from churn_assets.contract.load import parse_contract
from churn_assets.features.compile import compile_features
from churn_assets.features.encode import encode_table
from churn_assets.scoring.calibration import Beta, Calibration, Identity, Isotonic, Platt
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.network import Layers, NetworkModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.scoring.scorer import Bands, Scorer, Thresholds, feature_ranges

TEXT = """
name = "tiny"
title = "Tiny customers"

[source]
format = "auto"

[label]
column = "kept"
churned_when = 0
kept_when = 1
horizon_days = 30
meaning = "0: lost."

[time]
as_of = "latest"
cohort = "created"

[[columns]]
name = "id"
kind = "id"
role = "key"
doc = "Customer id."

[[columns]]
name = "kept"
kind = "integer"
role = "label"
doc = "1 kept."

[[columns]]
name = "created"
kind = "date"
role = "input"
low = 2000-01-01
doc = "Day created."

[[columns]]
name = "lastorder"
kind = "date"
role = "input"
low = 2000-01-01
nullable = true
doc = "Day of the last order."

[[columns]]
name = "sent"
kind = "integer"
low = 0
high = 1000
doc = "E-mails sent."

[[columns]]
name = "spent"
kind = "number"
low = 0
high = 10000
nullable = true
doc = "Money spent."

[[columns]]
name = "paperless"
kind = "boolean"
doc = "No paper."

[[columns]]
name = "city"
kind = "category"
choices = ["BLR", "BOM", "DEL", "MAA"]
nullable = true
doc = "City."

[features]
tenure_days = { expression = "days(as_of - created)", doc = "days since created" }
recency_days = { expression = "days(as_of - lastorder)", doc = "days since the last order" }
sent_vs_typical = { expression = "sent / typical(sent, tenure_days)", doc = "against what is typical" }

[[rules]]
name = "created_before_last_order"
expression = "created <= lastorder"
doc = "No order before the customer."

[value]
monthly_value = 25.0
months = 12
offer_cost = 10.0
save_rate = 0.15
capacity = 10

[quality]
max_rejected_share = 0.05
min_rows = 20
pr_auc_floor = 0.5

[monitoring]
window = 2000
floor = 500
silent = ["created", "lastorder"]
"""

CONTRACT = parse_contract(TEXT, "tiny.toml")
AS_OF = "2014-01-20"
_AS_OF_DATE = dt.date(2014, 1, 20)
KINDS = ("logistic", "boosted", "boosted_bag", "network", "network_bag", "blend")


def customers(rows: int, seed: int = 0) -> pa.Table:
    """A typed table of `rows` valid customers, with nulls where the contract allows them."""
    rng = np.random.default_rng(seed)
    tenure = rng.integers(0, 2000, rows)
    recency = (tenure * rng.random(rows)).astype(int)
    today = (_AS_OF_DATE - dt.date(1970, 1, 1)).days

    def some_null(values: np.ndarray, type_: pa.DataType) -> pa.Array:
        return pa.array(values, type_, mask=rng.random(rows) < 0.1)

    return pa.table(
        {
            "id": pa.array([f"c{seed}-{i:06d}" for i in range(rows)]),
            "created": pa.array((today - tenure).astype(np.int32)).cast(pa.date32()),
            "lastorder": some_null((today - recency).astype(np.int32), pa.int32()).cast(pa.date32()),
            "sent": pa.array(rng.poisson(tenure / 40.0), pa.int64()),
            "spent": some_null(np.round(rng.gamma(2.0, 40.0, rows), 2), pa.float64()),
            "paperless": pa.array(rng.random(rows) < 0.5),
            "city": some_null(rng.choice(["BLR", "BOM", "DEL", "MAA"], rows), pa.string()),
        }
    )


def json_rows(table: pa.Table) -> list[dict[str, object]]:
    """The table's rows as the service would get them."""
    return [
        {name: cell.isoformat() if isinstance(cell, dt.date) else cell for name, cell in row.items()}
        for row in table.to_pylist()
    ]


@cache
def training() -> tuple[Any, np.ndarray, np.ndarray]:
    """(fitted program, feature matrix, churned) of 600 customers; churn hangs on sent, spent, city."""
    columns = encode_table(CONTRACT, customers(600, seed=42))
    as_of = float((_AS_OF_DATE - dt.date(1970, 1, 1)).days)
    program = compile_features(CONTRACT).fit(columns, as_of)
    matrix = program(columns, as_of)
    signal = 2.0 - 0.15 * columns["sent"] + 0.02 * np.nan_to_num(columns["spent"], nan=150.0) + (columns["city"] == 1)
    churned = (signal + np.random.default_rng(1).normal(size=len(signal)) > 1.5).astype(np.int8)
    return program, matrix, churned


@cache
def booster_bytes(seed: int = 0, depth: int = 4, rounds: int = 25) -> bytes:
    """A booster trained by xgboost itself, as UBJSON."""
    booster, _ = trained_booster(seed, depth, rounds)
    return bytes(booster.save_raw("ubj"))


@cache
def trained_booster(seed: int = 0, depth: int = 4, rounds: int = 25) -> tuple[Any, np.ndarray]:
    """(xgboost.Booster, the matrix it was trained on)."""
    import xgboost as xgb

    _, matrix, churned = training()
    params = {"max_depth": depth, "eta": 0.2, "objective": "binary:logistic", "nthread": 1, "seed": seed}
    params |= {"subsample": 0.8}
    return xgb.train(params, xgb.DMatrix(matrix, churned), rounds), matrix


def model_of(kind: str) -> Any:
    """A tiny model of each kind a candidate may have."""
    program, matrix, _ = training()
    rng = np.random.default_rng(5)
    if kind == "logistic":
        basis = PiecewiseEncoding.fit(matrix, program.specs, 8)
        return LogisticModel(basis, rng.normal(size=basis.width), -1.0)
    if kind == "boosted":
        return BoostedModel([booster_bytes()], [20])
    if kind == "boosted_bag":
        return BoostedModel([booster_bytes(0), booster_bytes(1), booster_bytes(2, depth=6)], [25, 11, 0])
    if kind == "network":
        return _network(matrix, program.specs, nets=1)
    if kind == "network_bag":
        return _network(matrix, program.specs, nets=2)
    return BlendModel([model_of("logistic"), model_of("boosted"), model_of("network")], [0.25, 0.5, 0.25])


def _network(matrix: np.ndarray, specs: tuple[Any, ...], nets: int) -> NetworkModel:
    encoding = PiecewiseEncoding.fit(matrix, specs, 12)
    rng = np.random.default_rng(6)
    sizes = [encoding.width, 16, 16, 1]

    def layers() -> Layers:
        pairs = itertools.pairwise(sizes)
        return tuple(
            (rng.normal(size=(b, a)).astype(np.float32) / a**0.5, rng.normal(size=b).astype(np.float32))
            for a, b in pairs
        )

    return NetworkModel(encoding, [layers() for _ in range(nets)])


CALIBRATIONS: dict[str, Calibration] = {
    "identity": Identity(),
    "platt": Platt(0.9, -0.1),
    "beta": Beta(0.9, 1.1, 0.05),
    "isotonic": Isotonic((-2.0, 0.0, 1.0), (0.05, 0.4, 0.9)),
}


def scorer_of(kind: str = "logistic", calibration: str = "platt") -> Scorer:
    """A whole scorer of the tiny contract."""
    program, matrix, _ = training()
    return Scorer(
        contract=CONTRACT,
        program=program,
        model=model_of(kind),
        calibration=CALIBRATIONS[calibration],
        thresholds=Thresholds({"f1": 0.4, "profit": 0.3, "capacity": 0.6}, "profit"),
        bands=Bands(0.3, 0.7),
        ranges=feature_ranges(program.specs, matrix),
    )
