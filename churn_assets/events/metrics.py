"""The relay's report as metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from churn_assets.events.status import RelayStatus

_GAUGES = (
    ("churn_relay_lag_bytes", "Bytes of the log that are not relayed.", "lag_bytes"),
    ("churn_relay_lag_rows", "About how many rows these are.", "lag_rows"),
    ("churn_relay_lag_seconds", "Age of the oldest row that is not relayed; 0 if there is none.", "lag_s"),
)
_COUNTERS = (
    ("churn_relay_transactions", "Transactions that were committed.", "transactions"),
    ("churn_relay_failures", "Transactions and connections that failed.", "failed"),
    ("churn_relay_connections", "Connections to the broker; each after the first is a retry.", "connections"),
    ("churn_relay_skipped_rows", "Rows of which no message can be made.", "skipped"),
    ("churn_relay_lost_segments", "Segments that were deleted before they were relayed.", "lost_segments"),
)


class RelayCollector(Collector):
    """The metrics of one report, taken when it is asked."""

    def __init__(self, read: Callable[[], RelayStatus]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Every metric of the relay."""
        return relay_metrics(self._read())


def relay_metrics(status: RelayStatus) -> list[Metric]:
    """The metrics of a report."""
    metrics: list[Metric] = [GaugeMetricFamily(name, text, getattr(status, field)) for name, text, field in _GAUGES]
    metrics.append(GaugeMetricFamily("churn_relay_up", "1 while the broker takes events.", float(not status.problem)))
    at = GaugeMetricFamily("churn_relay_report_timestamp_seconds", "When it reported last.", status.at.timestamp())
    produced = CounterMetricFamily("churn_relay_produced", "Messages that were committed.", labels=["topic"])
    for topic, number in status.produced.items():
        produced.add_metric([topic], number)
    metrics += [at, produced]
    return metrics + [CounterMetricFamily(name, text, getattr(status, field)) for name, text, field in _COUNTERS]
