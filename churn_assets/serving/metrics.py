"""The metrics for Prometheus. Label values are from closed lists, so that no client can add a series.

Each worker writes its own files, see `metric_files`, and any of them answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import psutil

from churn_assets.serving.metric_files import VARIABLE, MetricFiles
from churn_assets.serving.routing.metrics import ModelMetrics

if TYPE_CHECKING:
    from prometheus_client import Metric

SCORE_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
LATENCY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
COMMIT_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)
CAUSES = (
    "busy", "conflict", "connections", "content_type", "contract", "disk", "head", "home", "http", "internal", "json",
    "key", "memory", "method", "no_model", "path", "rate", "rows", "scope", "size", "slow_body", "slow_head", "version",
)  # fmt: skip
OTHER = "other"
MEANINGS = {
    "churn_predictions_total": "Predictions by model, arm and status: ok, rejected, or fallback of a challenger's row.",
    "churn_prediction_latency_seconds": "From a request's headers to its answer, log included.",
    "churn_explanations_total": "Explanations by kind and status: ok, or rejected.",
    "churn_explanation_seconds": "From an explanation's request to its answer, the queue included.",
    "churn_shadow_rows_total": "Rows that a shadow was given, by status: ok, refused, or error.",
    "churn_shadow_dropped_total": "Answered rows that no shadow has scored: too many waited, or its process died.",
    "churn_score": "Calibrated probabilities that were given.",
    "churn_request_rejected_total": "Refused requests by cause.",
    "churn_log_commit_seconds": "One group commit of the prediction log.",
    "churn_log_queue": "Rows that wait for the disk, all workers.",
    "churn_model_info": "1 for a model that answers, by its arm.",
    "churn_model_load_seconds": "What a worker, or its shadow process, took to load a model; 0 once it is unloaded.",
    "churn_model_memory_bytes": "What a worker, or its shadow process, grew by in the load of a model; 0 without it.",
    "churn_release_policy_info": "1 for the routing policy that answers.",
    "churn_model_swaps_total": "Times a worker took another model while answering.",
    "churn_model_refused_total": "Bundles that a worker refused to load.",
    "churn_loop_overdue": "1 for a part of the loop that is stuck, by the kind of its alert.",
    "churn_input_warnings_total": "Warnings by column: outside the training range, a rule broken, a stale as_of.",
}


class Metrics:
    """The metrics of one worker. Made once a process, after BentoML has named PROMETHEUS_MULTIPROC_DIR. A series that
    has no room on a full disk is not counted until it has."""

    def __init__(self) -> None:
        self._files = MetricFiles(os.environ)
        if self._files.folder is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = str(self._files.folder)
        import prometheus_client as prometheus  # reads the variable when it is imported, and for each metric

        _forget_killed_workers(self._files)
        self._registry = registry = prometheus.CollectorRegistry()

        def make(kind: Any, name: str, labels: tuple[str, ...] = (), **options: Any) -> Any:
            return kind(name, MEANINGS[name], labels, registry=registry, **options)

        def observer(name: str, buckets: tuple[float, ...]) -> Callable[[float], None]:
            observe: Callable[[float], None] = make(prometheus.Histogram, name, buckets=buckets).observe
            return observe

        counter, gauge = prometheus.Counter, prometheus.Gauge
        self._predictions = make(counter, "churn_predictions_total", ("model_version", "arm", "status"))
        self._rejected = make(counter, "churn_request_rejected_total", ("cause",))
        self._warnings = make(counter, "churn_input_warnings_total", ("column",))
        self.models = ModelMetrics(make, lambda: self._files.reserve("gauge_livemax"))
        self._queue = make(gauge, "churn_log_queue", multiprocess_mode="livesum")
        self._loop = make(gauge, "churn_loop_overdue", ("check",), multiprocess_mode="livemax")
        self.score = observer("churn_score", SCORE_BUCKETS)
        timed = ("churn_prediction_latency_seconds", "churn_explanation_seconds")
        self.latency, self.explanation_latency = (observer(name, LATENCY_BUCKETS) for name in timed)
        self._explanations = make(counter, "churn_explanations_total", ("kind", "status"))
        self._shadow_rows = make(counter, "churn_shadow_rows_total", ("status",))
        self._shadow_dropped = make(counter, "churn_shadow_dropped_total")
        self._commit = observer("churn_log_commit_seconds", COMMIT_BUCKETS)
        # Finding a child by its labels costs as much as counting.
        self._counted: dict[tuple[str, str, str], Callable[[float], None]] = {}
        self._warned: dict[str, Callable[[], None]] = {}
        self._columns: frozenset[str] = frozenset()
        self.causes = {cause: self._rejected.labels(cause) for cause in CAUSES}

    def predicted(self, version: str, arm: str, status: str, rows: int = 1) -> None:
        """Count predictions of a model."""
        known = self._counted.get((version, arm, status))
        if known is None:
            if not self._files.reserve("counter"):
                return
            known = self._counted[version, arm, status] = self._predictions.labels(version, arm, status).inc
        known(rows)

    def rejected(self, cause: str) -> None:
        """Count a refused request."""
        self.causes[cause if cause in self.causes else "internal"].inc()

    def explained(self, kind: str, status: str) -> None:
        """Count an explanation; `kind` and `status` are from closed lists."""
        if self._files.reserve("counter"):
            self._explanations.labels(kind, status).inc()

    def shadowed(self, status: str, rows: int) -> None:
        """Count rows of a shadow; `status` is from a closed list, and "dropped" has a metric of its own."""
        if status == "dropped":
            self._shadow_dropped.inc(rows)
        elif self._files.reserve("counter"):
            self._shadow_rows.labels(status).inc(rows)

    def shadow_loaded(self, version: str, seconds: float, memory: int) -> None:
        """Record what the challenger's load took in the shadow process; 0 once that has ended."""
        self.models.shadow_loaded(version, seconds, memory)

    def warned(self, column: str) -> None:
        """Count a warning; columns of no contract are counted together."""
        known = self._warned.get(column)
        if known is None:
            if not self._files.reserve("counter"):
                return
            name = column if column in self._columns else OTHER
            known = self._warnings.labels(name).inc
            if name is column:
                self._warned[column] = known
        known()

    def committed(self, seconds: float, waiting: int) -> None:
        """Record a group commit, and how many rows wait after it."""
        self._commit(seconds)
        self._queue.set(waiting)

    def know_columns(self, columns: frozenset[str]) -> None:
        """Columns that warnings may name."""
        self._columns |= columns

    def loop(self, overdue: Mapping[str, bool]) -> None:
        """Record which parts of the loop are stuck."""
        for check, is_overdue in overdue.items():
            self._loop.labels(check).set(is_overdue)

    def exposition(self) -> tuple[bytes, str]:
        """(text, content type): all workers' metrics if there are several, else this process's."""
        import prometheus_client as prometheus

        registry = self._registry
        if self._files.folder is not None:
            registry = prometheus.CollectorRegistry()
            registry.register(_OfAllWorkers(self._files))
        return prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST


class _OfAllWorkers:
    """Prometheus' own collector of several processes reads one folder."""

    def __init__(self, files: MetricFiles) -> None:
        self._files = files

    def collect(self) -> Iterable[Metric]:
        """The sums."""
        from prometheus_client.multiprocess import MultiProcessCollector

        paths = map(str, self._files.of_workers())
        metrics: Iterable[Metric] = MultiProcessCollector.merge(paths, accumulate=True)  # type: ignore[no-untyped-call]
        return metrics


def _forget_killed_workers(files: MetricFiles) -> None:
    """Remove the gauges of killed workers from the sum; their counters stay."""
    for path in files.of_workers():
        pid = path.stem.rpartition("_")[2]
        if path.name.startswith("gauge_live") and pid.isdigit() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)
