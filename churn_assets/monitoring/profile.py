"""The profiles that monitoring compares: of a window, and of the reference of the model that is monitored.

A profile is of a set of customers, one row each: exact counts by DuckDB over all rows, and a sample of at most
SAMPLE_ROWS on which numbers are compared. It is taken by a hash of the customer, so that neither the order of the rows
nor their number changes the result or how much memory it takes. The reference are the training rows in the champion's
bundle, under the contract it was made with; they go through the same queries as a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.errors import BundleMismatch, ChurnError
from churn_assets.monitoring.cutting import WHO
from churn_assets.monitoring.windows import OpenWindow, Window, close_windows, read_open_window, rows_of
from churn_assets.prediction_log.schema import TYPES, holder, literal, quoted
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NAN = "CAST('nan' AS DOUBLE)"
TEXTS = frozenset({Kind.CATEGORY, Kind.TEXT, Kind.ID})
ORDERED = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.DATE})
COUNTED = frozenset({Kind.CATEGORY, Kind.BOOLEAN})
SAMPLE_ROWS = 20_000
MOST_LEVELS = 200  # of a category; more is an id in the wrong column
REST = "(all others)"
SCORE, POSITIVE_RATE = "(score)", "(positive rate)"  # no column of a contract can be mistaken for them
AS_OF = "(as of)"
_AGGREGATES = 6  # of a column, in the order of `ColumnQuery.aggregates`
# Types that hold nothing but cells of the kind; a column of any other type is read as text.
_OWN_TYPES: Mapping[Kind, frozenset[str]] = {
    **dict.fromkeys((Kind.NUMBER, Kind.INTEGER), frozenset({"DOUBLE", "FLOAT", "BIGINT", "INTEGER", "TINYINT"})),
    Kind.BOOLEAN: frozenset({"BOOLEAN"}),
    Kind.DATE: frozenset({"DATE"}),
}


@dataclass(frozen=True)
class ColumnQuery:
    """SQL for one column of the contract, which is `name` in the table, of `sql_type`."""

    column: Column
    name: str
    sql_type: str

    @property
    def _as_text(self) -> str:
        return f"CAST({quoted(self.name)} AS VARCHAR)"

    @property
    def _foreign(self) -> bool:
        return self.column.kind not in TEXTS and self.sql_type not in _OWN_TYPES[self.column.kind]

    @property
    def value(self) -> str:
        """SQL of a cell as the kind says it is, dates as days since 1970; null where it is something else."""
        kind = self.column.kind
        if kind in TEXTS:
            return self._as_text
        typed = f"TRY_CAST({self._as_text if self._foreign else quoted(self.name)} AS {TYPES[kind]})"
        if kind is Kind.DATE:
            return f"CAST(date_diff('day', DATE '1970-01-01', {typed}) AS DOUBLE)"
        return typed if kind is Kind.BOOLEAN else f"(CASE WHEN NOT isnan({typed}) THEN {typed} END)"

    @property
    def sampled(self) -> str:
        """SQL of a cell for the sample: text, or a number with NaN for missing."""
        return self.value if self.column.kind in TEXTS else f"coalesce(CAST({self.value} AS DOUBLE), {NAN})"

    def aggregates(self, bounds: tuple[float, float] | None) -> Iterator[str]:
        """Missing, unreadable, infinite, outside `bounds` (a category: no choice), lowest and highest finite value."""
        value, text = self.value, self._as_text
        wrong = f"count(*) FILTER ({value} IS NULL AND {text} IS NOT NULL AND lower({text}) <> 'nan')"
        unreadable = wrong if self._foreign else "0"
        yield f"count(*) - count({value}) - {unreadable}"
        yield unreadable
        if self.column.kind not in ORDERED:
            choices = ", ".join(map(literal, self.column.choices))
            yield from ("0", f"count(*) FILTER ({value} NOT IN ({choices}))" if choices else "0", "NULL", "NULL")
            return
        finite = f"isfinite({value})"
        beyond = f"NOT {value} BETWEEN {bounds[0]!r} AND {bounds[1]!r}" if bounds else "false"
        yield f"count(*) FILTER (isinf({value}))"
        yield f"count(*) FILTER ({finite} AND {beyond})"
        yield f"min({value}) FILTER ({finite})"
        yield f"max({value}) FILTER ({finite})"


@dataclass(frozen=True)
class ColumnProfile:
    """Counts of one column over all rows. `low`, `high`: of finite values (days since 1970 for dates).

    `outside` are finite values beyond given bounds, of a category those that are no choice of the contract; `top` is
    the most frequent number of the sample with its share of the rows there; `levels` rows by level, of categories and
    booleans, beyond MOST_LEVELS all together as REST.
    """

    kind: Kind
    rows: int
    missing: int = 0
    unreadable: int = 0
    infinite: int = 0
    outside: int = 0
    low: float | None = None
    high: float | None = None
    top: tuple[float, float] | None = None
    levels: Mapping[str, int] | None = None

    @property
    def constant(self) -> bool:
        """Whether every value that is there is the same."""
        if self.levels is not None:
            return sum(count > 0 for count in self.levels.values()) == 1
        return self.low is not None and self.low == self.high and not self.infinite


@dataclass(frozen=True)
class ColumnValues:
    """What drift is measured on: the finite `numbers` of a column, or its counts by level."""

    kind: str
    numbers: npt.NDArray[np.float64] | None = None
    levels: Mapping[str, int] | None = None

    @property
    def count(self) -> int:
        """How many values there are."""
        if self.levels is not None:
            return sum(self.levels.values())
        return 0 if self.numbers is None else len(self.numbers)


@dataclass(frozen=True)
class Profile:
    """`rows` customers: the profile of each column there is, `sample` rows of them, and the scores.

    `scored` counts rows of the model that is monitored; `positives` those it predicted to churn. `sample` has the
    contract's column names (float64 numbers and days with NaN, booleans as 0 and 1, text for categories),
    `score`, NaN for rows that another model scored, and, where the relation has it, `(as of)`, the day of the row.
    """

    rows: int
    columns: Mapping[str, ColumnProfile]
    sample: pa.Table
    scored: int = 0
    positives: int = 0
    other_models: int = 0

    def values_of(self, names: Mapping[str, Kind]) -> dict[str, ColumnValues]:
        """The named columns that are there, and, if anything was scored, the score and the positive rate."""
        values = {name: self._values(name, str(kind)) for name, kind in names.items() if name in self.columns}
        if self.scored:
            values[SCORE] = ColumnValues("score", numbers=self.finite("score"))
            split = {"yes": self.positives, "no": self.scored - self.positives}
            values[POSITIVE_RATE] = ColumnValues("positive rate", levels=split)
        return values

    def _values(self, name: str, kind: str) -> ColumnValues:
        levels = self.columns[name].levels
        return ColumnValues(kind, self.finite(name) if levels is None else None, levels)

    def finite(self, name: str) -> npt.NDArray[np.float64]:
        """The finite numbers of a column of the sample."""
        numbers = self.sample[name].to_numpy()
        finite: npt.NDArray[np.float64] = numbers[np.isfinite(numbers)]
        return finite


def compute_profile(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    contract: Contract,
    *,
    prefix: str = "",
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> Profile:
    """Profile `relation`: SQL with columns who, score (null: not of this model), decision, `prefix<column>`, and as_of
    if rows have a day.

    Logged columns that the relation lacks are not in the profile; one whose type is wrong is cast, and
    cells that cannot be are counted as unreadable. Memory is bounded by SAMPLE_ROWS and the distinct levels.
    """
    types = {row[0].lower(): row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    names = [(column, holder(types, prefix + column.name, column.kind)) for column in contract.logged_columns]
    queries = [ColumnQuery(column, name, types[name.lower()]) for column, name in names if name.lower() in types]
    parts = ["count(*)", "count(score)", "count(*) FILTER (score IS NOT NULL AND decision)"]
    parts += [part for query in queries for part in query.aggregates((bounds or {}).get(query.column.name))]
    totals = iter(connection.execute(f"SELECT {', '.join(parts)} FROM {relation}").fetchall()[0])
    rows, scored, positives = islice(totals, 3)
    sample = _sample(connection, relation, queries, has_day="as_of" in types)
    profile = Profile(rows, {}, sample, scored, positives, rows - scored)
    columns = {}
    for query in queries:
        counts = ColumnProfile(query.column.kind, rows, *islice(totals, _AGGREGATES))
        columns[query.column.name] = _with_values(connection, relation, query, counts, profile)
    return replace(profile, columns=columns)


def _with_values(
    connection: duckdb.DuckDBPyConnection, relation: str, query: ColumnQuery, counts: ColumnProfile, profile: Profile
) -> ColumnProfile:
    """The counts with the most frequent number, or the rows by level."""
    if counts.kind in ORDERED:
        counts = replace(counts, top=_most_frequent(profile.finite(query.column.name), profile.sample.num_rows))
    if counts.kind in COUNTED:
        values = counts.rows - counts.missing - counts.unreadable
        counts = replace(counts, levels=_levels(connection, relation, query, values))
    return counts


def _sample(
    connection: duckdb.DuckDBPyConnection, relation: str, queries: list[ColumnQuery], has_day: bool
) -> pa.Table:
    parts = [f"coalesce(CAST(score AS DOUBLE), {NAN}) AS score"]
    if has_day:
        days = "CAST(date_diff('day', DATE '1970-01-01', CAST(as_of AS DATE)) AS DOUBLE)"
        parts.append(f"coalesce({days}, {NAN}) AS {quoted(AS_OF)}")
    parts += [f"{query.sampled} AS {quoted(query.column.name)}" for query in queries]
    sql = f"SELECT {', '.join(parts)} FROM {relation} ORDER BY hash(who || '#'), who LIMIT {SAMPLE_ROWS}"
    return connection.sql(sql).to_arrow_table()


def _most_frequent(numbers: npt.NDArray[np.float64], rows: int) -> tuple[float, float] | None:
    if not len(numbers):
        return None
    values, counts = np.unique(numbers, return_counts=True)
    most = int(counts.argmax())
    return float(values[most]), float(counts[most]) / rows


def _levels(connection: duckdb.DuckDBPyConnection, relation: str, query: ColumnQuery, values: int) -> dict[str, int]:
    sql = (
        f"SELECT CAST({query.value} AS VARCHAR) AS level, count(*) AS rows FROM {relation} "
        f"WHERE {query.value} IS NOT NULL GROUP BY level ORDER BY rows DESC, level LIMIT {MOST_LEVELS}"
    )
    levels: dict[str, int] = dict(connection.execute(sql).fetchall())
    rest = values - sum(levels.values())
    return {**levels, REST: rest} if rest else levels


# -- the monitored model -------------------------------------------------------------------------------

NO_CHAMPION = "no champion yet: predictions are monitored once a model answers (`churn run` makes the first)"

# What lies beyond these quantiles of the reference is outside: one customer of a thousand, when nothing changed.
LOWEST, HIGHEST = 0.0005, 0.9995
PREFIX = "x_"


@dataclass(frozen=True)
class Reference:
    """Training rows of model `version`: their profile, and per number the bounds of the range check.

    `outside_share` is the reference's own share beyond `bounds`, 0 to 1.
    """

    version: str
    profile: Profile
    bounds: Mapping[str, tuple[float, float]]
    outside_share: Mapping[str, float]


@dataclass(frozen=True)
class MonitoredModel:
    """The champion's contract and reference; `reference` is None if it cannot be used, `no_reference` says why.

    `limits` are those of the contract in use: how a model is monitored may change without a new model.
    """

    version: str
    fingerprint: str
    contract: Contract
    limits: Monitoring
    reference: Reference | None
    no_reference: str = ""


def read_monitored_model(settings: Settings, contract: Contract) -> MonitoredModel | None:
    """The champion of this home; None before the first.

    A bundle whose contract or reference cannot be used gives a model without a reference, and the reason.
    Raises PointerCorrupt.
    """
    from churn_assets.contract.check import with_excluded
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.scoring.bundle import read_contract

    champion = read_champion(settings.home)
    if champion is None:
        return None
    bundle, limits = champion.path(settings.home), contract.monitoring
    try:
        own = read_contract(bundle) or contract
        if champion.fingerprint != contract.fingerprint:
            contract = own
        contract = with_excluded(contract, {column.name for column in own.columns if column.excluded})
        reference = load_reference(bundle, contract)
        return MonitoredModel(champion.version, champion.fingerprint, contract, limits, reference)
    except (ChurnError, OSError, ValueError, KeyError) as error:
        reason = f"no reference to compare with: {' '.join(str(error).split())}"
        return MonitoredModel(champion.version, champion.fingerprint, contract, limits, None, reason)


def load_reference(bundle: Path, contract: Contract) -> Reference:
    """The reference of a bundle, read under `contract`.

    Raises BundleMismatch if its rows were made under another contract, BundleCorrupt if the card cannot be
    read. Columns that it lacks are left out; the quality report of a window names them.
    """
    from churn_assets.scoring.bundle import read_card, read_reference

    table, thresholds = read_reference(bundle), read_card(bundle).thresholds
    made_under = (table.schema.metadata or {}).get(b"churn_contract", b"").decode()
    if made_under != contract.fingerprint:
        raise BundleMismatch(
            f"{bundle.name}: its reference rows were made under contract {made_under[:12] or 'unknown'}, expected "
            f"{contract.fingerprint[:12]}; train again, or use the bundle's contract"
        )
    return reference_of(table, contract, thresholds.value, bundle.name)


def reference_of(table: pa.Table, contract: Contract, threshold: float, version: str) -> Reference:
    """The same from a typed table with the contract's columns and `churn_probability`."""
    import duckdb

    renamed = table.rename_columns([PREFIX + name for name in table.column_names])
    key, score = f'"{PREFIX}{contract.key.name}"', f'"{PREFIX}churn_probability"'
    day = _day_of(table, contract)
    relation = (
        f"(SELECT CAST({key} AS VARCHAR) AS who, {score} AS score, {score} >= {threshold!r} AS decision, "
        f"{f'{day} AS as_of, ' if day else ''}* FROM r)"
    )
    with duckdb.connect() as connection:
        connection.register("r", renamed)
        profile = compute_profile(connection, relation, contract, prefix=PREFIX)
    bounds, outside = {}, {}
    for name, numbers in _finite_numbers(profile, contract).items():
        low, high = np.quantile(numbers, [LOWEST, HIGHEST])
        bounds[name] = (float(low), float(high))
        outside[name] = float(((numbers < low) | (numbers > high)).mean())
    return Reference(version, profile, bounds, outside)


def _day_of(table: pa.Table, contract: Contract) -> str:
    """SQL of the day that each row describes, '' if the table does not say."""
    if contract.time.as_of in table.column_names:
        return quoted(PREFIX + contract.time.as_of)
    day = (table.schema.metadata or {}).get(b"churn_as_of", b"").decode()
    return f"CAST({literal(day)} AS DATE)" if day else ""


def _finite_numbers(profile: Profile, contract: Contract) -> dict[str, npt.NDArray[np.float64]]:
    """The values of each column of numbers that has some."""
    numeric = [c.name for c in contract.logged_columns if c.kind in (Kind.NUMBER, Kind.INTEGER)]
    numbers = {name: profile.finite(name) for name in numeric if name in profile.columns}
    return {name: values for name, values in numbers.items() if len(values)}


@dataclass(frozen=True)
class MonitoredLog:
    """The published log, open: the closed windows of the model's contract, oldest first, and the open one."""

    connection: duckdb.DuckDBPyConnection
    settings: Settings
    model: MonitoredModel
    windows: Sequence[Window]
    waiting: OpenWindow


@contextmanager
def open_monitored_log(settings: Settings, model: MonitoredModel) -> Iterator[MonitoredLog]:
    """The log, with every window closed that can be. Raises NothingIngested, WindowUnreadable."""
    with open_published(settings) as connection:
        windows = close_windows(connection, settings, model.fingerprint, model.limits)
        waiting = read_open_window(connection, model.fingerprint, model.limits, windows)
        yield MonitoredLog(connection, settings, model, windows, waiting)


def profile_window(connection: duckdb.DuckDBPyConnection, model: MonitoredModel, window: Window) -> Profile:
    """The profile of a window: the last row of each customer; `score` counts only where this model gave it."""
    # Positions are kept, not rows: eight bytes a customer, whatever the table's width.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE last_rows AS SELECT max(seq) AS seq FROM answers "
        f"WHERE {rows_of(window)} GROUP BY {WHO}"
    )
    relation = (
        f"(SELECT {WHO} AS who, CASE WHEN model_version = {literal(model.version)} THEN p.score END AS score, "
        "p.decision AS decision, p.* EXCLUDE (score, decision) "
        f"FROM answers p SEMI JOIN last_rows l ON p.seq = l.seq WHERE {rows_of(window)})"
    )
    bounds = model.reference.bounds if model.reference else None
    try:
        return compute_profile(connection, relation, model.contract, prefix=PREFIX, bounds=bounds)
    finally:
        connection.execute("DROP TABLE last_rows")
