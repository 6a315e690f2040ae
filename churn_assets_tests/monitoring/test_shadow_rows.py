"""A shadow's rows are in the log and are no answers: whoever reads the log finds the same with and without them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from churn_assets.monitoring.performance.labels import count_labels, labelled
from churn_assets.monitoring.performance.service import service_report
from churn_assets.monitoring.profile import profile_window, read_monitored_model
from churn_assets.monitoring.windows import close_windows, read_open_window
from churn_assets.prediction_log.feedback import import_reports
from churn_assets.prediction_log.sources import judge_sources
from churn_assets.prediction_log.warehouse.connection import make_views
from churn_assets.prediction_log.warehouse.read import count, count_all
from churn_assets_tests.monitoring.logs import Log, contract_of, make_home
from churn_assets_tests.prediction_log.home import write
from churn_assets_tests.prediction_log.rows import prediction

CONTRACT = contract_of()
NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
SHADOW: dict[str, Any] = {"shadow": True, "arm": "challenger", "policy": "r000001", "model_version": "b" * 16}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The log of 450 answers and reports on them; and the same with 900 rows of a shadow, half on other customers."""
    plain, shadowed = (Log(make_home(tmp_path_factory.mktemp(name))) for name in ("plain", "shadowed"))
    places = range(400)  # of them 300 answers and 100 rows of the shadow, and 400 customers whom only the shadow scored
    reports = pa.table(
        {
            "feedback_id": [f"f{place}" for place in range(800)],
            "prediction_id": [*(f"p{place + 150}" for place in places), *[None] * 400],
            "customer_id": [*[None] * 400, *(f"c8-{place:06d}" for place in places)],
        }
    )
    for log in (plain, shadowed):
        log.add(450)
        with log.open() as connection:
            connection.register("reports", reports)
            connection.execute(
                "INSERT INTO feedback SELECT feedback_id, 1, 'r', prediction_id, customer_id, true, '2014-02-01', "
                "NULL, '2026-11-20', 's', 'key' FROM reports"
            )
    shadowed.add(450, seed=5, **SHADOW)
    shadowed.add(450, seed=8, **SHADOW)
    return plain, shadowed


def of_labels(log):
    with log.open() as connection:
        return labelled(connection, CONTRACT, NOW).to_pylist(), count_labels(connection, CONTRACT, NOW)


def of_windows(log):
    model = read_monitored_model(log.settings, CONTRACT)
    with log.open() as connection:
        windows = close_windows(connection, log.settings, model.fingerprint, CONTRACT.monitoring)
        profiles = [dataclasses.asdict(profile_window(connection, model, window)) for window in windows]
        for profile in profiles:
            profile.pop("sample")
        return windows, repr(profiles), read_open_window(connection, model.fingerprint, CONTRACT.monitoring, windows)


def of_service(log):
    with log.open() as connection:
        return service_report(connection)


def of_counts(log):
    totals = dataclasses.asdict(count_all(log.settings))
    return {name: totals[name] for name in ("predictions", "feedback", "unknown", "versions", "outcomes")}


def of_sources(log):
    with log.open() as connection:
        return [decision.why for decision in judge_sources(connection, NOW)]


def of_outcomes(log):
    """Which customers' reports count is drawn by the customer that their prediction names."""
    with log.open() as connection:
        make_views(connection, feedback_share=0.5)
        return connection.execute("SELECT feedback_id, within_share FROM reported ORDER BY 1").fetchall()


@pytest.mark.parametrize("read", [of_labels, of_windows, of_service, of_counts, of_sources, of_outcomes])
def test_a_reader_finds_what_it_finds_without_a_shadow(logs, read):
    plain, shadowed = logs
    expected = read(plain)
    assert expected
    assert read(shadowed) == expected


def test_the_rows_are_there(logs):
    _, shadowed = logs
    totals = count_all(shadowed.settings)
    assert (totals.predictions, totals.shadow_scores) == (450, 900)


@pytest.mark.parametrize("is_ingested", [True, False])
def test_feedback_that_names_a_shadows_row_names_no_prediction(tmp_path, logs, is_ingested):
    settings, reports = logs[1].settings, [("p500", "c8-000001")]
    if not is_ingested:
        settings = dataclasses.replace(settings, home=tmp_path)
        row = {name: getattr(prediction(7), name) for name in prediction(7).__struct_fields__}
        write(settings, "20261127T000000000000-1-a", type(prediction(7))(**(row | {"shadow": True})), prediction(8))
        reports = [("w-7", "c7"), ("w-8", "c8")]
    items = [{"prediction_id": i, "churned": True, "observed_at": "2026-11-20"} for i, _ in reports]
    items += [{"customer_id": c, "churned": True, "observed_at": "2026-11-20"} for _, c in reports]
    assert import_reports(settings, items, NOW).unmatched == 2


def test_lines_of_a_shadow_are_counted_apart(tmp_path, logs):
    settings = dataclasses.replace(logs[0].settings, home=tmp_path)
    row = {name: getattr(prediction(7), name) for name in prediction(7).__struct_fields__}
    write(settings, "20261127T000000000000-1-a", type(prediction(7))(**(row | {"shadow": True})), prediction(8))
    assert count(settings.predlog_dir).kinds == {"prediction": 1, "shadow": 1}
