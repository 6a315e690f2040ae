"""One instant is one day, in whatever file, zone or request it comes, and whatever the time zone of the machine."""

from __future__ import annotations

import datetime as dt
import json
import time
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.validation.validate import validate_features_only
from churn_assets.features.compile import as_of_days
from churn_assets.features.encode import EPOCH, encode_rows
from churn_assets.features.scalar import RowReader
from churn_assets.mlflow_registry.connect import quiet
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.scoring.scorer import Scores, days
from churn_assets_tests.data.contracts import small_contract
from churn_assets_tests.prediction_log.home import ask, prediction, settings, write

with quiet():  # MLflow warns of its own type hints
    from churn_assets.mlflow_registry.pyfunc import ChurnModel

TEXT = small_contract("""
[features]
age = "days(as_of - joined)"

[[columns]]
name = "joined"
kind = "date"
role = "input"

[[columns]]
name = "gone"
kind = "date"
role = "input"
excluded = true
nullable = true
""")
CONTRACT = parse_contract(TEXT)

# An instant as a text, and its day: in UTC if it names a zone, else its own.
INSTANTS = {
    "2025-07-11": "2025-07-11",
    "2025-07-11T23:30:00": "2025-07-11",
    "2025-07-11T23:30:00Z": "2025-07-11",
    "2025-07-11T23:30:00-05:00": "2025-07-12",
    "2025-07-11 23:30:00-0500": "2025-07-12",
    "2025-07-11 23:30:00 -05:00": "2025-07-12",
    "2025-07-12 00:30:00+09:00": "2025-07-11",
    "2025-03-09T02:30:00.125-08:00": "2025-03-09",
    "2025-07-11 23:30:00 UTC": "2025-07-11",
    "1969-12-31T23:30:00-05:00": "1970-01-01",
    "9999-12-31": "9999-12-31",
    "9999-12-31T23:30:00-05:00": "9999-12-31",
}
TEXTS, DAYS = list(INSTANTS), [dt.date.fromisoformat(day) for day in INSTANTS.values()]
YORK = ZoneInfo("America/New_York")
AWARE = [dt.datetime(2025, 7, 11, 23, 30, tzinfo=YORK), dt.datetime(1969, 12, 31, 23, tzinfo=dt.UTC)]
AWARE_DAYS = [dt.date(2025, 7, 12), dt.date(1969, 12, 31)]


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Tokyo"], autouse=True)
def time_zone(request, monkeypatch):
    """The time zone of the process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def days_of(source) -> list[dt.date]:
    table = read_table(source, CONTRACT, label_required=False)
    return validate_features_only(CONTRACT, table).customers["joined"].to_pylist()


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "duckdb"])
def test_a_text_is_the_same_day_in_every_file(tmp_path, suffix):
    table = pa.table({"id": [f"c{i}" for i in range(len(TEXTS))], "joined": TEXTS})
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("id,joined\n" + "".join(f"{a},{b}\n" for a, b in zip(*table.to_pydict().values(), strict=True)))
    elif suffix == "json":
        path.write_text(json.dumps(table.to_pylist()))
    else:
        pq.write_table(table, tmp_path / "t.parquet")
    if suffix == "duckdb":
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"CREATE TABLE t AS FROM '{tmp_path / 't.parquet'}'")
        assert days_of(f"duckdb://{path}?table=t") == DAYS
    else:
        assert days_of(path) == DAYS


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_typed_instant_is_its_utc_day_whatever_its_zone_and_unit(tmp_path, unit, zone):
    table = pa.table({"id": ["a", "b"], "joined": pa.array(AWARE, pa.timestamp(unit, zone))})
    pq.write_table(table, tmp_path / "t.parquet")
    assert days_of(tmp_path / "t.parquet") == AWARE_DAYS


def test_a_typed_instant_without_a_zone_keeps_its_day(tmp_path):
    naive = [dt.datetime(2025, 7, 11, 23, 30), dt.datetime(9999, 12, 31, 23, 59, 59)]
    pq.write_table(pa.table({"id": ["a", "b"], "joined": naive}), tmp_path / "t.parquet")
    assert days_of(tmp_path / "t.parquet") == [dt.date(2025, 7, 11), dt.date(9999, 12, 31)]


def test_instants_of_duckdb_and_those_out_of_range(tmp_path):
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        connection.execute(
            "CREATE TABLE t AS SELECT * FROM (VALUES ('a', TIMESTAMPTZ '2025-07-11 23:30:00-05:00'), "
            "('b', TIMESTAMPTZ '9999-12-31 23:30:00-05:00')) v(id, joined)"
        )
    assert days_of(f"duckdb://{tmp_path / 't.duckdb'}?table=t") == [dt.date(2025, 7, 12), dt.date(9999, 12, 31)]
    table = pa.table({"id": ["a", "b"], "joined": pa.array([0, 10**12], pa.timestamp("s"))})
    checked = validate_features_only(CONTRACT, table)
    assert checked.customers["joined"].to_pylist() == [dt.date(1970, 1, 1)]
    assert checked.rejected["reasons"].to_pylist() == [["kind"]]  # the year 33658


def test_requests_give_the_same_days():
    asked = [{"id": "c", "joined": text} for text in TEXTS]
    days = [float(day.toordinal() - EPOCH) for day in DAYS]
    np.testing.assert_array_equal(encode_rows(CONTRACT, asked)["joined"], days)
    read = RowReader(CONTRACT)
    assert [read(row)["joined"] for row in asked] == days
    assert [as_of_days(text) for text in TEXTS] == days  # the day of scoring


UTC = pd.to_datetime(pd.Series(AWARE, dtype=object), utc=True)
NAIVE = np.array(["2025-07-11T23:30", "1969-12-31T23:00"], dtype="datetime64[ns]")
FRAMES = [
    (pd.Series(TEXTS), DAYS),
    (pd.Series(AWARE, dtype=object), AWARE_DAYS),
    *((UTC.dt.tz_convert(zone), AWARE_DAYS) for zone in ("UTC", "Asia/Tokyo")),
    (pd.Series(NAIVE), [DAYS[0], AWARE_DAYS[1]]),
    (pd.Series([NAIVE[0], dt.date(1969, 12, 31)], dtype=object), [DAYS[0], AWARE_DAYS[1]]),
]


class DaysOfRows:
    """Reads rows as a scorer does, and keeps their days and that of scoring."""

    def score_rows(self, rows, as_of):
        self.joined, self.as_of = encode_rows(CONTRACT, rows)["joined"], days(as_of)
        return Scores(self.joined, self.joined)


@pytest.mark.parametrize(("joined", "expected"), FRAMES)
def test_the_data_frames_of_mlflow_give_the_same_days(joined, expected):
    model, read = ChurnModel(), DaysOfRows()
    model.scorer = read  # type: ignore[assignment]
    model.predict(None, pd.DataFrame({"id": "c", "joined": joined}), {"as_of": "2025-07-11T23:30:00-05:00"})
    assert [dt.date.fromordinal(int(day) + EPOCH) for day in read.joined] == expected
    assert read.as_of == dt.date(2025, 7, 12).toordinal() - EPOCH


def test_the_ingested_log_has_the_days_that_the_model_had(tmp_path):
    of = settings(tmp_path / "home")
    sent = [{"joined": text, "gone": text if i % 2 else "soon"} for i, text in enumerate(TEXTS)]
    write(of, "a", *(prediction(f"p{i:02}", CONTRACT, features=cells) for i, cells in enumerate(sent)))
    assert ingest(of, CONTRACT).quarantined == 0
    logged = ask(of, "SELECT x_joined, x_gone FROM predictions ORDER BY prediction_id")
    assert [joined for joined, _ in logged] == DAYS
    # Of an excluded column nothing is checked: what DuckDB reads is the same day, and the rest is null.
    assert all(gone in (None, day) for (_, gone), day in zip(logged, DAYS, strict=True))
    assert sum(gone is not None for _, gone in logged) >= 3
