"""The Dagster instance of one home, also when nobody set DAGSTER_HOME, and what notices that a run's process is gone.

`dagster asset materialize -m churn_assets.definitions` without DAGSTER_HOME makes a temporary instance
in the working directory and throws its run history away. It does read `dagster.yaml` there, which names
this class; so the history lands below CHURN_HOME after all, where `make ui` finds it.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import ConfigurableClassData

from churn_assets.defs.runs.process import is_alive, launch_tags
from churn_assets.settings import Settings
from churn_assets.storage.links import link_home
from churn_assets.storage.lock import file_lock

_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
PAGE_SESSIONS = 3  # of each of the page's three storages, beyond the one that stays open; Dagster's default is 20
# Storage of a home with CHURN_DATABASE_URL. The three of one storage each are what older code asks for.
_STORAGE = {"module_name": "churn_assets.defs.runs.storage", "class_name": "HomeStorage", "config_yaml": "{}"}
_DATABASE = {
    "storage": ConfigurableClassData(**_STORAGE),
    **{
        name: ConfigurableClassData("dagster._core.storage.legacy_storage", legacy, json.dumps(_STORAGE))
        for name, legacy in (
            ("run_storage", "LegacyRunStorage"),
            ("event_log_storage", "LegacyEventLogStorage"),
            ("schedule_storage", "LegacyScheduleStorage"),
        )
    },
}
_DATABASES_S = 120.0  # to make them, on a slow disk


class HomeInstance(dg.DagsterInstance):
    """A DagsterInstance that keeps its storage below CHURN_HOME unless DAGSTER_HOME says otherwise."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings of its own in `dagster.yaml`."""
        return {}

    @property
    def telemetry_enabled(self) -> bool:
        """Only with CHURN_TELEMETRY=1: one switch for every library."""
        return Settings.from_environ(os.environ).telemetry

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Where runs, events, schedules and logs go."""
        home = base_dir
        if not os.environ.get("DAGSTER_HOME"):
            settings = Settings.from_environ(os.environ)
            link_home(settings)
            settings.home.mkdir(parents=True, exist_ok=True)  # where a link to it may lead
            settings.dagster_home.mkdir(exist_ok=True)
            home = str(settings.dagster_home)
        if Settings.from_environ(os.environ).database_url:
            return {**InstanceRef.config_defaults(home), **_DATABASE}
        _make_databases(Path(home))
        return InstanceRef.config_defaults(home)

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """As Dagster does, with fewer sessions of a database."""
        super().optimize_for_webserver(statement_timeout, pool_recycle, min(max_overflow, PAGE_SESSIONS))


def _make_databases(home: Path) -> None:
    """Let one process make Dagster's databases: two that do so at once leave them with two versions, which no process
    can open any more. Whatever starts a daemon reads the instance's configuration first, in each of its processes."""
    from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

    # A home that cannot be written: Dagster says so.
    with contextlib.suppress(OSError), file_lock(home / ".databases.lock", _DATABASES_S):
        if not all((home / path).is_file() for path in _DATABASES):
            DagsterSqliteStorage.from_local(str(home)).dispose()


class HomeRunLauncher(DefaultRunLauncher):
    """Dagster's launcher of runs as processes, which can tell Dagster's monitoring that such a process is gone.

    Without it a run that was killed together with the daemon stays STARTED for ever, and keeps its place in the queue
    and in its pools.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """As Dagster does, and note when, by a clock that nobody sets."""
        self._instance.add_run_tags(context.dagster_run.run_id, dict(launch_tags()))
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Asked by the daemon: check_run_worker_health works here."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED if the process that executed this run is gone; RUNNING also where that cannot be known."""
        if _ran_on_another_host(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        for event in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            metadata = event.get_dagster_event().engine_event_data.metadata
            if (pid := metadata.get("pid")) is not None:  # the first one is the process of the whole run
                if is_alive(int(str(pid.value)), run.tags, event.timestamp):
                    break
                return CheckRunHealthResult(WorkerStatus.FAILED, f"process {pid.value} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _ran_on_another_host(run: dg.DagsterRun) -> bool:
    """Whether a code server that listens on a network launched it; its processes cannot be seen from here."""
    host = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("host", "localhost")
    return host not in ("localhost", "127.0.0.1")
