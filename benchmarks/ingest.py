"""Rows a second of the ingest, beside the plain way: DuckDB's executemany of the same rows into the same table.

python -m benchmarks.ingest [rows] [repeats] [rows of the plain way]

Ours is the whole ingest: strict reading, load, commit, checkpoint, the copy with its sync, marking the segments.
The plain way reads nothing strictly, keeps no quarantine and publishes nothing; it is measured on fewer rows.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.customers import CONTRACT, typed
from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.segment import READY
from churn_assets.prediction_log.warehouse.connection import FILE
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.settings import Settings
from churn_assets_tests.strategies import ROOT

NAMES = ("segments", "DuckDB", "Parquet")
SEGMENT_ROWS = 80_000  # some 64 MiB


def lines(rows: int, repeat: int) -> list[bytes]:
    key = CONTRACT.key.name
    columns = [key, *(column.name for column in CONTRACT.scoring_columns)]
    now = dt.datetime.now(dt.UTC).isoformat()
    found, draw = [], random.Random(repeat)
    for number, row in enumerate(typed(rows, seed=7).select(columns).to_pylist()):
        customer = row.pop(key)
        found.append(
            encode_line(
                Prediction(
                    *(draw.randbytes(12).hex(), draw.randbytes(8).hex(), customer, "2018-01-17", now),
                    *(draw.random(), draw.gauss(0, 1), number % 5 == 0, 0.31, "medium", "0" * 16),
                    *(
                        CONTRACT.name,
                        CONTRACT.fingerprint,
                        "champion",
                        "champion",
                        "ok",
                        round(draw.uniform(90, 400), 1),
                        [],
                        row,
                    ),
                )
            )
        )
    return found


def write(of: Settings, rows: list[bytes]) -> int:
    of.predlog_dir.mkdir(parents=True)
    for start in range(0, len(rows), SEGMENT_ROWS):
        (of.predlog_dir / f"{start:09}{READY}").write_bytes(b"".join(rows[start : start + SEGMENT_ROWS]))
    return sum(map(len, rows))


def ours(of: Settings, rows: int) -> float:
    start = time.perf_counter()
    report = ingest(of, CONTRACT)
    seconds = time.perf_counter() - start
    assert report.predictions == rows, report
    return rows / seconds


def plain(path: Path, rows: list[bytes]) -> float:
    """json.loads and executemany in one transaction, then a checkpoint."""
    with duckdb.connect(str(path)) as connection:
        columns = ["prediction_id", "customer_id", "as_of", "scored_at", "score", "margin", "model_version"]
        names = [column.name for column in CONTRACT.scoring_columns]
        fields = ", ".join(["prediction_id VARCHAR PRIMARY KEY", *(f"{name} VARCHAR" for name in columns[1:])])
        connection.execute(f"CREATE TABLE predictions ({fields}, {', '.join(f'x_{n} VARCHAR' for n in names)})")
        start = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany(
            f"INSERT INTO predictions VALUES ({', '.join('?' * (len(columns) + len(names)))})",
            [cells(json.loads(line), columns, names) for line in rows],
        )
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
        return len(rows) / (time.perf_counter() - start)


def cells(row: dict[str, Any], columns: list[str], names: list[str]) -> list[Any]:
    return [*(row[name] for name in columns), *(row["features"][name] for name in names)]


def sizes(of: Settings, rows: int) -> str:
    """Bytes a row of segments, DuckDB and Parquet."""
    segments = sum(path.stat().st_size for path in of.predlog_dir.iterdir())
    warehouse = (of.warehouse_dir / FILE).stat().st_size
    ingest(of, CONTRACT, now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=3))
    archive = sum(path.stat().st_size for path in of.archive_dir.iterdir())
    mb = (f"{name} {size / rows:,.0f}" for name, size in zip(NAMES, (segments, warehouse, archive), strict=True))
    return f"MB a million rows: {', '.join(mb)}"


def main(rows: int = 200_000, repeats: int = 5, few: int = 2_000) -> str:
    rates: tuple[list[float], list[float]] = ([], [])
    told = ""
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            of = Settings.from_environ({"CHURN_HOME": str(Path(scratch) / "home")}, ROOT)
            made = lines(rows, repeat)
            write(of, made)
            rates[0].append(ours(of, rows))
            rates[1].append(plain(Path(scratch) / "plain.duckdb", made[:few]))
            told = told or sizes(of, rows)
    ratios = sorted(mine / theirs for mine, theirs in zip(*rates, strict=True))
    mine, theirs = (statistics.median(side) for side in rates)
    return (
        f"ingest, {rows:,} rows: {mine:,.0f} rows/s, executemany {theirs:,.0f} rows/s, ratio "
        f"{statistics.median(ratios):.0f} ({ratios[0]:.0f} to {ratios[-1]:.0f} in {repeats} repeats); {told}"
    )


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
