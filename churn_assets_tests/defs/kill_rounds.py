"""Rounds of a real daemon: a power failure at a random moment of a stage of the loop, a restart, and the right end.

A template home has a champion, a window of predictions that nobody has ingested, and final labels of all of them,
enough to start a retraining. A round copies it, runs `churn ui --headless`, kills every process at once while a stage
is under way, starts the daemon again and waits until the loop has come to its end by itself.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from churn_assets.alerting.watchdog import check_loop
from churn_assets.contract.load import load_contract
from churn_assets.data.outcomes import import_file
from churn_assets.monitoring.windows import DRIFT_JSON, Report, read_window_report, read_windows
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.read import count_all
from churn_assets.promotion.ledger import IN_FLIGHT, Ledger
from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets.scoring.batch import BatchLog, score_file
from churn_assets.scoring.bundle import load_bundle
from churn_assets.settings import Settings
from examples.demo.stage import with_values
from examples.demo.traffic import Customers

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest_log", "monitor", "retrain", "promote")
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_POLL_S = 0.1


@dataclass(frozen=True)
class End:
    """Where the loop has come to: what must not depend on whether it was killed on its way."""

    decision: str
    labels: int
    challengers: tuple[str, ...]
    promoted: bool
    predictions: int
    feedback: int
    windows: int
    not_once: tuple[str, ...]


def make_root(folder: Path, contract: str, window: int, module: str = "churn_assets.definitions") -> Path:
    """A project whose contract asks for a retraining as soon as all labels of one window are known, and whose Dagster
    looks after its runs every two seconds, not every thirty. `module` has the definitions that the daemon loads."""
    (folder / "contracts").mkdir(parents=True)
    monitoring = {
        **{"window": window, "floor": window // 4, "cooldown_days": 0, "label_floor": window // 4},
        "labels_to_retrain": window,
    }
    text = with_values(contract, "monitoring", monitoring)
    (folder / "contracts" / "store.toml").write_text(text, encoding="utf-8")
    config = (ROOT / "dagster.yaml").read_text(encoding="utf-8")
    config = re.sub(r"(poll_interval_seconds|free_slots_after_run_end_seconds): 30", r"\1: 2", config)
    config = config.replace("start_timeout_seconds: 120", "start_timeout_seconds: 20")
    (folder / "dagster.yaml").write_text(config, encoding="utf-8")
    workspace = f"load_from:\n  - python_module:\n      module_name: {module}\n      location_name: churn_assets\n"
    (folder / "workspace.yaml").write_text(workspace, encoding="utf-8")
    return folder


def fill_log(settings: Settings, customers: Customers) -> None:
    """A prediction for each customer, and its final outcome, in segments that are ready."""
    champion = require_champion(settings.home)
    contract, scorer = load_contract(settings.contract_path), load_bundle(champion.path(settings.home))
    key, table = contract.key.name, settings.home / "customers.parquet"
    pq.write_table(pa.Table.from_pylist(customers.rows), table)
    with contextlib.closing(BatchLog(scorer, Segment(settings.predlog_dir))) as logged:
        score_file(scorer, table, settings.home / "scores.parquet", as_of=customers.as_of, each=logged)
    matured = customers.as_of + dt.timedelta(days=contract.label.horizon_days + 1)
    seen = [customers.as_of + dt.timedelta(days=1) if left else matured for left in customers.churned]
    outcomes = {
        "customer_id": [str(row[key]) for row in customers.rows],
        "churned": customers.churned,
        "observed_at": [f"{day}T00:00:00Z" for day in seen],
    }
    reports = settings.home / "outcomes.parquet"
    pq.write_table(pa.table(outcomes), reports)
    import_file(settings, reports, dt.datetime.now(dt.UTC))


class LoopHome:
    """A home and its daemon, which can be killed with all of its processes at once."""

    def __init__(self, root: Path, home: Path, environ: Mapping[str, str] = {}) -> None:
        self.root, self.home, self._environ = root, home, environ
        self.settings = Settings.from_environ(self.environ, root)
        self.ledger = Ledger(self.settings.ledger_path)
        self._process: subprocess.Popen[bytes] | None = None
        self._instance: dg.DagsterInstance | None = None

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the daemon."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "CHURN_ROOT": str(self.root),
            "CHURN_HOME": str(self.home),
            "CHURN_SENSOR_S": "1",
            "CHURN_EXECUTOR": "in_process",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
            **self._environ,
        }

    def start(self) -> None:
        """Start the daemon."""
        with (self.home / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "churn_assets.cli", "ui", "--headless"],
                cwd=ROOT,
                env=dict(self.environ),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> int:
        """As a loss of power: the daemon, its code server and every run at once; how many there were."""
        root = psutil.Process(self._process.pid)
        processes = [root, *root.children(recursive=True)]
        for send in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none sees another one end
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(send)
        self._process.wait()
        psutil.wait_procs(processes, 10)
        return len(processes)

    def stop(self) -> None:
        """Ask the daemon to end."""
        self._process.terminate()
        self._process.wait(30)

    def close(self) -> None:
        """Kill what is left, and let Dagster's database go."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if self._instance is not None:
            self._instance.dispose()

    def runs(self) -> list[dg.DagsterRun]:
        """The runs of this home, oldest first."""
        if self._instance is None:
            if not (self.settings.dagster_home / "storage").is_dir():
                return []
            before = os.environ.get("DAGSTER_HOME")
            os.environ["DAGSTER_HOME"] = str(self.settings.dagster_home)  # the instance reads its place there
            try:
                self._instance = dg.DagsterInstance.from_config(str(self.settings.dagster_home))
            finally:
                os.environ.pop("DAGSTER_HOME") if before is None else os.environ.update(DAGSTER_HOME=before)
        return list(reversed(self._instance.get_runs()))

    def under_way(self, job: str) -> bool:
        """Whether a run of the job has got a process, or had one."""
        ready = (dg.DagsterRunStatus.STARTED, *_ENDED)
        return any(run.job_name == job and run.status in ready for run in self.runs())

    def status(self, job: str) -> str:
        """The status of the newest run of the job."""
        return next(run.status.value for run in reversed(self.runs()) if run.job_name == job)

    def spans(self) -> dict[str, float]:
        """Seconds that the last run of each job took."""
        records = self._instance.get_run_records(ascending=True)
        return {r.dagster_run.job_name: r.end_time - r.start_time for r in records if r.start_time and r.end_time}

    def slots(self) -> int:
        """Slots of pools that are taken."""
        storage = self._instance.event_log_storage
        return sum(storage.get_concurrency_info(key).active_slot_count for key in storage.get_concurrency_keys())

    def is_done(self) -> bool:
        """Whether the loop has come to its end: a decision, its request, its challenger, and nothing left to do."""
        if self.ledger.requests(*IN_FLIGHT) or not self.ledger.challengers() or self.ledger.challengers_to_promote():
            return False
        return all(run.status in _ENDED for run in self.runs()) and not self.slots()

    def wait_for(self, what: str, probe: Callable[[], bool], limit_s: float) -> float:
        """Seconds until `probe` holds. Raises TimeoutError, with the state of the loop."""
        begun = time.monotonic()
        while not probe():
            if time.monotonic() - begun > limit_s:
                raise TimeoutError(f"{what} did not come within {limit_s:g} s; {self.describe()}")
            if self._process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self._process.returncode}; read {self.home / 'daemon.log'}")
            time.sleep(_POLL_S)
        return time.monotonic() - begun

    def describe(self) -> str:
        """The runs, the requests and the challengers, in a line."""
        runs = [f"{run.job_name} {run.status.value}" for run in self.runs()]
        requests = [f"{request.key} {request.status}: {request.outcome}" for request in self.ledger.requests()]
        challengers = [f"{c.version} {c.status} {c.attempt}" for c in self.ledger.challengers()]
        return f"runs {runs}, {self.slots()} slots, requests {requests}, challengers {challengers}"

    def end(self) -> End:
        """Where the loop has come to. Raises AssertionError for what may be so in no home."""
        totals, contract = count_all(self.settings), load_contract(self.settings.contract_path)
        champion, challengers = read_champion(self.home), self.ledger.challengers()
        decided = [made for made in self.ledger.decisions(1000) if made.decision.kind == "retrain"]
        assert len(decided) == 1, f"{len(decided)} decisions to retrain"
        moves = self.ledger.moves()
        assert all(move.status == "done" for move in moves)
        assert not moves or moves[-1].to == champion
        assert [c.request for c in challengers] == [self.ledger.requests()[-1].key]
        assert not [check for check in check_loop(self.settings, dt.datetime.now(dt.UTC)) if check.status != "ok"]
        windows = read_windows(self.settings, contract.fingerprint)
        assert all(read_window_report(self.settings, window, DRIFT_JSON, Report) for window in windows)
        return End(
            decided[0].decision.message,
            decided[0].decision.inputs.labels,
            tuple(challenger.status for challenger in challengers),
            champion.version == challengers[-1].version,
            totals.predictions,
            totals.feedback,
            len(windows),
            tuple(totals.not_once),
        )


@dataclass(frozen=True)
class Round:
    """A round that was played: processes killed, the status of the stage's run at that moment, seconds from the restart
    to the end."""

    end: End
    killed: int
    status: str
    recovery_s: float


def play_whole(home: LoopHome, limit_s: float) -> tuple[End, dict[str, float]]:
    """The loop without a kill: its end, and the seconds that a run of each stage is under way."""
    try:
        home.start()
        home.wait_for("the end", home.is_done, limit_s)
        end, spans = home.end(), home.spans()
        home.stop()
    finally:
        home.close()
    return end, spans


def play_round(home: LoopHome, stage: str, after_s: float, limit_s: float) -> Round:
    """One round: kill `after_s` seconds into `stage`, start again, wait for the end.

    Raises TimeoutError, RuntimeError if the daemon ends by itself, and AssertionError.
    """
    try:
        home.start()
        home.wait_for(stage, lambda: home.under_way(stage), limit_s)
        time.sleep(after_s)  # the moment of the kill is the point
        killed, status = home.kill(), home.status(stage)
        home.start()
        recovery_s = home.wait_for("the end", home.is_done, limit_s)
        end = home.end()
        home.stop()
    finally:
        home.close()
    return Round(end, killed, status, recovery_s)
