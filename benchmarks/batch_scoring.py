"""Rows a second of `Scorer.score_table`, beside `Booster.inplace_predict` on the finished matrix.

Ours starts from the typed Arrow table: encoding, features, model, calibration. Theirs has the float32
matrix already. Same booster (regularised as in training), one thread.

    python -m benchmarks.batch_scoring [rows] [repeats]
"""

from __future__ import annotations

import sys

import numpy as np
import xgboost

from benchmarks.customers import AS_OF, CONTRACT, churned, typed
from benchmarks.paired import timed
from churn_assets.features.compile import as_of_days, compile_features
from churn_assets.features.encode import encode_table
from churn_assets.scoring.calibration import Platt
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.scoring.scorer import Bands, Scorer, Thresholds

PARAMS = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "max_depth": 4,
    "learning_rate": 0.08,
    "min_child_weight": 5.0,
    "reg_lambda": 3.0,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "seed": 0,
}
TRAINING_ROWS, ROUNDS = 20_000, 200


def make_scorer() -> tuple[Scorer, xgboost.Booster]:
    """A scorer of generated customers, and the booster in it."""
    columns, as_of = encode_table(CONTRACT, typed(TRAINING_ROWS, seed=1)), as_of_days(AS_OF)
    program = compile_features(CONTRACT).fit(columns, as_of)
    label = np.array(churned(TRAINING_ROWS, seed=1))
    booster = xgboost.train(PARAMS, xgboost.DMatrix(program(columns, as_of), label), ROUNDS)
    model = BoostedModel([bytes(booster.save_raw("ubj"))])
    return Scorer(CONTRACT, program, model, Platt(1.0, 0.0), Thresholds({"f1": 0.5}, "f1"), Bands(0.3, 0.7)), booster


def main(rows: int = 1_000_000, repeats: int = 7) -> str:
    scorer, booster = make_scorer()
    table = typed(rows, seed=7)
    matrix = scorer.program(encode_table(CONTRACT, table), as_of_days(AS_OF))
    booster.set_param({"nthread": 1})
    theirs = booster.inplace_predict(matrix)
    ours = scorer.score_table(table, AS_OF).probability
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, err_msg="other scores")
    paired = timed(lambda: scorer.score_table(table, AS_OF), lambda: booster.inplace_predict(matrix), repeats)
    return paired.line(f"batch scoring, {rows:,} rows, 1 thread", rows, "inplace_predict of the finished matrix")


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
