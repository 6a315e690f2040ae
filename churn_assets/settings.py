"""Settings, read once from an environment that is handed in; nothing is created or changed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from churn_assets.errors import SettingsError

Executor = Literal["in_process", "forkserver"]

_EXECUTORS: tuple[Executor, ...] = ("in_process", "forkserver")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

# What the wheel carries of a project: contracts, dagster.yaml, workspace.yaml; `churn init` copies it.
STARTER = Path(__file__).resolve().parent / "starter"

# Dagster and MLflow name their databases by URL and do not escape the path in it.
_NOT_IN_A_HOME = frozenset("%?#")

# One switch for every library that would phone home; CHURN_TELEMETRY=1 leaves their own defaults alone.
QUIET_ENVIRONMENT: Mapping[str, str] = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Settings:
    """Where things are and how the process behaves.

    `root` holds `contracts/` and `data/`; `home` holds all state, and two homes share nothing.
    `source` is the customer table if the user named one. `telemetry` is False unless asked for. Ingested
    segments of days that ended `log_archive_hours` ago are archived; rows ingested `log_retention_days` ago are
    deleted, 0 keeps them for ever.
    """

    root: Path
    home: Path
    contract_path: Path
    source: str | None = None
    telemetry: bool = False
    executor: Executor = "in_process"
    mlflow_uri: str = ""
    score_cron: str = "0 5 * * *"
    ingest_cron: str = "5 * * * *"
    monitor_cron: str = "30 4 * * *"
    retrain_cron: str = "0 3 * * 1"
    sensor_s: int = 30
    log_archive_hours: int = 24
    log_retention_days: int = 0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], cwd: Path | None = None) -> Settings:
        """Read CHURN_* variables; relative paths are relative to the project root.

        The root is CHURN_ROOT, else the working directory if it has a `contracts` folder, else the checkout
        or Bento that this package lies in, else (an installed package) the working directory. A relative
        contract that the root does not have is the one that the package carries.
        Raises SettingsError for a value that cannot be used.
        """
        root = _root(environ, cwd or Path.cwd())
        home = _path(root, environ.get("CHURN_HOME") or "data/var")
        odd = sorted(set(str(home)) & _NOT_IN_A_HOME)
        if odd:
            raise SettingsError(f"CHURN_HOME is {home}, which holds '{odd[0]}'; name a folder without it")
        if home.exists() and not home.is_dir():
            raise SettingsError(f"CHURN_HOME is {home}, a file; name a folder")
        return cls(
            root=root,
            home=home,
            contract_path=project_file(root, environ.get("CHURN_CONTRACT") or "contracts/store.toml"),
            source=environ.get("CHURN_SOURCE") or None,
            telemetry=_flag(environ, "CHURN_TELEMETRY"),
            executor=_executor(environ),
            mlflow_uri=environ.get("CHURN_MLFLOW_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            score_cron=environ.get("CHURN_SCORE_CRON") or cls.score_cron,
            ingest_cron=environ.get("CHURN_INGEST_CRON") or cls.ingest_cron,
            monitor_cron=environ.get("CHURN_MONITOR_CRON") or cls.monitor_cron,
            retrain_cron=environ.get("CHURN_RETRAIN_CRON") or cls.retrain_cron,
            sensor_s=_seconds(environ, "CHURN_SENSOR_S", cls.sensor_s),
            log_archive_hours=_whole(environ, "CHURN_LOG_ARCHIVE_HOURS", cls.log_archive_hours, "hours"),
            log_retention_days=_whole(environ, "CHURN_LOG_RETENTION_DAYS", cls.log_retention_days, "days"),
        )

    @property
    def raw_dir(self) -> Path:
        """Where a user puts their own table."""
        return self.root / "data" / "raw"

    @property
    def dagster_home(self) -> Path:
        """Runs, events and schedules of this home's Dagster instance."""
        return self.home / "dagster"

    @property
    def mlflow_dir(self) -> Path:
        """The tracking database and its artifacts."""
        return self.home / "mlflow"

    @property
    def assets_dir(self) -> Path:
        """What the IO manager writes, one entry an asset."""
        return self.home / "assets"

    @property
    def bundles_dir(self) -> Path:
        """Content-addressed bundles, one folder a version."""
        return self.home / "bundles"

    @property
    def reports_dir(self) -> Path:
        """Pages and lists for people."""
        return self.home / "reports"

    @property
    def studies_dir(self) -> Path:
        """Tuning studies and the best parameters they found."""
        return self.home / "studies"

    @property
    def bento_home(self) -> Path:
        """BentoML's store."""
        return self.home / "bentoml"

    @property
    def predlog_dir(self) -> Path:
        """Segments of the prediction log."""
        return self.home / "predlog"

    @property
    def warehouse_dir(self) -> Path:
        """The ingested log: DuckDB's file, its published copy and the archive of old segments."""
        return self.home / "warehouse"

    @property
    def archive_dir(self) -> Path:
        """Old segments of the prediction log, as Parquet."""
        return self.warehouse_dir / "archive"

    @property
    def monitoring_dir(self) -> Path:
        """Windows of predictions and the reports on them."""
        return self.home / "monitoring"

    @property
    def holdout_dir(self) -> Path:
        """Frozen customers that no model of this home is ever trained on."""
        return self.home / "holdout"

    @property
    def ledger_path(self) -> Path:
        """Decisions, requests, challengers, approvals and moves of the champion."""
        return self.home / "ledger.db"

    @property
    def champion_path(self) -> Path:
        """The pointer to the bundle that answers."""
        return self.home / "champion.json"

    def library_environ(self) -> dict[str, str]:
        """Variables that point Dagster and BentoML at this home and keep every library quiet."""
        own = {"DAGSTER_HOME": str(self.dagster_home), "BENTOML_HOME": str(self.bento_home)}
        return own if self.telemetry else {**own, **QUIET_ENVIRONMENT}


def project_file(root: Path, name: str) -> Path:
    """`name` below `root`; the package's own copy where `root` has none and the package does."""
    path, copy = _path(root, name), STARTER / name
    return copy if not path.exists() and copy.is_file() else path


def _root(environ: Mapping[str, str], cwd: Path) -> Path:
    named = environ.get("CHURN_ROOT")
    if named:
        return Path(named).expanduser().absolute()
    parent = STARTER.parent.parent
    installed = not ((parent / "pyproject.toml").is_file() or (parent.parent / "bento.yaml").is_file())
    return cwd.absolute() if installed or (cwd / "contracts").is_dir() else parent


def _path(root: Path, text: str) -> Path:
    path = Path(text).expanduser()
    return path if path.is_absolute() else root / path


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise SettingsError(f"{name} is '{environ[name]}', expected 1 or 0; unset it or use one of those")


def _seconds(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:8]) <= 86_400):
        raise SettingsError(f"{name} is '{text}', expected a whole number of seconds from 1 to 86,400; correct it")
    return int(text)


def _whole(environ: Mapping[str, str], name: str, default: int, unit: str) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text[:8]) <= 100_000):
        raise SettingsError(f"{name} is '{text}', expected a whole number of {unit} from 0 to 100,000; correct it")
    return int(text)


def _executor(environ: Mapping[str, str]) -> Executor:
    value = environ.get("CHURN_EXECUTOR") or "in_process"
    if value not in _EXECUTORS:
        raise SettingsError(f"CHURN_EXECUTOR is '{value}', expected one of: {', '.join(_EXECUTORS)}")
    return value
