"""Labels and performance as assets: on a home with nothing in it, and on one with a log."""

from __future__ import annotations

import datetime as dt
import json

import dagster as dg
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.defs.column_schema import with_column_schema
from churn_assets.prediction_log.records import encode_line
from churn_assets_tests.defs.home import checks, metadata, run, settings
from churn_assets_tests.monitoring.outcomes import calibrated
from churn_assets_tests.prediction_log.home import feedback, prediction, write

ASSETS = ["prediction_log", "feedback_log", "labelled_predictions", "performance_report"]
CHECKS = (
    "labels_agree",
    "labels_belong_to_predictions",
    "the_labelled_pr_auc_holds",
    "the_labelled_scores_are_calibrated",
)
SCORED_AT = dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)


def test_a_fresh_home_has_both_assets_and_they_say_what_is_missing(tmp_path):
    of = settings(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ASSETS)
    assert result.success
    assert metadata(result, "labelled_predictions")["summary"].startswith("no predictions yet")
    assert "no predictions yet" in metadata(result, "performance_report")["summary"]
    assert pq.read_metadata(of.assets_dir / "labelled_predictions.parquet").num_rows == 0
    found = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert all(found[name].passed for name in CHECKS)
    assert found["the_labelled_pr_auc_holds"].description.startswith("not known: no champion yet")
    assert found["the_labelled_scores_are_calibrated"].description.startswith("not known")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """700 predictions and their reports, one of them twice and differently, fifty of customers nobody scored."""
    of = settings(tmp_path_factory.mktemp("home"))
    score, churned = calibrated(700, seed=2)
    lines = [
        encode_line(
            prediction(
                f"p{n}",
                customer_id=f"c{n}",
                score=float(p),
                as_of=SCORED_AT.date().isoformat(),
                scored_at=SCORED_AT.isoformat(),
                fingerprint=load_contract(of.contract_path).fingerprint,
            )
        )
        for n, p in enumerate(score)
    ]
    reported = [*enumerate(churned), *((n, False) for n in range(700, 750))]
    lines += [encode_line(_report(n, bool(c))) for n, c in reported]
    lines.append(encode_line(_report(next(n for n, c in enumerate(churned) if c), False, "again")))
    write(of, "a", *lines)
    with dg.DagsterInstance.ephemeral() as instance:
        yield of, run(of, instance, ASSETS)


def _report(number: int, churned: bool, name: str = "f"):
    observed = SCORED_AT + dt.timedelta(days=10 if churned else 95)
    return feedback(
        f"{name}{number}",
        prediction_id=None,
        customer_id=f"c{number}",
        churned=churned,
        observed_at=observed.isoformat(),
        contacted=number % 7 == 0,
    )


def test_labels_are_a_table_of_the_contract_with_counts_by_state(watched):
    of, result = watched
    assert result.success
    told = metadata(result, "labelled_predictions")
    table = pq.read_table(of.assets_dir / "labelled_predictions.parquet")
    assert told["dagster/row_count"] == table.num_rows == 700
    assert told["contract_fingerprint"] == load_contract(of.contract_path).fingerprint
    assert "| conflicting | 1 |" in told["states"]
    assert "| final | 699 |" in told["states"]
    assert "| unknown_customer | 50 |" in told["reports"]
    assert told["next_matures_at"] == "nothing is open"
    assert 0.1 < told["churned_share"] < 0.3
    assert table["churned"].null_count == 1
    assert {"x_esent", "x_city"} <= set(table.column_names)


def test_reports_that_fit_nothing_are_warned_of_and_conflicts_are_few(watched):
    found = checks(watched[1])
    assert not found["labels_belong_to_predictions"]
    assert found["labels_agree"]


def test_the_report_is_kept_as_json_and_page_and_has_its_plots(watched):
    of, result = watched
    found = json.loads((of.assets_dir / "performance_report.json").read_text())
    folder = of.monitoring_dir / found["fingerprint"][:12]
    assert json.loads((folder / "performance.json").read_text()) == found
    page = (folder / "performance.md").read_text()
    told = metadata(result, "performance_report")
    assert told["report"] == page
    assert "2026-03" in page
    plots = {name for name, value in told.items() if "data:image/svg+xml" in str(value)}
    assert plots == {"pr_auc", "calibration", "volume", "latency"}
    assert told["final_labels"] == 699
    assert found["periods"][0]["realized"]["status"] == "ok"


def test_the_schema_that_is_shown_is_the_schema_of_the_table(watched):
    of, _ = watched
    told = with_column_schema(load_contract(of.contract_path))(dg.AssetSpec("labelled_predictions"))
    shown = [column.name for column in told.metadata["dagster/column_schema"].columns]
    assert shown == pq.read_schema(of.assets_dir / "labelled_predictions.parquet").names
