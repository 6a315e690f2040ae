"""One worker of the service: its model, prediction log and metrics, and what runs from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path

from churn_assets.access.keyring import Keyring, is_loopback
from churn_assets.access.keys import ApiKey
from churn_assets.access.rate_limit import RateLimit, RateLimiter
from churn_assets.contract.model import Contract
from churn_assets.errors import KeysUnreadable, LogError, Violation
from churn_assets.prediction_log.records import OTHER, Rejections, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.writer import LogWriter
from churn_assets.promotion.rollout.guard import LOOK_S, ReleaseGuard
from churn_assets.release.policy import Policy
from churn_assets.serving.authorization import admit
from churn_assets.serving.explanations.client import ExplanationProcess
from churn_assets.serving.http import Header, unavailable
from churn_assets.serving.loop_watch import WATCH_S, LoopWatch
from churn_assets.serving.metrics import Metrics
from churn_assets.serving.routing.counts import CountsWriter
from churn_assets.serving.routing.models import find_bundle, named_bundle
from churn_assets.serving.routing.router import Router
from churn_assets.serving.routing.watcher import LoadedModel, ModelWatcher, PolicyFile, WatcherEvents
from churn_assets.serving.server.connections import ConnectionLimits, Connections
from churn_assets.serving.server.process import free_memory
from churn_assets.serving.shadow.client import Shadow
from churn_assets.settings import ServingSettings, Settings
from churn_assets.structured_log import log_event, make_logger

KEYS_S = 0.5  # between two looks at the keys: a revoked one is refused within a second
COUNTS_S = 1.0  # between two writes of the counts of a release
LOG_S = 1.0  # between two looks at whether the prediction log can be written
REPORT_S = 10.0  # how often refusals are summed up in service log and prediction log


class Worker:
    """What a worker holds. `start` and `stop` run in its event loop."""

    def __init__(
        self, settings: ServingSettings, environ: Mapping[str, str], package_parent: Path | None = None
    ) -> None:
        self.settings = settings
        self.logger = make_logger(settings.level)
        self.metrics = Metrics()
        home = Settings.from_environ(environ)
        self.home, self.home_settings = home.home, home
        self.keys = Keyring(home.home)
        self._keys_problem = self._log_problem = self._counts_problem = ""
        self.counts = CountsWriter(self.home)
        self._models = _ModelEvents(self.metrics, self.logger, self.counts)
        follows_pointer = named_bundle(environ, package_parent) is None
        self.watcher = ModelWatcher(
            lambda: find_bundle(environ, package_parent),
            events=self._models,
            home=self.home,
            policies=PolicyFile(self.home) if follows_pointer else None,
        )
        report = partial(log_event, self.logger)
        # An instance that may not write its home leaves releases and the loop to the host that may; a packed bundle
        # has no releases.
        self.leads = os.access(home.home, os.W_OK) or not home.home.exists()
        self.guard = ReleaseGuard(home, report, every_s=0.75 * LOOK_S) if follows_pointer and self.leads else None
        self.shadow = Shadow(
            settings, self._shadow_policy, self.metrics, self._report_shadow, judges=self.guard is not None
        )
        segment = Segment(
            home.segments_dir,
            settings.log_segment_bytes,
            settings.log_segment_s,
            report=self._report_segment,
            instance=settings.instance,
        )
        self.log: LogWriter | None = None
        if settings.log:
            patience_s = settings.timeout_s / 2
            self.log = LogWriter(segment, settings.log_queue_rows, self._committed, patience_s)
        self.connections = Connections(ConnectionLimits.of(settings), self.count_refusal)
        self.explanations = ExplanationProcess(settings.timeout_s, settings.explain_queue)
        self.loop = LoopWatch(home, environ, self.metrics.loop)
        self._limiter: RateLimiter | None = None
        self._refusals: Counter[str] = Counter()
        self._refused_rows: Counter[str] = Counter()
        self._since = dt.datetime.now(dt.UTC)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the log, load the model if there is one, and check for the next from now on."""
        if self.log is not None:
            self.log.start()
        await asyncio.to_thread(self._check_keys)
        await asyncio.to_thread(self._check_model)
        if self.watcher.current is None:
            log_event(self.logger, logging.WARNING, "no model", reason=self.watcher.missing)
        # Two look for models: while one loads, the other still finds that the policy was replaced.
        checks = [self._repeat(self._check_model, self.settings.poll_s) for _ in range(2)]
        checks += [self._repeat(self._check_keys, KEYS_S), self._repeat(self._write_counts, COUNTS_S)]
        if self.leads:
            checks += [self._repeat(self.loop.check, WATCH_S), self._repeat(self._check_release, LOOK_S)]
        else:
            log_event(self.logger, logging.INFO, "the home is read-only: releases and the loop are watched elsewhere")
        tasks = (*checks, self._report_refusals(), self._watch_log(), self.connections.watch(), self.shadow.run())
        self._tasks = [asyncio.create_task(task) for task in tasks]

    async def stop(self) -> None:
        """Write what was accepted to disk, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sum_up_refusals()
        await asyncio.to_thread(self._write_counts)
        await self.explanations.close()
        if self.log is not None:
            await self.log.close()
        await self.shadow.close()
        log_event(self.logger, logging.INFO, "stopped")

    @property
    def limited(self) -> bool:
        """Whether the requests of a key are limited."""
        return self.settings.rate_per_s > 0

    def admit(self, key: ApiKey | None) -> tuple[Header, ...]:
        """Count a request of a key, or of those that need none; the headers that say what is left. Raises Refused: 429
        for too many, 503 while none can be counted."""
        try:
            if self._limiter is None:  # opened here, so that a full home is no reason not to start
                limit = RateLimit(self.settings.rate_per_s, self.settings.rate_burst)
                self._limiter = RateLimiter(self.settings.run_dir or self.home, limit)
            return admit(self._limiter, key)
        except OSError as error:
            log_event(self.logger, logging.ERROR, "requests cannot be counted", reason=str(error))
            text = "requests cannot be counted, which their limit needs: the disk takes nothing; ask again"
            raise unavailable("disk", text, 5) from None

    def count_refusal(self, cause: str, violations: Iterable[Violation] = ()) -> None:
        """Count a refused request, in metrics and for the next summary, with the rows that each column had refused."""
        self.metrics.rejected(cause)
        self._refusals[cause] += 1
        arm = self.watcher.arm
        known = set() if arm is None else self._causes_of(arm.model.contract)
        rows = {(violation.row, violation.column if violation.column in known else OTHER) for violation in violations}
        self._refused_rows.update(column for _, column in rows)

    @staticmethod
    @lru_cache(maxsize=4)
    def _causes_of(contract: Contract) -> frozenset[str]:
        """Columns and rules of a contract: nothing of a client's names is kept."""
        return frozenset((*contract.by_name, *(rule.name for rule in contract.rules)))

    def check_host(self, host: str) -> None:
        """Ask everyone for a key if others reach this address: `check_address` ran before, maybe for another one."""
        if not self.keys.required and not is_loopback(host):
            self.keys.required = not self.settings.insecure
            event = "everybody is let in: CHURN_INSECURE" if self.settings.insecure else "requests refused: no API key"
            log_event(self.logger, logging.WARNING, event, host=host, advice="make a key: churn keys create")

    def _shadow_policy(self) -> Policy | None:
        router = self.watcher.router
        return router.policy if router is not None and router.is_shadowed else None

    def _report_shadow(self, problem: str) -> None:
        log_event(self.logger, logging.ERROR, "shadow", reason=problem)

    def _report_segment(self, problem: str) -> None:
        log_event(self.logger, logging.ERROR, "segment not handed over", reason=problem)

    def _check_keys(self) -> None:
        problem = ""
        try:
            self.keys.refresh()
        except KeysUnreadable as error:
            problem = str(error)
        if problem and problem != self._keys_problem:
            log_event(self.logger, logging.ERROR, "keys unreadable", reason=problem)
        self._keys_problem = problem

    def _check_model(self) -> None:
        if self._models.unloaded:  # at an earlier check: no request has them any more
            self._models.unloaded = False
            free_memory()
        self.watcher.check()

    def _check_release(self) -> None:
        """Look at the guardrails, unless the shadow process does: there no request waits for the interpreter."""
        if self.guard is not None and not self.shadow.is_judging:
            self.guard.check()

    def _write_counts(self) -> None:
        problem = ""
        try:
            self.counts.write()
        except OSError as error:
            problem = str(error)
        if problem and problem != self._counts_problem:
            log_event(self.logger, logging.ERROR, "counts of the release not written", reason=problem)
        self._counts_problem = problem
        for policy, reason in self.counts.new_errors():
            log_event(self.logger, logging.ERROR, "an arm failed", policy=policy, reason=reason)

    async def _repeat(self, check: Callable[[], None], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await asyncio.to_thread(check)
            except Exception:  # an unexpected error must not end the checks
                self.logger.exception("a check for models, for keys, of a release or of the loop failed")

    async def _report_refusals(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._sum_up_refusals()

    def _committed(self, seconds: float, waiting: int) -> None:
        self.metrics.committed(seconds, waiting)
        self._report_log()

    async def _watch_log(self) -> None:
        """A disk that hangs commits nothing."""
        while True:
            await asyncio.sleep(LOG_S)
            self._report_log()

    def _report_log(self) -> None:
        problem = "" if self.log is None else self.log.problem
        if problem and problem != self._log_problem:
            log_event(self.logger, logging.ERROR, "log unavailable", reason=problem)
        elif self._log_problem and not problem:
            log_event(self.logger, logging.INFO, "log is written again")
        self._log_problem = problem

    def _sum_up_refusals(self) -> None:
        counts, rows, since = dict(self._refusals), dict(self._refused_rows), self._since
        self._refusals.clear()
        self._refused_rows.clear()
        self._since = dt.datetime.now(dt.UTC)
        if not counts:
            return
        log_event(self.logger, logging.INFO, "rejected", counts=counts, rows=rows)
        if self.log is not None:
            row = Rejections(since.isoformat(), self._since.isoformat(), str(os.getpid()), counts, rows)
            with contextlib.suppress(LogError):
                # Nobody waits for this row; reading the exception keeps asyncio from reporting it.
                self.log.append(encode_line(row)).add_done_callback(lambda done: done.exception())


class _ModelEvents(WatcherEvents):
    """What happens to the models of a worker, in its metrics and its log."""

    def __init__(self, metrics: Metrics, logger: logging.Logger, counts: CountsWriter) -> None:
        self._metrics, self._logger, self._counts = metrics, logger, counts
        self._before: Router | None = None
        self.unloaded = False  # models, whose memory is to be given back

    def router_changed(self, router: Router) -> None:
        """Show the models that answer, and the policy."""
        before, self._before = self._before, router
        self._counts.follow(router.counter)
        self._metrics.models.routed(router)
        policy, model = router.policy, router.champion.model
        if before is None or before.champion.model is not model:
            facts = {"version": model.scorer.version, "kind": model.scorer.model.kind, "bundle": model.path}
            log_event(self._logger, logging.INFO, "model", **facts)
        if policy is not None or (before is not None and before.policy is not None):
            arms = {} if policy is None else {arm.name: f"{arm.version} {arm.weight:g}" for arm in policy.arms}
            log_event(self._logger, logging.INFO, "policy", policy=router.champion.policy, arms=arms)

    def model_loaded(self, loaded: LoadedModel) -> None:
        """Show what a model costs."""
        contract, scorer = loaded.model.contract, loaded.model.scorer
        rules = {rule.name for rule in contract.rules}
        self._metrics.know_columns(frozenset({*scorer.program.names, *contract.by_name, *rules, "as_of"}))
        self._metrics.models.loaded(scorer.version, loaded.seconds, loaded.memory)

    def models_unloaded(self, versions: list[str]) -> None:
        """Their memory is free once no request has them."""
        self.unloaded = True
        for version in versions:
            self._metrics.models.loaded(version, 0.0, 0)
        log_event(self._logger, logging.INFO, "models unloaded", versions=versions)

    def bundle_refused(self) -> None:
        """Count it."""
        self._metrics.models.refused()

    def refused(self, reason: str) -> None:
        """Say why."""
        log_event(self._logger, logging.ERROR, "model refused", reason=reason)
