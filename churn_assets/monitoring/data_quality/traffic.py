"""How predictions came in: how many, how evenly, from whom, and what was refused beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from churn_assets.monitoring.windows.windows import WHO, Window, rows_of

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Traffic:
    """Figures of one window.

    `rows_a_day` is over the window's span, a day at least, so that a burst of a minute is not taken for a
    flood. `longest_gap_hours` lies between two predictions that follow each other in time.
    `largest_customer_share` is the share of rows of the most frequent customer; `repeats` are rows a customer.
    `refused` are requests by cause, of the service's reports that overlap the window.
    """

    rows: int
    customers: int
    rows_a_day: float
    longest_gap_hours: float
    largest_customer_share: float
    rows_without_id: int
    refused: Mapping[str, int]

    @property
    def repeats(self) -> float:
        """Rows a customer, at least 1."""
        return self.rows / self.customers if self.customers else 1.0

    def refused_share(self, cause: str) -> float:
        """Requests refused for this cause among all, 0 to 1."""
        asked = self.rows + sum(self.refused.values())
        return self.refused.get(cause, 0) / asked if asked else 0.0


def read_traffic(connection: Any, window: Window) -> Traffic:
    """The traffic of a window; a log without a table of rejections has refused nothing."""
    found = connection.execute(
        f"""WITH taken AS (SELECT {WHO} AS who, customer_id, scored_at FROM predictions WHERE {rows_of(window)}),
                 gaps AS (SELECT date_diff('microsecond', lag(scored_at) OVER (ORDER BY scored_at), scored_at) AS gap
                          FROM taken),
                 each AS (SELECT count(*) AS rows FROM taken GROUP BY who)
            SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM each), (SELECT max(gap) FROM gaps),
                   (SELECT max(rows) FROM each), (SELECT count(*) FROM taken WHERE customer_id IS NULL),
                   (SELECT date_diff('microsecond', min(scored_at), max(scored_at)) FROM taken)"""
    ).fetchall()[0]
    rows, customers, gap, most, without_id, span = found
    days = max(1.0, (span or 0) / 1e6 / 86_400)
    return Traffic(
        rows=rows,
        customers=customers,
        rows_a_day=rows / days,
        longest_gap_hours=(gap or 0) / 1e6 / _HOUR_S,
        largest_customer_share=(most or 0) / rows if rows else 0.0,
        rows_without_id=without_id,
        refused=_refused(connection, window),
    )


def usual(before: Sequence[Traffic]) -> tuple[float | None, dict[str, float]]:
    """Median rows a day of earlier windows (None if there are none), and median refused share by cause."""
    causes = {cause for traffic in before for cause in traffic.refused}
    shares = {cause: median(traffic.refused_share(cause) for traffic in before) for cause in causes}
    return (median(traffic.rows_a_day for traffic in before) if before else None), shares


def _refused(connection: Any, window: Window) -> dict[str, int]:
    there = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'rejections'").fetchall()[0][0]
    if not there:
        return {}
    found = connection.execute(
        "SELECT cause, sum(requests) FROM rejections WHERE since_at <= CAST(? AS TIMESTAMP) "
        "AND until_at >= CAST(? AS TIMESTAMP) GROUP BY cause ORDER BY cause",
        [window.last_scored_at[:-6], window.first_scored_at[:-6]],
    ).fetchall()
    return {str(cause): int(requests) for cause, requests in found}
