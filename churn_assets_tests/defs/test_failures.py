"""What is left behind when a run fails, when MLflow is away, and when the data or the model is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from churn_assets.contract.load import load_contract
from churn_assets.data.readers.read import read_table
from churn_assets.defs.sensors import mark_failed
from churn_assets.leakage.audit import Audit
from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets_tests.defs.home import CANDIDATES, ROOT, checks, failure, metadata, run, settings

NOWHERE = "http://127.0.0.1:9"
TRAINING = (
    *("raw_customers", "validated_customers", "splits", "column_audit", "customer_features"),
    *CANDIDATES,
    *("chosen_model", "leakage_audit", "registered_model"),
)


def _materialize(home: Path, select: str, config: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "CHURN_CONTRACT", "CHURN_MLFLOW_URI")}
    environ |= {"CHURN_HOME": str(home), "CHURN_SOURCE": "generated://store?rows=1500&seed=7"}
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "churn_assets.definitions"]
    command += ["--select", select, "--config-json", json.dumps(config or {})]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def _mlflow_statuses(home: Path) -> list[str]:
    connection = sqlite3.connect(home / "mlflow" / "mlflow.db")
    found = [status for (status,) in connection.execute("select status from runs order by start_time")]
    connection.close()
    return found


def test_a_failed_dagster_run_is_failed_in_mlflow_after_the_process_has_ended(tmp_path):
    config = {"ops": {"logistic_candidate": {"config": {"params": {"no_such": 1}}}}}
    done = _materialize(tmp_path, "+*logistic_candidate".replace("+*", "*"), config)
    assert done.returncode != 0
    assert "candidate 'logistic' has no parameter 'no_such'" in done.stderr
    assert _mlflow_statuses(tmp_path) == ["FAILED"]


@pytest.fixture(scope="module")
def without_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    of = settings(tmp_path_factory.mktemp("home"), CHURN_MLFLOW_URI=NOWHERE)
    with dg.DagsterInstance.ephemeral() as instance:
        yield of, run(of, instance, TRAINING)


def test_training_finishes_without_mlflow_and_says_so(without_mlflow):
    of, result = without_mlflow
    assert result.success
    for asset in (*CANDIDATES, "chosen_model", "registered_model"):
        assert metadata(result, asset)["mlflow"].startswith(f"not logged: MLflow at {NOWHERE} does not answer")
    assert checks(result)["the_model_is_in_the_registry"] is False
    assert metadata(result, "registered_model")["registry"] == "not registered"
    assert require_champion(of.home).registered_version is None
    assert not of.mlflow_dir.exists()


def test_the_registry_catches_up_when_mlflow_is_back(without_mlflow, tmp_path):
    of, _ = without_mlflow
    home = tmp_path / "home"
    shutil.copytree(of.home, home)
    before = require_champion(home)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(settings(home), instance, ["registered_model"])
    assert result.success
    assert checks(result)["the_model_is_in_the_registry"] is True
    after = require_champion(home)
    assert (after.version, after.registered_version, after.since_at) == (before.version, 1, before.since_at)


class _Refusing(BaseHTTPRequestHandler):
    """A tracking server that is well and refuses every call, as one behind a wrong password does."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": f"no to s3cret at {SECRET_URI}"}).encode()
        self.send_response(200 if self.path == "/health" else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


SECRET_URI = "postgresql://somebody:s3cret@db/mlflow"


def test_user_and_password_of_a_tracking_server_are_neither_stored_nor_printed(tmp_path, monkeypatch, capfd):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://somebody:s3cret@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("CHURN_MLFLOW_URI", uri)
    of = settings(tmp_path / "home", CHURN_MLFLOW_URI=uri, CHURN_SOURCE="generated://store?rows=600&seed=3")
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        result = run(of, instance, [*TRAINING[:5], "logistic_candidate"])
        assert result.success
        assert "does not answer" in metadata(result, "logistic_candidate")["mlflow"]
        sent = mark_failed(of.mlflow_uri, result.run_id)
        snapshot = instance.get_job_snapshot(result.dagster_run.job_snapshot_id or "")  # stored compressed
    server.shutdown()
    server.server_close()
    assert "Basic c29tZWJvZHk6czNjcmV0" in _Refusing.seen  # the server is still asked with them
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"MLflow at http://" in content for content in kept.values())  # the refusal is there, and in Dagster
    assert "mlflow_tracking_uri" in repr(snapshot)
    shown = {**kept, Path("output"): "".join([*capfd.readouterr(), str(sent), repr(of), repr(snapshot)]).encode()}
    assert [str(path) for path, content in shown.items() if b"s3cret" in content or b"somebody" in content] == []


def test_too_many_bad_rows_stop_the_graph_with_a_table_of_causes(tmp_path):
    contract = load_contract(ROOT / "contracts" / "store.toml")
    good = read_table("generated://store?rows=600&seed=3", contract)
    column = good.column_names.index("favday")
    wrong = pa.array(["Someday" if row % 5 == 0 else day for row, day in enumerate(good["favday"].to_pylist())])
    csv.write_csv(good.set_column(column, "favday", wrong), tmp_path / "bad.csv")
    of = settings(tmp_path / "home", CHURN_SOURCE=str(tmp_path / "bad.csv"), CHURN_MLFLOW_URI=NOWHERE)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ["raw_customers", "validated_customers", "rejected_customers", "splits"])
    assert not result.success
    found = {c.check_name: c for c in result.get_asset_check_evaluations()}["customers_keep_the_contract"]
    assert not found.passed
    assert "choices" in found.metadata["causes"].value
    assert "'Someday'" in found.metadata["causes"].value
    assert "splits" not in {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    rejected = pq.read_table(of.assets_dir / "rejected_customers.parquet")
    assert rejected.num_rows >= 120
    assert not any(rejected.filter(pa.compute.equal(rejected["favday"], "Someday"))["reasons"].null_count for _ in "1")


@pytest.mark.parametrize(("pr_auc", "words"), [(0.1, "is 0.1000"), (float("nan"), "is nan")])
def test_a_model_below_the_floor_is_neither_registered_nor_champion(tmp_path, pr_auc, words):
    text = (ROOT / "contracts" / "store.toml").read_text()
    raised = [line if not line.startswith("pr_auc_floor") else "pr_auc_floor = 0.5" for line in text.splitlines()]
    contract = tmp_path / "strict.toml"
    contract.write_text("\n".join(raised))
    of = settings(tmp_path / "home", CHURN_MLFLOW_URI=NOWHERE, CHURN_CONTRACT=str(contract))
    of.assets_dir.mkdir(parents=True)
    chosen = {"version": "v", "bundle": "bundles/v", "metrics": {"test_pr_auc": pr_auc}, "generated": False}
    (of.assets_dir / "chosen_model.json").write_text(json.dumps(chosen))
    nothing = Audit("", (), (), (), {}, (), (), rows=0, churners=0, source="")
    (of.assets_dir / "leakage_audit.json").write_bytes(msgspec.json.encode(nothing))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ["registered_model", "churn_bento", "risk_list"])
    assert not result.success
    assert f"test PR-AUC {words}, expected at least 0.5000" in failure(result, "registered_model")
    assert checks(result) == {"the_model_clears_the_floor": False, "no_unattested_column_carries_the_model": True}
    assert read_champion(of.home) is None


def test_each_side_of_validation_can_be_made_alone(tmp_path):
    of = settings(tmp_path, CHURN_SOURCE="generated://store?rows=600&seed=3")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(of, instance, ["raw_customers", "rejected_customers"]).success
        assert not (of.assets_dir / "validated_customers.parquet").exists()
        assert run(of, instance, ["validated_customers"]).success
    rows = {n: pq.read_metadata(of.assets_dir / f"{n}.parquet").num_rows for n in ("raw_customers",)}
    kept = pq.read_metadata(of.assets_dir / "validated_customers.parquet").num_rows
    lost = pq.read_metadata(of.assets_dir / "rejected_customers.parquet").num_rows
    assert rows["raw_customers"] == kept + lost


def test_an_asset_that_was_never_made_is_named_with_the_way_to_make_it(tmp_path):
    of = settings(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ["splits"])
    assert "there is no 'validated_customers' in" in failure(result, "splits")
