"""Every metric of the loop: its name, kind, labels and meaning, and the samples of one collection.

Labels have values from closed lists, from the contract (columns) or from the policy (at most eight arms), so that
neither a client nor the passing of time adds series without an end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import Metric

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True)
class Definition:
    """A metric: a gauge's and a histogram's name is that of its series, a counter's ends in `_total`."""

    kind: Kind
    labels: tuple[str, ...]
    meaning: str


def _gauge(meaning: str, *labels: str) -> Definition:
    return Definition("gauge", labels, meaning)


def _counter(meaning: str, *labels: str) -> Definition:
    return Definition("counter", labels, meaning)


METRICS: Mapping[str, Definition] = {
    # The process itself.
    "churn_home_part_readable": _gauge("1 for a part of the home that could be read, else 0.", "part"),
    "churn_home_part_read_seconds": _gauge("What reading a part of the home took.", "part"),
    # The champion and the release.
    "churn_champion_info": _gauge("1 for the champion.", "model_version"),
    "churn_champion_since_timestamp_seconds": _gauge("When the champion became it."),
    "churn_champion_moves_total": _counter("Moves of the champion that were done.", "kind"),
    "churn_release_kind": _gauge("1 for the kind of the policy in force.", "kind"),
    "churn_release_arm_weight_ratio": _gauge("Share of the customers that an arm answers.", "arm", "model_version"),
    "churn_release_step": _gauge("The step of a canary, counted from 1; 0 without steps."),
    "churn_release_steps": _gauge("Steps of the canary; 0 without."),
    "churn_release_deadline_timestamp_seconds": _gauge("When the release ends without a conclusion."),
    "churn_release_rows_total": _counter("Rows that an arm has scored under the policy in force.", "arm"),
    "churn_release_errors_total": _counter("Rows that an arm could not score.", "arm"),
    "churn_release_refused_total": _counter("Rows that break an arm's contract.", "arm"),
    "churn_release_warned_total": _counter("Scored rows with a warning.", "arm"),
    "churn_release_called_total": _counter("Scored rows over the threshold of the arm's model.", "arm"),
    "churn_release_score": Definition("histogram", ("arm",), "Probabilities that an arm has given."),
    "churn_release_scoring_seconds": Definition("histogram", ("arm",), "Scoring times of rows that came alone."),
    "churn_release_pairs_total": _counter("Rows that champion and shadow have both scored."),
    "churn_release_flips_total": _counter("Of these, rows that one calls and the other does not."),
    "churn_release_pairs_dropped_total": _counter("Answered rows that found the shadow's queue full."),
    "churn_release_score_difference": _gauge("Mean of challenger minus champion over these pairs."),
    "churn_guardrail_value": _gauge("What a check of the release measures, in its unit.", "check", "arm"),
    "churn_guardrail_low": _gauge("Lower end of its interval.", "check", "arm"),
    "churn_guardrail_high": _gauge("Upper end of its interval.", "check", "arm"),
    "churn_guardrail_limit": _gauge("Its limit.", "check", "arm"),
    "churn_guardrail_status": _gauge("1 for the status of the check.", "check", "arm", "status"),
    "churn_releases_ended_total": _counter("Releases that have ended, by outcome and who ended them.", "outcome", "by"),
    # Decisions, requests and the gate.
    "churn_decisions_total": _counter("Decisions about retraining.", "kind", "trigger"),
    "churn_retraining_requests": _gauge("Retrainings that were asked for, by status.", "status"),
    "churn_challengers": _gauge("Challengers by status: what the gate and people made of them.", "status"),
    "churn_approvals_waiting": _gauge("Challengers that wait for a person."),
    "churn_approval_waiting_since_timestamp_seconds": _gauge("Since when the first of them waits."),
    "churn_gate_check_passed": _gauge("Whether the newest verdict of the gate passed a check.", "check"),
    "churn_gate_check_value": _gauge("The value of that check.", "check"),
    "churn_gate_check_limit": _gauge("Its limit.", "check"),
    # Windows.
    "churn_windows_total": _counter("Closed windows by data quality and drift when reported.", "quality", "drift"),
    "churn_drift_detected_total": _counter("Windows in which a column drifted.", "column"),
    "churn_outlier_rows_total": _counter("Rows that the outlier detector of the windows has flagged."),
    "churn_window": _gauge("Number of the newest window with a drift report."),
    "churn_window_end_timestamp_seconds": _gauge("When its last row was scored."),
    "churn_window_customers": _gauge("Its customers."),
    "churn_window_quality": _gauge("1 for the status of its data.", "status"),
    "churn_window_drift": _gauge("1 for the status of its drift.", "status"),
    "churn_window_findings": _gauge("Findings about its data.", "check", "blocks"),
    "churn_window_missing_ratio": _gauge("Share of missing values.", "column"),
    "churn_window_outlier_ratio": _gauge("Share of its rows that the outlier detector flags."),
    "churn_window_score_mean": _gauge("Mean of its scores."),
    "churn_window_positive_ratio": _gauge("Share of its customers over the threshold."),
    "churn_drift_effect": _gauge("Distance of a column of it from the training data.", "column", "measure"),
    "churn_drift_psi": _gauge("Population stability index of the column.", "column"),
    "churn_drift_column": _gauge("1 for a column that drifts by the rule of the contract.", "column"),
    "churn_drift_effect_limit": _gauge("The effect from which a significant difference counts as drift."),
    "churn_open_window_customers": _gauge("Customers in the window that is not closed yet."),
    "churn_open_window_wanted_customers": _gauge("Customers at which it closes; 0 where it closes by days."),
    "churn_report_timestamp_seconds": _gauge("When a report of monitoring was written last.", "report"),
    # Performance and labels.
    "churn_labels": _gauge("Predictions by the state of their label.", "state"),
    "churn_labels_new": _gauge("Final labels that the champion was not trained on."),
    "churn_pr_auc": _gauge("PR-AUC: matured, of the newest period with labels; estimated; of the card.", "basis"),
    "churn_pr_auc_low": _gauge("Lower end of its 95 % interval.", "basis"),
    "churn_pr_auc_high": _gauge("Upper end of its 95 % interval.", "basis"),
    "churn_roc_auc": _gauge("ROC-AUC of the same periods.", "basis"),
    "churn_roc_auc_low": _gauge("Lower end of its 95 % interval.", "basis"),
    "churn_roc_auc_high": _gauge("Upper end of its 95 % interval.", "basis"),
    "churn_log_loss": _gauge("Log-loss of the same periods.", "basis"),
    "churn_log_loss_low": _gauge("Lower end of its 95 % interval.", "basis"),
    "churn_log_loss_high": _gauge("Upper end of its 95 % interval.", "basis"),
    "churn_performance_customers": _gauge("Customers that the figures are of.", "basis"),
    "churn_performance_dropped": _gauge("1 where labels show a fall beyond noise and the contract's limit."),
    # The log and its ingest.
    "churn_log_rows": _gauge("Rows of the published log.", "kind"),
    "churn_log_newest_prediction_timestamp_seconds": _gauge("When the newest of its predictions was made."),
    "churn_log_newest_label_timestamp_seconds": _gauge("When the newest of its outcomes was received."),
    "churn_ingest_timestamp_seconds": _gauge("When a segment was ingested last."),
    "churn_ingest_waiting_segments": _gauge("Complete segments that were not ingested yet."),
    "churn_ingest_waiting_bytes": _gauge("Their size."),
    "churn_ingest_lag_seconds": _gauge("For how long the oldest of them has waited; 0 without one."),
    # Alerts of the loop.
    "churn_alerts_open": _gauge("Open alerts of the loop.", "kind"),
    "churn_alerts_raised_total": _counter("Alerts that the loop has raised, events among them.", "kind"),
    "churn_alert_messages": _gauge("Messages about alerts that a destination has not taken.", "state"),
    "churn_alert_destinations": _gauge("Destinations of alerts in the settings of this process."),
    # The daemon.
    "churn_daemon_start_timestamp_seconds": _gauge("Since when Dagster's daemon has run without a gap."),
    "churn_daemon_tick_timestamp_seconds": _gauge("When its sensors were evaluated last."),
    "churn_loop_overdue": _gauge("1 for a part of the loop that is stuck, by the kind of its alert.", "check"),
}


class Samples:
    """The samples of one collection. A value of None or NaN is left out."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], tuple[Sequence[tuple[str, float]], float | None]]] = {}

    def set(self, name: str, value: float | datetime | None, **labels: str) -> None:
        """Record a gauge or a counter; an instant as seconds since 1970. Raises KeyError for labels that the
        metric does not have."""
        number = value.timestamp() if isinstance(value, datetime) else value
        if number is not None and not math.isnan(number):
            self._values.setdefault(name, {})[_key(name, labels)] = float(number)

    def add(self, name: str, value: float, **labels: str) -> None:
        """Add to what was recorded."""
        known = self._values.setdefault(name, {})
        key = _key(name, labels)
        known[key] = known.get(key, 0.0) + value

    def one_of(self, name: str, label: str, values: Sequence[str], value: str | None, **labels: str) -> None:
        """Record 1 for the value of `label` that holds, and 0 for each other of the closed list."""
        for each in values:
            self.set(name, float(each == value), **labels, **{label: each})

    def histogram(self, name: str, buckets: Sequence[tuple[str, float]], total: float | None, **labels: str) -> None:
        """Record counts up to each upper end, the last being +Inf, and the sum if it is known."""
        self._histograms.setdefault(name, {})[_key(name, labels)] = buckets, total

    def families(self) -> Iterator[Metric]:
        """What Prometheus' client writes, in the order of the definitions."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, definition in METRICS.items():
            if definition.kind == "histogram":
                histogram = HistogramMetricFamily(name, definition.meaning, labels=definition.labels)
                for key, (buckets, total) in self._histograms.get(name, {}).items():
                    histogram.add_metric(key, buckets, sum_value=total)
                if histogram.samples:
                    yield histogram
                continue
            make = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
            metric = make(name, definition.meaning, labels=definition.labels)
            for key, value in self._values.get(name, {}).items():
                metric.add_metric(key, value)
            if metric.samples:
                yield metric


def _key(name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    known = METRICS[name].labels
    if labels.keys() != {*known}:
        raise KeyError(f"{name} has the labels {known}, not {tuple(labels)}")
    return tuple(labels[label] for label in known)
