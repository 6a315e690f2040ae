"""What reaches MLflow, and that nothing MLflow does can stop a training."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from churn_assets.errors import TrackingUnavailable
from churn_assets.mlflow_registry import tracking as module
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.tracking import (
    Tracking,
    close_run,
    forget_active_runs,
    git_commit,
    keep_status_at_exit,
    prepare_experiment,
)

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder / 'deep' / 'mlflow.db'}", folder / "artifacts"


@pytest.fixture
def run(store: tuple[str, Path]) -> Tracking:
    uri, artifacts = store
    experiment = prepare_experiment(uri, "churn/store", artifacts)
    made = connect(uri).create_run(experiment, tags={"dagster_run_id": "d-1"})
    return Tracking(uri, made.info.run_id)


def trained(home: Path) -> Tracking:
    """A run of a home whose MLflow folder is laid out as ours is."""
    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    experiment = prepare_experiment(uri, "churn/store", home / "mlflow" / "artifacts")
    return Tracking(uri, connect(uri).create_run(experiment).info.run_id)


@pytest.mark.parametrize("name", ["copy", "a home of 100 % ünïcode_"])
def test_a_copied_home_writes_into_its_own_folder(tmp_path, name):
    original, copy = tmp_path / "original", tmp_path / name
    first = trained(original)
    first.document("before.txt", "of the original")
    shutil.copytree(original, copy)
    before = {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    second = trained(copy)
    second.document("after.txt", "of the copy")
    assert {path: path.read_bytes() for path in original.rglob("*") if path.is_file()} == before
    client = connect(second.uri)
    for run, document in ((first, "before.txt"), (second, "after.txt")):
        assert client.get_run(run.run_id).info.artifact_uri.startswith((copy / "mlflow" / "artifacts").as_uri())
        assert [found.path for found in client.list_artifacts(run.run_id)] == [document]


def test_parameters_metrics_tags_and_files_can_be_read_back(run, store):
    run.params({f"p{n}": n for n in range(150)}, "boosted")
    run.params({"long": "x" * 9000})
    run.metrics({"pr_auc": 0.97, "rows": 12, "words": "no", "undefined": float("nan"), "flag_share": 1.0}, "test")
    run.metrics({"logistic + deep.pr_auc": 0.9}, "cv")
    run.tags({"fingerprint": "abc"})
    run.chart("calibration", "<svg></svg>")
    run.document("card.json", "{}")
    assert run.missing is None
    found = connect(run.uri).get_run(run.run_id).data
    assert found.params["boosted.p149"] == "149"
    assert len(found.params["long"]) == 6000
    blend = {"cv.logistic and deep.pr_auc": 0.9}
    assert found.metrics == {"test.pr_auc": 0.97, "test.rows": 12.0, "test.flag_share": 1.0, **blend}
    assert found.tags["fingerprint"] == "abc"
    files = {str(path.relative_to(store[1])).split("/", 2)[2] for path in store[1].rglob("*") if path.is_file()}
    assert files == {"plots/calibration.svg", "card.json"}


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_it_is_told(run, status):
    run.close(status)
    assert connect(run.uri).get_run(run.run_id).info.status == status


def test_an_experiment_is_made_once(store):
    assert prepare_experiment(store[0], "churn/once", store[1]) == prepare_experiment(store[0], "churn/once", store[1])


def test_a_server_that_is_not_there_costs_seconds_and_says_where(monkeypatch):
    start = time.monotonic()
    with pytest.raises(TrackingUnavailable, match=r"^MLflow at http://127.0.0.1:9 does not answer .*CHURN_MLFLOW_URI$"):
        prepare_experiment(NOWHERE, "churn/store", Path("unused"))
    assert time.monotonic() - start < 5


def test_a_store_that_goes_away_stops_the_log_and_not_the_training(tmp_path, caplog):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    lost = Tracking(uri, "no-such-run")
    lost.metrics({"pr_auc": 0.5})
    assert "does not answer" in (lost.missing or "")
    assert "the training goes on without it" in caplog.text
    lost.params({"a": 1})
    lost.chart("b", "c")
    lost.close("FINISHED")


def test_an_absent_run_takes_everything_and_keeps_nothing():
    absent = Tracking(NOWHERE, None, "why")
    absent.params({"a": 1})
    absent.metrics({"a": 1})
    absent.tags({"a": 1})
    absent.chart("a", "")
    absent.document("a", "")
    absent.close("FINISHED")
    assert (absent.run_id, absent.missing) == (None, "why")


def test_a_run_is_closed_from_outside_by_its_dagster_id(run, tmp_path):
    assert close_run(run.uri, "d-1", "FAILED")
    assert not close_run(run.uri, "d-unknown", "FAILED")
    assert not close_run(f"sqlite:///{tmp_path / 'none.db'}", "d-1", "FAILED")
    assert not (tmp_path / "none.db").exists()


def test_both_of_mlflows_hands_at_exit_are_tied(monkeypatch):
    import mlflow
    from mlflow.tracking import fluent

    untied = []
    monkeypatch.setattr(atexit, "unregister", untied.append)
    keep_status_at_exit()
    assert untied == [mlflow.end_run, fluent._safe_end_run]
    assert module.atexit is atexit  # type: ignore[attr-defined]


def test_a_run_left_active_is_closed_before_the_next(store):
    import mlflow

    mlflow.set_tracking_uri(store[0])
    left = mlflow.start_run(experiment_id=prepare_experiment(store[0], "churn/left", store[1]))
    forget_active_runs("KILLED")
    assert mlflow.active_run() is None
    assert connect(store[0]).get_run(left.info.run_id).info.status == "KILLED"


def test_the_commit_is_known_inside_git_and_unknown_outside(tmp_path):
    assert git_commit(tmp_path) == "unknown"
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *command], check=True)
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "new.txt").write_text("x")
    subprocess.run(["git", "-C", str(tmp_path), "add", "new.txt"], check=True)
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_importing_the_registry_does_not_import_mlflow():
    modules = ", ".join(
        f"churn_assets.{name}" for name in ("mlflow_registry.tracking", "mlflow_registry.registry", "promotion.service")
    )
    code = f"import sys, json, {modules}; print(json.dumps([m for m in ('mlflow', 'pandas') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(("switch", "silent"), [("0", True), ("1", False)])
def test_mlflow_phones_home_only_when_the_switch_is_on(tmp_path, switch, silent):
    code = (
        "import sys; sys.modules['mlflow'] = None\n"  # what it would read is enough, it need not be imported
        "from churn_assets.errors import TrackingUnavailable\n"
        "from churn_assets.mlflow_registry.connect import connect\n"
        "try:\n"
        f"    connect('sqlite:///{tmp_path / 'mlflow.db'}')\n"
        "except TrackingUnavailable:\n"
        "    pass\n"
        "import os; print('MLFLOW_DISABLE_TELEMETRY' in os.environ)"
    )
    ours = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    told = {**environ, "CHURN_TELEMETRY": switch}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    assert done.stdout.strip() == str(silent)


def test_a_store_that_is_no_database_is_unavailable_and_no_traceback(tmp_path):
    """MLflow makes and migrates its tables outside its own error handling; two first runs at once meet there."""
    (tmp_path / "mlflow.db").write_bytes(b"this is no database " * 100)
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
