"""A home with a tiny champion, and a published log of predictions written row by row as one likes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract
from churn_assets.prediction_log.schema import migrate
from churn_assets.prediction_log.warehouse.connection import PUBLISHED, make_views
from churn_assets.promotion.pointer import Champion, write_champion
from churn_assets.scoring.bundle import write_bundle
from churn_assets.settings import Settings
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, scorer_of
from churn_assets_tests.strategies import ROOT

LIMITS = "window = 400\nfloor = 200"
START = dt.datetime(2026, 11, 1)
NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
REFERENCE_ROWS = 1500

Change = Callable[[pa.Table], pa.Table]


def contract_of(limits: str = LIMITS) -> Contract:
    """The tiny contract with other limits of monitoring: the same fingerprint."""
    return parse_contract(TEXT.replace("window = 2000\nfloor = 500", limits), "tiny.toml")


@cache
def scored(rows: int, seed: int) -> tuple[pa.Table, Any]:
    """Customers and what the tiny scorer says of them."""
    table = customers(rows, seed)
    return table, scorer_of().score_table(table, AS_OF)


def make_home(
    home: Path, change: Change = lambda table: table, fingerprint: str | None = None, as_of: str = ""
) -> Settings:
    """A home whose champion is the tiny scorer; `change` is made to its reference, which may lie about its contract,
    and has ages if it says the day of its rows."""
    scorer = scorer_of()
    table, scores = scored(REFERENCE_ROWS, 1)
    reference = change(table.append_column("churn_probability", pa.array(scores.probability)))
    about = {"churn_contract": fingerprint or scorer.contract.fingerprint} | ({"churn_as_of": as_of} if as_of else {})
    reference = reference.replace_schema_metadata(about)
    bundle = write_bundle(
        home / "bundles", scorer, card={}, golden=table.slice(0, 32), as_of=AS_OF, reference=reference, provenance={}
    )
    at = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
    champion = Champion(bundle.name, f"bundles/{bundle.name}", scorer.contract.fingerprint, None, at, "test", "first")
    write_champion(home, champion)
    (home / "tiny.toml").write_text(TEXT.replace("window = 2000\nfloor = 500", LIMITS))
    return Settings.from_environ({"CHURN_HOME": str(home), "CHURN_CONTRACT": str(home / "tiny.toml")}, ROOT)


class Log:
    """The published copy of a home's log, as the ingest would have written it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.version = next((settings.bundles_dir).iterdir()).name
        settings.warehouse_dir.mkdir(parents=True, exist_ok=True)
        self.path = settings.warehouse_dir / PUBLISHED
        self.seq = 0
        self.at = START
        with duckdb.connect(str(self.path)) as connection:
            migrate(connection, contract_of())

    @contextmanager
    def open(self):
        with duckdb.connect(str(self.path)) as connection:
            make_views(connection)
            yield connection

    def sql(self, statement: str, parameters: list[Any] | None = None) -> None:
        with self.open() as connection:
            connection.execute(statement, parameters or [])

    def add(self, rows: int = 400, seed: int = 5, change: Change = lambda table: table, **columns: Any) -> None:
        """`rows` predictions a second apart; `change` is made to the customers after they were scored."""
        table, scores = scored(rows, seed)
        self.append(change(table), scores.probability, **columns)

    def append(self, table: pa.Table, score: np.ndarray, every_s: float = 1.0, **columns: Any) -> None:
        """One prediction a row of `table`; `columns` are other columns of the log, the same for all rows."""
        rows = table.num_rows
        instants = [self.at + dt.timedelta(seconds=every_s * step) for step in range(rows)]
        named = {"paperless": "x_paperless", "city": "x_city", "sent": "x_sent", "spent": "x_spent"}
        named |= {"created": "x_created", "lastorder": "x_lastorder", "id": "customer_id"}
        log = pa.table({named[name]: table[name] for name in table.column_names})
        numbers = range(self.seq, self.seq + rows)
        fixed = {
            "seq": pa.array(numbers, pa.int64()),
            "prediction_id": pa.array([f"p{number}" for number in numbers]),
            "request_id": pa.array([f"r{number}" for number in numbers]),
            "as_of": pa.array([dt.datetime.fromisoformat(AS_OF)] * rows),
            "scored_at": pa.array(instants),
            "score": pa.array(score),
            "decision": pa.array(score >= 0.3),
        }
        same = {"threshold": 0.3, "risk_band": "low", "model_version": self.version, "contract": "tiny"}
        same |= {"fingerprint": contract_of().fingerprint, "arm": "champion", "policy": "champion", "status": "ok"}
        same |= {"warnings": [], "segment": "s"} | columns
        for name, column in fixed.items():
            log = log.append_column(name, column)
        for name, value in same.items():
            if name in log.column_names:
                log = log.drop_columns([name])
            kind = pa.list_(pa.string()) if name == "warnings" else None
            log = log.append_column(name, pa.array([value] * rows, kind))
        with self.open() as connection:
            connection.register("new", log)
            connection.execute("INSERT INTO predictions BY NAME SELECT * FROM new")
        self.seq += rows
        self.at = instants[-1] + dt.timedelta(seconds=1)


def set_column(name: str, values: Callable[[np.ndarray], Any]) -> Change:
    """A change of one column of a table, from its values to others."""

    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        result = values(np.array(table[name].to_pylist(), dtype=object))
        return table.set_column(place, name, pa.array(list(result), table.schema.field(name).type))

    return change


def more(values: np.ndarray) -> list[int]:
    """All numbers a little larger: drift."""
    return [int(1.15 * value) + 3 for value in values]
