"""Where a window of the prediction log ends.

People score in one of two ways: requests that come as they come, and batches: a whole table on one day, in the order
of its file. A piece of a file in the order of sign-up holds customers of one month, which are unlike the training rows
though nothing has changed. So a window never holds a part of a batch: it ends before a batch, or with it.

A batch is what one `churn score --log` wrote. With `batch_pause_minutes` it is a run of rows without such a pause. In
both cases it has at least `floor` customers; fewer are no window of their own. A request with as many is not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from churn_assets.contract.limits import Monitoring

if TYPE_CHECKING:
    import duckdb

ClosedBy = Literal["customers", "days", "batch", "before_batch"]

# Who was scored: rows without a customer id stand for themselves.
WHO = "CASE WHEN customer_id IS NULL THEN 'p:' || prediction_id ELSE 'c:' || customer_id END"
_BATCH_ARM = "batch"  # of rows that `churn score --log` wrote
_ROWS_A_CUSTOMER = 4  # rows read for each customer wanted, before the whole rest of the log is


@dataclass(frozen=True)
class Batch:
    """Rows `from_seq` to `to_seq` that belong together; `is_complete` is False while more may come."""

    from_seq: int
    to_seq: int
    is_complete: bool = True


@dataclass(frozen=True)
class End:
    """The last row of a window, and why it ends there: 'customers' or 'days' as the limits say, 'batch' with a batch,
    'before_batch' before one."""

    seq: int
    closed_by: ClosedBy


def choose_end(
    reached: int | None, batch: Batch | None, customers_before: Callable[[Batch], int], floor: int
) -> End | None:
    """Where the window ends; None if it cannot be closed yet.

    `reached` is the row with the last of the wanted customers, None before there are so many; `batch` the first batch
    of the window's rows or after; `customers_before` counts the customers before a batch.
    """
    if batch is None or (reached is not None and reached < batch.from_seq):
        return None if reached is None else End(reached, "customers")
    if customers_before(batch) >= floor:
        return End(batch.from_seq - 1, "before_batch")
    return End(batch.to_seq, "batch") if batch.is_complete else None


def find_end(
    connection: duckdb.DuckDBPyConnection, fingerprint: str, limits: Monitoring, after: int, now: datetime
) -> End | None:
    """The end of the window that begins after the row `after`; None if it cannot be closed yet. `now` is an aware
    instant, which says whether a pause is over."""
    rows = _Rows(connection, fingerprint, after)
    if limits.window_days:
        last = rows.last_within(limits.window_days)
        return None if last is None else End(rows.end_of_request(last, limits.floor), "days")
    reached = next(rows.reaching(limits.window), None)
    if limits.batch_pause_minutes:
        batch = rows.first_run(limits.batch_pause_minutes, limits.floor, now)
    else:
        batch = rows.first_file(limits.floor)
    end = choose_end(reached, batch, rows.customers_before, limits.floor)
    if end is None or end.closed_by != "customers":
        return end
    whole = rows.end_of_request(end.seq, limits.floor)
    return End(whole if batch is None else min(whole, batch.from_seq - 1), "customers")


@dataclass(frozen=True)
class _Rows:
    """The rows of one contract after a row of the log, as DuckDB has them in the view `answers`."""

    connection: duckdb.DuckDBPyConnection
    fingerprint: str
    after: int

    def reaching(self, customers: int) -> Iterator[int]:
        """The row at which there are so many distinct customers: of the next rows, then of all."""
        for limit in (f"LIMIT {_ROWS_A_CUSTOMER * customers}", ""):
            ends = self._ask(
                f"""WITH ahead AS (SELECT seq, {WHO} AS who FROM rest ORDER BY seq {limit}),
                         first_seen AS (SELECT min(seq) AS seq FROM ahead GROUP BY who)
                    SELECT seq FROM first_seen ORDER BY seq LIMIT 1 OFFSET {customers - 1}"""
            )
            yield from (row[0] for row in ends)

    def last_within(self, days: int) -> int | None:
        """The last row before the first one that is `days` younger than the first of all; None until one is."""
        ends = self._ask(
            f"""WITH start AS (SELECT min(seq) AS seq, arg_min(scored_at, seq) AS scored_at FROM rest),
                     later AS (SELECT min(rest.seq) AS seq FROM rest, start
                               WHERE rest.scored_at >= start.scored_at + INTERVAL {days} DAY)
                SELECT max(rest.seq) FROM rest, later WHERE rest.seq < later.seq"""
        )
        return ends[0][0] if ends else None

    def first_file(self, floor: int) -> Batch | None:
        """The first table that was scored as a whole."""
        return self._batch(
            f"""SELECT min(seq), max(seq), true FROM rest WHERE arm = '{_BATCH_ARM}'
                GROUP BY request_id HAVING count(DISTINCT {WHO}) >= {floor} ORDER BY 1 LIMIT 1"""
        )

    def first_run(self, pause_minutes: float, floor: int, now: datetime) -> Batch | None:
        """The first run of rows without a pause of so many minutes."""
        pause = f"INTERVAL {round(pause_minutes * 60)} SECOND"
        until = f"CAST('{now:%Y-%m-%d %H:%M:%S}' AS TIMESTAMP)"
        return self._batch(
            f"""WITH marked AS (SELECT seq, scored_at, {WHO} AS who,
                       scored_at - lag(scored_at) OVER (ORDER BY seq) >= {pause} AS begins FROM rest),
                     numbered AS (SELECT *, count(*) FILTER (begins) OVER (ORDER BY seq) AS run FROM marked)
                SELECT min(seq), max(seq), max(seq) < (SELECT max(seq) FROM rest) OR max(scored_at) + {pause} <= {until}
                FROM numbered GROUP BY run HAVING count(DISTINCT who) >= {floor} ORDER BY 1 LIMIT 1"""
        )

    def customers_before(self, batch: Batch) -> int:
        """Distinct customers of the rows before a batch."""
        return int(self._ask(f"SELECT count(DISTINCT {WHO}) FROM rest WHERE seq < {batch.from_seq}")[0][0])

    def end_of_request(self, seq: int, floor: int) -> int:
        """The last row of the request that row `seq` is of, if it has at least `floor` rows; else `seq`."""
        ends = self._ask(
            f"""SELECT max(seq) FROM rest WHERE request_id = (SELECT request_id FROM rest WHERE seq = {seq})
                HAVING count(*) >= {floor}"""
        )
        return ends[0][0] if ends else seq

    def _batch(self, query: str) -> Batch | None:
        rows = self._ask(query)
        return Batch(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def _ask(self, query: str) -> list[tuple[int, ...]]:
        # The fingerprint is hexadecimal and the numbers are numbers: nothing of a user's is in this text.
        rest = f"SELECT * FROM answers WHERE fingerprint = '{self.fingerprint}' AND seq > {self.after}"
        query = query.lstrip()
        begins = f"WITH rest AS ({rest})"
        query = f"{begins}, {query[5:]}" if query.startswith("WITH ") else f"{begins} {query}"
        return self.connection.execute(query).fetchall()
