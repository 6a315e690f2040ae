"""One worker of the service: its model, its log, its metrics, and what happens from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
from collections import Counter
from collections.abc import Coroutine, Mapping
from pathlib import Path

from churn_assets.errors import LogError
from churn_assets.prediction_log.records import Rejections, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.writer import LogWriter
from churn_assets.serving.logs import make_logger, tell
from churn_assets.serving.metrics import Metrics
from churn_assets.serving.model import Models, Served, find_bundle
from churn_assets.serving.router import Router
from churn_assets.serving.settings import ServingSettings
from churn_assets.settings import Settings

REPORT_S = 10.0  # how often refusals are summed up in log and prediction log


class Core:
    """What a worker holds. `start` and `stop` run in its event loop."""

    def __init__(self, settings: ServingSettings, environ: Mapping[str, str], beside: Path | None = None) -> None:
        self.settings = settings
        self.logger = make_logger(settings.level)
        self.metrics = Metrics()
        home = Settings.from_environ(environ)
        self.home = home.home
        self.models = Models(lambda: find_bundle(environ, beside), told=self._took, home=self.home)
        self.router = Router(self.models)
        segment = Segment(home.predlog_dir, settings.log_segment_bytes, settings.log_segment_s)
        self.log: LogWriter | None = None
        if settings.log:
            patience_s = settings.timeout_s / 2  # a hanging disk is told of in our shape, not by BentoML's 504
            self.log = LogWriter(segment, settings.log_queue_rows, observe=self._committed, patience_s=patience_s)
        self._causes: Counter[str] = Counter()
        self._since = dt.datetime.now(dt.UTC)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the log, load the model if there is one, and watch for the next."""
        if self.log is not None:
            self.log.start()
        await asyncio.to_thread(self._look)
        if self.models.current is None:
            tell(self.logger, logging.WARNING, "no model", why=self.models.missing)
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._report())]

    def watch(self, what: Coroutine[None, None, None]) -> None:
        """Run one more task until the worker stops."""
        self._tasks.append(asyncio.create_task(what))

    async def stop(self) -> None:
        """Put on disk what was accepted, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sum_up()
        if self.log is not None:
            await self.log.close()
        tell(self.logger, logging.INFO, "stopped")

    def rejected(self, cause: str) -> None:
        """Count a refused request, in metrics and for the next summary."""
        self.metrics.rejected(cause)
        self._causes[cause] += 1

    def _look(self) -> None:
        refusals, said = self.models.refusals, self.models.refused
        self.models.look()
        if self.models.refusals > refusals:
            self.metrics.model_refused()
        if self.models.refused is not None and self.models.refused != said:
            tell(self.logger, logging.ERROR, "model refused", why=self.models.refused)

    def _took(self, served: Served) -> None:
        contract, scorer = served.contract, served.scorer
        rules = {rule.name for rule in served.rules}
        columns = frozenset({*scorer.program.names, *contract.by_name, *rules, "as_of"})
        self.metrics.model(scorer.version, contract.name, scorer.model.kind, columns)
        tell(self.logger, logging.INFO, "model", version=scorer.version, kind=scorer.model.kind, bundle=served.path)

    def _committed(self, seconds: float, rows: int) -> None:
        assert self.log is not None
        self.metrics.committed(seconds, self.log.waiting_rows)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_s)
            try:
                await asyncio.to_thread(self._look)
            except Exception:  # the watch outlives whatever one look met
                self.logger.exception("the look for a new model failed")

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._sum_up()

    def _sum_up(self) -> None:
        counts, since = dict(self._causes), self._since
        self._causes.clear()
        self._since = dt.datetime.now(dt.UTC)
        if not counts:
            return
        tell(self.logger, logging.INFO, "rejected", counts=counts)
        if self.log is not None:
            row = Rejections(since.isoformat(), self._since.isoformat(), str(os.getpid()), counts)
            with contextlib.suppress(LogError):
                # Nobody waits for this one; it must not complain when it fails either.
                self.log.append(encode_line(row)).add_done_callback(lambda done: done.exception())
