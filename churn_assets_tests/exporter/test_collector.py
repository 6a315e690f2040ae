"""The metrics of the loop are those of the home's own reports, ledger and log, whatever is damaged."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from pathlib import Path

import pytest

from churn_assets.alerting.alerts import Alert, all_alerts, raise_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.contract.load import load_contract
from churn_assets.exporter.metrics import METRICS, Samples
from churn_assets.monitoring.latest import read_latest_reports
from churn_assets.prediction_log.warehouse.connection import PUBLISHED
from churn_assets.prediction_log.warehouse.read import count_all
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.release.counts import ArmCounts, PairCounts, ReleaseCounts, write_counts
from churn_assets.release.policy import Policy, PolicyArm, write_policy
from churn_assets.settings import Settings
from churn_assets_tests.exporter.scraped import NOW, Scrape, scrape
from churn_assets_tests.test_home_0_1 import CHAMPION, WAITING, WINDOWS, unpack

PARTS = {"champion", "release", "decisions", "windows", "performance", "log", "alerts", "daemon"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return unpack(tmp_path_factory.mktemp("exporter"))


@pytest.fixture(scope="module")
def scraped(made: Settings) -> Scrape:
    return scrape(made)


@pytest.fixture
def settings(tmp_path: Path, made: Settings) -> Settings:
    shutil.copytree(made.home, tmp_path / "home")
    return Settings(root=tmp_path, home=tmp_path / "home", contract_path=made.contract_path)


def test_every_part_of_a_home_is_read(scraped):
    assert scraped.values("churn_home_part_readable", "part") == dict.fromkeys(PARTS, 1.0)


def test_drift_is_that_of_the_newest_report(made, scraped):
    window = read_latest_reports(made).drift.windows[-1]
    assert scraped.value("churn_window") == window.window == WINDOWS
    effects = {column.column: column.effect for column in window.columns if column.effect is not None}
    assert scraped.values("churn_drift_effect", "column") == effects
    drifting = scraped.values("churn_drift_column", "column")
    assert {column for column, drifts in drifting.items() if drifts} == {*window.drifted}
    statuses = scraped.values("churn_window_drift", "status")
    assert {status for status, holds in statuses.items() if holds} == {window.status}
    limit = load_contract(made.contract_path).monitoring.effect
    assert scraped.value("churn_drift_effect_limit") == limit


def test_windows_are_counted_by_quality_and_drift(made, scraped):
    reports = read_latest_reports(made)
    quality = {window.window: window.status for window in reports.quality.windows}
    for window in reports.drift.windows:
        labels = {"quality": quality[window.window], "drift": window.status}
        same = [w for w in reports.drift.windows if (quality[w.window], w.status) == (*labels.values(),)]
        assert scraped.value("churn_windows_total", **labels) == len(same)
    assert sum(v for (name, _), v in scraped.items() if name == "churn_windows_total") == WINDOWS
    drifted = scraped.values("churn_drift_detected_total", "column")
    assert drifted["esent"] == sum("esent" in window.drifted for window in reports.drift.windows)
    assert 0.0 in drifted.values(), "a column that never drifted is there from its first window on"


def test_performance_and_labels_are_those_of_the_report(made, scraped):
    report = read_latest_reports(made).performance
    assert scraped.values("churn_labels", "state") == dict(report.labels.counts.states)
    for basis, part in (("matured", "realized"), ("estimated", "estimated")):
        newest = [getattr(p, part) for p in report.periods if getattr(p, part).metrics is not None][-1]
        for name in ("pr_auc", "roc_auc", "log_loss"):
            figure = getattr(newest.metrics, name)
            values = [scraped.value(f"churn_{name}{end}", basis=basis) for end in ("", "_low", "_high")]
            assert values == [figure.value, figure.low, figure.high]
        assert scraped.value("churn_performance_customers", basis=basis) == newest.rows
    assert scraped.value("churn_pr_auc", basis="card") == report.fall.card.pr_auc


def test_decisions_challengers_and_the_gate_are_those_of_the_ledger(made, scraped):
    ledger = Ledger(made.ledger_path)
    decided = sum(value for (name, _), value in scraped.items() if name == "churn_decisions_total")
    assert decided == len(ledger.decisions(1000)) == sum(ledger.count_decisions().values())
    assert sum(scraped.values("churn_challengers", "status").values()) == len(ledger.challengers())
    assert scraped.value("churn_approvals_waiting") == 1
    waiting = ledger.challenger(WAITING)
    assert scraped.value("churn_approval_waiting_since_timestamp_seconds") == waiting.changed_at.timestamp()
    checks = {check.check: float(check.passed) for check in ledger.challengers()[-1].verdict.checks}
    assert scraped.values("churn_gate_check_passed", "check") == checks
    assert scraped.value("churn_champion_moves_total", kind="promotion") == 1


def test_the_log_is_that_of_the_published_copy(made, scraped):
    totals = count_all(made)
    rows = scraped.values("churn_log_rows", "kind")
    assert rows == {"answer": totals.predictions, "trial": 0.0, "outcome": totals.feedback}
    assert scraped.value("churn_ingest_waiting_segments") == 1
    segment = next(made.predlog_dir.glob("*.ready"))
    assert scraped.value("churn_ingest_waiting_bytes") == segment.stat().st_size
    waited = max(0.0, NOW.timestamp() - segment.stat().st_mtime)
    assert scraped.value("churn_ingest_lag_seconds") == pytest.approx(waited)


def test_alerts_are_counted_by_kind_and_by_what_became_of_their_messages(settings):
    alerts = AlertSettings.from_environ({"CHURN_ALERT_URLS": "json://127.0.0.1:9/gone"}, settings.home)
    raise_alert(alerts, Alert("feed", "data_quality", "late", "No file."), NOW)
    scraped = scrape(settings, {"CHURN_ALERT_URLS": "json://127.0.0.1:9/gone"})
    entries = all_alerts(alerts)
    for kind, count in scraped.values("churn_alerts_raised_total", "kind").items():
        assert count == sum(entry.kind == kind for entry in entries)
    for kind, count in scraped.values("churn_alerts_open", "kind").items():
        assert count == sum(entry.kind == kind and entry.closed_at is None for entry in entries)
    assert scraped.value("churn_alerts_open", kind="data_quality") >= 1
    assert scraped.values("churn_alert_messages", "state") == {"waiting": 1.0, "given_up": 0.0}
    assert scraped.value("churn_alert_destinations") == 1


def test_a_home_in_which_nothing_was_done_has_metrics_and_is_not_made(tmp_path):
    settings = Settings(root=tmp_path, home=tmp_path / "none", contract_path=tmp_path / "none.toml")
    scraped = scrape(settings)
    assert set(scraped.values("churn_home_part_readable", "part").values()) == {1.0}
    assert scraped.value("churn_approvals_waiting") == 0
    assert scraped.value("churn_ingest_lag_seconds") == 0
    assert not settings.home.exists()


def damage_ledger(settings: Settings) -> None:
    settings.ledger_path.write_bytes(b"no database" * 100)


def damage_copy(settings: Settings) -> None:
    copy = settings.warehouse_dir / PUBLISHED
    copy.chmod(0o644)
    copy.write_bytes(b"no database" * 100)


def damage_report(settings: Settings) -> None:
    (settings.assets_dir / "drift_report.json").write_text("[")


def damage_alerts(settings: Settings) -> None:
    (settings.home / "alerts.db").write_bytes(b"no database" * 100)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (damage_ledger, {"decisions"}),
        (damage_copy, {"log"}),
        (damage_report, {"windows", "performance"}),
        (damage_alerts, {"alerts"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_file_takes_away_its_own_part_only(settings, damage, parts):
    before = scrape(settings)
    damage(settings)
    scraped = scrape(settings)
    readable = scraped.values("churn_home_part_readable", "part")
    assert {part for part, is_readable in readable.items() if not is_readable} == parts
    assert scraped.value("churn_champion_info", model_version=CHAMPION) == 1
    assert len(scraped) > len(before) / 4


def test_an_ingest_that_replaces_the_copy_is_seen_at_the_next_scrape(settings, tmp_path):
    from churn_assets.exporter.collector import HomeCollector, exposition

    collector = HomeCollector(settings, {}, lambda: NOW)
    before = Scrape.of(exposition(collector)[0].decode()).value("churn_log_rows", kind="answer")
    import duckdb

    copy = settings.warehouse_dir / PUBLISHED
    changed = tmp_path / "changed.duckdb"
    shutil.copyfile(copy, changed)
    with duckdb.connect(str(changed)) as connection:
        connection.execute("DELETE FROM predictions WHERE seq < 100")
    changed.replace(copy)
    after = Scrape.of(exposition(collector)[0].decode()).value("churn_log_rows", kind="answer")
    assert after < before


def release(settings: Settings, kind: str, weight: float) -> Policy:
    champion = read_champion(settings.home)
    arms = (
        PolicyArm("challenger", WAITING, f"bundles/{WAITING}", "0" * 64, weight),
        PolicyArm("champion", champion.version, champion.bundle, "0" * 64, 1.0 - weight),
    )
    policy = Policy("0007", kind, arms, "salt", "ana", "to see", NOW)  # type: ignore[arg-type]
    write_policy(settings.home, policy)
    return policy


def counted(rows: int, score: float, errors: int = 0) -> ArmCounts:
    counts = ArmCounts(errors=errors)
    for _ in range(rows):
        counts.scored(score, score > 0.5, warned=False, seconds=0.0004)
    return counts


def test_a_shadow_shows_what_its_processes_have_counted(settings):
    policy = release(settings, "shadow", 0.0)
    arms = {"champion": counted(8, 0.31), "challenger": counted(6, 0.62, errors=2)}
    pairs = PairCounts(6, 6, 6 * 0.31, 6 * 0.31**2, dropped=1)
    write_counts(settings.home, policy.id, "worker-1", ReleaseCounts(arms, pairs))
    write_counts(settings.home, policy.id, "worker-2", ReleaseCounts({"champion": counted(2, 0.31)}))
    scraped = scrape(settings)
    assert scraped.values("churn_release_rows_total", "arm") == {"champion": 10, "challenger": 6}
    assert scraped.value("churn_release_errors_total", arm="challenger") == 2
    assert scraped.value("churn_release_pairs_total") == scraped.value("churn_release_flips_total") == 6
    assert scraped.value("churn_release_pairs_dropped_total") == 1
    assert scraped.value("churn_release_score_difference") == pytest.approx(0.31)
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in scraped.items()
        if name == "churn_release_score_bucket" and dict(labels)["arm"] == "challenger"
    }
    assert (buckets["0.6"], buckets["0.65"], buckets["+Inf"]) == (0, 6, 6)
    assert scraped.value("churn_release_score_sum", arm="challenger") == pytest.approx(6 * 0.62)
    assert scraped.value("churn_release_scoring_seconds_bucket", arm="champion", le="0.00025") == 0
    assert scraped.value("churn_release_scoring_seconds_bucket", arm="champion", le="0.0005") == 10
    assert scraped.values("churn_release_kind", "kind")["shadow"] == 1


def test_a_canary_shows_the_share_of_each_arm(settings):
    release(settings, "canary", 0.25)
    weights = scrape(settings).values("churn_release_arm_weight_ratio", "arm")
    assert weights == {"champion": 0.75, "challenger": 0.25}


def test_a_policy_that_names_another_champion_is_not_in_force(settings):
    policy = release(settings, "canary", 0.25)
    other = tuple(
        PolicyArm(arm.name, "f" * 16, arm.bundle, arm.sha256, arm.weight) if arm.name == "champion" else arm
        for arm in policy.arms
    )
    write_policy(settings.home, Policy("0008", "canary", other, "salt", "ana", "to see", NOW))
    scraped = scrape(settings)
    assert scraped.values("churn_release_kind", "kind")["champion"] == 1
    assert scraped.values("churn_release_arm_weight_ratio", "arm") == {"champion": 1.0}


def test_every_label_is_defined_and_bounded(made, scraped):
    """However long a home has lived: a new decision, alert, window or prediction adds no series."""
    contract = load_contract(made.contract_path)
    columns = {column.name for column in contract.columns} | {"(score)", "(positive rate)", contract.key.name}
    for (name, labels), _ in scraped.items():
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        definition = METRICS.get(name) or METRICS[base]
        assert {label for label, _ in labels} - {"le"} == {*definition.labels}
        assert dict(labels).get("column", "(score)") in columns
    assert len(scraped) < 400
    database = sqlite3.connect(made.home / "alerts.db")
    database.close()


def test_more_of_the_same_adds_no_series(settings):
    before = scrape(settings)
    alerts = AlertSettings.from_environ({}, settings.home)
    for number in range(5):
        raise_alert(alerts, Alert(f"feed {number}", "data_quality", f"late {number}", "No file."), NOW)
    after = scrape(settings, now=NOW + dt.timedelta(days=400))
    assert after.keys() == before.keys()


def test_a_counter_is_named_so_and_a_unit_is_the_last_word():
    for name, definition in METRICS.items():
        assert name.startswith("churn_")
        assert name.endswith("_total") == (definition.kind == "counter"), name
        assert definition.meaning.endswith(".")
        for unit in ("seconds", "bytes", "ratio"):
            assert f"_{unit}_" not in name.removesuffix("_total") + "_" or name.endswith(unit), name


def test_a_sample_with_other_labels_than_its_metric_is_a_mistake():
    with pytest.raises(KeyError, match="has the labels"):
        Samples().set("churn_labels", 1, kind="final")
