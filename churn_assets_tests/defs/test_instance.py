"""A run whose process was killed with the daemon: it fails, and what it held is free for the next one."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from churn_assets.defs.instance import HomeInstance
from churn_assets.defs.resources import MlflowRun, Project
from churn_assets.errors import without_user_info
from churn_assets.settings import Settings
from churn_assets_tests.strategies import ROOT

STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
WORKER = """
import sys, time
import dagster as dg

@dg.op(pool="log")
def work():
    print("at work", flush=True)
    time.sleep(60)

@dg.job
def holds_a_slot():
    work()

with dg.DagsterInstance.get() as instance:
    holds_a_slot.execute_in_process(instance=instance, run_id=sys.argv[1])
"""


@pytest.fixture
def instance(tmp_path, monkeypatch):
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as made:
        yield made


@pytest.fixture
def worker(instance):
    """A run at work in a process of its own, which holds the one slot of the pool."""
    run_id = "00000000-0000-4000-8000-000000000001"
    with subprocess.Popen([sys.executable, "-c", WORKER, run_id], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "at work\n"
        yield SimpleNamespace(run_id=run_id, process=process)
        process.kill()


def watch(instance):
    """One round of the daemon's monitoring, as it comes every 30 s."""
    context: Any = SimpleNamespace(instance=instance, create_request_context=lambda: None)
    for iteration in (execute_run_monitoring_iteration, execute_concurrency_slots_iteration):
        assert not [error for error in iteration(context, logging.getLogger("watch")) if error]


def slots(instance):
    return instance.event_log_storage.get_concurrency_info("log").active_slot_count


def kill(worker):
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()


def test_a_run_that_is_at_work_is_left_alone(instance, worker):
    watch(instance)
    assert instance.get_run_by_id(worker.run_id).status == STARTED
    assert slots(instance) == 1


def test_a_killed_run_fails_and_its_slot_is_freed(instance, worker, monkeypatch):
    kill(worker)
    assert instance.get_run_by_id(worker.run_id).status == STARTED
    watch(instance)
    assert instance.get_run_by_id(worker.run_id).status == FAILURE
    assert slots(instance) == 1, "only 30 s after the end of the run"
    monkeypatch.setitem(instance.run_monitoring_settings, "free_slots_after_run_end_seconds", 0.001)
    watch(instance)
    assert slots(instance) == 0


def test_a_process_that_came_later_under_the_same_id_is_another_one(instance, worker, monkeypatch):
    kill(worker)
    monkeypatch.setattr(
        "psutil.Process", lambda pid: SimpleNamespace(status=lambda: "running", create_time=lambda: 4e9)
    )
    watch(instance)
    assert instance.get_run_by_id(worker.run_id).status == FAILURE


def test_a_run_of_another_host_is_not_judged(instance, worker):
    kill(worker)
    instance.add_run_tags(worker.run_id, {GRPC_INFO_TAG: '{"host": "trainer", "port": 4000}'})
    watch(instance)
    assert instance.get_run_by_id(worker.run_id).status == STARTED


def test_assets_have_the_database_of_their_home_and_dagster_has_not_its_password(tmp_path, monkeypatch):
    url = "postgresql://churn:s3cret@db.example.com:5432/churn?sslmode=require"
    monkeypatch.setenv("CHURN_DATABASE_URL", url)
    settings = Settings.from_environ({"CHURN_HOME": str(tmp_path), "CHURN_DATABASE_URL": url}, ROOT)
    project = Project.of(settings)
    assert (project.settings.database_url, project.settings.mlflow_uri) == (url, settings.mlflow_uri)
    assert settings.mlflow_uri.startswith(
        "postgresql+psycopg2://churn:s3cret@db.example.com:5432/churn?sslmode=require"
    )
    assert settings.mlflow_uri.endswith("options=-csearch_path%3Dmlflow")
    shown = without_user_info(settings.mlflow_uri)
    run = MlflowRun(mlflow_tracking_uri=shown, experiment_name="churn", artifacts=str(tmp_path))
    assert run._uri == settings.mlflow_uri
    instance = HomeInstance.config_defaults(str(tmp_path))
    assert instance["storage"].class_name == "HomeStorage"
    assert "s3cret" not in repr([project, run, instance, settings])
