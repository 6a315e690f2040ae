"""A model of what the loop needs of Dagster: database of runs, queue, pools and daemon, with kills between any steps.

What Dagster stores is in `Dagster` and survives a kill; `Run.body` is the process of a run and does not. The rules are
those of Dagster 1.13 with this project's dagster.yaml: a run key is used once; of runs with one concurrency tag one is
under way; a step waits for a slot of its pool, and the slot of a killed run is free only some time after the run's end;
a run whose process is gone fails at the daemon's next round, one that was launched and never got one after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from dagster import DagsterRunStatus as Status

MOST_RUNS = 4
FREE_SLOTS_AFTER, START_TIMEOUT = timedelta(seconds=30), timedelta(seconds=120)
UNDER_WAY = (Status.STARTING, Status.STARTED)
ENDED = (Status.SUCCESS, Status.FAILURE, Status.CANCELED)
LIMITS = {"retrain": "models", "promote": "models", "ingest_log": "log"}  # job -> concurrency tag
POOLS = {"retrain": "training", "ingest_log": "warehouse"}  # job -> pool of its steps


class Killed(BaseException):
    """The process is gone, here."""


@dataclass
class Fate:
    """Counts the steps that persist something; at `kill_at` the process dies."""

    kill_at: int = -1
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed


@dataclass
class Run:
    """As much of a Dagster run as the sensors look at."""

    run_id: str
    job: str
    run_key: str
    tags: dict[str, str]
    status: Status = Status.QUEUED
    body: Iterator[None] | None = field(default=None, repr=False)
    launched_at: datetime | None = None
    ended_at: datetime | None = None
    ended_itself: bool = True  # the cancel event is the run's own

    @property
    def job_name(self) -> str:
        return self.job


class Dagster:
    """The instance of a home: what it stores, and the rounds of its daemon. Each change is two steps of `fate`."""

    def __init__(self, fate: Fate) -> None:
        self.all: list[Run] = []
        self.slots: dict[str, str] = {}  # pool -> run_id
        self._fate = fate

    # -- what the sensors read ------------------------------------------------------------------------

    def get_runs(self, filters: Any = None, *, limit: int | None = None) -> list[Any]:
        wanted = filters.tags.items()
        return [run for run in reversed(self.all) if wanted <= run.tags.items()][:limit]

    def get_run_by_id(self, run_id: str) -> Any:
        return next((run for run in self.all if run.run_id == run_id), None)

    def all_logs(self, run_id: str, of_type: Any = None) -> list[Any]:
        run = self.get_run_by_id(run_id)
        data = [object()] if run.launched_at else []
        if run.status is Status.CANCELED:
            data.append(object() if run.ended_itself else None)
        events = [SimpleNamespace(event_specific_data=item) for item in data]
        return [SimpleNamespace(get_dagster_event=lambda event=event: event) for event in events]

    # -- what the daemon does -------------------------------------------------------------------------

    def launch(self, job: str, run_key: str, tags: dict[str, str]) -> None:
        if any(run.run_key == run_key for run in self.all):
            return
        self._fate.step()
        self.all.append(Run(f"run{len(self.all)}", job, run_key, tags))
        self._fate.step()

    def set(self, run: Run, status: Status, now: datetime | None = None) -> None:
        self._fate.step()
        run.status = status
        if status in ENDED:
            run.ended_at = now
        self._fate.step()

    def dequeue(self, now: datetime, begin: Callable[[Run], Iterator[None]]) -> None:
        """A round of the queue: launch what the limits allow."""
        for run in [run for run in self.all if run.status is Status.QUEUED]:
            under_way = [other for other in self.all if other.status in UNDER_WAY]
            taken = {LIMITS.get(other.job) for other in under_way} - {None}
            if len(under_way) >= MOST_RUNS or LIMITS.get(run.job) in taken:
                continue
            run.launched_at = now
            self.set(run, Status.STARTING)
            run.body = begin(run)  # here is the process
            self.set(run, Status.STARTED)

    def monitor_runs(self, now: datetime) -> None:
        """A round of the run monitoring: fail what has no process, free the slots of what has ended."""
        for run in self.all:
            gone = run.body is None
            timed_out = run.launched_at is not None and now - run.launched_at >= START_TIMEOUT
            if gone and (run.status is Status.STARTED or (run.status is Status.STARTING and timed_out)):
                self.set(run, Status.FAILURE, now)
        for pool, run_id in list(self.slots.items()):
            ended_at = self.get_run_by_id(run_id).ended_at
            if ended_at is not None and now - ended_at > FREE_SLOTS_AFTER:
                self._fate.step()
                del self.slots[pool]

    def claim(self, run: Run) -> bool:
        """Whether the run has, or gets, the slot of its pool."""
        pool = POOLS.get(run.job)
        if pool is None or self.slots.get(pool) == run.run_id:
            return True
        if pool in self.slots:
            return False
        self._fate.step()
        self.slots[pool] = run.run_id
        return True

    def release(self, run: Run) -> None:
        """As a step does that ends by itself, well or not."""
        if self.slots.get(POOLS.get(run.job, "")) == run.run_id:
            self._fate.step()
            del self.slots[POOLS[run.job]]

    def kill_processes(self) -> None:
        """Daemon and runs die together; what they wrote stays."""
        for run in self.all:
            run.body = None
