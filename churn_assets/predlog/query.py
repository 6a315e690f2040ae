"""Questions to the published copy of the warehouse, and their answers as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from churn_assets.errors import QueryRefused
from churn_assets.predlog.published import open_published
from churn_assets.settings import Settings

_BATCH = 10_000


def ask(settings: Settings, sql: str) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """Batches of (column names, rows), at least one of them. Raises NothingIngested, QueryRefused."""
    import duckdb

    with open_published(settings) as connection:
        try:
            result = connection.execute(sql)
            if result is None:
                raise QueryRefused('the question is empty, expected SQL; `churn log query "show all tables"` is one')
            names = [column[0] for column in result.description or ()]
            rows = result.fetchmany(_BATCH)
            yield names, rows
            while rows := result.fetchmany(_BATCH):
                yield names, rows
        except duckdb.Error as error:
            words = str(error).split("\n\nLINE", 1)[0]
            raise QueryRefused(
                f"the question is not understood ({' '.join(words.split())}); "
                '`churn log query "show all tables"` lists what there is'
            ) from error
