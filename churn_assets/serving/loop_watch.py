"""The service's look at the loop: whether Dagster's daemon, its ingest, monitoring, retraining and gate are stuck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from churn_assets.settings import Settings

WATCH_S = 60.0  # between two looks; some stats of files and one query of the ledger


class LoopWatch:
    """Looks at a home from time to time. What is overdue twice in a row is `note`, and an alert.

    Twice, because after a loss of power the service may be back some seconds before the daemon. A home in which no
    daemon has ever run, or none shall run any more (`daemon.json` was removed), is left alone, and its alerts end.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        on_check: Callable[[Mapping[str, bool]], None] = lambda overdue: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._environ, self._on_check, self._clock = settings, environ, on_check, clock
        self._before: frozenset[str] = frozenset()
        self.note = ""

    def check(self) -> None:
        """Look once; alerts are raised and ended, and the metrics are told."""
        from churn_assets.alerting import watchdog
        from churn_assets.promotion.heartbeat import read_heartbeat

        now = self._clock()
        if read_heartbeat(self._settings) is None:
            self._before, self.note = frozenset(), ""
            self._on_check(dict.fromkeys(watchdog.NAMES, False))
            watchdog.end_all(self._settings, self._environ, now)
            return
        checks = watchdog.check_loop(self._settings, now)
        overdue = frozenset(check.name for check in checks if check.status == "overdue")
        lasting = [check for check in checks if check.status != "overdue" or check.name in self._before]
        self._before = overdue
        late: dict[str, bool] = {check.name: check.status == "overdue" for check in lasting}
        self.note = ", ".join(name for name, is_late in late.items() if is_late)
        self._on_check(late)
        watchdog.tell(self._settings, self._environ, lasting, now)
