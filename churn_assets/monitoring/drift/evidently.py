"""Evidently's own statistics of a window, beside those of our rule; its page for people, and its runs.

Evidently chooses a test for each column and has limits of its own (`ValueDrift` without a method). Nothing here
decides anything: `univariate` does, and its result stands when Evidently fails to import or to run. What makes it fail
is kept from it: a column that is empty or missing on one side ends its whole report, and one of a nullable integer type
is left out silently. Evidently takes some seconds to import, so it is imported where it runs.
"""

from __future__ import annotations

import datetime as dt
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Kind
from churn_assets.monitoring.profile import SCORE
from churn_assets.settings import QUIET_ENVIRONMENT
from churn_assets.storage.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

CELLS, FEWEST_ROWS = 400_000, 1000  # of each side: what a window costs does not grow with its customers or its columns
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})
# Lists of columns that Evidently guesses where it is not given them.
_GUESSED = (
    *("text_columns", "datetime_columns", "unknown_columns", "list_columns", "special_columns", "test_descriptors"),
    *("numerical_descriptors", "categorical_descriptors", "classification", "regression", "ranking"),
)
_DRIFT, _SHARE = "evidently:metric_v2:ValueDrift", "evidently:metric_v2:DriftedColumnsCount"


@dataclass(frozen=True)
class Page:
    """The name of the HTML file, or None and a `message` that says why not; `left_out` are columns and why."""

    file: str | None
    message: str
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class EvidentlyColumn:
    """Evidently's `ValueDrift` of one column: the `method` that it chose, what that gave, and its limit.

    A distance drifts from the limit on, a p-value below it. `agrees`: whether our rule says the same; None where that
    could not test the column.
    """

    column: str
    method: str
    value: float
    threshold: float
    drift: bool
    agrees: bool | None = None


@dataclass(frozen=True)
class EvidentlyDrift:
    """Evidently's statistics of a window: `columns` and the share of them that drift, 0 to 1.

    They are of `rows` customers and `reference_rows` rows of the reference. `left_out` are columns and why. None and no
    columns where Evidently failed; the `message` says why.
    """

    message: str
    release: str = ""
    columns: tuple[EvidentlyColumn, ...] = ()
    drift_share: float | None = None
    rows: int = 0
    reference_rows: int = 0
    left_out: Mapping[str, str] | None = None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """What `compare_with_evidently` gives: the statistics, the page (None: not wanted), and Evidently's `snapshot`
    (None where it failed)."""

    drift: EvidentlyDrift
    page: Page | None = None
    snapshot: Any = None


@dataclass(frozen=True)
class Run:
    """How Evidently lists a window: by name and end, with its verdict among tags and metadata."""

    name: str
    at: dt.datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None


def compare_with_evidently(
    reference: pa.Table,
    current: pa.Table,
    kinds: Mapping[str, Kind],
    ours: Mapping[str, bool | None],
    run: Run,
    page: Path | None = None,
) -> Comparison:
    """Evidently's drift of two samples, column by column, and its page at `page` if one is wanted.

    `kinds` are the columns to compare, `ours` says of each whether it drifts by our rule (None: not tested). Samples of
    more than CELLS cells are cut; their rows are taken to be in random order. Raises nothing: if Evidently fails, the
    message says why.
    """
    started = time.process_time()
    usable, left_out = _usable_columns(reference, current, kinds)
    if not usable:
        return _failed("no column has values on both sides", left_out, page)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas' and NumPy's, on data that is as it is
            before, now = (_cut(table, len(kinds)) for table in (reference, current))
            snapshot, failing = _snapshot(before, now, usable, run)
            left_out |= failing
            if snapshot is None:
                return _failed("it fails on every column", left_out, page)
            if page is not None:
                with replacing(page) as temporary:
                    snapshot.save_html(str(temporary))
            columns, share = _read_columns(snapshot, ours)
    except Exception as error:  # the statistics of our rule stand without it, whatever failed
        return _failed(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", left_out, page)
    drift = EvidentlyDrift(
        message=_agreement(columns),
        release=_release(),
        columns=columns,
        drift_share=share,
        rows=now.num_rows,
        reference_rows=before.num_rows,
        left_out=left_out,
        cpu_s=round(time.process_time() - started, 2),
    )
    return Comparison(drift, None if page is None else Page(page.name, "", left_out), snapshot)


def _failed(reason: str, left_out: Mapping[str, str], page: Path | None) -> Comparison:
    drift = EvidentlyDrift(f"not computed: {reason}", left_out=left_out)
    return Comparison(drift, None if page is None else Page(None, f"no Evidently page: {reason}", left_out))


def _usable_columns(
    reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]
) -> tuple[dict[str, Kind], dict[str, str]]:
    """(columns with values on both sides, reason by column for the others)."""
    sides = {"reference": reference, "window": current}
    left_out = {name: reason for name in kinds if (reason := _why_left_out(name, sides))}
    return {name: kind for name, kind in kinds.items() if name not in left_out}, left_out


def _why_left_out(name: str, sides: Mapping[str, pa.Table]) -> str:
    if absent := [side for side, table in sides.items() if name not in table.column_names]:
        return f"the {absent[0]} has no such column"
    empty = [side for side, table in sides.items() if not _has_values(table[name])]
    return f"the {empty[0]} has no value of it" if empty else ""


def _has_values(column: pa.ChunkedArray) -> bool:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return bool(np.isfinite(column.to_numpy()).any())
    return bool(column.null_count < len(column))


def _cut(table: pa.Table, columns: int) -> pa.Table:
    return table.slice(0, max(FEWEST_ROWS, CELLS // columns))


# -- Evidently -----------------------------------------------------------------------------------------


def _snapshot(
    reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind], run: Run
) -> tuple[Any, dict[str, str]]:
    """(Evidently's snapshot of all columns that it can compare, None of none; reason by column for the others)."""
    os.environ.update({key: value for key, value in QUIET_ENVIRONMENT.items() if key not in os.environ})
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, MeanValue, MissingValueCount, RowCount, ValueDrift

    numbers = [column for column, kind in kinds.items() if kind in _NUMBERS]
    levels = [column for column in kinds if column not in numbers]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=levels, **{name: [] for name in _GUESSED}
    )
    before, now = (Dataset.from_pandas(_frame(table, numbers, levels), definition) for table in (reference, current))

    def report(columns: list[str]) -> Any:
        metrics: list[Any] = [ValueDrift(column=column) for column in columns]
        metrics += [DriftedColumnsCount(columns=columns, tests=[]), RowCount(tests=[])]
        metrics += [MissingValueCount(column=column, tests=[]) for column in columns]
        metrics += [MeanValue(column=column, tests=[]) for column in columns if column == SCORE]
        return Report(metrics, include_tests=True).run(
            now, before, timestamp=run.at, name=run.name, tags=[*run.tags], metadata=dict(run.metadata or {})
        )

    try:
        return report([*kinds]), {}
    except Exception:  # of one column, which is not to cost the others their statistics
        failing = {column: reason for column in kinds if (reason := _why_failing(report, column))}
        usable = [column for column in kinds if column not in failing]
        return report(usable) if usable else None, failing


def _why_failing(report: Callable[[list[str]], Any], column: str) -> str:
    try:
        report([column])
    except Exception as error:
        return f"Evidently fails on it: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ""


def _frame(table: pa.Table, numbers: list[str], levels: list[str]) -> Any:
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in numbers:
        values = table[name].to_numpy().astype(np.float64)
        columns[name] = np.where(np.isfinite(values), values, np.nan)
    for name in levels:
        values = table[name].to_pandas()
        columns[name] = values.map(lambda value: None if value is None or value != value else str(value)).astype(object)
    return pd.DataFrame(columns)


def _release() -> str:
    from importlib.metadata import version

    return version("evidently")


def _read_columns(snapshot: Any, ours: Mapping[str, bool | None]) -> tuple[tuple[EvidentlyColumn, ...], float | None]:
    """The result of each column, and the share of columns that drift."""
    import numpy as np

    result = snapshot.dict()
    drifts = {
        test["metric_config"]["params"]["column"]: str(getattr(test["status"], "value", test["status"])) == "FAIL"
        for test in result["tests"]
        if test["metric_config"]["params"]["type"] == _DRIFT
    }
    columns, share = [], None
    for metric in result["metrics"]:
        config, value = metric["config"], metric["value"]
        if config["type"] == _SHARE:
            share = float(value["share"])
        elif config["type"] == _DRIFT:
            name = config["column"]
            drift, rule = drifts[name], ours.get(name)
            columns.append(
                EvidentlyColumn(
                    column=name,
                    method=str(config["method"]),
                    value=float(np.nan_to_num(value)),  # of a distance whose square overflows; JSON knows no NaN
                    threshold=float(config["threshold"]),
                    drift=drift,
                    agrees=None if rule is None else drift == rule,
                )
            )
    return tuple(columns), share


def _agreement(columns: tuple[EvidentlyColumn, ...]) -> str:
    compared = [column for column in columns if column.agrees is not None]
    others = [column for column in compared if not column.agrees]
    text = f"Evidently agrees with the rule on {len(compared) - len(others)} of {len(compared)} columns"
    alone = {
        "drift by Evidently's limits only": [column.column for column in others if column.drift],
        "drift by the rule only": [column.column for column in others if not column.drift],
    }
    return "; ".join([text, *(f"{', '.join(names)}: {verdict}" for verdict, names in alone.items() if names)])
