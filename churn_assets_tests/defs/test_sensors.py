"""A failed run of the daemon is told to MLflow."""

from __future__ import annotations

import dagster as dg
import pytest

from churn_assets.defs.sensors import mark_failed, sensors
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.tracking import prepare_experiment
from churn_assets_tests.defs.home import settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    return settings(tmp_path_factory.mktemp("home"))


def failed_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    @dg.op
    def breaks() -> None:
        raise ValueError("on purpose")

    @dg.job
    def training() -> None:
        breaks()

    result = training.execute_in_process(instance=instance, raise_on_error=False)
    return result.dagster_run


def test_the_sensor_marks_the_mlflow_run_of_a_failed_run(home):
    with dg.DagsterInstance.ephemeral() as instance:
        run = failed_run(instance)
        experiment = prepare_experiment(home.mlflow_uri, "churn/store", home.mlflow_dir / "artifacts")
        opened = connect(home.mlflow_uri).create_run(experiment, tags={"dagster_run_id": run.run_id})
        (event,) = (e for e in instance.all_logs(run.run_id) if e.dagster_event and e.dagster_event.is_run_failure)
        context = dg.build_run_status_sensor_context(
            "mark_failed_trainings", event.dagster_event, instance, run
        ).for_run_failure()
        sensor = next(one for one in sensors(home) if one.name == "mark_failed_trainings")
        sensor(context)
    assert connect(home.mlflow_uri).get_run(opened.info.run_id).info.status == "FAILED"


def test_a_run_without_mlflow_run_is_skipped_with_the_reason(home):
    skipped = mark_failed(home.mlflow_uri, "unknown")
    assert skipped is not None
    assert "opened no MLflow run" in (skipped.skip_message or "")


def test_an_absent_server_is_skipped_with_the_reason():
    skipped = mark_failed("http://127.0.0.1:9", "unknown")
    assert skipped is not None
    assert "does not answer" in (skipped.skip_message or "")
