"""The dashboard's metrics for Prometheus. A route is a label by its pattern, so that no client can add a series."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEANINGS = {
    "churn_dashboard_requests_total": "Requests by the pattern of their path, and status; `other` is no path of ours.",
    "churn_dashboard_request_seconds": "From the head of a request to the end of its response.",
    "churn_dashboard_sessions": "People who are signed in.",
}
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class DashboardMetrics:
    """Counts every request of an application; `sessions` says how many people are signed in."""

    def __init__(self, sessions: Callable[[], int]) -> None:
        import prometheus_client as prometheus

        def named(name: str) -> tuple[str, str]:
            return name, MEANINGS[name]

        self._registry = registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            *named("churn_dashboard_requests_total"), ("route", "code"), registry=registry
        )
        self._seconds = prometheus.Histogram(
            *named("churn_dashboard_request_seconds"), ("route",), buckets=BUCKETS, registry=registry
        )
        prometheus.Gauge(*named("churn_dashboard_sessions"), registry=registry).set_function(sessions)

    def watch(self, app: ASGIApp) -> ASGIApp:
        """The same application, with its requests counted."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, started = 500, time.perf_counter()

            async def with_status(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, with_status)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                self._requests.labels(route, str(status)).inc()
                self._seconds.labels(route).observe(time.perf_counter() - started)

        return watched

    def exposition(self) -> tuple[bytes, str]:
        """(text, content type)."""
        import prometheus_client as prometheus

        return prometheus.generate_latest(self._registry), prometheus.CONTENT_TYPE_LATEST
