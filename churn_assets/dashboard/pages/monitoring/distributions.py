"""The values of columns in a window beside those of the training rows that they are compared with, and the newest rows
beyond the range of those."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Kind
from churn_assets.dashboard.pages.selection import Selection
from churn_assets.html.charts import Axis, Chart, mirrored
from churn_assets.monitoring.cutting import WHO
from churn_assets.monitoring.profile import HIGHEST, LOWEST, PREFIX
from churn_assets.monitoring.windows import Window, rows_of
from churn_assets.prediction_log.schema import columns_of, quoted

if TYPE_CHECKING:
    import duckdb

Numbers = npt.NDArray[np.float64]

BINS = 24
MOST_ROWS = 50_000  # customers of a window that are counted, the newest
MOST_LEVELS = 20
MOST_OUTLIERS = 10
ENDS = (0.005, 0.995)  # quantiles of both sides between which the bins lie; what is beyond is in the outermost ones
_EPOCH = dt.date(1970, 1, 1)
_NUMBERS = (Kind.NUMBER, Kind.INTEGER)
_NUMERIC = (*_NUMBERS, Kind.DATE)


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


@dataclass(frozen=True)
class Beyond:
    """A cell beyond the range of the training rows, `low` to `high`."""

    column: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OutlierRow:
    """An answer with such cells."""

    prediction_id: str
    customer_id: str
    scored_at: dt.datetime
    score: float
    cells: tuple[Beyond, ...]


def read_distributions(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    window: Window,
    reference: pa.Table,
    selection: Selection,
) -> tuple[Distribution, ...]:
    """The distribution of each column that the log and the reference have, in the last row of each customer of a window
    and in the training rows."""
    there = columns_of(connection)
    known = [c for c in columns if c.name in reference.column_names and (PREFIX + c.name).lower() in there]
    where, values = selection.where()
    cells = ", ".join(f"{quoted(c.name)} := {quoted(PREFIX + c.name)}" for c in known)
    if not known:
        return ()
    rows = connection.sql(
        f"SELECT unnest(cells) FROM (SELECT arg_max(struct_pack({cells}), seq) AS cells FROM answers "
        f"WHERE {rows_of(window)} AND {where} GROUP BY {WHO} ORDER BY max(seq) DESC LIMIT {MOST_ROWS})",
        params=values,
    ).to_arrow_table()
    return tuple(_distribution(column, reference[column.name], rows[column.name]) for column in known)


def read_outliers(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    window: Window,
    reference: pa.Table,
    selection: Selection,
) -> tuple[OutlierRow, ...]:
    """The newest answers of a window with a number beyond the range of the training rows."""
    there = columns_of(connection)
    bounds: dict[str, tuple[float, float]] = {}
    for column in columns:
        if (
            column.kind in _NUMBERS
            and column.name in reference.column_names
            and (PREFIX + column.name).lower() in there
        ):
            known = _numbers(column.kind, reference[column.name])
            if len(known):
                low, high = np.quantile(known, [LOWEST, HIGHEST])
                bounds[column.name] = (float(low), float(high))
    if not bounds:
        return ()
    where, values = selection.where()
    cells = {name: quoted(PREFIX + name) for name in bounds}
    beyond = " OR ".join(f"NOT {cells[name]} BETWEEN {low!r} AND {high!r}" for name, (low, high) in bounds.items())
    rows = connection.execute(
        f"SELECT prediction_id, customer_id, scored_at, score, {', '.join(cells.values())} FROM answers "
        f"WHERE {rows_of(window)} AND {where} AND ({beyond}) ORDER BY seq DESC LIMIT {MOST_OUTLIERS}",
        values,
    ).fetchall()
    return tuple(
        OutlierRow(own_id, customer or "", at.replace(tzinfo=dt.UTC), score, _beyond(bounds, numbers))
        for own_id, customer, at, score, *numbers in rows
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


def _distribution(column: Column, before: pa.ChunkedArray, after: pa.ChunkedArray) -> Distribution:
    edges: tuple[float, ...] = ()
    shares: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    levels: tuple[Level, ...] = ()
    if column.kind in _NUMERIC:
        edges, shares = _binned(_numbers(column.kind, before), _numbers(column.kind, after))
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
        reference_values=len(before) - before.null_count,
        window_values=len(after) - after.null_count,
        reference_missing=_missing(before),
        window_missing=_missing(after),
    )


def _beyond(bounds: Mapping[str, tuple[float, float]], numbers: Sequence[float | None]) -> tuple[Beyond, ...]:
    cells = zip(bounds.items(), numbers, strict=True)
    return tuple(
        Beyond(name, value, low, high)
        for (name, (low, high)), value in cells
        if value is not None and not low <= value <= high
    )


def _missing(values: pa.ChunkedArray) -> float:
    return values.null_count / len(values) if len(values) else 0.0


def _numbers(kind: Kind, values: pa.ChunkedArray) -> Numbers:
    """The finite numbers; dates as days since 1970."""
    known = values.drop_null()
    days = known.cast(pa.date32()).cast(pa.int32()) if kind is Kind.DATE else known
    # `to_numpy` would import pandas.
    numbers = np.from_dlpack(days.cast(pa.float64()).combine_chunks()).astype(np.float64, copy=False)
    finite: Numbers = numbers[np.isfinite(numbers)]
    return finite


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


def _levels(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[Level, ...]:
    sides = [_counts(values) for values in (before, after)]
    names = sorted(sides[0].keys() | sides[1].keys(), key=lambda name: (-sum(s.get(name, 0) for s in sides), name))
    totals = [max(1, sum(side.values())) for side in sides]
    return tuple(
        Level(name, sides[0].get(name, 0) / totals[0], sides[1].get(name, 0) / totals[1])
        for name in names[:MOST_LEVELS]
    )


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(values.drop_null())
    names, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
    return {_name(name): count for name, count in zip(names, counts, strict=True)}


def _name(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
