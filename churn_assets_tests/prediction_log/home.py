"""A home with a log of the store's contract, for the tests of its ingest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.prediction_log.records import Feedback, Prediction, Rejections, Row, encode_line
from churn_assets.prediction_log.segment import READY
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.settings import Settings
from churn_assets_tests.strategies import ROOT

STORE = load_contract(ROOT / "contracts" / "store.toml")
AT = "2026-11-21T10:00:00.5+00:00"
_CELLS = {"number": 1.5, "integer": 3, "boolean": True, "date": "2014-01-20", "text": "t"}


def settings(home: Path, **environ: str) -> Settings:
    return Settings.from_environ({"CHURN_HOME": str(home), **environ}, ROOT)


def features(contract: Contract = STORE) -> dict[str, object]:
    return {
        c.name: c.choices[0] if c.kind.value == "category" else _CELLS[c.kind.value] for c in contract.scoring_columns
    }


def prediction(name: str, contract: Contract = STORE, **changed: Any) -> Prediction:
    row = Prediction(
        *(name, "request", f"customer-{name}", "2014-01-20", AT, 0.25, -1.1, False, 0.3, "low", "0" * 16),
        *(contract.name, contract.fingerprint, "champion", "champion", "ok", 120.0, ["esent"], features(contract)),
    )
    return Prediction(**{f: changed.get(f, getattr(row, f)) for f in row.__struct_fields__})


def feedback(name: str, **changed: Any) -> Feedback:
    row = Feedback(name, "request", "a-1", None, True, AT, None, AT)
    return Feedback(**{f: changed.get(f, getattr(row, f)) for f in row.__struct_fields__})


def rejections(rows: dict[str, int] | None = None, **counts: int) -> Rejections:
    return Rejections(AT, AT, "worker", counts, rows or {})


def write(of: Settings, name: str, *rows: Row | bytes, suffix: str = READY) -> Path:
    """A segment of these rows; bytes are written as they are."""
    of.predlog_dir.mkdir(parents=True, exist_ok=True)
    path = of.predlog_dir / f"{name}{suffix}"
    path.write_bytes(b"".join(row if isinstance(row, bytes) else encode_line(row) for row in rows))
    return path


def ask(of: Settings, sql: str) -> list[tuple[Any, ...]]:
    with open_published(of) as connection:
        return connection.execute(sql).fetchall()


def tables(of: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, columns by name, so that neither order matters."""
    rows_of_tables = {}
    with open_published(of) as connection:
        names = [n for (n,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        for name in names:
            columns = sorted(row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall())
            rows = connection.execute(f"SELECT {', '.join(map(repr_column, columns))} FROM {name}").fetchall()
            rows_of_tables[name] = [tuple(columns), *sorted(rows, key=repr)]
    return rows_of_tables


def repr_column(name: str) -> str:
    return f'"{name}"'


def variant(contract: Contract = STORE, **kinds: Any) -> Contract:
    """The contract with columns of other kinds; its text is gone, so that nothing on disk knows it."""
    columns = tuple(dataclasses.replace(c, kind=kinds.get(c.name, c.kind)) for c in contract.columns)
    return dataclasses.replace(contract, columns=columns, text="")
