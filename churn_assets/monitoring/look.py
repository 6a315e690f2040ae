"""The customers of one window, one row each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from churn_assets.monitoring.observe import Content, observe
from churn_assets.monitoring.reference import PREFIX
from churn_assets.monitoring.subject import Subject
from churn_assets.monitoring.windows import WHO, Window, rows_of


def look(connection: Any, subject: Subject, window: Window) -> Content:
    """The last row of each customer of a window; `score` counts only where the champion gave it."""
    bounds = subject.reference.bounds if subject.reference else None
    with _last_rows(connection, subject, window) as relation:
        return observe(connection, relation, subject.contract, prefix=PREFIX, bounds=bounds)


@contextmanager
def _last_rows(connection: Any, subject: Subject, window: Window) -> Iterator[str]:
    """SQL of a relation with the last row of each customer; rows of other models have a null score."""
    # Positions are kept, not rows: eight bytes a customer, whatever the table's width.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE last_rows AS SELECT max(seq) AS seq FROM predictions "
        f"WHERE {rows_of(window)} GROUP BY {WHO}"
    )
    version = subject.version.replace("'", "''")
    try:
        yield (
            f"(SELECT {WHO} AS who, CASE WHEN model_version = '{version}' THEN p.score END AS score, "
            "p.decision AS decision, p.* EXCLUDE (score, decision) "
            f"FROM predictions p SEMI JOIN last_rows l ON p.seq = l.seq WHERE {rows_of(window)})"
        )
    finally:
        connection.execute("DROP TABLE last_rows")
