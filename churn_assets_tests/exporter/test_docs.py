"""docs/metrics.md and docs/prometheus.md have every metric, alert and dashboard there is, and no other."""

from __future__ import annotations

import datetime as dt
import re
import runpy
from typing import Any, get_args

import pytest
import yaml

from churn_assets.alerting.alerts import Kind
from churn_assets.dashboard import metrics as of_dashboard
from churn_assets.events.metrics import relay_metrics
from churn_assets.events.status import RelayStatus
from churn_assets.exporter.metrics import METRICS
from churn_assets.monitoring.performance.service import FAULTS
from churn_assets.serving import metrics as of_service
from churn_assets_tests.strategies import ROOT

DEPLOY = ROOT / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
METRICS_PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PROMETHEUS_PAGE = (ROOT / "docs" / "prometheus.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
AT = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
OF_THE_RELAY = {metric.name for metric in relay_metrics(RelayStatus(at=AT, since_at=AT)) if metric.type == "gauge"}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def cases() -> list[tuple[str, str, bool]]:
    """(name of the case, alert, whether it fires) of every promtool test."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (DEPLOY / "prometheus").glob("*test*.yml")]
    tests = [test for file in files for test in file["tests"]]
    return [(t["name"], a["alertname"], bool(a["exp_alerts"])) for t in tests for a in t["alert_rule_test"]]


def known_names() -> set[str]:
    """Every series that a process or a recording rule has."""
    names = {rule["record"] for rule in rules() if "record" in rule}
    for name in {*METRICS, *of_service.MEANINGS, *of_dashboard.MEANINGS}:
        names |= {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return names | OF_THE_RELAY


def names_in(expression: str) -> set[str]:
    """Series that an expression names."""
    plain = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:churn[_:][\w:]+|predictions_total|\w+_detected_total)\b", plain))


def test_every_metric_is_documented_with_its_labels():
    rows = dict(re.findall(r"^\| `(churn_\w+)` \|([^|]*)\|", METRICS_PAGE, re.M))
    labels = {name: tuple(re.findall(r"`(\w+)`", text)) for name, text in rows.items()}
    own = {name: definition.labels for name, definition in METRICS.items()}
    assert {name: labels.get(name) for name in own} == own
    assert labels.keys() - own.keys() - {"churn_predictions_total"} == {*of_dashboard.MEANINGS}


def test_every_alert_is_documented_with_its_severity():
    rows = dict(re.findall(r"^\| `(Churn\w+)` \| (\w+) \|", PROMETHEUS_PAGE, re.M))
    assert rows == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_names_a_section_of_the_runbook(name):
    annotations = ALERTS[name]["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = annotations["runbook_url"].partition("#")
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors
    kind = ALERTS[name]["labels"].get("kind", "")
    assert kind in ("", "{{ $labels.check }}", *get_args(Kind))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_that_fires_and_one_that_is_silent(name):
    fires = {fires for _, alert, fires in cases() if alert == name}
    assert fires == {True, False}


def test_a_case_says_what_it_expects():
    for text, alert, fires in cases():
        assert text.startswith(f"{alert} {'fires' if fires else 'is silent'}: ")


def test_every_rule_names_series_that_there_are():
    unknown = {name for rule in rules() for name in names_in(rule["expr"])} - known_names()
    assert unknown == set()


def test_the_objective_counts_the_faults_that_the_report_counts():
    (causes,) = {
        tuple(re.findall(r'cause=~"([^"]+)"', rule["expr"]))
        for rule in rules()
        if "errors" in str(rule.get("record")) and "availability" in rule["record"]
    }
    assert set(causes[0].split("|")) == {*FAULTS}


def built() -> list[dict[str, Any]]:
    source = runpy.run_path(str(DEPLOY / "grafana" / "build.py"))
    return [source["build"](dashboard) for dashboard in source["DASHBOARDS"]]


def test_the_dashboards_that_are_committed_are_what_the_source_writes(tmp_path):
    source = runpy.run_path(str(DEPLOY / "grafana" / "build.py"))
    written = {path.name: path.read_bytes() for path in source["write"](tmp_path)}
    assert written == {path.name: path.read_bytes() for path in (DEPLOY / "grafana").glob("*.json")}


def test_every_dashboard_is_documented_and_its_panels_do_not_overlap():
    dashboards = built()
    rows = re.findall(r"^\| `(churn-[\w-]+)` \|", PROMETHEUS_PAGE, re.M)
    assert rows == [dashboard["uid"] for dashboard in dashboards]
    for dashboard in dashboards:
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert max(x for x, _ in cells) < 24
            assert not cells & taken, panel["title"]
            taken |= cells
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_panel_names_series_that_there_are():
    expressions = [target["expr"] for d in built() for panel in d["panels"] for target in panel.get("targets", ())]
    assert len(expressions) > 80
    assert {name for expression in expressions for name in names_in(expression)} - known_names() == set()


def test_every_runbook_entry_of_an_alert_is_in_the_runbook():
    """An alert that the runbook's table of states does not have is named where it says what to do."""
    without_kind = [
        n for n, rule in ALERTS.items() if "kind" not in rule["labels"] and rule["labels"]["severity"] != "none"
    ]
    named = set(re.findall(r"`(Churn\w+)`", RUNBOOK))
    assert [name for name in without_kind if name not in named and name.removesuffix("Slow") not in named] == []


def test_every_job_that_a_rule_asks_about_is_scraped():
    jobs = {
        job["job_name"]
        for job in yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    }
    asked = {job for rule in rules() for job in re.findall(r'up\{job="([\w-]+)"\}', rule["expr"])}
    assert asked <= jobs
