"""The values of one column in a window beside those of the training rows that it is compared with."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Kind
from churn_assets.html.charts import Axis, Chart, mirrored
from churn_assets.monitoring.cutting import WHO
from churn_assets.monitoring.profile import PREFIX
from churn_assets.monitoring.windows import Window, rows_of
from churn_assets.prediction_log.schema import quoted
from churn_assets.scoring.bundle import read_reference

if TYPE_CHECKING:
    import duckdb

Numbers = npt.NDArray[np.float64]

BINS = 24
MOST_ROWS = 50_000  # customers of a window that are counted, the newest
MOST_LEVELS = 20
ENDS = (0.005, 0.995)  # quantiles of both sides between which the bins lie; what is beyond is in the outermost ones
_EPOCH = dt.date(1970, 1, 1)
_NUMERIC = (Kind.NUMBER, Kind.INTEGER, Kind.DATE)


@dataclass(frozen=True)
class Level:
    """A level with its shares of the training rows and of the window's customers that have a value."""

    level: str
    reference: float
    window: float


@dataclass(frozen=True)
class Distribution:
    """A column: shares by bin between `edges` (days since 1970 of dates) or by level; `missing` are shares of all."""

    column: str
    kind: str
    unit: str
    edges: tuple[float, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]
    levels: tuple[Level, ...]
    reference_values: int
    window_values: int
    reference_missing: float
    window_missing: float


def read_distribution(
    column: Column,
    window: Window,
    bundle: Path,
    ask: Callable[[str, Callable[[duckdb.DuckDBPyConnection], list[Any]]], list[Any] | None],
) -> Distribution | None:
    """The distribution of a column in a window, the last row of each customer; None where the log or the bundle lacks
    it. `ask` asks the log. Raises BundleCorrupt and OSError for a reference that cannot be read."""
    table = read_reference(bundle)
    if column.name not in table.column_names:
        return None
    before = table[column.name].to_pylist()
    sql = (
        f"SELECT arg_max({quoted(PREFIX + column.name)}, seq) FROM answers WHERE {rows_of(window)} GROUP BY {WHO} "
        f"ORDER BY max(seq) DESC LIMIT {MOST_ROWS}"
    )
    rows = ask(sql, lambda connection: connection.execute(sql).fetchall())
    if rows is None:
        return None
    after = [row[0] for row in rows]
    edges: tuple[float, ...] = ()
    shares: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    levels: tuple[Level, ...] = ()
    if column.kind in _NUMERIC:
        edges, shares = _binned(_numbers(before), _numbers(after))
    else:
        levels = _levels(before, after)
    return Distribution(
        column=column.name,
        kind=str(column.kind),
        unit=column.unit,
        edges=edges,
        reference=shares[0],
        window=shares[1],
        levels=levels,
        reference_values=sum(value is not None for value in before),
        window_values=sum(value is not None for value in after),
        reference_missing=_missing(before),
        window_missing=_missing(after),
    )


def draw_distribution(values: Distribution) -> Chart | None:
    """The two histograms, training rows down and the window up; None for levels, which are a table."""
    if not values.edges:
        return None
    form = (lambda day: str(_EPOCH + dt.timedelta(days=round(day)))) if values.kind == "date" else "{:.4g}".format
    ends = (values.edges[0], values.edges[-1])
    ticks = tuple(float(t) for t in np.linspace(*ends, 3)) if values.kind == "date" else None
    axis = Axis(f"{values.column} ({values.unit})" if values.unit else values.column, *ends, form, ticks)
    return mirrored(
        values.column,
        axis,
        values.edges,
        ("this window", "a", values.window),
        ("training rows", "kept", values.reference),
    )


def _missing(values: Sequence[object]) -> float:
    return sum(value is None for value in values) / len(values) if values else 0.0


def _numbers(values: Sequence[Any]) -> Numbers:
    """The finite numbers; dates as days since 1970."""
    days = ((value - _EPOCH).days if isinstance(value, dt.date) else value for value in values if value is not None)
    numbers = np.array(list(days), dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _binned(before: Numbers, after: Numbers) -> tuple[tuple[float, ...], tuple[tuple[float, ...], tuple[float, ...]]]:
    known = [side for side in (before, after) if len(side)]
    if not known:
        return (), ((), ())
    low = min(float(np.quantile(side, ENDS[0])) for side in known)
    high = max(float(np.quantile(side, ENDS[1])) for side in known)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    shares = [
        np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / max(1, len(side)) for side in (before, after)
    ]
    return tuple(edges.tolist()), (tuple(shares[0].tolist()), tuple(shares[1].tolist()))


def _levels(before: Sequence[Any], after: Sequence[Any]) -> tuple[Level, ...]:
    sides = [Counter(_name(value) for value in values if value is not None) for values in (before, after)]
    names = sorted(set(sides[0]) | set(sides[1]), key=lambda name: (-sides[0][name] - sides[1][name], name))
    totals = [max(1, side.total()) for side in sides]
    return tuple(Level(name, sides[0][name] / totals[0], sides[1][name] / totals[1]) for name in names[:MOST_LEVELS])


def _name(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
