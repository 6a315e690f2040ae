"""The processes of the demo: a home of its own, the service, Dagster's daemon, and a clean end for all of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import dagster as dg

from churn_assets.prediction_log.warehouse.ingest import pending
from churn_assets.settings import Settings
from examples.demo.progress import Progress

T = TypeVar("T")

# What differs from the contract, so that windows fill and decisions fall within minutes; the gate's limits do not.
_MONITORING = {"window": 2500, "cooldown_days": 0}
_GRACE_S = 15.0  # from SIGTERM to SIGKILL
_POLL_S = 0.5
_RUNS_EVERY_S = 2.0
_IDLE_LIMIT_S = 600.0  # no run but those of the ingest for so long: what is waited for will not come
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_INGEST = "ingest_log"  # runs all the time while requests come
# Failures of one job after which nothing repeats it soon; the others are repeated by their sensors.
_FAILURES_ALLOWED = {"retrain": 2, "promote": 2, _INGEST: 2}


class DemoFailed(Exception):
    """A scene did not end as it must; the message names the log to read."""


class Stage:
    """Processes of one demo and the home they share; leaving it stops them all.

    `port` is the service's. The processes write to files in `logs`. `limit_s` bounds the demo as a whole. `changes` are
    values of the contract by table, in place of those of the user's.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        progress: Progress,
        limit_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        changes: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.root, self.folder, self.logs = settings.root, folder, folder / "logs"
        self.home = folder / "home"
        self.port = _free_port()
        self._progress, self._clock, self._sleep = progress, clock, sleep
        self._limit_s, self._begun = limit_s, clock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._instance: dg.DagsterInstance | None = None
        self._runs_read_at = self._busy_at = self._begun
        self._contract = folder / "contract.toml"
        self._changes = {"monitoring": _MONITORING} if changes is None else changes
        self._original = settings.contract_path

    def __enter__(self) -> Stage:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.logs.mkdir(parents=True)
        text = self._original.read_text(encoding="utf-8")
        for table, values in self._changes.items():
            text = with_values(text, table, values)
        self._contract.write_text(text, encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(list(self._processes)):
            self.stop(name)
        if self._instance is not None:
            self._instance.dispose()

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of every process of the demo."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))},
            "CHURN_ROOT": str(self.root),
            "CHURN_HOME": str(self.home),
            "CHURN_CONTRACT": str(self._contract),
            "CHURN_SENSOR_S": "2",
            "CHURN_EXECUTOR": "in_process",
            "CHURN_PORT": str(self.port),
            "CHURN_GRPC_PORT": "0",  # another service may have it
            "CHURN_HOST": "127.0.0.1",
            "CHURN_WORKERS": "1",
            "CHURN_LOG_SEGMENT_S": "5",
            "CHURN_POLL_S": "0.5",
            "CHURN_FEEDBACK_SHARE": "1",  # the demo's outcomes are its own: nobody need accept them
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def settings(self) -> Settings:
        """The settings that the processes see."""
        return Settings.from_environ(self.environ)

    def run(self, name: str, *command: str, environ: Mapping[str, str] | None = None) -> None:
        """Run `churn COMMAND` to its end. Raises DemoFailed if it fails or the demo's time is over."""
        log = self.logs / f"{name}.log"
        text = f"churn {' '.join(command)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "churn_assets.cli", *command],
                cwd=self.root,
                env={**self.environ, **(environ or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = process
        with self._progress.waiting(f"`{text}`"):
            while process.poll() is None:
                self._progress.detail(f"last line of its log: {_last_line(log)}")
                self._check_limit(f"`{text}`")
                self._sleep(_POLL_S)
        del self._processes[name]
        if process.returncode != 0:
            raise DemoFailed(f"`{text}` ended with {process.returncode}, expected 0; read {log}")

    def start(self, name: str, *command: str) -> None:
        """Start a process in a group of its own; it is stopped with the stage."""
        with (self.logs / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.root,
                env={**self.environ, **self.settings.library_environ()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """Ask the process to end, and after a while make it."""
        process = self._processes.pop(name)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)

    def watch_runs(self) -> None:
        """Follow the runs of the demo's Dagster instance from now on; the home must exist."""
        os.environ.update({**self.environ, **self.settings.library_environ()})  # the instance reads its place there
        self._instance = dg.DagsterInstance.get()
        self._busy_at = self._clock()

    def wait_for(self, description: str, probe: Callable[[], T | None]) -> T:
        """Call `probe` until it returns something.

        Raises DemoFailed when it cannot come any more: a process has died, a run has failed for good, nothing has
        been at work for ten minutes, or the demo's time is over.
        """
        self._busy_at = self._clock()
        with self._progress.waiting(description):
            while True:
                result = probe()
                if result:
                    return result
                self._check_processes()
                self._check_runs(description)
                self._check_limit(description)
                self._sleep(_POLL_S)

    def idle(self) -> bool:
        """Whether no run is queued or at work and no segment waits to be ingested."""
        return not self._runs_under_way() and not pending(self.settings.predlog_dir)

    def ready(self) -> bool:
        """Whether the service answers with a model."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _check_limit(self, description: str) -> None:
        if self._clock() - self._begun > self._limit_s:
            raise DemoFailed(
                f"the demo's limit of {self._limit_s / 60:g} minutes is over while waiting for {description}; "
                f"read the logs in {self.logs}, or allow more: --limit"
            )

    def _check_processes(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                raise DemoFailed(f"the {name} ended with {process.returncode}, expected it to go on; read {log}")

    def _check_runs(self, description: str) -> None:
        now = self._clock()
        if self._instance is None or now - self._runs_read_at < _RUNS_EVERY_S:
            return
        self._runs_read_at = now
        failures: Counter[str] = Counter()
        for run in self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
            failures[run.job_name] += 1
            if failures[run.job_name] > _FAILURES_ALLOWED.get(run.job_name, 0):
                raise DemoFailed(
                    f"run {run.run_id[:8]} of job {run.job_name} failed while waiting for {description}; read it: "
                    f"CHURN_HOME={self.home} churn ui"
                )
        under_way = self._runs_under_way()
        self._progress.detail(f"at work: {', '.join(under_way)}" if under_way else "no run is at work")
        if any(not run.startswith(_INGEST) for run in under_way):
            self._busy_at = now
        elif now - self._busy_at > _IDLE_LIMIT_S:
            raise DemoFailed(
                f"no run was at work for {_IDLE_LIMIT_S:g} s while waiting for {description}, expected one; "
                f"read the logs in {self.logs}"
            )

    def _runs_under_way(self) -> list[str]:
        if self._instance is None:
            return []
        statuses = [status for status in dg.DagsterRunStatus if status not in _ENDED]
        runs = self._instance.get_runs(dg.RunsFilter(statuses=statuses))
        return [f"{run.job_name} ({run.status.value.lower().replace('_', ' ')})" for run in runs]


def with_values(text: str, table: str, values: Mapping[str, object]) -> str:
    """A contract's text with `values` in `[table]`, those already there replaced."""
    lines = [f"{key} = {value}" for key, value in values.items()]
    section = re.search(rf"^\[{table}\]\n((?:(?!\[).*\n?)*)", text, re.M)
    if section is None:
        return f"{text.rstrip()}\n\n[{table}]\n" + "\n".join(lines) + "\n"
    kept = [line for line in section[1].splitlines() if line.split("=")[0].strip() not in values]
    return text[: section.start(1)] + "\n".join([*lines, *kept]) + "\n" + text[section.end(1) :]


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "(empty)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
