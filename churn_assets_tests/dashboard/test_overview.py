"""The first page: its numbers are those of status, ledger, reports and the log; a damaged file takes its part away."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import duckdb
import pytest

from churn_assets.alerting.alerts import all_alerts, open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.status import read_events, read_status
from churn_assets.release.counts import ReleaseCounts, write_counts
from churn_assets.release.policy import Policy, PolicyArm, write_policy
from churn_assets_tests.dashboard.browser import NOW, visit
from churn_assets_tests.test_home_0_1 import CHAMPION, INGESTED, WAITING


def test_the_figures_are_those_of_status_ledger_reports_and_alerts(visitor, made):
    page, status = visitor.json("/overview.json"), read_status(made)
    champion, metrics = page["champion"], status.card.metrics
    ends = {"value": "", "low": "_low", "high": "_high"}
    assert champion["version"] == CHAMPION
    assert champion["pr_auc"] == {name: metrics[f"test_pr_auc{end}"] for name, end in ends.items()}
    assert (champion["by"], champion["reason"]) == (status.champion.by, status.champion.reason)
    assert [(model["version"], model["status"]) for model in page["waiting"]] == [
        (challenger.version, challenger.status) for challenger in status.ledger.challengers
    ]
    assert [model["version"] for model in page["waiting"]] == [WAITING]
    card = json.loads((made.bundles_dir / WAITING / "card.json").read_text())["metrics"]
    assert page["waiting"][0]["pr_auc"] == {name: card[f"test_pr_auc{end}"] for name, end in ends.items()}
    record = status.ledger.decision
    assert (page["decision"]["kind"], page["decision"]["message"]) == (record.decision.kind, record.decision.message)
    open_now = open_alerts(AlertSettings(made.home))
    assert {(a["title"], a["severity"], a["times"]) for a in page["alerts"]} == {
        (a.title, a.severity, a.times) for a in open_now
    }
    assert len(page["alerts"]) == 3
    assert page["problems"] == []


def test_pr_auc_is_that_of_the_newest_periods_of_the_report(visitor, made):
    page, report = visitor.json("/overview.json"), json.loads((made.assets_dir / "performance_report.json").read_text())
    for name, stored in (("matured", "measured"), ("estimated", "estimated")):
        newest = [p for p in report["periods"] if p[stored].get("pr_auc_low") is not None][-1]
        assert (page[name]["period"], page[name]["rows"]) == (newest["period"], newest[stored]["rows"])
        assert page[name]["pr_auc"] == {
            end: newest[stored][f"pr_auc{suffix}"]
            for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
        }
    assert page["performance"] == report["fall"]["words"]


def test_what_happened_is_what_history_decisions_and_alerts_say(visitor, made):
    shown = visitor.json("/overview.json")["activity"]
    known = [(event.at, event.what, event.by) for event in read_events(made)]
    for record in Ledger(made.ledger_path).decisions(100):
        known.append((record.decided_at, f"decision: {record.decision.kind.replace('_', ' ')}", record.decision.by))
    for alert in all_alerts(AlertSettings(made.home)):
        known.append((alert.opened_at, "alert", ""))
        known += [(alert.closed_at, "alert ended", "")] if alert.closed_at and alert.ending else []
    newest = sorted(known, key=lambda event: event[0], reverse=True)[: len(shown)]
    assert len(shown) == 12
    assert sorted((dt.datetime.fromisoformat(e["at"]), e["event"], e["who"]) for e in shown) == sorted(newest)


def test_the_traffic_is_that_of_the_log(visitor, made):
    with duckdb.connect(str(made.warehouse_dir / "published.duckdb"), read_only=True) as log:
        *figures, newest = log.execute(
            "SELECT count(*), quantile_cont(latency_us, 0.5) / 1000, quantile_cont(latency_us, 0.95) / 1000, "
            "quantile_cont(latency_us, 0.99) / 1000, max(scored_at) FROM predictions"
        ).fetchall()[0]
        hours = log.execute(
            "SELECT epoch(date_trunc('hour', scored_at))::BIGINT, count(*) FROM predictions GROUP BY 1 ORDER BY 1"
        ).fetchall()
        faults, refused = log.execute(
            "SELECT coalesce(sum(requests) FILTER (cause IN ('busy', 'disk', 'internal', 'no_model')), 0), "
            "coalesce(sum(requests), 0) FROM rejections"
        ).fetchall()[0]
        asked = log.execute(
            "SELECT count(DISTINCT request_id) FROM predictions WHERE latency_us IS NOT NULL"
        ).fetchone()[0]
        ingested = log.execute("SELECT max(ingested_at) FROM segments").fetchone()[0]
        labelled = log.execute("SELECT max(received_at) FROM feedback").fetchone()[0]
    page = visitor.json("/overview.json")
    today = page["traffic"][0]["requests"]
    assert [today[name] for name in ("predictions", "p50_ms", "p95_ms", "p99_ms")] == figures
    assert (today["fault_rate"], today["refused_rate"]) == (faults / (asked + refused), refused / (asked + refused))
    assert figures[0] == INGESTED
    course = [(entry["hour"], entry["answers"]) for entry in page["course"]]
    assert [entry for entry in course if entry[1]] == hours
    assert [hour for hour, _ in course] == list(range(course[0][0], int(NOW.timestamp()) + 3600, 3600))
    freshness = page["freshness"]
    assert [freshness[name] for name in ("newest_answer_at", "ingested_at", "newest_label_at")] == [
        at.replace(tzinfo=dt.UTC).isoformat().replace("+00:00", "Z") for at in (newest, ingested, labelled)
    ]


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
    assert [(arm["version"], arm["weight"], arm["share"]) for arm in routing["arms"]] == [
        (WAITING, 0.1, None), (CHAMPION, 0.9, None)
    ]  # fmt: skip
    counts = ReleaseCounts()
    counts.arm("challenger").customers, counts.arm("champion").customers = 30, 170
    write_counts(settings.home, "r000001", "worker-1", counts)
    assert [arm["share"] for arm in visitor.json("/overview.json")["routing"]["arms"]] == [0.15, 0.85]
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
