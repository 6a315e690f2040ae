"""A thread that prepares the pages for each new copy of the log, so that no visitor waits for it.

While somebody looks, a new copy counts within a second and the time that its questions take; while nobody does, every
few minutes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Mapping

from churn_assets.dashboard.pages.overview import read_overview
from churn_assets.dashboard.pages.registry import PAGES
from churn_assets.dashboard.sources import Sources
from churn_assets.prediction_log.warehouse.published import stamp_of

LOGGER = "churn.dashboard"
EVERY_S = 1.0  # between two looks at the copy
WATCHED_S = 120.0  # after a question somebody looks
IDLE_S = 300.0  # between two copies that are prepared while nobody looks
# Beside the pages without parameters. The two models that `/compare` begins with cost a bootstrap, once.
_ALSO: Mapping[str, tuple[Mapping[str, str], ...]] = {"/monitoring": ({"days": "1"}, {"days": "30"}), "/compare": ({},)}


class LogFollower:
    """Follows the copy of one home's log for `sources`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._prepared_s = -IDLE_S
        self._prepared: Hashable = None  # the stamp of the copy for which the pages were prepared last
        self._logger = logging.getLogger(LOGGER)
        sources.log.is_followed = True

    def start(self) -> None:
        """Read the first page, so that whoever comes first does not wait; then follow in a thread of its own that ends
        with the process."""
        try:
            read_overview(self._sources, {})
        except Exception as error:  # as `_follow`
            self._logger.error("the first page could not be prepared", exc_info=error)
        threading.Thread(target=self._follow, name="log-follower", daemon=True).start()

    def step(self, now_s: float) -> bool:
        """Hand over a new copy once the pages are prepared; whether there was one to prepare now."""
        log = self._sources.log
        is_due = now_s - log.asked_s < WATCHED_S or now_s - self._prepared_s >= IDLE_S
        if not is_due or stamp_of(log.path) == self._prepared:
            return False
        self._prepared_s = now_s
        fresh = self._sources.on_another_log()
        for page in PAGES:
            for parameters in (*(({},) if page.needs_nothing else ()), *_ALSO.get(page.path, ())):
                page.read(fresh, parameters)
        self._prepared = fresh.log.stamp
        log.take_over(fresh.log)  # of a copy that cannot be opened there is none: the next question says why
        return True

    def _follow(self) -> None:
        while True:
            try:
                self.step(time.monotonic())
            except Exception as error:  # a mistake of a page is not the end: its visitor is told of it
                self._logger.error("the pages could not be prepared", exc_info=error)
                self._sources.log.is_followed = False
                return
            time.sleep(EVERY_S)
