"""The first page: its numbers are those of status, ledger, reports and the log; a damaged file takes its part away."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import duckdb
import pytest

from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.status import read_status
from churn_assets.release.policy import Policy, PolicyArm, write_policy
from churn_assets_tests.dashboard.browser import NOW, visit
from churn_assets_tests.test_home_0_1 import CHAMPION, INGESTED, WAITING


def test_the_figures_are_those_of_status_ledger_reports_and_alerts(visitor, made):
    page, status = visitor.json("/overview.json"), read_status(made)
    champion = page["champion"]
    assert (champion["version"], champion["test_pr_auc"]) == (CHAMPION, status.card.metrics["test_pr_auc"])
    assert (champion["by"], champion["reason"]) == (status.champion.by, status.champion.reason)
    assert [(model["version"], model["status"]) for model in page["waiting"]] == [(WAITING, "waiting_approval")]
    decision = Ledger(made.ledger_path).decisions(1)[0]
    assert (page["decision"]["kind"], page["decision"]["message"]) == (
        decision.decision.kind,
        decision.decision.message,
    )
    assert len(page["alerts"]) == 3
    report = json.loads((made.assets_dir / "performance_report.json").read_text())
    matured = [p for p in report["periods"] if p["measured"].get("pr_auc_low") is not None]
    newest = matured[-1]
    assert page["matured"]["period"] == newest["period"]
    assert page["matured"]["pr_auc"]["value"] == newest["measured"]["pr_auc"]
    assert page["problems"] == []


def test_the_traffic_is_that_of_the_log(visitor, made):
    with duckdb.connect(str(made.warehouse_dir / "published.duckdb"), read_only=True) as log:
        answers, p95, newest = log.execute(
            "SELECT count(*), quantile_cont(latency_us, 0.95) / 1000, max(scored_at) FROM predictions"
        ).fetchall()[0]
        hours = log.execute(
            "SELECT epoch(date_trunc('hour', scored_at))::BIGINT, count(*) FROM predictions GROUP BY 1 ORDER BY 1"
        ).fetchall()
    page = visitor.json("/overview.json")
    today = page["traffic"][0]["requests"]
    assert (today["predictions"], today["p95_ms"]) == (answers, p95)
    assert answers == INGESTED
    assert [(entry["hour"], entry["answers"]) for entry in page["course"]] == hours
    assert page["freshness"]["newest_answer_at"] == newest.replace(tzinfo=dt.UTC).isoformat().replace("+00:00", "Z")


def test_a_later_day_has_no_answers_of_today(made):
    page = visit(made, NOW + dt.timedelta(days=1)).json("/overview.json")
    assert [entry["requests"]["predictions"] for entry in page["traffic"]] == [0, 0, INGESTED]


def test_a_new_copy_of_the_log_counts_at_once(settings):
    visitor = visit(settings)
    before = visitor.json("/overview.json")["traffic"][0]["requests"]["predictions"]
    published = settings.warehouse_dir / "published.duckdb"
    copy = settings.warehouse_dir / "copy.duckdb"
    shutil.copy(published, copy)
    copy.chmod(0o644)
    with duckdb.connect(str(copy)) as log:
        log.execute("DELETE FROM predictions WHERE seq % 2 = 0")
    copy.replace(published)
    assert 0 < visitor.json("/overview.json")["traffic"][0]["requests"]["predictions"] < before


def test_the_policy_is_shown_and_whether_it_is_in_force(settings):
    arms = (
        PolicyArm("challenger", WAITING, f"bundles/{WAITING}", "0" * 64, 0.1),
        PolicyArm("champion", CHAMPION, f"bundles/{CHAMPION}", "0" * 64, 0.9),
    )
    write_policy(settings.home, Policy("r000001", "canary", arms, "salt", "ana", "to see", NOW))
    visitor = visit(settings)
    routing = visitor.json("/overview.json")["routing"]
    assert [(arm["version"], arm["weight"]) for arm in routing["arms"]] == [(WAITING, 0.1), (CHAMPION, 0.9)]
    assert routing["in_force"] is True
    assert "canary r000001" in visitor.get("/").text
    champion = read_champion(settings.home)
    (settings.home / "champion.json").write_text(
        json.dumps({**champion.to_json(), "version": WAITING, "bundle": f"bundles/{WAITING}"})
    )
    assert "not in force" in visitor.get("/").text


@pytest.mark.parametrize(
    ("file", "message", "part"),
    [
        ("assets/performance_report.json", "performance_report.json: cannot be read", "matured"),
        ("champion.json", "champion.json: cannot be read", "champion"),
        ("policy.json", "policy.json: cannot be read", "routing"),
        ("alerts.db", "alerts.db: cannot be read", "alerts"),
        ("ledger.db", "ledger.db", "decision"),
        ("warehouse/published.duckdb", "published.duckdb cannot be opened", "freshness"),
    ],
)
def test_a_damaged_file_takes_its_part_away_and_is_named(settings, file, message, part):
    path = settings.home / file
    path.unlink(missing_ok=True)
    path.write_text('{"half": ')
    visitor = visit(settings)
    page = visitor.json("/overview.json")
    assert not page[part]
    assert any(message in problem for problem in page["problems"])
    assert message in visitor.get("/").text
    others = {"matured", "champion", "decision", "freshness"} - {part}
    assert any(page[name] for name in others)


def test_texts_with_markup_come_out_as_text(settings):
    champion = read_champion(settings.home)
    evil = "<img src=x onerror=alert(1)>"
    (settings.home / "champion.json").write_text(json.dumps({**champion.to_json(), "reason": evil, "by": evil}))
    response = visit(settings).client.get("/")
    assert "<img" not in response.text
    assert response.text.count("&lt;img src=x onerror=alert(1)&gt;") == 2
