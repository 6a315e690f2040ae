"""Labels: predictions joined with the reports on what became of their customers.

A label is about the days from `as_of` to `matures_at`, a horizon later; docs/labels.md has the rule of each state.
Reports often carry no more than a day, so an instant counts by its UTC day: a report of the 31st at midnight is not
earlier than a prediction of the 31st at noon. What is not certain is kept and counted, never guessed. A state depends
on the set of reports, not on their order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Contract, Kind
from churn_assets.prediction_log.schema import columns_of, quoted, table_column

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

STATES = ("final", "open", "early", "late", "conflicting", "unlabelled")
GATE_SHARE = 0.3  # of customers, by the SHA-256 of the id: the part of a customer is for ever the same
_GATE_BELOW = int(GATE_SHARE * 16**8)  # of the first 8 hexadecimal digits

# Reports that name a prediction are about that one; those that name a customer are about every prediction
# of the customer whose `as_of` is not after the report.
_REPORTS = f"""
reports AS (
  SELECT p.prediction_id, p.as_of, f.churned, f.observed_at, f.received_at, f.contacted
  FROM outcomes f JOIN answers p ON p.prediction_id = f.prediction_id
  WHERE f.customer_id IS NULL OR p.customer_id IS NULL OR f.customer_id = p.customer_id
  UNION ALL
  SELECT p.prediction_id, p.as_of, f.churned, f.observed_at, f.received_at, f.contacted
  FROM outcomes f JOIN answers p
    ON p.customer_id = f.customer_id AND CAST(p.as_of AS DATE) <= CAST(f.observed_at AS DATE)
  WHERE f.prediction_id IS NULL
),
dated AS (
  SELECT *, CAST(observed_at AS DATE) AS reported_on, CAST(as_of AS DATE) AS first_day,
    CAST(as_of + to_days($horizon) AS DATE) AS last_day
  FROM reports
),
judged AS (
  SELECT *, churned AND reported_on BETWEEN first_day AND last_day AS in_time,
    NOT churned AND reported_on >= last_day AS at_end, churned AND reported_on > last_day AS after_end
  FROM dated
),
by_prediction AS (
  SELECT prediction_id, bool_or(in_time) AS lost, bool_or(at_end) AS kept, bool_or(after_end) AS too_late,
    coalesce(min(observed_at) FILTER (in_time), min(observed_at) FILTER (at_end), max(observed_at)) AS observed_at,
    coalesce(min(received_at) FILTER (in_time), min(received_at) FILTER (at_end), max(received_at)) AS received_at,
    bool_or(contacted) AS contacted
  FROM judged GROUP BY prediction_id
),
resolved AS (
  SELECT p.*, p.as_of + to_days($horizon) AS matures_at, t.* EXCLUDE (prediction_id, kept, too_late),
    CASE
      WHEN (lost OR kept) AND $now < matures_at THEN 'open'
      WHEN lost AND kept THEN 'conflicting'
      WHEN lost OR kept THEN 'final'
      WHEN too_late THEN 'late'
      ELSE 'early'
    END AS label_state,
    CASE WHEN label_state = 'final' THEN lost END AS churned,
    CASE WHEN CAST('0x' || substr(sha256(coalesce(customer_id, prediction_id)), 1, 8) AS BIGINT) < {_GATE_BELOW}
      THEN 'gate' ELSE 'train' END AS part
  FROM by_prediction t JOIN answers p USING (prediction_id)
)
"""

_HEAD = (
    *("seq", "prediction_id", "customer_id", "as_of", "scored_at", "matures_at", "score", "model_version"),
    *("fingerprint", "arm", "label_state", "churned", "contacted", "observed_at", "received_at", "part"),
)
_TYPES = {
    **{"seq": "int64", "score": "float64", "churned": "bool", "contacted": "bool"},
    **dict.fromkeys(("as_of", "scored_at", "matures_at", "observed_at", "received_at"), "timestamp[us]"),
}  # others are strings

_COUNTS = f"""
WITH {_REPORTS}
SELECT coalesce(r.label_state, CASE WHEN $now < p.as_of + to_days($horizon) THEN 'open' ELSE 'unlabelled' END) AS state,
  count(*), count(*) FILTER (r.churned), count(*) FILTER (r.contacted),
  count(*) FILTER (r.contacted IS NOT NULL)
FROM answers p LEFT JOIN resolved r ON r.prediction_id = p.prediction_id
GROUP BY 1
"""

_WAITING = """
SELECT CAST(date_trunc('month', as_of + to_days($horizon)) AS DATE) AS month, count(*),
  min(as_of + to_days($horizon)), max(as_of + to_days($horizon))
FROM answers WHERE $now < as_of + to_days($horizon) GROUP BY 1 ORDER BY 1
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

    head = {name: pa.type_for_alias(_TYPES.get(name, "string")) for name in _HEAD}
    kinds = {Kind.BOOLEAN: pa.bool_(), Kind.DATE: pa.date32(), Kind.NUMBER: pa.float64(), Kind.INTEGER: pa.float64()}
    asked = {table_column(c.name): kinds.get(c.kind, pa.string()) for c in contract.logged_columns}
    return pa.schema(list({**head, **asked}.items()), {"churn_contract": contract.fingerprint})


def labelled(connection: duckdb.DuckDBPyConnection, contract: Contract, now: dt.datetime) -> pa.Table:
    """Every prediction that has a report, in the order of the log, with its state at `now` (aware).

    `churned` is null unless the state is final, `contacted` null unless a report has it; `observed_at` and
    `received_at` are of the first report that made the label, else of the last one. Rows of other contracts are kept,
    `fingerprint` tells them apart; a column that the log does not have is null.
    """
    schema = label_schema(contract)
    available = {name.lower() for name in columns_of(connection)}
    names = [table_column(column.name) for column in contract.logged_columns]
    columns = [quoted(name) if name.lower() in available else f"NULL AS {quoted(name)}" for name in names]
    query = f"WITH {_REPORTS} SELECT {', '.join([*_HEAD, *columns])} FROM resolved ORDER BY seq"
    table = connection.sql(query, params=_values(contract, now)).to_arrow_table()
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
    contacted, `contacted` of them were. The defaults are those of a log without rows.
    """

    predictions: int = 0
    states: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    churned: int = 0
    churned_share: float | None = None
    contacted: int = 0
    contacted_known: int = 0
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
        if self.feedback.unmatched:
            parts.append(f"{self.feedback.unmatched:,} of {self.feedback.reports:,} reports fit no prediction")
        return "; ".join(parts)


def count_labels(connection: duckdb.DuckDBPyConnection, contract: Contract, now: dt.datetime) -> LabelCounts:
    """How many predictions are in each state at `now` (aware), what still waits, and which reports fit nothing."""
    values = _values(contract, now)
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
        waiting=OpenLabels(
            predictions=sum(row[1] for row in waiting),
            first_matures_at=min((row[2].isoformat() for row in waiting), default=None),
            last_matures_at=max((row[3].isoformat() for row in waiting), default=None),
            by_month=tuple(MonthCount(month.strftime("%Y-%m"), count) for month, count, *_ in waiting),
        ),
        feedback=ReportCounts(*connection.execute(_FEEDBACK).fetchall()[0]),
    )


def _values(contract: Contract, now: dt.datetime) -> dict[str, Any]:
    if now.tzinfo is None:
        raise ValueError(f"now is {now}, expected an instant with a time zone")
    return {"horizon": contract.label.horizon_days, "now": now.astimezone(dt.UTC).replace(tzinfo=None)}
