"""Every setting, read from an environment that is an argument; reading creates and changes nothing.

`Settings` are those of a home, `ServingSettings` those of a service process, `DashboardSettings` and `MetricsSettings`
those of the dashboard and of processes that only tell metrics, `KafkaSettings` those of the events. Where alerts go is
read by `alerting.destinations`, which keeps the URLs and their secrets to itself. docs/settings.md lists all of them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from churn_assets.errors import SettingsError, without_user_info

Executor = Literal["in_process", "forkserver"]

LogFormat = Literal["text", "json"]

_EXECUTORS: tuple[Executor, ...] = ("in_process", "forkserver")
_LOG_FORMATS: tuple[LogFormat, ...] = ("text", "json")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_MIB = 2**20
DATABASE_URL = "CHURN_DATABASE_URL"
DAGSTER_SCHEMA, MLFLOW_SCHEMA = "dagster", "mlflow"  # in that database, beside that of the stores
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

# What the wheel carries of a project: contracts, dagster.yaml, workspace.yaml; `churn init` copies it.
STARTER = Path(__file__).resolve().parent / "starter"

# Dagster and MLflow name their databases by URL and do not escape the path in it.
_NOT_IN_A_URL = frozenset("%?#")

# Turns the telemetry of every library off; CHURN_TELEMETRY=1 leaves their own defaults.
QUIET_ENVIRONMENT: Mapping[str, str] = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class _Below:
    """An attribute of `Settings`: a path below its root or its home."""

    folder: str
    path: str

    def __get__(self, settings: Settings, owner: type[Settings]) -> Path:
        folder: Path = getattr(settings, self.folder)
        return folder / self.path


@dataclass(frozen=True)
class Settings:
    """Paths and switches of one home.

    `root` holds `contracts/` and `data/`; `home` holds all state, and two homes share nothing. `source` is the
    customer table if the user named one. Schedules are cron expressions in UTC, `sensor_s` the least seconds between
    two ticks of a sensor. A run of training or gate is overdue after `run_limit_s`. Ingested segments of days that
    ended `log_archive_hours` ago are archived; rows ingested `log_retention_days` ago are deleted, 0 keeps them for
    ever. Of each kept table the newest `data_versions` stay, beside those of models in use; 0 keeps no table. Outcomes
    that sources over the network report and nobody has accepted count for `feedback_share` of the customers.
    `instance` names this host among those that share the home, each with a folder of segments of its own.
    `dashboard_url` is where people reach the dashboard, "" where that is not known. `database_url` is the PostgreSQL
    database that has the ledger, the alerts and what Dagster and MLflow store, "" where files of the home have them.
    """

    root: Path
    home: Path
    contract_path: Path
    source: str | None = field(default=None, repr=False)
    telemetry: bool = False
    executor: Executor = "in_process"
    log_format: LogFormat = "text"
    mlflow_uri: str = field(default="", repr=False)
    score_cron: str = "0 5 * * *"
    ingest_cron: str = "5 * * * *"
    monitor_cron: str = "30 4 * * *"
    retrain_cron: str = "0 3 * * 1"
    sensor_s: int = 30
    run_limit_s: int = 6 * 3600
    log_archive_hours: int = 24
    log_retention_days: int = 0
    data_versions: int = 30
    feedback_share: float = 0.5
    instance: str = ""
    own_segments: Path | None = None
    dashboard_url: str = "http://localhost:3001"
    database_url: str = field(default="", repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], cwd: Path | None = None) -> Settings:
        """Read CHURN_* variables; relative paths are relative to the project root.

        The root is CHURN_ROOT, else the working directory if it has a `contracts` folder, else the checkout
        or Bento that this package lies in, else (an installed package) the working directory. A relative
        contract that the root does not have is the one that the package carries.
        Raises SettingsError for a value that cannot be used.
        """
        read = EnvironReader(environ)
        root = _root(environ, cwd or Path.cwd())
        home = _path(root, environ.get("CHURN_HOME") or "data/var")
        if home.exists() and not home.is_dir():
            raise SettingsError(f"CHURN_HOME is {home}, a file; name a folder")
        return cls(
            root=root,
            home=home,
            contract_path=project_file(root, environ.get("CHURN_CONTRACT") or "contracts/store.toml"),
            source=environ.get("CHURN_SOURCE") or None,
            telemetry=read.flag("CHURN_TELEMETRY"),
            executor=cast(Executor, read.choice("CHURN_EXECUTOR", cls.executor, _EXECUTORS)),
            log_format=cast(LogFormat, read.choice("CHURN_LOG_FORMAT", cls.log_format, _LOG_FORMATS)),
            mlflow_uri=_mlflow_uri(environ.get("CHURN_MLFLOW_URI"), home, read.database()),
            score_cron=read.text("CHURN_SCORE_CRON", cls.score_cron),
            ingest_cron=read.text("CHURN_INGEST_CRON", cls.ingest_cron),
            monitor_cron=read.text("CHURN_MONITOR_CRON", cls.monitor_cron),
            retrain_cron=read.text("CHURN_RETRAIN_CRON", cls.retrain_cron),
            sensor_s=read.whole("CHURN_SENSOR_S", cls.sensor_s, 1, 86_400),
            run_limit_s=read.whole("CHURN_RUN_LIMIT_S", cls.run_limit_s, 60, 30 * 86_400),
            log_archive_hours=read.whole("CHURN_LOG_ARCHIVE_HOURS", cls.log_archive_hours, 0, 100_000),
            log_retention_days=read.whole("CHURN_LOG_RETENTION_DAYS", cls.log_retention_days, 0, 100_000),
            data_versions=read.whole("CHURN_DATA_VERSIONS", cls.data_versions, 0, 100_000),
            feedback_share=read.real("CHURN_FEEDBACK_SHARE", cls.feedback_share, 0.0, 1.0),
            instance=read.label("CHURN_INSTANCE"),
            own_segments=read.folder("CHURN_SEGMENTS_DIR"),
            dashboard_url=_dashboard_url(read),
            database_url=read.database(),
        )

    @property
    def tool_home(self) -> Path:
        """The home under a name that Dagster, MLflow and BentoML can use: a link to it if a URL cannot hold its path.
        `storage.links.link_home` makes the link."""
        return _tool_home(self.home)

    @property
    def segments_dir(self) -> Path:
        """Where processes of this host write segments: of the log, or of their instance's folder in it."""
        return self.own_segments or self.predlog_dir / self.instance

    raw_dir = _Below("root", "data/raw")  # where a user puts their own table
    dagster_home = _Below("tool_home", "dagster")  # runs, events and schedules of Dagster's instance
    mlflow_dir = _Below("tool_home", "mlflow")  # the tracking database and its artifacts
    bento_home = _Below("tool_home", "bentoml")  # BentoML's store
    assets_dir = _Below("home", "assets")  # what the IO manager writes, one entry an asset
    bundles_dir = _Below("home", "bundles")  # content-addressed, one folder a version
    tables_dir = _Below("home", "tables")  # versions of raw and validated tables, rows kept once
    reports_dir = _Below("home", "reports")  # pages and lists for people
    studies_dir = _Below("home", "studies")  # tuning studies and the best parameters they found
    predlog_dir = _Below("home", "predlog")  # segments of the prediction log, of all instances
    warehouse_dir = _Below("home", "warehouse")  # the log in DuckDB, and its published copy
    archive_dir = _Below("home", "warehouse/archive")  # old segments of the log, as Parquet
    monitoring_dir = _Below("home", "monitoring")  # windows of predictions and the reports on them
    holdout_dir = _Below("home", "holdout")  # frozen customers that no model of this home is ever trained on
    ledger_path = _Below("home", "ledger.db")  # decisions, requests, challengers, approvals, moves of the champion

    def library_environ(self) -> dict[str, str]:
        """Variables that point Dagster and BentoML at this home and keep every library quiet."""
        own = {"DAGSTER_HOME": str(self.dagster_home), "BENTOML_HOME": str(self.bento_home)}
        return own if self.telemetry else {**own, **QUIET_ENVIRONMENT}


@dataclass(frozen=True)
class ServingSettings:
    """Workers, limits and timeouts of the online service. Sizes are in bytes, times in seconds.

    `log` is False only to measure what the prediction log costs. From an age of `stale_days` an `as_of` is
    answered with a warning; `poll_s` is the time between two reads of pointer and policy. In a worker `explain_queue`
    explanations may wait, and `shadow_queue` rows of a shadow. `insecure`: without API keys the service may listen on
    any address. A key may make `rate_per_s` requests a second, `rate_burst` at once, over all workers of the host; 0:
    any number. With `tls_cert` and `tls_key` (PEM files) the service speaks HTTPS. `run_dir`, else the home,
    holds what the processes of this host share and nobody else; `instance` is that of the home's settings.
    A worker has at most so many `connections`; each may take `head_s` for the head of a request, `idle_s` between two
    and `send_s` to read an answer. Bodies and unread answers hold at most `held_bytes`.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 3000
    grpc_port: int = 3003
    workers: int = 1
    timeout_s: float = 5.0
    body_bytes: int = _MIB
    batch_bytes: int = 16 * _MIB
    batch_rows: int = 10_000
    poll_s: float = 0.5
    stale_days: int = 30
    log: bool = True
    log_segment_bytes: int = 64 * _MIB
    log_segment_s: float = 20.0
    log_queue_rows: int = 50_000
    explain_queue: int = 16
    shadow_queue: int = 10_000
    insecure: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    rate_per_s: float = 0.0
    rate_burst: int = 1
    connections: int = 1000
    head_s: float = 10.0
    idle_s: float = 60.0
    send_s: float = 20.0
    held_bytes: int = 64 * _MIB
    level: str = "INFO"
    access_log: bool = False
    run_dir: Path | None = None
    instance: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], source: Path = STARTER.parent.parent) -> ServingSettings:
        """Read CHURN_* variables; `source` is the folder that this package lies in, `src` in a Bento.

        Raises SettingsError for a value that cannot be used, and for a home inside of a Bento: what is
        logged there would go with the Bento.
        """
        read = EnvironReader(environ)
        home, log = Settings.from_environ(environ).home, read.whole("CHURN_LOG", 1, 0, 1) == 1
        if log and (source.parent / "bento.yaml").is_file() and home.is_relative_to(source.parent):
            raise SettingsError(
                f"CHURN_HOME is {environ.get('CHURN_HOME') or 'not set'}, expected an absolute path outside of the "
                "Bento, where the prediction log is kept; set it"
            )
        return cls(
            home=home,
            host=read.text("CHURN_HOST", cls.host),
            port=read.whole("CHURN_PORT", cls.port, 1, 65_535),
            grpc_port=read.whole("CHURN_GRPC_PORT", cls.grpc_port, 0, 65_535),
            workers=read.whole("CHURN_WORKERS", cls.workers, 1, 256),
            timeout_s=read.real("CHURN_TIMEOUT_S", cls.timeout_s, 1.0, 3600.0),
            body_bytes=read.whole("CHURN_BODY_BYTES", cls.body_bytes, 1024, 2**30),
            batch_bytes=(batch := read.whole("CHURN_BATCH_BYTES", cls.batch_bytes, 1024, 2**30)),
            batch_rows=read.whole("CHURN_BATCH_ROWS", cls.batch_rows, 1, 1_000_000),
            poll_s=read.real("CHURN_POLL_S", cls.poll_s, 0.05, 3600.0),
            stale_days=read.whole("CHURN_STALE_DAYS", cls.stale_days, 0, 100_000),
            log=log,
            log_segment_bytes=read.whole("CHURN_LOG_SEGMENT_BYTES", cls.log_segment_bytes, 1024, 2**34),
            log_segment_s=read.real("CHURN_LOG_SEGMENT_S", cls.log_segment_s, 1.0, 86_400.0),
            log_queue_rows=read.whole("CHURN_LOG_QUEUE", cls.log_queue_rows, 1, 10_000_000),
            explain_queue=read.whole("CHURN_EXPLAIN_QUEUE", cls.explain_queue, 0, 10_000),
            shadow_queue=read.whole("CHURN_SHADOW_QUEUE", cls.shadow_queue, 1, 1_000_000),
            insecure=read.flag("CHURN_INSECURE"),
            tls_cert=read.file("CHURN_TLS_CERT", beside="CHURN_TLS_KEY"),
            tls_key=read.file("CHURN_TLS_KEY", beside="CHURN_TLS_CERT"),
            rate_per_s=(rate := read.real("CHURN_RATE_PER_S", cls.rate_per_s, 0.0, 1e6)),
            rate_burst=read.whole("CHURN_RATE_BURST", max(1, round(rate)), 1, 10_000_000),
            connections=read.whole("CHURN_CONNECTIONS", cls.connections, 8, 1_000_000),
            head_s=read.real("CHURN_HEAD_S", cls.head_s, 1.0, 3600.0),
            idle_s=read.real("CHURN_IDLE_S", cls.idle_s, 1.0, 3600.0),
            send_s=read.real("CHURN_SEND_S", cls.send_s, 1.0, 3600.0),
            held_bytes=read.whole("CHURN_HELD_BYTES", max(cls.held_bytes, 2 * batch), batch, 2**40),
            level=read.choice("CHURN_LOG_LEVEL", cls.level, _LEVELS, str.upper),
            access_log=read.whole("CHURN_ACCESS_LOG", 0, 0, 1) == 1,
            run_dir=read.folder("CHURN_RUN_DIR"),
            instance=read.label("CHURN_INSTANCE"),
        )


@dataclass(frozen=True)
class DashboardSettings:
    """Where the dashboard listens, and the address of the service that it asks.

    `insecure`: without API keys it may listen on any address. With `tls_cert` and `tls_key` (PEM files) it speaks
    HTTPS.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 3001
    insecure: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    service_url: str = "http://127.0.0.1:3000"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> DashboardSettings:
        """Read CHURN_* variables. Raises SettingsError for a value that cannot be used."""
        read = EnvironReader(environ)
        scheme = "https" if environ.get("CHURN_TLS_CERT") else "http"
        service = f"{scheme}://127.0.0.1:{read.whole('CHURN_PORT', ServingSettings.port, 1, 65_535)}"
        return cls(
            home=Settings.from_environ(environ).home,
            host=read.text("CHURN_HOST", cls.host),
            port=read.whole("CHURN_DASHBOARD_PORT", cls.port, 1, 65_535),
            insecure=read.flag("CHURN_INSECURE"),
            tls_cert=read.file("CHURN_TLS_CERT", beside="CHURN_TLS_KEY"),
            tls_key=read.file("CHURN_TLS_KEY", beside="CHURN_TLS_CERT"),
            service_url=read.url("CHURN_SERVICE_URL", service),
        )


@dataclass(frozen=True)
class KafkaSettings:
    """The broker of the events, and the names of their topics; without `servers` none is configured.

    `config` is a file of librdkafka's properties, for what the broker asks of its clients: TLS, SASL, timeouts.
    `name` distinguishes this home among those that share a broker.
    """

    servers: str = ""
    config: Path | None = None
    name: str = "churn"
    predictions: str = "ml.predictions"
    drift: str = "ml.drift-alerts"
    outliers: str = "ml.outliers"
    gate: str = "ml.gate"
    feedback: str = "ml.feedback"
    dead_letters: str = "ml.feedback.dead-letters"
    positions: str = "ml.relay-positions"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> KafkaSettings:
        """Read CHURN_* variables. Raises SettingsError for a value that cannot be used."""
        read = EnvironReader(environ)
        file = read.file("CHURN_KAFKA_CONFIG")
        return cls(
            servers=read.text("CHURN_KAFKA_SERVERS", ""),
            config=Path(file) if file else None,
            name=read.label("CHURN_KAFKA_NAME") or cls.name,
            predictions=read.topic("CHURN_TOPIC_PREDICTIONS", cls.predictions),
            drift=read.topic("CHURN_TOPIC_DRIFT", cls.drift),
            outliers=read.topic("CHURN_TOPIC_OUTLIERS", cls.outliers),
            gate=read.topic("CHURN_TOPIC_GATE", cls.gate),
            feedback=read.topic("CHURN_TOPIC_FEEDBACK", cls.feedback),
            dead_letters=read.topic("CHURN_TOPIC_DEAD_LETTERS", cls.dead_letters),
            positions=read.topic("CHURN_TOPIC_POSITIONS", cls.positions),
        )


@dataclass(frozen=True)
class MetricsSettings:
    """Where `churn metrics`, or the relay with its own metrics, listens; the rest as `DashboardSettings`. Port 0: the
    relay listens nowhere."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 3005
    insecure: bool = False
    tls_cert: str = ""
    tls_key: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], of_relay: bool = False) -> MetricsSettings:
        """Read CHURN_* variables. Raises SettingsError for a value that cannot be used."""
        read = EnvironReader(environ)
        relay_port = read.whole("CHURN_RELAY_METRICS_PORT", 3006, 0, 65_535)
        return cls(
            home=Settings.from_environ(environ).home,
            host=read.text("CHURN_HOST", cls.host),
            port=relay_port if of_relay else read.whole("CHURN_METRICS_PORT", cls.port, 1, 65_535),
            insecure=read.flag("CHURN_INSECURE"),
            tls_cert=read.file("CHURN_TLS_CERT", beside="CHURN_TLS_KEY"),
            tls_key=read.file("CHURN_TLS_KEY", beside="CHURN_TLS_CERT"),
        )


@dataclass(frozen=True)
class EnvironReader:
    """Values of an environment by name. An empty variable is as good as none; a wrong value is a SettingsError."""

    environ: Mapping[str, str]

    def text(self, name: str, default: str) -> str:
        """Any text."""
        return self.environ.get(name) or default

    def topic(self, name: str, default: str) -> str:
        """The name of a topic as Kafka allows it."""
        text = self.environ.get(name) or default
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or set(text) == {"."}:
            raise SettingsError(
                f"{name} is '{text[:80]}', expected 1 to 249 letters, digits, dots, hyphens and underscores; correct it"
            )
        return text

    def file(self, name: str, beside: str = "") -> str:
        """The absolute path of a file that can be read; "" if neither it nor the variable `beside` it is set."""
        text = self.environ.get(name, "")
        if not text and beside and self.environ.get(beside):
            raise SettingsError(f"{name} is not set, expected a file because {beside} is set; set both or none")
        if text and not (Path(text).is_file() and os.access(text, os.R_OK)):
            raise SettingsError(f"{name} is '{text}', expected a file that can be read; correct it")
        return str(Path(text).absolute()) if text else ""

    def folder(self, name: str) -> Path | None:
        """The absolute path of a folder that is there and can be written; None unless it is set."""
        text = self.environ.get(name, "")
        if text and not (Path(text).is_dir() and os.access(text, os.W_OK)):
            raise SettingsError(f"{name} is '{text}', expected a folder that can be written; make it or correct it")
        return Path(text).absolute() if text else None

    def label(self, name: str) -> str:
        """A host's or pod's name: lower-case letters, digits and hyphens; "" unless it is set."""
        text = self.environ.get(name, "")
        if text and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
            raise SettingsError(
                f"{name} is '{text[:80]}', expected 1 to 63 lower-case letters, digits and hyphens, such as the name "
                "of a host or pod; correct it"
            )
        return text

    def url(self, name: str, default: str) -> str:
        """An http or https URL of a server, without user, path or query."""
        text = (self.environ.get(name) or default).rstrip("/")
        if not re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?", text):
            shown = without_user_info(text)[:80]
            raise SettingsError(f"{name} is '{shown}', expected a URL such as http://127.0.0.1:3000; correct it")
        return text

    def database(self) -> str:
        """The URL of a PostgreSQL database, CHURN_DATABASE_URL; "" unless it is set. No message has its password."""
        text = self.environ.get(DATABASE_URL, "").strip()
        if text and not re.fullmatch(r"postgresql://[^\s/?#]*/[^\s/?#]+(\?[^\s#]*)?", text):
            raise SettingsError(
                f"{DATABASE_URL} is '{without_user_info(text).partition('?')[0][:80]}', expected a URL such as "
                "postgresql://host:5432/name, with user:password@ before the host, where a '/', '?' or '#' of the "
                "password is written as %2F, %3F or %23; correct it, or unset it for files of the home"
            )
        return text

    def flag(self, name: str) -> bool:
        """1, true, yes, on; 0, false, no, off; off unless set."""
        value = self.environ.get(name, "").strip().lower()
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise SettingsError(f"{name} is '{self.environ[name]}', expected 1 or 0; unset it or use one of those")

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise SettingsError(f"{name} is '{text}', expected a whole number from {low:,} to {high:,}; correct it")
        return int(text)

    def real(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:
            raise SettingsError(f"{name} is '{text}', expected a number from {low:g} to {high:g}; correct it")
        return value

    def choice(
        self, name: str, default: str, allowed: Sequence[str], normalise: Callable[[str], str] = str.lower
    ) -> str:
        """One of `allowed`, in any case."""
        text = self.environ.get(name, "").strip()
        value = normalise(text) or default
        if value not in allowed:
            raise SettingsError(f"{name} is '{text}', expected one of: {', '.join(allowed)}; correct it")
        return value


def with_user_info(text: str, variable: str, environ: Mapping[str, str]) -> str:
    """The value of a variable for `text`, which is that value without user info, as tools store it; else `text`."""
    value = environ.get(variable, "")
    return value if without_user_info(value) == text else text


def mlflow_uri_with_user_info(text: str, environ: Mapping[str, str]) -> str:
    """As `with_user_info` for MLflow's URI, which may be that of the database."""
    own = _mlflow_uri(None, Path(), EnvironReader(environ).database())
    return own if without_user_info(own) == text else with_user_info(text, "CHURN_MLFLOW_URI", environ)


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


def _tool_home(home: Path) -> Path:
    if _NOT_IN_A_URL.isdisjoint(str(home)):
        return home
    user = getattr(os, "getuid", lambda: "user")()
    return Path(tempfile.gettempdir()) / f"churn-homes-{user}" / sha256(os.fsencode(home)).hexdigest()[:16]


def _dashboard_url(read: EnvironReader) -> str:
    """As named, else on this machine; "" where others are reached too: they know this machine by another name."""
    own = f"http{'s' if read.environ.get('CHURN_TLS_CERT') else ''}://localhost"
    port = read.whole("CHURN_DASHBOARD_PORT", DashboardSettings.port, 1, 65_535)
    local = read.text("CHURN_HOST", DashboardSettings.host) in ("127.0.0.1", "::1", "localhost")
    named = read.environ.get("CHURN_DASHBOARD_URL", "")
    return read.url("CHURN_DASHBOARD_URL", f"{own}:{port}") if named or local else ""


def tool_database_url(database_url: str, schema: str) -> str:
    """The URL by which Dagster or MLflow uses a schema of its own, by the driver that it is made for."""
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
    return f"postgresql+psycopg2://{parts.netloc}{parts.path}?{urlencode(query)}"


def _mlflow_uri(given: str | None, home: Path, database_url: str) -> str:
    if given and given.startswith("sqlite:") and not _NOT_IN_A_URL.isdisjoint(given):
        raise SettingsError(
            f"CHURN_MLFLOW_URI is '{given}', expected a path without '%', '?' and '#', because no URL can hold them; "
            "name a file elsewhere, or unset it: the home has a store"
        )
    if not given and database_url:
        return tool_database_url(database_url, MLFLOW_SCHEMA)
    return given or f"sqlite:///{_tool_home(home) / 'mlflow' / 'mlflow.db'}"


def _path(root: Path, text: str) -> Path:
    path = Path(text).expanduser()
    return path if path.is_absolute() else root / path
