"""Rows a second of the compiled feature program, beside the same features written in pandas.

python -m benchmarks.features [rows] [repeats]
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from benchmarks.customers import AS_OF, CONTRACT, typed
from benchmarks.paired import timed
from churn_assets.features.compile import as_of_days, compile_features
from churn_assets.features.encode import encode_table


def pandas_features(frame: pd.DataFrame, as_of: pd.Timestamp, knots: dict[str, list[float]]) -> pd.DataFrame:
    """The store contract's features, as one would write them in a notebook."""
    out = frame.drop(columns=["custid", "created", "firstorder", "lastorder"]).copy()
    out["favday"] = frame["favday"].cat.codes
    out["city"] = frame["city"].cat.codes
    out["tenure_days"] = (as_of - frame["created"]).dt.days
    out["recency_days"] = (as_of - frame["lastorder"]).dt.days
    out["first_order_age_days"] = (as_of - frame["firstorder"]).dt.days
    out["active_days"] = (frame["lastorder"] - frame["firstorder"]).dt.days
    out["days_to_first_order"] = (frame["firstorder"] - frame["created"]).dt.days
    out["opens"] = (frame["esent"] * frame["eopenrate"] / 100).round()
    out["clicks"] = (frame["esent"] * frame["eclickrate"] / 100).round()
    out["unopened"] = frame["esent"] - out["opens"]
    expected = np.maximum(np.interp(out["tenure_days"], knots["x"], knots["y"]), 1.0)
    out["emails_ratio"] = frame["esent"] / expected
    out["emails_gap"] = frame["esent"] - expected
    out["emails_pace"] = frame["esent"] / (out["tenure_days"].clip(upper=90) + 3)
    return out.astype(np.float32)


def main(rows: int = 1_000_000, repeats: int = 7) -> str:
    table = typed(rows, seed=7)
    columns, as_of = encode_table(CONTRACT, table), as_of_days(AS_OF)
    program = compile_features(CONTRACT).fit(columns, as_of)
    (knots,) = program.state.values()
    frame = table.to_pandas(date_as_object=False)
    for name in ("favday", "city"):
        frame[name] = pd.Categorical(frame[name], CONTRACT.column(name).choices)
    theirs = pandas_features(frame, pd.Timestamp(AS_OF), knots)
    ours = program(columns, as_of)
    np.testing.assert_allclose(theirs[list(program.names)].to_numpy(), ours, rtol=1e-6, err_msg="other features")
    paired = timed(lambda: program(columns, as_of), lambda: pandas_features(frame, pd.Timestamp(AS_OF), knots), repeats)
    return paired.line(f"features, {rows:,} rows x {len(program.names)}", rows, "pandas")


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
