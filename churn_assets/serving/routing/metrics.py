"""The metrics of the models of a worker and of its policy. Label values come from bundles and the policy file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from churn_assets.serving.routing.router import Router


class ModelMetrics:
    """`make(kind, name, labels)` makes a metric, `has_room` says whether one more series of a gauge has room."""

    def __init__(self, make: Callable[..., Any], has_room: Callable[[], bool]) -> None:
        from prometheus_client import Counter, Gauge

        def gauge(name: str, *labels: str) -> Any:
            return make(Gauge, name, labels, multiprocess_mode="livemax")

        self._has_room = has_room
        self._info = gauge("churn_model_info", "model_version", "contract", "kind", "arm")
        self._seconds = gauge("churn_model_load_seconds", "model_version")
        self._memory = gauge("churn_model_memory_bytes", "model_version")
        self._policy = gauge("churn_release_policy_info", "policy", "kind")
        self._swaps = make(Counter, "churn_model_swaps_total")
        self.refused: Callable[[], None] = make(Counter, "churn_model_refused_total").inc
        self._shown: dict[tuple[Any, tuple[str, ...]], Any] = {}  # gauges of the models and of the policy in use
        self._champion: object = None
        self._costs: dict[str, tuple[float, int]] = {}  # of the worker's own models
        self._shadow_costs: dict[str, tuple[float, int]] = {}

    def routed(self, router: Router) -> None:
        """Record which models answer now, by arm, and by which policy. What answered before gets 0."""
        champion, policy = router.champion, router.policy
        kind = champion.policy if policy is None else policy.kind
        series: list[tuple[Any, tuple[str, ...]]] = [(self._policy, (champion.policy, kind))]
        for arm in router.arms.values() or [champion]:
            model = arm.model
            series.append((self._info, (model.scorer.version, model.contract.name, model.scorer.model.kind, arm.name)))
        shown = {key: key[0].labels(*key[1]) for key in series if key in self._shown or self._has_room()}
        for key in self._shown.keys() - shown.keys():
            self._shown[key].set(0)
        for gauge in shown.values():
            gauge.set(1)
        self._shown = shown
        if self._champion is not None and self._champion is not champion.model:
            self._swaps.inc()
        self._champion = champion.model

    def loaded(self, version: str, seconds: float, memory: int) -> None:
        """Record what the load of a model took and how many bytes the process grew by; 0 once it is unloaded."""
        self._record(self._costs, version, seconds, memory)

    def shadow_loaded(self, version: str, seconds: float, memory: int) -> None:
        """The same of a model in the shadow process. A model that the worker has too is shown as the worker's."""
        self._record(self._shadow_costs, version, seconds, memory)

    def _record(self, costs: dict[str, tuple[float, int]], version: str, seconds: float, memory: int) -> None:
        if seconds:
            costs[version] = seconds, memory
        else:
            costs.pop(version, None)
        shown = self._costs.get(version) or self._shadow_costs.get(version) or (0.0, 0)
        for metric, value in zip((self._seconds, self._memory), shown, strict=True):
            if self._has_room():
                metric.labels(version).set(value)
