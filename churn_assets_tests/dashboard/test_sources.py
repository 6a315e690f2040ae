"""Every page: what it shows is what its source says, asked here once more: status, ledger, a report file, a table, or a
query of the log. That a page shows nothing but its JSON is in `test_pages`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.status import read_status
from churn_assets.scoring.budget import plan_call_list
from churn_assets.scoring.bundle import read_card
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.test_pages import CUSTOMER, PATHS
from churn_assets_tests.test_home_0_1 import CHAMPION, FINGERPRINT, FIRST, WAITING, WINDOWS

Figures = dict[str, Any]


def query(made: Settings, sql: str) -> Any:
    """The one value that the published log has for a query."""
    with duckdb.connect(str(made.warehouse_dir / "published.duckdb"), read_only=True) as log:
        return log.execute(sql).fetchall()[0][0]


def report(made: Settings, name: str) -> Any:
    return json.loads((made.assets_dir / f"{name}.json").read_text())


def overview(made: Settings) -> Figures:
    status, decision = read_status(made), Ledger(made.ledger_path).decisions(1)[0]
    return {
        "champion.version": status.champion.version,
        "champion.pr_auc.value": status.card.metrics["test_pr_auc"],
        "decision.number": decision.number,
        "alerts.length": count_alerts(made, "NULL"),
        "traffic.2.requests.predictions": query(made, "SELECT count(*) FROM predictions"),
        "traffic.2.requests.p50_ms": query(made, "SELECT quantile_cont(latency_us, 0.5) / 1000 FROM predictions"),
        "matured.pr_auc.value": [
            p["measured"]["pr_auc"]
            for p in report(made, "performance_report")["periods"]
            if p["measured"].get("pr_auc")
        ][-1],
    }


def calls(made: Settings) -> Figures:
    path = made.assets_dir / "risk_list.parquet"
    listed = pq.read_table(path)
    plan, _ = plan_call_list(made.bundles_dir / FIRST, path, 1e9)
    probability = listed["churn_probability"].to_numpy()
    high = np.array(listed["risk_band"].to_pylist()) == "high"
    bands = {"low": 0, "medium": 1, "high": 2}
    return {
        "customers": listed.num_rows,
        "plan.contacts": plan.contacts,
        "plan.net_value": plan.net_value,
        "counts.0": int((probability < 0.05).sum()),
        "first.0.customer_id": listed["customer_id"][0].as_py(),
        f"segments.{bands['high']}.customers": int(high.sum()),
        f"segments.{bands['high']}.mean_probability": float(probability[high].mean()),
    }


def customer(made: Settings) -> Figures:
    listed = pq.read_table(made.assets_dir / "risk_list.parquet").to_pylist()[0]
    assert listed["customer_id"] == CUSTOMER
    asked = query(made, f"SELECT count(*) FROM predictions WHERE customer_id = '{CUSTOMER}'")
    return {"rank": 1, "churn_probability": listed["churn_probability"], "scores.length": asked}


def monitoring(made: Settings) -> Figures:
    file = made.monitoring_dir / FINGERPRINT[:12] / f"{WINDOWS:04d}" / "drift.json"
    drift = json.loads(file.read_text())
    return {
        "detail.entry.customers": drift["customers"],
        "detail.columns.0.p_value": drift["columns"][0]["p_value"],
        "scores.7.mean_score": drift["score"]["mean"],
        "service.requests.p99_ms": query(made, "SELECT quantile_cont(latency_us, 0.99) / 1000 FROM predictions"),
        "service.latency.0.answers": query(made, "SELECT count(*) FROM predictions WHERE latency_us < 500"),
    }


def performance(made: Settings) -> Figures:
    stored = report(made, "performance_report")
    return {
        "report.labels.final": stored["labels"]["final"],
        "report.periods.1.realized.metrics.pr_auc.value": stored["periods"][1]["measured"]["pr_auc"],
        "report.service.total.predictions": query(made, "SELECT count(*) FROM predictions"),
    }


def models(made: Settings) -> Figures:
    versions = {path.name for path in made.bundles_dir.iterdir() if path.is_dir()}
    return {
        "models.length": len(versions),
        "champion": read_status(made).champion.version,
        "models.0.pr_auc.value": read_card(made.bundles_dir / CHAMPION).metrics["test_pr_auc"],
    }


def model(made: Settings) -> Figures:
    card, verdict = read_card(made.bundles_dir / CHAMPION), Ledger(made.ledger_path).challenger(CHAMPION).verdict
    return {
        "threshold": card.thresholds.value,
        "model.pr_auc.low": card.metrics["test_pr_auc_low"],
        "checks.length": len(verdict.checks),
    }


def compare(made: Settings) -> Figures:
    cards = [read_card(made.bundles_dir / version) for version in (CHAMPION, WAITING)]
    return {
        "first.model.pr_auc.value": cards[0].metrics["test_pr_auc"],
        "second.model.pr_auc.value": cards[1].metrics["test_pr_auc"],
        "second.threshold": cards[1].thresholds.value,
    }


def trial(made: Settings) -> Figures:
    reference = pq.read_table(made.bundles_dir / CHAMPION / "reference.parquet")["avgorder"].slice(0, 1000)
    known = sorted(reference.drop_null().to_pylist())
    return {"fields.avgorder.value": str(round(known[(len(known) - 1) // 2], 3))}


def alerts(made: Settings) -> Figures:
    return {"open.length": count_alerts(made, "NULL"), "past.length": count_alerts(made, "NOT NULL")}


def count_alerts(made: Settings, ended: str) -> int:
    with closing(sqlite3.connect(made.home / "alerts.db")) as store:
        return int(store.execute(f"SELECT count(*) FROM alerts WHERE closed_s IS {ended}").fetchone()[0])


SOURCES: dict[str, Callable[[Settings], Figures]] = {
    "/": overview, "/calls": calls, "/customer": customer, "/monitoring": monitoring, "/performance": performance,
    "/models": models, "/compare": compare, "/models/{version}": model, "/try": trial, "/alerts": alerts,
}  # fmt: skip


def at(page: Any, pointer: str) -> Any:
    """The value at a pointer: keys, places, names of entries, or `length`."""
    for part in pointer.split("."):
        if part == "length":
            page = len(page)
        elif isinstance(page, list):
            named = {entry["name"]: entry for entry in page if isinstance(entry, dict) and "name" in entry}
            page = page[int(part)] if part.isdigit() else named[part]
        else:
            page = page[part]
    return page


@pytest.mark.parametrize("path", PATHS)
def test_a_page_has_the_figures_of_its_sources(visitor, made, path):
    query = "&days=30" if path == "/monitoring" else ""
    page = visitor.json(PATHS[path][1] + query.replace("&", "?"))
    expected = SOURCES[path](made)
    assert {pointer: at(page, pointer) for pointer in expected} == pytest.approx(expected)
