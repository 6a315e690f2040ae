"""Broken pipelines and real drifts, each as a transformation of a window, judged by the check of special values.

A fault replaces a column's values in a share of the rows; a drift draws other customers. The constants of
`monitoring.special_values` were set on generated customers, seeds 0 to 4 (`--seen`); the figures that count are of the
real table, seeds 10 to 14. `cost` is what the fault takes from the PR-AUC of boosted trees fitted on the reference.

    python -m benchmarks.scenarios [--source storedata_total.xlsx] [--seeds 10-14] [--quiet-windows 300]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Kind, Role
from churn_assets.data.customers import CHURNED
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.monitoring.special_values import find_special_values
from churn_assets.synthetic.generate import generate

CONTRACT = load_contract(Path("contracts/store.toml"))
KINDS = {
    c.name: c.kind
    for c in CONTRACT.logged_columns
    if c.role is Role.FEATURE and c.kind in (Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.CATEGORY)
}
REFERENCE, WINDOW = 12_000, 2_000
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
COSTLY = 0.02
Frame = pd.DataFrame
Draw = Callable[[Frame, np.random.Generator], np.ndarray]

FAULTS: dict[str, Callable[[pd.Series], Any]] = {
    "zero": lambda column: 0.0,
    "lowest": lambda column: column.min(),
    "highest": lambda column: column.max(),
    "median": lambda column: column.median(),
    "sentinel": lambda column: 999_999.0,
    "mode": lambda column: column.mode()[0],
}


def weights_by(score: Callable[[Frame], Any]) -> Draw:
    """A draw of customers in proportion to a weight."""

    def draw(population: Frame, rng: np.random.Generator) -> np.ndarray:
        weight = np.asarray(score(population), dtype=np.float64)
        return rng.choice(len(population), WINDOW, replace=False, p=weight / weight.sum())

    return draw


def rank(column: pd.Series) -> Any:
    return column.rank(pct=True).fillna(0.5)


DRIFTS: dict[str, Draw] = {
    "other mix of cities": weights_by(lambda p: np.where(p["city"] == p["city"].mode()[0], 3.0, 1.0)),
    "more who opted for paperless": weights_by(lambda p: np.where(p["paperless"] == 1, 3.0, 1.0)),
    "more frequent buyers": weights_by(lambda p: 0.2 + rank(p["ordfreq"])),
    "fewer frequent buyers": weights_by(lambda p: 1.2 - rank(p["ordfreq"])),
    "more readers of mail": weights_by(lambda p: 0.2 + rank(p["eopenrate"])),
    "fewer readers of mail": weights_by(lambda p: 1.2 - rank(p["eopenrate"])),
    "larger orders": weights_by(lambda p: 0.2 + rank(p["avgorder"])),
    "more churners": weights_by(lambda p: np.where(p["churned"] == 1, 3.0, 1.0)),
}


def population(source: Path | None, seed: int) -> Frame:
    """Customers with the columns of `KINDS` and whether they churned."""
    raw = read_table(source, CONTRACT) if source else generate(CONTRACT, rows=30_000, seed=seed)
    table = validate(CONTRACT, apply_repairs(raw, CONTRACT)[0]).customers
    frame = table.select([*KINDS, CHURNED]).to_pandas()
    for name, kind in KINDS.items():
        frame[name] = frame[name].astype(str) if kind is Kind.CATEGORY else frame[name].astype(float)
    return frame


def encoded(frame: Frame) -> Frame:
    return frame[list(KINDS)].apply(lambda c: c.astype("category").cat.codes if c.dtype == object else c)


def found(reference: Frame, window: Frame) -> list[str]:
    sides = (pa.Table.from_pandas(frame[list(KINDS)], preserve_index=False) for frame in (reference, window))
    return [value.column for value in find_special_values(*sides, KINDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=os.environ.get("CHURN_SOURCE"))
    parser.add_argument("--seen", action="store_true", help="generated customers, on which the constants were set")
    parser.add_argument("--seeds", default="10-14")
    parser.add_argument("--quiet-windows", type=int, default=300)
    options = parser.parse_args()
    low, high = map(int, options.seeds.split("-"))
    source = None if options.seen or options.source is None else Path(options.source)
    costly: list[tuple[str, float, bool]] = []
    cheap = alarms = quiet = 0
    drifts = dict.fromkeys(DRIFTS, 0)
    began, windows = time.process_time(), 0
    for seed in range(low, high + 1):
        rng = np.random.default_rng(seed)
        everybody = population(source, seed).sample(frac=1.0, random_state=seed).reset_index(drop=True)
        reference, rest = everybody[:REFERENCE], everybody[REFERENCE:].reset_index(drop=True)
        model = HistGradientBoostingClassifier(random_state=0).fit(encoded(reference), reference["churned"])
        numbers = [name for name, kind in KINDS.items() if kind in (Kind.NUMBER, Kind.INTEGER)]
        for name in numbers:
            for fault, replacement in FAULTS.items():
                for share in SHARES:
                    window = rest.iloc[rng.choice(len(rest), WINDOW, replace=False)].reset_index(drop=True)
                    broken = window.copy()
                    broken.loc[: int(share * WINDOW) - 1, name] = replacement(reference[name])
                    before, after = (
                        average_precision_score(f["churned"], model.predict_proba(encoded(f))[:, 1])
                        for f in (window, broken)
                    )
                    hit = name in found(reference, broken)
                    windows += 1
                    if before - after > COSTLY:
                        costly.append((f"{name} {fault} {share:.0%}", before - after, hit))
                    else:
                        cheap += hit
        for drift, draw in DRIFTS.items():
            named = found(reference, rest.iloc[draw(rest, rng)])
            drifts[drift] += bool(named)
            windows += 1
        for _ in range(options.quiet_windows // (high - low + 1)):
            alarms += bool(found(reference, rest.iloc[rng.choice(len(rest), WINDOW, replace=False)]))
            quiet += 1
            windows += 1
    hits = sum(hit for _, _, hit in costly)
    print(
        f"faults that cost more than {COSTLY} PR-AUC: {hits} of {len(costly)} found ({hits / max(1, len(costly)):.0%})"
    )
    for name, cost, hit in sorted(costly, key=lambda row: -row[1]):
        if not hit:
            print(f"  missed: {name}, cost {cost:.3f}")
    print(f"of the others {cheap} are found too; they are faults as well")
    print("real drifts called broken:", ", ".join(f"{name} {count}" for name, count in drifts.items()))
    print(f"quiet windows called broken: {alarms} of {quiet}")
    print(f"CPU a window, its preparation included: {(time.process_time() - began) / windows:.2f} s")


if __name__ == "__main__":
    main()
