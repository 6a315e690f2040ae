"""Labels: predictions joined with the reports on what became of their customers.

A label is about the days from `as_of` to `matures_at`, a horizon later; docs/labels.md has the rule of each state.
Reports often carry no more than a day, so an instant counts by its UTC day: a report of the 31st at midnight is not
earlier than a prediction of the 31st at noon. What is not certain is kept and counted, never guessed. A state depends
on the set of reports, not on their order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import ContractError
from churn_assets.prediction_log.schema import columns_of, quoted, table_column
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

STATES = ("final", "open", "early", "late", "conflicting", "unlabelled")
GATE_SHARE = 0.3  # of customers, by the SHA-256 of the id: the part of a customer is for ever the same
_GATE_BELOW = int(GATE_SHARE * 16**8)  # of the first 8 hexadecimal digits


def _hash(text: str) -> str:
    """SQL of a whole number below 16**8 that only a text decides."""
    return f"CAST('0x' || substr(sha256({text}), 1, 8) AS BIGINT)"


CENSUS = 10  # customers reported as kept on one day: whoever is reported as churned on it churned by then, not on it

# Every prediction matures by the horizon of the contract that scored it: an edit of the contract cuts no older label.
_ASKED = """
asked AS (
  SELECT a.*, a.as_of + to_days(coalesce(map($fingerprints::VARCHAR[], $days::INTEGER[])[a.fingerprint], $horizon))
    AS matures_at
  FROM answers a
)
"""

# Reports that name a prediction are about that one; those that name a customer are about every prediction
# of the customer whose `as_of` is not after the report.
_REPORTS = f"""{_ASKED},
reports AS (
  SELECT p.prediction_id, p.as_of, p.matures_at, f.churned, f.observed_at, f.received_at, f.contacted
  FROM outcomes f JOIN asked p ON p.prediction_id = f.prediction_id
  WHERE f.customer_id IS NULL OR p.customer_id IS NULL OR f.customer_id = p.customer_id
  UNION ALL
  SELECT p.prediction_id, p.as_of, p.matures_at, f.churned, f.observed_at, f.received_at, f.contacted
  FROM outcomes f JOIN asked p
    ON p.customer_id = f.customer_id AND CAST(p.as_of AS DATE) <= CAST(f.observed_at AS DATE)
  WHERE f.prediction_id IS NULL
),
censuses AS (
  SELECT CAST(observed_at AS DATE) AS census_on FROM outcomes GROUP BY census_on
  HAVING count(DISTINCT coalesce(customer_id, ' ' || prediction_id)) FILTER (NOT churned) >= {CENSUS}
),
dated AS (
  SELECT *, CAST(observed_at AS DATE) AS reported_on, CAST(as_of AS DATE) AS first_day,
    CAST(matures_at AS DATE) AS last_day, reported_on IN (SELECT census_on FROM censuses) AS by_census
  FROM reports
),
judged AS (
  SELECT *, churned AND reported_on BETWEEN first_day AND last_day AS in_time,
    NOT churned AND reported_on >= last_day AS at_end, churned AND reported_on > last_day AS after_end
  FROM dated
),
by_prediction AS (
  SELECT prediction_id, bool_or(in_time) AS in_time, bool_or(at_end) AS at_end, bool_or(after_end) AS too_late,
    bool_and(by_census) FILTER (in_time) AS lost_by_census, min(first_day) AS first_day, min(last_day) AS last_day,
    min(reported_on) FILTER (churned) AS first_lost_on, max(reported_on) FILTER (NOT churned) AS last_kept_on,
    min(reported_on) FILTER (after_end) AS lost_on, bool_and(by_census) FILTER (after_end) AS late_by_census,
    coalesce(max(reported_on) FILTER (NOT churned AND reported_on < last_day), min(first_day)) AS kept_on,
    coalesce(min(observed_at) FILTER (in_time), min(observed_at) FILTER (at_end),
      min(observed_at) FILTER (after_end AND by_census), max(observed_at)) AS observed_at,
    coalesce(min(received_at) FILTER (in_time), min(received_at) FILTER (at_end),
      min(received_at) FILTER (after_end AND by_census), max(received_at)) AS received_at,
    bool_or(contacted) AS contacted
  FROM judged GROUP BY prediction_id
),
-- Churners a day, those of an interval in its middle.
rate AS (
  SELECT count(first_lost_on) / nullif(sum(greatest(0.5, CASE
    WHEN first_lost_on IS NULL THEN last_kept_on - first_day
    ELSE (greatest(least(last_kept_on, first_lost_on), first_day) - first_day + (first_lost_on - first_day)) / 2.0
  END)), 0) AS a_day
  FROM by_prediction
),
-- Between two censuses the day of a churn is not known: at a constant rate, this is the probability that it was within
-- the prediction's days. The prediction's id draws, so that the share of churners is right on average.
interval_censored AS (
  SELECT *, too_late AND late_by_census AND NOT in_time AND NOT at_end AS censored,
    censored AND {_hash("prediction_id")} / {16**8}.0
      < (1 - exp(-a_day * (last_day - kept_on))) / (1 - exp(-a_day * (lost_on - kept_on))) AS drawn,
    in_time OR drawn AS lost, at_end OR (censored AND NOT drawn) AS kept
  FROM by_prediction, rate
),
-- Contacts within the days of a prediction.
reached AS (
  SELECT p.prediction_id, bool_or(c.event <> 'control') AS reached, bool_or(c.event = 'control') AS left_alone
  FROM asked p JOIN contact_events c ON c.customer_id = p.customer_id
    AND CAST(c.contacted_at AS DATE) BETWEEN CAST(p.as_of AS DATE) AND CAST(p.matures_at AS DATE)
  GROUP BY p.prediction_id
),
resolved AS (
  SELECT p.*, t.lost, t.observed_at, t.received_at, t.censored,
    CASE WHEN r.reached THEN true ELSE coalesce(t.contacted, NOT r.left_alone) END AS contacted,
    coalesce(r.left_alone AND NOT r.reached AND t.contacted IS NOT TRUE, false) AS control,
    CASE
      WHEN (lost OR kept) AND $now < matures_at THEN 'open'
      WHEN lost AND kept THEN 'conflicting'
      WHEN lost AND lost_by_census AND last_day > newest.census_on THEN 'open'
      WHEN lost OR kept THEN 'final'
      WHEN too_late THEN 'late'
      ELSE 'early'
    END AS label_state,
    CASE WHEN label_state = 'final' THEN lost END AS churned,
    CASE WHEN {_hash("coalesce(customer_id, prediction_id)")} < {_GATE_BELOW} THEN 'gate' ELSE 'train' END AS part
  FROM interval_censored t JOIN asked p USING (prediction_id) LEFT JOIN reached r USING (prediction_id)
    CROSS JOIN (SELECT max(census_on) AS census_on FROM censuses) newest
)
"""

_HEAD = (
    *("seq", "prediction_id", "customer_id", "as_of", "scored_at", "matures_at", "score", "model_version"),
    *(
        "fingerprint",
        "arm",
        "label_state",
        "churned",
        "censored",
        "contacted",
        "control",
        "observed_at",
        "received_at",
        "part",
    ),
)
_TYPES = {
    **{
        "seq": "int64",
        "score": "float64",
        "churned": "bool",
        "censored": "bool",
        "contacted": "bool",
        "control": "bool",
    },
    **dict.fromkeys(("as_of", "scored_at", "matures_at", "observed_at", "received_at"), "timestamp[us]"),
}  # others are strings

_COUNTS = f"""
WITH {_REPORTS}
SELECT coalesce(r.label_state, CASE WHEN $now < p.matures_at THEN 'open' ELSE 'unlabelled' END) AS state,
  count(*), count(*) FILTER (r.churned), count(*) FILTER (r.contacted),
  count(*) FILTER (r.contacted IS NOT NULL), count(*) FILTER (r.censored AND r.label_state = 'final')
FROM asked p LEFT JOIN resolved r ON r.prediction_id = p.prediction_id
GROUP BY 1
"""

_WAITING = f"""
WITH {_ASKED}
SELECT CAST(date_trunc('month', matures_at) AS DATE) AS month, count(*), min(matures_at), max(matures_at)
FROM asked WHERE $now < matures_at GROUP BY 1 ORDER BY 1
"""

_FEEDBACK = """
SELECT count(*),
  count(*) FILTER (f.prediction_id IS NOT NULL AND p.prediction_id IS NULL),
  count(*) FILTER (f.customer_id <> p.customer_id),
  count(*) FILTER (f.prediction_id IS NULL AND c.customer_id IS NULL),
  count(*) FILTER (f.prediction_id IS NULL AND CAST(f.observed_at AS DATE) < c.first_day)
FROM outcomes f
LEFT JOIN answers p ON p.prediction_id = f.prediction_id
LEFT JOIN (
  SELECT customer_id, CAST(min(as_of) AS DATE) AS first_day
  FROM answers WHERE customer_id IS NOT NULL GROUP BY customer_id
) c ON c.customer_id = f.customer_id
"""


def label_schema(contract: Contract) -> pa.Schema:
    """The columns of `labelled`, under this contract; instants are UTC without a zone."""
    import pyarrow as pa

    head = _head()
    kinds = {Kind.BOOLEAN: pa.bool_(), Kind.DATE: pa.date32(), Kind.NUMBER: pa.float64(), Kind.INTEGER: pa.float64()}
    asked = {table_column(c.name): kinds.get(c.kind, pa.string()) for c in contract.logged_columns}
    return pa.schema(list({**head, **asked}.items()), {"churn_contract": contract.fingerprint})


def _head() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {name: pa.type_for_alias(_TYPES.get(name, "string")) for name in _HEAD}


def read_labelled(path: Path) -> pa.Table:
    """The stored rows of `labelled`; a column that an older version did not write is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for name, kind in _head().items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table


def read_horizons(settings: Settings) -> dict[str, int]:
    """Fingerprint -> days of the horizon, of every contract that the ingest met. Files that cannot be read are left
    out."""
    horizons = {}
    for path in (settings.warehouse_dir / "contracts").glob("*.toml"):
        with suppress(ContractError):
            horizons[path.stem] = load_contract(path).label.horizon_days
    return horizons


def labelled(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    now: dt.datetime,
    horizons: Mapping[str, int] | None = None,
) -> pa.Table:
    """Every prediction that has a report, in the order of the log, with its state at `now` (aware).

    `horizons` (days by fingerprint, see `read_horizons`) are those of older contracts. `churned` is null unless the
    state is final, `censored` is true where its day is known to lie between two censuses only, `contacted` null unless
    a report or a contact has it, `control` true for a customer who was left alone for comparison; `observed_at` and
    `received_at` are of the first report that made the label, else of the last one. Rows of other contracts are kept,
    `fingerprint` tells them apart; a column that the log does not have is null.
    """
    schema = label_schema(contract)
    available = {name.lower() for name in columns_of(connection)}
    names = [table_column(column.name) for column in contract.logged_columns]
    columns = [quoted(name) if name.lower() in available else f"NULL AS {quoted(name)}" for name in names]
    query = f"WITH {_REPORTS} SELECT {', '.join([*_HEAD, *columns])} FROM resolved ORDER BY seq"
    table = connection.sql(query, params=_values(contract, now, horizons)).to_arrow_table()
    return table.cast(schema.remove_metadata()).replace_schema_metadata(schema.metadata)


@dataclass(frozen=True)
class MonthCount:
    """Predictions that mature in one month, as 2026-01."""

    month: str
    predictions: int


@dataclass(frozen=True)
class OpenLabels:
    """Predictions whose days are not over, whatever their state, and the instants at which they mature."""

    predictions: int = 0
    first_matures_at: str | None = None
    last_matures_at: str | None = None
    by_month: tuple[MonthCount, ...] = ()


@dataclass(frozen=True)
class ReportCounts:
    """Reports on customers, and those of them that fit no prediction, by the reason."""

    reports: int = 0
    unknown_prediction: int = 0
    of_another_customer: int = 0
    unknown_customer: int = 0
    before_any_prediction: int = 0

    @property
    def unmatched(self) -> int:
        """Reports that fit no prediction."""
        return int(sum(vars(self).values())) - self.reports


@dataclass(frozen=True)
class LabelCounts:
    """Predictions by label state (`states` sums to `predictions`), what still waits, and the reports.

    `churned` are of the final ones; `contacted_known` predictions have a report that says whether the customer was
    contacted, `contacted` of them were; `censored` final ones churned between two
    censuses, one within their days perhaps. The defaults are those of a log without rows.
    """

    predictions: int = 0
    states: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    churned: int = 0
    churned_share: float | None = None
    contacted: int = 0
    contacted_known: int = 0
    censored: int = 0
    waiting: OpenLabels = OpenLabels()
    feedback: ReportCounts = ReportCounts()

    @property
    def message(self) -> str:
        """The counts in one or two sentences."""
        if not self.predictions:
            return "no predictions yet: nothing has been ingested from the prediction log"
        parts = [f"{self.states['final']:,} of {self.predictions:,} predictions have a final label"]
        first, last = self.waiting.first_matures_at, self.waiting.last_matures_at
        if first and last:
            parts.append(f"{self.waiting.predictions:,} are still open and mature from {first[:10]} to {last[:10]}")
        states = ("unlabelled", "early", "late", "conflicting")
        parts += [f"{self.states[name]:,} are {name}" for name in states if self.states[name]]
        if self.censored:
            parts.append(f"{self.censored:,} final ones are drawn: a census tells between which days they churned")
        if self.feedback.unmatched:
            parts.append(f"{self.feedback.unmatched:,} of {self.feedback.reports:,} reports fit no prediction")
        return "; ".join(parts)


def count_labels(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    now: dt.datetime,
    horizons: Mapping[str, int] | None = None,
) -> LabelCounts:
    """How many predictions are in each state at `now` (aware), what still waits, and which reports fit nothing."""
    values = _values(contract, now, horizons)
    rows, waiting = (connection.execute(query, values).fetchall() for query in (_COUNTS, _WAITING))
    states = dict.fromkeys(STATES, 0) | {state: count for state, count, *_ in rows}
    churned = sum(row[2] for row in rows)
    return LabelCounts(
        predictions=sum(states.values()),
        states=states,
        churned=churned,
        churned_share=churned / states["final"] if states["final"] else None,
        contacted=sum(row[3] for row in rows),
        contacted_known=sum(row[4] for row in rows),
        censored=sum(row[5] for row in rows),
        waiting=OpenLabels(
            predictions=sum(row[1] for row in waiting),
            first_matures_at=min((row[2].isoformat() for row in waiting), default=None),
            last_matures_at=max((row[3].isoformat() for row in waiting), default=None),
            by_month=tuple(MonthCount(month.strftime("%Y-%m"), count) for month, count, *_ in waiting),
        ),
        feedback=ReportCounts(*connection.execute(_FEEDBACK).fetchall()[0]),
    )


def _values(contract: Contract, now: dt.datetime, horizons: Mapping[str, int] | None) -> dict[str, Any]:
    if now.tzinfo is None:
        raise ValueError(f"now is {now}, expected an instant with a time zone")
    return {
        "horizon": contract.label.horizon_days,
        "fingerprints": list(horizons or {}),
        "days": list((horizons or {}).values()),
        "now": now.astimezone(dt.UTC).replace(tzinfo=None),
    }
