"""`churn score --log`: what a file's customers got is in the log, once each."""

from __future__ import annotations

import subprocess
import sys

import pyarrow.parquet as pq

from churn_assets.prediction_log.segment import READY
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, customers
from churn_assets_tests.serving.client import home_with_champion


def test_a_scored_file_is_logged_only_when_asked(tmp_path):
    home, table = home_with_champion(tmp_path / "home"), customers(50, seed=4)
    pq.write_table(table, tmp_path / "in.parquet")
    code = "from churn_assets.cli.main import main; main()"
    command = [sys.executable, "-c", code, "score", str(tmp_path / "in.parquet"), "-o", str(tmp_path / "out.parquet")]
    options = ["--as-of", AS_OF, "--home", str(home)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    assert not (home / "predlog").exists()
    done = subprocess.run([*command, *options, "--log"], check=True, capture_output=True, text=True)
    assert "logged: 50 predictions" in done.stdout
    rows = list(rows_of(home / "predlog"))
    scores = pq.read_table(tmp_path / "out.parquet")
    assert [row["customer_id"] for row in rows] == table["id"].to_pylist()
    assert [row["score"] for row in rows] == scores["churn_probability"].to_pylist()
    assert {(row["arm"], row["policy"], row["as_of"], row["status"]) for row in rows} == {
        ("batch", "batch", AS_OF, "ok")
    }
    assert len({row["prediction_id"] for row in rows}) == 50
    assert rows[0]["features"].keys() == set(table.column_names) - {"id"}
    assert [path.suffix for path in (home / "predlog").iterdir()] == [READY]
