"""The dashboards of Grafana, from one source: `python deploy/grafana/build.py` writes the JSON files beside it.

Schema version 1 as Grafana 10 to 13 read it. Plain dictionaries: five dashboards use six kinds of panels, and what is
written here is what Grafana reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, HEIGHT = 24, 8
RATE = "$__rate_interval"
GOOD, WARN, BAD = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """An expression and the legend of its series; `instant` asks for the newest value only."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel of `width` columns of 24. `steps` colour a value from a threshold on."""

    kind: str
    title: str
    queries: tuple[Query, ...]
    description: str = ""
    unit: str = "short"
    width: int = 8
    steps: tuple[tuple[float, str], ...] = ()
    stacked: bool = False
    maximum: float | None = None


def lines(title: str, *queries: Query, **options: Any) -> Panel:
    """Values over time."""
    return Panel("timeseries", title, queries, **options)


def stat(title: str, expr: str, legend: str = "", width: int = 4, **options: Any) -> Panel:
    """The newest values as large figures."""
    return Panel("stat", title, (Query(expr, legend, instant=True),), width=width, **options)


def bars(title: str, expr: str, legend: str, **options: Any) -> Panel:
    """The newest values beside each other."""
    return Panel("bargauge", title, (Query(expr, legend, instant=True),), **options)


def table(title: str, *queries: Query, **options: Any) -> Panel:
    """The newest values, a row for each set of labels; the legend of a query names its column."""
    return Panel("table", title, tuple(Query(q.expr, q.legend, instant=True) for q in queries), **options)


@dataclass(frozen=True)
class Dashboard:
    """`uid` is the name of the file and of the address in Grafana."""

    uid: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


_YES = ((0.0, GOOD), (1.0, BAD))


def _interval(name: str, basis: str) -> tuple[Query, ...]:
    ends = (("", basis), ("_low", f"{basis}, low"), ("_high", f"{basis}, high"))
    return tuple(Query(f'churn_{name}{end}{{basis="{basis}"}}', legend) for end, legend in ends)


PERFORMANCE = Dashboard(
    "churn-model-performance",
    "Churn: model performance",
    "How true the scores are: with final labels, estimated before them, and on the champion's card.",
    (
        (
            "Now",
            (
                stat("Champion", "churn_champion_info", "{{model_version}}", width=6),
                stat("Champion since", "churn_champion_since_timestamp_seconds * 1000", unit="dateTimeFromNow"),
                stat("PR-AUC has fallen", "churn_performance_dropped", steps=_YES),
                stat("Approvals waiting", "churn_approvals_waiting", steps=((0.0, GOOD), (1.0, WARN))),
                stat("Customers", "churn_performance_customers", "{{basis}}", width=6),
            ),
        ),
        (
            "Metrics with their 95 % intervals",
            (
                lines(
                    "PR-AUC",
                    *_interval("pr_auc", "matured"),
                    *_interval("pr_auc", "estimated"),
                    Query('churn_pr_auc{basis="card"}', "card"),
                    description="An estimate is blind to broken inputs and to customers who behave differently.",
                    maximum=1.0,
                ),
                lines("ROC-AUC", *_interval("roc_auc", "matured"), *_interval("roc_auc", "estimated"), maximum=1.0),
                lines("Log-loss", *_interval("log_loss", "matured"), *_interval("log_loss", "estimated")),
            ),
        ),
        (
            "Labels and scores",
            (
                bars("Predictions by label", "churn_labels", "{{state}}"),
                lines("Final labels the champion was not trained on", Query("churn_labels_new", "new")),
                lines(
                    "Scores by window",
                    Query("churn_window_score_mean", "mean score"),
                    Query("churn_window_positive_ratio", "over the threshold"),
                    unit="percentunit",
                ),
            ),
        ),
        (
            "Retraining and the gate",
            (
                bars("Decisions", "sum by (kind) (churn_decisions_total)", "{{kind}}"),
                bars("Challengers", "churn_challengers", "{{status}}"),
                table(
                    "Newest verdict of the gate",
                    Query("churn_gate_check_value", "value"),
                    Query("churn_gate_check_limit", "limit"),
                    Query("churn_gate_check_passed", "passed"),
                ),
            ),
        ),
    ),
)

DRIFT = Dashboard(
    "churn-drift",
    "Churn: drift and data quality",
    "The windows of scored customers against the training data.",
    (
        (
            "The newest window",
            (
                stat("Window", "churn_window"),
                stat("Data", "churn_window_quality == 1", "{{status}}"),
                stat("Drift", "churn_window_drift == 1", "{{status}}"),
                stat("Columns that drift", "sum(churn_drift_column)", steps=((0.0, GOOD), (1.0, WARN))),
                stat("Customers", "churn_window_customers"),
                stat("Outliers", "churn_window_outlier_ratio", unit="percentunit"),
            ),
        ),
        (
            "Columns",
            (
                lines(
                    "Effect by column",
                    Query("max by (column) (churn_drift_effect)", "{{column}}"),
                    Query("churn_drift_effect_limit", "limit"),
                    description="Wasserstein distance by standard deviations, Jensen-Shannon distance for categories.",
                    width=12,
                ),
                lines("Population stability index", Query("churn_drift_psi", "{{column}}"), width=12),
                bars("Windows in which a column drifted", "drift_detected_total", "{{column}}"),
                bars("Missing values", "churn_window_missing_ratio", "{{column}}", unit="percentunit"),
                lines(
                    "Values outside the training range, by column",
                    Query(f"sum by (column) (rate(outliers_detected_total[{RATE}]))", "{{column}}"),
                    unit="reqps",
                ),
            ),
        ),
        (
            "Windows",
            (
                bars("Windows by quality and drift", "churn_windows_total > 0", "{{quality}} data, {{drift}}", width=8),
                table("Findings about the newest window", Query("churn_window_findings", "findings")),
                lines(
                    "The open window",
                    Query("churn_open_window_customers", "customers"),
                    Query("churn_open_window_wanted_customers", "closes at"),
                ),
            ),
        ),
    ),
)

_GUARDRAILS = tuple(Query(f"churn_guardrail_{name}", name) for name in ("value", "low", "high", "limit"))


def _scoring_p99(arm: str = "arm") -> Query:
    buckets = f"sum by (le, {arm}) (rate(churn_release_scoring_seconds_bucket[{RATE}]))"
    return Query(f"histogram_quantile(0.99, {buckets})", f"{{{{{arm}}}}}")


CANARY = Dashboard(
    "churn-traffic",
    "Churn: traffic and canary",
    "Who answers whom, and how the arms of a release compare.",
    (
        (
            "Traffic",
            (
                lines(
                    "Predictions by model",
                    Query(
                        f"sum by (model_version, arm) (rate(predictions_total[{RATE}]))", "{{model_version}} {{arm}}"
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Predictions by status",
                    Query(f"sum by (status) (rate(churn_predictions_total[{RATE}]))", "{{status}}"),
                    unit="reqps",
                ),
                lines(
                    "Refused requests by cause",
                    Query(f"sum by (cause) (rate(churn_request_rejected_total[{RATE}])) > 0", "{{cause}}"),
                    unit="reqps",
                ),
            ),
        ),
        (
            "The release",
            (
                stat("Kind", "churn_release_kind == 1", "{{kind}}"),
                stat("Policy", "churn_release_policy_info == 1", "{{policy}}"),
                stat("Step", "churn_release_step"),
                stat("Steps", "churn_release_steps"),
                stat("Deadline", "churn_release_deadline_timestamp_seconds * 1000", unit="dateTimeFromNow"),
                stat("Rolled back", 'sum(churn_releases_ended_total{outcome="rolled_back"})'),
                lines(
                    "Share of each arm: set and real",
                    Query("max by (arm) (churn_release_arm_weight_ratio)", "{{arm}}, set"),
                    Query(
                        f"sum by (arm) (rate(churn_predictions_total[{RATE}])) "
                        f"/ scalar(sum(rate(churn_predictions_total[{RATE}])))",
                        "{{arm}}, real",
                    ),
                    unit="percentunit",
                    maximum=1.0,
                ),
                lines(
                    "Mean score by arm",
                    Query(
                        f"sum by (arm) (rate(churn_release_score_sum[{RATE}])) "
                        f"/ sum by (arm) (rate(churn_release_score_count[{RATE}]))",
                        "{{arm}}",
                    ),
                ),
                lines("Scoring time by arm, p99", _scoring_p99(), unit="s"),
            ),
        ),
        (
            "Guardrails",
            (
                table("Checks", *_GUARDRAILS, width=12),
                bars("Status of the checks", "churn_guardrail_status == 1", "{{arm}} {{check}}: {{status}}"),
                stat("Rows", "churn_release_rows_total", "{{arm}}"),
                lines(
                    "Errors by arm",
                    Query(f"sum by (arm) (rate(churn_release_errors_total[{RATE}]))", "{{arm}}"),
                    unit="reqps",
                ),
            ),
        ),
    ),
)

SHADOW = Dashboard(
    "churn-shadow",
    "Churn: shadow analysis",
    "A challenger that scores the champion's rows and answers nobody.",
    (
        (
            "The same rows by both models",
            (
                stat("Rows", "churn_release_pairs_total"),
                stat("Decided otherwise", "churn_release_flips_total / churn_release_pairs_total", unit="percentunit"),
                stat("Score, challenger minus champion", "churn_release_score_difference"),
                stat("Dropped", "churn_release_pairs_dropped_total", steps=((0.0, GOOD), (1.0, WARN))),
                stat(
                    "Errors of the challenger",
                    'churn_release_errors_total{arm="challenger"}',
                    steps=((0.0, GOOD), (1.0, BAD)),
                ),
                stat("Status", "churn_guardrail_status == 1", "{{check}}: {{status}}"),
            ),
        ),
        (
            "Scores and time",
            (
                bars("Scores up to ..., challenger", 'churn_release_score_bucket{arm="challenger"}', "{{le}}", width=8),
                bars("Scores up to ..., champion", 'churn_release_score_bucket{arm="champion"}', "{{le}}", width=8),
                lines("Scoring time, p99", _scoring_p99(), unit="s"),
            ),
        ),
        (
            "Guardrails",
            (table("Checks", *_GUARDRAILS, width=16), bars("Called rows", "churn_release_called_total", "{{arm}}")),
        ),
        (
            "The shadow's process",
            (
                lines(
                    "Rows by status",
                    Query(f"sum by (status) (rate(churn_shadow_rows_total[{RATE}]))", "{{status}}"),
                    Query(f"sum(rate(churn_shadow_dropped_total[{RATE}]))", "dropped"),
                    unit="reqps",
                ),
                bars("Load of a model", "churn_model_load_seconds", "{{model_version}}", unit="s"),
                bars("Memory of a model", "churn_model_memory_bytes", "{{model_version}}", unit="bytes"),
            ),
        ),
    ),
)


def _burn(name: str, budget: str, *windows: str) -> tuple[Query, ...]:
    return tuple(Query(f"churn:{name}_errors:ratio_rate{window} / {budget}", window) for window in windows)


SERVICE = Dashboard(
    "churn-service-slo",
    "Churn: service and loop",
    "99.9 % of the scoring requests do not fail by the service's fault, 99 % are answered within 100 ms, over 30 days.",
    (
        (
            "Objectives",
            (
                stat("Answering", 'up{job="churn-service"}', "{{instance}}", steps=((0.0, BAD), (1.0, GOOD))),
                stat("Availability, 1 day", "1 - churn:availability_errors:ratio_rate1d", unit="percentunit"),
                stat("Within 100 ms, 1 day", "1 - churn:latency_errors:ratio_rate1d", unit="percentunit"),
                lines(
                    "Burn of the budget of failures",
                    *_burn("availability", "0.001", "5m", "1h", "6h", "3d"),
                    description="1 spends the budget of 30 days in 30 days; from 14.4 over an hour somebody is paged.",
                    width=6,
                ),
                lines("Burn of the budget of slow answers", *_burn("latency", "0.01", "5m", "1h", "6h", "3d"), width=6),
            ),
        ),
        (
            "Latency",
            (
                lines(
                    "Predictions",
                    Query("churn:prediction_latency_seconds:p50_5m", "p50"),
                    Query("churn:prediction_latency_seconds:p99_5m", "p99"),
                    unit="s",
                ),
                lines(
                    "Group commits of the log, p99",
                    Query(
                        f"histogram_quantile(0.99, sum by (le) (rate(churn_log_commit_seconds_bucket[{RATE}])))", "p99"
                    ),
                    unit="s",
                ),
                lines(
                    "The dashboard, p99",
                    Query(
                        f"histogram_quantile(0.99, sum by (le) (rate(churn_dashboard_request_seconds_bucket[{RATE}])))",
                        "p99",
                    ),
                    unit="s",
                ),
            ),
        ),
        (
            "The loop",
            (
                stat("Stuck parts", "sum(max by (check) (churn_loop_overdue))", steps=_YES),
                stat("Ingest lag", "churn_ingest_lag_seconds", unit="s", steps=((0.0, GOOD), (7200.0, WARN))),
                stat("Segments waiting", "churn_ingest_waiting_segments"),
                stat(
                    "Newest prediction", "churn_log_newest_prediction_timestamp_seconds * 1000", unit="dateTimeFromNow"
                ),
                stat("Open alerts", "sum(churn_alerts_open)", steps=((0.0, GOOD), (1.0, WARN))),
                stat("Undelivered messages", "sum(churn_alert_messages)", steps=((0.0, GOOD), (1.0, BAD))),
                bars("Open alerts by kind", "churn_alerts_open > 0", "{{kind}}"),
                bars("Parts of the home that can be read", "churn_home_part_readable", "{{part}}"),
                lines("Rows that wait for the disk", Query("churn_log_queue", "{{instance}}")),
            ),
        ),
    ),
)

DASHBOARDS = (PERFORMANCE, DRIFT, CANARY, SHADOW, SERVICE)


def build(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    variable = {
        "name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0,
        "current": {"text": "Prometheus", "value": "prometheus"},
    }  # fmt: skip
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["churn"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [variable]},
        "panels": list(_panels(dashboard)),
    }


def write(folder: Path = HERE) -> list[Path]:
    """Write every dashboard; the files."""
    paths = []
    for dashboard in DASHBOARDS:
        path = folder / f"{dashboard.uid}.json"
        path.write_text(json.dumps(build(dashboard), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Rows with their panels, placed from left to right and from top to bottom."""
    number, y = 0, 0
    for title, panels in dashboard.rows:
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, COLUMNS, 1)}
        x, y, height = 0, y + 1, 0
        for panel in panels:
            number += 1
            own = HEIGHT // 2 if panel.kind == "stat" else HEIGHT
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            yield _panel(panel, number, _place(x, y, panel.width, own))
            x, height = x + panel.width, max(height, own)
        y += height


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"color": color, "value": None if at == panel.steps[0][0] else at} for at, color in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps or [{"color": GOOD, "value": None}]},
    }
    if panel.maximum is not None:
        defaults |= {"min": 0, "max": panel.maximum}
    if panel.stacked:
        defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 20}
    value: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "gridPos": place,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            _target(query, letter, panel.kind) for query, letter in zip(panel.queries, "ABCDEFGH", strict=False)
        ],
    }
    if panel.description:
        value["description"] = panel.description
    if panel.kind == "table":
        value["transformations"] = _joined([query.legend for query in panel.queries])
    return value


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    reduce = {"values": False, "calcs": ["lastNotNull"], "fields": ""}
    if panel.kind == "stat":
        named = "{{" in panel.queries[0].legend
        return {"reduceOptions": reduce, "textMode": "value_and_name" if named else "value", "colorMode": "value"}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
    return {"showHeader": True}


def _target(query: Query, letter: str, kind: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
        "format": "table" if kind == "table" else "time_series",
    }


def _joined(names: Sequence[str]) -> list[dict[str, Any]]:
    """The queries of a table as its columns, and no labels but those that tell its rows apart."""
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job"), True)
    columns = {f"Value #{letter}": name for letter, name in zip("ABCDEFGH", names, strict=False)}
    if len(names) == 1:
        columns = {"Value": names[0]}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": columns}},
    ]


if __name__ == "__main__":
    for written in write():
        print(written)
