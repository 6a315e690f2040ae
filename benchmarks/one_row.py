"""Microseconds for one customer, for each kind of model: the arrays' way, and the service's over Python floats.

python -m benchmarks.one_row [repeats]
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
import time
from array import array
from collections.abc import Callable

import numpy as np
import xgboost

from benchmarks.batch_scoring import PARAMS, ROUNDS, TRAINING_ROWS
from benchmarks.customers import AS_OF, CONTRACT, churned, typed
from churn_assets.features.compile import as_of_days, compile_features
from churn_assets.features.encode import encode_rows, encode_table
from churn_assets.features.scalar import RowReader, scalar_features
from churn_assets.scoring.calibration import Platt
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.network import NetworkModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.scoring.online import CustomerScorer, margin_of_row
from churn_assets.scoring.scorer import Bands, Scorer, Thresholds

WIDTH = 128


def models(matrix: np.ndarray, specs: tuple, label: np.ndarray) -> dict[str, Model]:
    """One of each kind, of the size that training makes; weights of all but the booster are random."""
    rng = np.random.default_rng(0)
    basis = PiecewiseEncoding.fit(matrix, specs, 17)
    encoding = PiecewiseEncoding.fit(matrix, specs, 25)
    sizes = [encoding.width, WIDTH, WIDTH, 1]
    layers = tuple((rng.normal(size=(b, a)) / a**0.5, np.zeros(b)) for a, b in itertools.pairwise(sizes))
    booster = xgboost.train({**PARAMS, "nthread": 1}, xgboost.DMatrix(matrix, label), ROUNDS)
    boosted, network = BoostedModel([bytes(booster.save_raw("ubj"))]), NetworkModel(encoding, [layers])
    return {
        "logistic": LogisticModel(basis, rng.normal(size=basis.width), 0.0),
        "boosted": boosted,
        "network": network,
        "blend": BlendModel([boosted, network], [0.5, 0.5]),
    }


def microseconds(call: Callable[[], object], repeats: int) -> float:
    """Median of single calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6


def main(repeats: int = 3000) -> str:
    table, as_of = typed(TRAINING_ROWS, seed=1), as_of_days(AS_OF)
    columns = encode_table(CONTRACT, table)
    program = compile_features(CONTRACT).fit(columns, as_of)
    matrix = program(columns, as_of)
    made = models(matrix, program.specs, np.array(churned(TRAINING_ROWS, seed=1)))
    one = {name: values[:1] for name, values in columns.items()}
    row = {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in table.slice(0, 1).to_pylist()[0].items()}
    scorer = Scorer(CONTRACT, program, made["boosted"], Platt(1.0, 0.0), Thresholds({"f1": 0.5}, "f1"), Bands(0.3, 0.7))
    arrays = [
        f"checking and encoding {microseconds(lambda: encode_rows(CONTRACT, [row]), repeats):.0f}",
        f"features {microseconds(lambda: program(one, as_of), repeats):.0f}",
        f"calibration {microseconds(lambda: scorer.calibration.apply(np.zeros(1)), repeats):.0f}",
    ]
    reader, features = RowReader(CONTRACT), scalar_features(CONTRACT, program)
    cells = reader(row)
    values = array("f", features(cells, as_of)).tolist()
    floats = [
        f"checking and reading {microseconds(lambda: reader(row), repeats):.0f}",
        f"features {microseconds(lambda: features(cells, as_of), repeats):.0f}",
    ]
    for kind, model in made.items():
        own = dataclasses.replace(scorer, model=model)
        quick, margin = CustomerScorer(own), margin_of_row(model)
        arrays.append(
            f"{kind} model {microseconds(lambda m=model: m.margin(matrix[:1]), repeats):.0f}, "
            f"in all {microseconds(lambda s=own: s.score(one, as_of), repeats):.0f}"
        )
        floats.append(
            f"{kind} model {microseconds(lambda m=margin: m(values), repeats):.0f}, "
            f"in all with checks and warnings {microseconds(lambda q=quick: q.score(row, as_of), repeats):.0f}"
        )
    return f"one row as the service scores it, us: {'; '.join(floats)}\none row as arrays, us: {'; '.join(arrays)}"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
