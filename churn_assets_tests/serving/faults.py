"""Faults of a service under load: kills, a full disk, a log that is moved away, steps of the clock, killed ingests."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from churn_assets.prediction_log.segment import adopt_orphans
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.read import read_lines, verify
from churn_assets.settings import Settings
from churn_assets_tests.disks import fill
from churn_assets_tests.scoring.tiny import CONTRACT
from churn_assets_tests.serving.client import ASKED, served, wait_for
from churn_assets_tests.serving.load import Load
from churn_assets_tests.stepped_clock import SteppedClock

FAULTS = ("worker", "service", "full", "moved", "clock", "ingest")
_INGEST = """
import sys
from churn_assets_tests.serving.faults import home_settings
from churn_assets_tests.scoring.tiny import CONTRACT
from churn_assets.prediction_log.warehouse.ingest import ingest
ingest(home_settings(sys.argv[1]), CONTRACT)
"""


def home_settings(home: Path | str) -> Settings:
    """The settings of a home."""
    return Settings.from_environ({"CHURN_HOME": str(home), "CHURN_LOG_ARCHIVE_HOURS": "0"})


def family(server: subprocess.Popen[bytes]) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """(all processes of the service, its living workers)."""
    process = psutil.Process(server.pid)
    everybody = [process, *process.children(recursive=True)]
    living = [one for one in everybody[1:] if one.status() != psutil.STATUS_ZOMBIE]
    return everybody, [one for one in living if "_bentoml_impl.worker" in " ".join(one.cmdline())]


@dataclass
class Trial:
    """A home under faults: what its clients were answered, and which faults there were."""

    folder: Path
    home: Path
    rng: random.Random
    clock: SteppedClock | None = None
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lives: int = 0

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return self.home / "predlog"

    def run(self, faults: list[str]) -> None:
        """Serve under load until each fault has happened, in lives that end with a fault `service`."""
        while faults:
            faults = self._live(faults)

    def _live(self, faults: list[str]) -> list[str]:
        environ = {"CHURN_LOG_SEGMENT_S": "1", **(self.clock.environ if self.clock else {})}
        self.lives += 1
        with served(self.folder, self.home, workers=2, environ=environ) as (url, server):
            wait_for(f"{url}/readyz", server, self.folder / "log")
            with Load(f"{url}/predict", ASKED, clients=8) as load:
                while faults:
                    time.sleep(self.rng.uniform(0.05, 1.0))  # a fault comes at a random moment
                    fault, *faults = faults
                    self.faults[fault] += 1
                    if fault == "service":
                        for process in family(server)[0]:
                            with contextlib.suppress(psutil.NoSuchProcess):
                                process.send_signal(signal.SIGKILL)
                        server.wait(30)
                        break
                    self._actions()[fault](server)
                else:
                    time.sleep(0.3)
            self.acknowledged += load.acknowledged
            self.refused += load.refused
            self.statuses.update(load.statuses)
        time.sleep(0.1)  # the system frees the port
        return faults

    def _actions(self) -> dict[str, Callable[[subprocess.Popen[bytes]], None]]:
        return {
            "worker": self._kill_worker,
            "full": self._fill_disk,
            "moved": self._move_log,
            "clock": self._set_clock,
            "ingest": self._kill_ingest,
        }

    def _kill_worker(self, server: subprocess.Popen[bytes]) -> None:
        workers = family(server)[1]
        if len(workers) > 1:  # BentoML replaces a dead one within ten seconds
            self.rng.choice(workers).kill()

    def _fill_disk(self, server: subprocess.Popen[bytes]) -> None:
        filler = fill(self.home)
        time.sleep(0.3)
        filler.unlink()

    def _move_log(self, server: subprocess.Popen[bytes]) -> None:
        if self.log.exists():
            self.log.rename(self.home / f"gone-{self.faults['moved']}")

    def _set_clock(self, server: subprocess.Popen[bytes]) -> None:
        assert self.clock is not None
        self.clock.step(self.rng.randrange(-8 * 3600, 8 * 3600))

    def _kill_ingest(self, server: subprocess.Popen[bytes]) -> None:
        with subprocess.Popen([sys.executable, "-W", "ignore", "-c", _INGEST, str(self.home)]) as process:
            time.sleep(self.rng.uniform(0.5, 2.0))
            process.kill()

    def check(self) -> list[str]:
        """Put back what was moved away, ingest, and list what is wrong: nothing is."""
        self.log.mkdir(exist_ok=True)
        for path in self.home.glob("gone-*/*"):
            path.rename(self.log / path.name)
        settings, problems = home_settings(self.home), []
        adopt_orphans(self.log)
        ingest(settings, CONTRACT)
        verdict = verify(self.log, self.acknowledged, settings.archive_dir)
        if not verdict.kept:
            problems.append(str(verdict))
        refused, marked, written = set(self.refused), set[str](), {}
        for line in read_lines(self.log, archive=settings.archive_dir):
            row = json.loads(line.json)
            marked.update(row.get("ids", ()))
            if row.get("request_id") in refused:
                written[row["prediction_id"]] = row["request_id"]
        if unmarked := written.keys() - marked:
            problems.append(f"{len(unmarked)} of {len(refused)} refused requests are in the log without a mark")
        return problems + self._check_warehouse(settings)

    def _check_warehouse(self, settings: Settings) -> list[str]:
        from churn_assets.prediction_log.warehouse.connection import open_published

        with open_published(settings) as connection:
            rows = connection.execute("SELECT prediction_id FROM predictions").fetchall()
            quarantined = connection.execute("SELECT reason, count(*) FROM quarantine GROUP BY ALL").fetchall()
        missing = len(set(self.acknowledged) - {name for (name,) in rows})
        problems = [f"{missing} acknowledged ids are not in the warehouse"] if missing else []
        return problems + [f"{count} lines in quarantine: {reason}" for reason, count in quarantined]
