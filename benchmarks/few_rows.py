"""Leaf masks beside XGBoost's C library on 1 to 16 rows: where the one should hand over to the other.

python -m benchmarks.few_rows [repeats]
"""

from __future__ import annotations

import sys

from benchmarks.batch_scoring import make_scorer
from benchmarks.customers import AS_OF, typed
from benchmarks.one_row import microseconds
from churn_assets.features.compile import as_of_days
from churn_assets.features.encode import encode_table
from churn_assets.scoring.models.boosted import BoostedModel


def main(repeats: int = 2000) -> str:
    scorer, _ = make_scorer()
    model = scorer.model
    assert isinstance(model, BoostedModel)
    masks = model.leaf_masks
    assert masks is not None
    matrix = scorer.program(encode_table(scorer.contract, typed(16, seed=2)), as_of_days(AS_OF))
    told = []
    for rows in (1, 2, 4, 6, 8, 16):
        few = matrix[:rows].copy()
        ours = microseconds(lambda few=few: masks.margin(few), repeats)
        theirs = microseconds(lambda few=few: model.boosters[0].margin(few), repeats)
        told.append(f"{rows} rows {ours:.0f} against {theirs:.0f}")
    return f"leaf masks against the C library, us: {'; '.join(told)}"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
