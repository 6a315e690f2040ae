"""The log's assets, and the sensor that asks for an ingest: tick by tick."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from churn_assets.definitions import build
from churn_assets.defs.jobs import ingest_log
from churn_assets.defs.prediction_log.sensors import ingest_sensor, reason_to_wait
from churn_assets.defs.run import prepare_run
from churn_assets.monitoring.open_window import OpenWindowFile, keep_open_window
from churn_assets.prediction_log.warehouse.connection import FILE, PUBLISHED
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.defs.home import checks, metadata, run, settings
from churn_assets_tests.prediction_log.home import STORE, feedback, prediction, write

LOG = ["prediction_log", "feedback_log"]


def test_a_home_without_predictions_says_so_and_makes_nothing(tmp_path):
    of = settings(tmp_path / "home")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, LOG)
    assert result.success
    assert metadata(result, "prediction_log")["log"].startswith("nothing has been predicted yet")
    assert metadata(result, "feedback_log")["log"].startswith("no feedback yet")
    assert all(checks(result).values())
    assert not of.warehouse_dir.exists()


def test_the_assets_tell_what_was_taken_and_check_it(tmp_path):
    of = settings(tmp_path / "home")
    write(of, "a", prediction("a-1"), feedback("f-1"), feedback("f-2", prediction_id="nobody"), b"broken\n")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, LOG)
    told = metadata(result, "prediction_log")
    assert (told["rows"], told["quarantined"], told["dagster/row_count"]) == (3, 1, 1)
    assert "0000000000000000" in told["by_model_version"]
    assert metadata(result, "feedback_log")["of_unknown_predictions_or_customers"] == 1
    assert checks(result) == {
        "every_segment_is_ingested_once": True,
        "few_rows_are_in_quarantine": False,
        "feedback_belongs_to_predictions": False,
    }


def test_a_segment_that_is_not_whole_in_the_warehouse_fails_its_check(tmp_path):
    import duckdb

    of = settings(tmp_path / "home")
    write(of, "a", prediction("a-1"), prediction("a-2"))
    ingest(of, STORE)
    with duckdb.connect(str(of.warehouse_dir / "log.duckdb")) as connection:
        connection.execute("DELETE FROM predictions WHERE prediction_id = 'a-1'")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ["prediction_log"])
    assert checks(result)["every_segment_is_ingested_once"] is False


def test_a_run_leaves_monitoring_out_and_naming_it_does_not(tmp_path):
    defs = build(settings(tmp_path))
    everything = {key.to_user_string() for key in prepare_run(defs).assets}
    assert not everything & set(LOG)
    assert {"raw_customers", "churn_bento", "risk_list"} <= everything
    assert [key.to_user_string() for key in prepare_run(defs, LOG).assets] == LOG


# -- the sensor, tick by tick ------------------------------------------------------------------------


@pytest.fixture
def of(tmp_path):
    return settings(tmp_path / "home")


def tick(of, instance):
    sensor = ingest_sensor(of)
    with dg.build_sensor_context(instance=instance) as context:
        return sensor.evaluate_tick(context)


def test_nothing_new_is_skipped_in_words(of):
    with dg.DagsterInstance.ephemeral() as instance:
        told = tick(of, instance)
        assert "no new segments" in told.skip_message
        write(of, "open", prediction("a"), suffix=".open")
        assert tick(of, instance).run_requests == []


def test_segments_are_asked_for_until_they_are_taken(of):
    write(of, "a", prediction("a"))
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = tick(of, instance).run_requests
        assert request.tags["churn/segments"] == "1"
        assert request.run_key is None  # a key would never be asked for again, also when its run had failed
        assert len(tick(of, instance).run_requests) == 1  # the request was lost: no run came of it
        ingest(of, STORE)
        assert tick(of, instance).run_requests == []
        write(of, "b", prediction("b"))
        assert len(tick(of, instance).run_requests) == 1


@pytest.mark.parametrize(
    ("open_customers", "rows", "asked"),
    [
        (1997, 3, "monitor"),
        (1997, 2, "ingest_log"),
        (5000, 0, "ingest_log"),
        (0, 3, "ingest_log"),
        (None, 3, "ingest_log"),
    ],
)
def test_segments_that_may_complete_a_window_are_ingested_by_monitor(of, open_customers, rows, asked):
    rows_of_segment = [prediction(f"p{number}") for number in range(max(1, rows))]
    shadows = [prediction(f"p{number}.s", shadow=True) for number in range(9)]  # given to nobody
    write(of, "a", *rows_of_segment, feedback("f1"), feedback("f2"), *shadows)
    if open_customers is not None:
        wanted = 2000 if rows else 0  # a window of days has no number of customers
        keep_open_window(of, OpenWindowFile("f" * 64, 1, open_customers, wanted), datetime.now(UTC))
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = tick(of, instance).run_requests
        assert request.job_name == asked


def test_monitor_is_not_tried_again_and_again_with_customers_who_came_before(of):
    write(of, "a", *[prediction(f"p{number}") for number in range(20)])
    keep_open_window(of, OpenWindowFile("f" * 64, 1, 1990, 2000), datetime.now(UTC))

    @dg.job(name="monitor")
    def monitor():
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(of, instance).run_requests[0].job_name == "monitor"
        monitor.execute_in_process(instance=instance)
        assert tick(of, instance).run_requests[0].job_name == "ingest_log"
        keep_open_window(
            of, OpenWindowFile("f" * 64, 2, 1990, 2000), datetime.now(UTC)
        )  # another one: that run closed it
        assert tick(of, instance).run_requests[0].job_name == "monitor"


def test_an_ingest_that_died_before_it_counted_the_window_is_run_again(of):
    write(of, "a", prediction("a"))
    ingest(of, STORE)  # published, and killed before the asset has counted the open window
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(of, instance).run_requests == [], "an ingest by hand is no run of Dagster's"
        instance.create_run_for_job(stand_in, status=dg.DagsterRunStatus.SUCCESS)
        assert tick(of, instance).run_requests == []
        instance.create_run_for_job(stand_in, status=dg.DagsterRunStatus.FAILURE)
        assert reason_to_wait(instance, of.sensor_s, 9e9) is None
        object.__setattr__(of, "sensor_s", 0)  # no time passes between a failure and the next try
        assert [request.job_name for request in tick(of, instance).run_requests] == ["ingest_log"]
        keep_open_window(of, OpenWindowFile("f" * 64, 1, 1, 2000), datetime.now(UTC))
        assert tick(of, instance).run_requests == []


@pytest.mark.parametrize("left", ["no copy", "an older copy", "a write-ahead log"])
def test_an_ingest_that_died_before_it_published_is_run_again(of, left):
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    keep_open_window(of, OpenWindowFile("f" * 64, 1, 1, 2000), datetime.now(UTC))
    object.__setattr__(of, "sensor_s", 0)
    database = of.warehouse_dir / FILE
    with dg.DagsterInstance.ephemeral() as instance:
        instance.create_run_for_job(stand_in, status=dg.DagsterRunStatus.FAILURE)
        assert tick(of, instance).run_requests == []
        # What a kill leaves at that moment: the segments are taken, and nothing is `.ready`.
        if left == "no copy":
            (of.warehouse_dir / PUBLISHED).unlink()
        else:
            later = database.with_name(f"{FILE}.wal") if left == "a write-ahead log" else database
            later.touch()
            os.utime(later, (time.time() + 5, time.time() + 5))
        assert [request.job_name for request in tick(of, instance).run_requests] == ["ingest_log"]


@dg.job(name=ingest_log.name)
def stand_in():
    pass


CODE = JobPythonOrigin(
    stand_in.name, RepositoryPythonOrigin(sys.executable, ModuleCodePointer("churn_assets.definitions", "defs"))
)
EVENTS = {
    **{"NOT_STARTED": "", "QUEUED": "ENQUEUED", "STARTING": "STARTING"},
    **{"STARTED": "START", "CANCELING": "CANCELING"},
}


@pytest.mark.parametrize("status", EVENTS)
def test_nothing_is_asked_for_while_an_ingest_is_queued_or_under_way(of, status):
    write(of, "a", prediction("a"))
    with dg.DagsterInstance.ephemeral() as instance:
        # Where the job came from: a run that is queued must say so.
        code = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="churn_assets.definitions"))
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(code, "__repository__"), stand_in.name)
        run_ = instance.create_run_for_job(stand_in, remote_job_origin=origin, job_code_origin=CODE)
        if status != "NOT_STARTED":
            instance.report_dagster_event(dg.DagsterEvent(f"PIPELINE_{EVENTS[status]}", stand_in.name), run_.run_id)
        assert instance.get_run_by_id(run_.run_id).status.value == status
        assert "under way" in tick(of, instance).skip_message


@pytest.mark.parametrize("status", ["FAILURE", "CANCELED"])
def test_after_a_failure_the_segment_is_asked_for_again_each_time_later(of, status):
    with dg.DagsterInstance.ephemeral() as instance:
        waits = []
        for _ in range(6):
            instance.create_run_for_job(stand_in, status=dg.DagsterRunStatus[status])
            records = instance.get_run_records(limit=1)
            ended = records[0].update_timestamp.timestamp()
            due = [s for s in range(0, 700, 20) if reason_to_wait(instance, 30, ended + s) is None]
            assert reason_to_wait(instance, 30, ended - 6 * 3600) is None, "the clock was set back"
            waits.append(min(due))
        assert waits == sorted(waits)
        assert waits[0] == pytest.approx(60, abs=20)
        assert waits[-1] == pytest.approx(600, abs=20)
        instance.create_run_for_job(stand_in, status=dg.DagsterRunStatus.SUCCESS)
        assert reason_to_wait(instance, 30, ended) is None


def test_a_folder_that_cannot_be_listed_is_told(of):
    of.home.mkdir()
    of.predlog_dir.write_text("")
    with dg.DagsterInstance.ephemeral() as instance:
        assert "cannot be listed" in tick(of, instance).skip_message
