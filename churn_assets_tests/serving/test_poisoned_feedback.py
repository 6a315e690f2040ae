"""Wrong outcomes over the network teach nobody: a real service with keys, its log, and the decision to retrain."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from churn_assets.access.keys import KeyStore
from churn_assets.contract.limits import Monitoring
from churn_assets.monitoring.latest import read_latest_reports
from churn_assets.monitoring.performance.labels import labelled
from churn_assets.monitoring.performance.report import report_performance
from churn_assets.monitoring.windows import write_report
from churn_assets.prediction_log.segment import OPEN
from churn_assets.prediction_log.sources import EVER, FOR_EVER, decide, quarantined_sources, record
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.promotion.records import Decision
from churn_assets.promotion.service import PromotionService
from churn_assets.settings import Settings
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, json_rows
from churn_assets_tests.serving.client import SCORER, home_with_champion, served, wait_for

LIMITS = Monitoring(labels_to_retrain=100, label_floor=50, cooldown_days=0)
ROWS = json_rows(customers(800, seed=5))
AT = "2014-06-01T00:00:00Z"
SCOPES = {"shop": ("predict",), "thief": ("feedback",), "crm": ("feedback",)}


def monitor(settings: Settings) -> tuple[int, Decision]:
    """Ingest, report and decide, as the daemon does; the final labels that count, and the decision."""
    now = dt.datetime.now(dt.UTC)
    ingest(settings, CONTRACT)
    with open_published(settings) as connection:
        table = labelled(connection, CONTRACT, now)
    report = report_performance(settings, CONTRACT, table, now)
    settings.assets_dir.mkdir(exist_ok=True)
    write_report(settings.assets_dir / "performance_report.json", report)
    record_ = PromotionService.of(settings).decide_retraining(LIMITS, read_latest_reports(settings).summary)
    return report.labels.final, record_.decision


def until_handed_over(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while list(folder.glob(f"*{OPEN}")):
        assert time.monotonic() < deadline
        time.sleep(0.1)  # the worker looks once a second


def send(url: str, token: str, path: str, bodies: Sequence[object]) -> list[int]:
    headers = {"authorization": f"Bearer {token}", "x-request-id": "import"}
    with httpx.Client(headers=headers, timeout=30) as client:
        return [client.post(f"{url}{path}", json=body).status_code for body in bodies]


def test_eighty_requests_with_flipped_labels_lead_to_no_retraining_and_true_ones_do(tmp_path: Path):
    home = home_with_champion(tmp_path / "home")
    now = dt.datetime.now(dt.UTC)
    keys = {name: KeyStore(home).create(name, scopes, None, now) for name, scopes in SCOPES.items()}
    score = SCORER.score_table(customers(800, seed=5), AS_OF).probability
    churned = np.random.default_rng(1).random(800) < score
    settings = Settings.from_environ({"CHURN_HOME": str(home)})

    def reports(outcomes, size: int) -> list[object]:
        items = [
            {"customer_id": row["id"], "churned": bool(left), "observed_at": AS_OF if left else AT}
            for row, left in zip(ROWS, outcomes, strict=True)
        ]
        return [items[start : start + size] for start in range(0, len(items), size)]

    with served(tmp_path, home, environ={"CHURN_LOG_SEGMENT_S": "1"}) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        batches = [{"customers": ROWS[start : start + 200], "as_of": AS_OF} for start in range(0, 800, 200)]
        assert send(url, keys["shop"][1], "/predict_batch", batches) == [200] * 4
        assert send(url, keys["shop"][1], "/feedback", reports(~churned, 10)[:1]) == [403]
        assert send(url, keys["thief"][1], "/feedback", reports(~churned, 10)) == [200] * 80
        until_handed_over(settings.predlog_dir)
        thief, crm = keys["thief"][0].id, keys["crm"][0].id
        labels, decision = monitor(settings)
        assert (labels, decision.kind) == (0, "nothing")
        assert list(quarantined_sources(settings)) == [thief]
        assert send(url, keys["crm"][1], "/feedback", reports(churned, 200)) == [200] * 4
    labels, decision = monitor(settings)
    assert 330 < labels < 470, "half of the customers, until somebody accepts the source"
    assert (decision.kind, decision.trigger) == ("retrain", "labels")
    record(settings, decide(crm, True, (EVER, FOR_EVER), "Ana", "our CRM", now))
    record(settings, decide(thief, False, (EVER, FOR_EVER), "Ana", "a leaked key", now))
    ingest(settings, CONTRACT)
    with open_published(settings) as connection:
        assert labelled(connection, CONTRACT, now).num_rows == 800
