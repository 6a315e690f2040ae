"""`churn log copy`: the published log as tables in PostgreSQL, each row once, whatever ends a copy."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from churn_assets.contract.model import Kind
from churn_assets.errors import DatabaseUnavailable, NothingIngested, SettingsError
from churn_assets.prediction_log.schema import ROW_TABLES
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.postgresql import CopyReport, copy_log
from churn_assets.settings import Settings
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.prediction_log.home import (
    STORE,
    ask,
    feedback,
    prediction,
    rejections,
    repr_column,
    settings,
    variant,
    write,
)

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path, database_url: str) -> Settings:
    return settings(tmp_path, CHURN_DATABASE_URL=database_url)


def copied(database_url: str, table: str, order: str = "1") -> list[tuple[Any, ...]]:
    """The rows of a table of the copy, columns by name."""
    with psycopg.connect(database_url) as session:
        columns = session.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'churn_log' AND table_name = %s"
            " ORDER BY column_name",
            (table,),
        ).fetchall()
        names = ", ".join(f'"{name}"' for (name,) in columns)
        return session.execute(f"SELECT {names} FROM churn_log.{table} ORDER BY {order}").fetchall() if names else []


def expect_the_same(home: Settings) -> None:
    """Every row of every table of the published log is in the copy, once, and nothing else is."""
    for table in ("segments", *ROW_TABLES):
        columns = sorted(name for (name,) in ask(home, f"SELECT column_name FROM (DESCRIBE {table})"))
        names = ", ".join(map(repr_column, columns))
        there = ask(home, f"SELECT {names} FROM {table}")
        assert sorted(map(repr, copied(home.database_url, table))) == sorted(map(repr, there)), table


def log_some(home: Settings, part: str, rows: int = 3) -> None:
    names = [f"{part}-{number}" for number in range(rows)]
    write(home, part, *map(prediction, names), feedback(f"f-{part}", prediction_id=names[0]), b"no JSON\n")


def test_the_copy_has_every_row_of_every_table_and_a_second_one_adds_what_is_new(home):
    log_some(home, "a")
    write(home, "b", prediction("b-1", warnings=["x,y", 'q"{}'], latency_us=None), rejections({"full": 2}, rate=7))
    ingest(home, STORE, now=lambda: NOW)
    first = copy_log(home)
    assert (first.segments, first.rows["predictions"], first.rows["quarantine"], first.anew) == (2, 4, 1, True)
    expect_the_same(home)
    assert copy_log(home) == CopyReport()
    log_some(home, "c")
    ingest(home, STORE, now=lambda: NOW)
    second = copy_log(home)
    assert (second.segments, second.rows["predictions"], second.anew) == (1, 3, False)
    expect_the_same(home)


def test_the_command_says_what_it_did_and_what_it_needs(home, tmp_path, database_url):
    done = churn("log", "copy", home=tmp_path)
    assert "CHURN_DATABASE_URL is not set" in done.stderr
    log_some(home, "a")
    ingest(home, STORE, now=lambda: NOW)
    done = churn("log", "copy", home=tmp_path, CHURN_DATABASE_URL=database_url)
    assert "churn_log: 1 segments copied, 3 predictions, 1 feedback, 1 quarantine; from the beginning" in done.stdout


def test_without_a_database_a_log_or_a_server_it_says_so(home, tmp_path):
    with pytest.raises(NothingIngested):
        copy_log(home)
    log_some(home, "a")
    ingest(home, STORE, now=lambda: NOW)
    with pytest.raises(SettingsError, match="CHURN_DATABASE_URL is not set"):
        copy_log(replace(home, database_url=""))
    with pytest.raises(DatabaseUnavailable, match="refused") as error:
        copy_log(replace(home, database_url="postgresql://churn:s3cret@127.0.0.1:1/churn"))
    assert "s3cret" not in str(error.value)


def test_a_column_that_the_contract_adds_or_whose_kind_it_changes_is_in_the_copy(home):
    log_some(home, "a")
    ingest(home, STORE, now=lambda: NOW)
    copy_log(home)
    other = variant(esent=Kind.TEXT)
    write(home, "b", prediction("b-1", other))
    ingest(home, other, now=lambda: NOW)
    assert copy_log(home).anew
    expect_the_same(home)


def test_rows_that_the_retention_deletes_are_deleted_from_the_copy(home):
    log_some(home, "a")
    ingest(home, STORE, now=lambda: NOW)
    copy_log(home)
    kept = replace(home, log_retention_days=1)
    log_some(home, "b")
    ingest(kept, STORE, now=lambda: NOW + dt.timedelta(days=3))
    done = copy_log(home)
    assert (done.expired, done.segments, done.anew) == (1, 1, False)
    assert len(copied(home.database_url, "predictions")) == 3
    expect_the_same(home)


def test_a_log_that_was_lost_and_made_anew_in_another_order_replaces_the_copy(home):
    log_some(home, "a")
    ingest(home, STORE, now=lambda: NOW)
    log_some(home, "b")
    ingest(home, STORE, now=lambda: NOW)
    copy_log(home)
    (home.warehouse_dir / "segments.jsonl").unlink()
    for path in home.predlog_dir.glob("a.*"):
        path.rename(path.with_name(f"z{path.suffix}"))
    ingest(home, STORE, now=lambda: NOW, rebuild=True)
    assert copy_log(home).anew
    expect_the_same(home)
