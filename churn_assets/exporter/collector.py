"""One collection: every part of a home is read by itself, so that a damaged file takes away its own figures only."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from churn_assets.errors import ChurnError, one_line
from churn_assets.exporter.metrics import Samples
from churn_assets.exporter.monitoring import WindowHistory, read_performance_part, read_windows_part
from churn_assets.exporter.operation import read_alerts_part, read_daemon_part, read_log_part
from churn_assets.exporter.release import read_champion_part, read_decisions_part, read_release_part
from churn_assets.prediction_log.warehouse.published import PublishedLog
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector

Part = Callable[[Samples], None]

log = logging.getLogger("churn.metrics")


class HomeCollector:
    """What Prometheus' client calls for each scrape; `clock` is UTC. One collection at a time."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._settings, self._environ, self._clock = settings, environ, clock
        self._log, self._history = PublishedLog(settings), WindowHistory(settings)
        self._lock = threading.Lock()
        self._problems: dict[str, str] = {}

    def collect(self) -> Iterator[Metric]:
        """The families of all parts."""
        with self._lock:
            samples = self._samples()
        yield from samples.families()

    def _samples(self) -> Samples:
        samples = Samples()
        for name, part in self._parts().items():
            started = time.perf_counter()
            problem = _problem_of(part, samples)
            samples.set("churn_home_part_readable", not problem, part=name)
            samples.set("churn_home_part_read_seconds", time.perf_counter() - started, part=name)
            if problem and problem != self._problems.get(name):
                log.warning("%s: %s", name, problem)
            self._problems[name] = problem
        return samples

    def _parts(self) -> Mapping[str, Part]:
        settings, now = self._settings, self._clock()
        return {
            "champion": partial(read_champion_part, settings),
            "release": partial(read_release_part, settings),
            "decisions": partial(read_decisions_part, settings),
            "windows": partial(read_windows_part, settings, self._history),
            "performance": partial(read_performance_part, settings),
            "log": partial(read_log_part, settings, self._log, now),
            "alerts": partial(read_alerts_part, settings, self._environ),
            "daemon": partial(read_daemon_part, settings, now),
        }


def exposition(collector: Collector) -> tuple[bytes, str]:
    """(text, content type) of one collection."""
    import prometheus_client as prometheus

    registry = prometheus.CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST


def _problem_of(part: Part, samples: Samples) -> str:
    """Why a part could not be read, "" if it was."""
    try:
        part(samples)
    except (ChurnError, OSError, msgspec.MsgspecError) as error:
        return one_line(error, 300)
    return ""
