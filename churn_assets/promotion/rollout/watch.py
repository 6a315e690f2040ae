"""The watch over a release outside of the service: by the loop, and by `churn release watch`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from churn_assets.errors import ChurnError
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.promotion.rollout.guard import ReleaseGuard

_LOGGER = logging.getLogger(__name__)


class ReleaseWatch:
    """The one guard of a release (`promotion.rollout.guard`), whose moves are the loop's; kept from look to look."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings, self._clock = settings, clock
        self._guard: ReleaseGuard | None = None

    def check(self) -> str:
        """Let the policy follow the champion, judge the release that runs, and move it; what was done, or why nothing
        was."""
        from churn_assets.release.policy import read_policy

        try:
            policy = read_policy(self._settings.home)  # a small file: nothing else is imported while no release runs
            if policy is None or policy.kind == "champion":
                return "no release runs"
            return self._judge()
        except (ChurnError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _judge(self) -> str:
        from churn_assets.promotion.releases import LOOP, Releases
        from churn_assets.promotion.rollout.guard import ReleaseGuard

        Releases.of(self._settings).recover()
        if self._guard is None:
            self._guard = ReleaseGuard(self._settings, _report, by=LOOP, clock=self._clock)
        return self._guard.check()


def _report(level: int, event: str, **facts: object) -> None:
    """As the service's `log_event`, into the log of the loop."""
    _LOGGER.log(level, "%s: %s", event, "; ".join(f"{name} {value}" for name, value in facts.items()))
