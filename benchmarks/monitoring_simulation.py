"""The drift rule on windows that nothing happened in, and on windows that something did.

False alarms: windows of 2,000 customers from the population that the reference is of, in rows of windows each
with a reference of its own; a request is a column that drifts in two windows in a row. What is found: two
windows with a change; found is an alarm on that column in one of them, asked an alarm in both.

    python -m benchmarks.monitoring_simulation [windows] [trials]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from benchmarks.batch_scoring import TRAINING_ROWS, make_scorer
from benchmarks.customers import AS_OF, CONTRACT, typed
from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift.univariate import TESTED_KINDS, detect_drift, drifting_columns
from churn_assets.monitoring.windows.profile import POSITIVE_RATE, SCORE, ColumnValues

POPULATION, REFERENCE, WINDOW, SERIES = 60_000, 10_000, 2_000, 100
THRESHOLD = 0.5
LIMITS = CONTRACT.monitoring
KINDS = {c.name: c.kind for c in CONTRACT.feature_columns if c.kind in TESTED_KINDS and c.name not in LIMITS.silent}
Arrays = Mapping[str, np.ndarray]
Change = Callable[[dict[str, np.ndarray]], None]


def arrays(rows: int, seed: int, scorer: object) -> dict[str, np.ndarray]:
    """Generated customers as arrays, the scorer's answer among them."""
    table = typed(rows, seed)
    found = {SCORE: scorer.score_table(table, AS_OF).probability}
    for name, kind in KINDS.items():
        column = table[name].to_numpy(zero_copy_only=False)
        found[name] = column.astype(str) if kind in (Kind.CATEGORY, Kind.BOOLEAN) else column.astype(np.float64)
    return found


def column_values(rows: Arrays) -> dict[str, ColumnValues]:
    """What the rule compares."""
    found = {}
    for name, kind in KINDS.items():
        if kind in (Kind.CATEGORY, Kind.BOOLEAN):
            found[name] = ColumnValues(str(kind), levels=counts(rows[name]))
        else:
            found[name] = ColumnValues(str(kind), numbers=rows[name][np.isfinite(rows[name])])
    found[SCORE] = ColumnValues("score", numbers=rows[SCORE])
    found[POSITIVE_RATE] = ColumnValues("positive rate", levels=counts((rows[SCORE] >= THRESHOLD).astype(str)))
    return found


def counts(values: np.ndarray) -> dict[str, int]:
    return dict(zip(*(side.tolist() for side in np.unique(values, return_counts=True)), strict=True))


def draw(population: Arrays, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    chosen = rng.choice(len(population[SCORE]), rows, replace=False)
    return {name: values[chosen] for name, values in population.items()}


def scaled(name: str, factor: float) -> Change:
    def change(rows: dict[str, np.ndarray]) -> None:
        rows[name] = rows[name] * factor

    return change


def new_level(name: str, share: float) -> Change:
    def change(rows: dict[str, np.ndarray]) -> None:
        rows[name] = rows[name].astype(object)
        rows[name][: int(share * len(rows[name]))] = "NEW"  # rows come in no order
        rows[name] = rows[name].astype(str)

    return change


def higher_score(by: float) -> Change:
    def change(rows: dict[str, np.ndarray]) -> None:
        rows[SCORE] = np.clip(rows[SCORE] + by, 0.0, 1.0)

    return change


def false_alarms(population: Arrays, training: Arrays, windows: int, seed: int) -> tuple[int, int]:
    """Windows that alarmed on some column, and windows after which a retraining was asked for."""
    rng = np.random.default_rng(seed)
    alarmed = asked = 0
    for start in range(0, windows, SERIES):
        reference, before = column_values(draw(training, REFERENCE, rng)), set[str]()
        for _ in range(min(SERIES, windows - start)):
            now = set(drifting_columns(detect_drift(reference, column_values(draw(population, WINDOW, rng)), LIMITS)))
            alarmed += bool(now)
            asked += bool(now & before)
            before = now
    return alarmed, asked


def found(
    population: Arrays, training: Arrays, column: str, change: Change, trials: int, seed: int
) -> tuple[float, float]:
    """Shares of the trials in which the column alarmed in one of two windows, and in both."""
    rng = np.random.default_rng(seed)
    hits = []
    for _ in range(trials):
        reference = column_values(draw(training, REFERENCE, rng))
        both = []
        for _ in range(2):
            rows = draw(population, WINDOW, rng)
            change(rows)
            both.append(column in drifting_columns(detect_drift(reference, column_values(rows), LIMITS)))
        hits.append(both)
    told = np.array(hits)
    return float(told.any(axis=1).mean()), float(told.all(axis=1).mean())


def main(windows: int = 2_000, trials: int = 60, seed: int = 0) -> str:
    scorer, _ = make_scorer()
    # The reference is of training rows with the scores the model gives them, as in a bundle.
    training, population = arrays(TRAINING_ROWS, 1, scorer), arrays(POPULATION, 7, scorer)
    alarmed, asked = false_alarms(population, training, windows, seed)
    lines = [
        f"no drift, {windows:,} windows of {WINDOW:,}: {asked} asked for a retraining ({asked / windows:.2%}), "
        f"{alarmed} alarmed once ({alarmed / windows:.2%})"
    ]
    cases: dict[str, tuple[str, Change]] = {
        f"mean of {name} up 25 %": (name, scaled(name, 1.25))
        for name, kind in KINDS.items()
        if kind in (Kind.NUMBER, Kind.INTEGER)
    }
    cases |= {f"a new level of {name} at 10 %": (name, new_level(name, 0.1)) for name in ("city", "favday")}
    cases["every score up .05"] = (SCORE, higher_score(0.05))
    for words, (column, change) in cases.items():
        once, twice = found(population, training, column, change, trials, seed)
        effect = detect_drift(
            column_values(training), column_values(_changed(population, change)), replace(LIMITS, effect=0.0)
        )
        size = next(one.effect for one in effect if one.column == column)
        lines.append(f"{words} (effect {size:.3f}): found within two windows {once:.0%}, asked after two {twice:.0%}")
    return "\n".join(lines)


def _changed(population: Arrays, change: Change) -> dict[str, np.ndarray]:
    rows = dict(population)
    change(rows)
    return rows


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
