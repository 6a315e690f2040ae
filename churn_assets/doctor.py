"""What of a deployment is missing or wrong: `churn doctor`.

Each check looks at one thing and says what is so, what is expected and what to do. Nothing is created or changed but
one temporary file in the home, which tells what its disk takes for the time. The loop has checks of its own in
`alerting.watchdog`.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

from churn_assets.errors import ChurnError, EventsError, without_user_info
from churn_assets.prediction_log.segment import DONE, OPEN, READY, segments_of
from churn_assets.promotion.pointer import champion_bundle, read_champion
from churn_assets.settings import DashboardSettings, KafkaSettings, MetricsSettings, ServingSettings, Settings

Status = Literal["ok", "wrong", "unknown"]

PYTHON = ((3, 11), (3, 13))  # at least, and below: what the pinned libraries are built for
CLOCK_S = 2.0  # by which disk and machine may differ
FREE_SHARE, FREE_BYTES = 0.05, 2**30  # of the disk of a home; the less demanding one counts
ANSWER_S = 3.0
_MINE = "this account"


@dataclass(frozen=True)
class Check:
    """What was looked at and what is so; `expected` and `remedy` are empty where it is ok."""

    name: str
    status: Status
    message: str
    expected: str = ""
    remedy: str = ""

    @property
    def line(self) -> str:
        """In one line, for a terminal or a log."""
        more = f", expected {self.expected}" if self.expected else ""
        return f"{self.status:<8}{self.name}: {self.message}{more}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Deployment:
    """What is looked at: the settings of all processes of one home, and the instant."""

    settings: Settings
    environ: Mapping[str, str]
    now: datetime
    dagster_port: int = 3002


def check_deployment(deployment: Deployment) -> list[Check]:
    """All checks. One that fails for a reason of its own is `unknown`, with that reason."""
    results: list[Check] = []
    for name, check in CHECKS.items():
        try:
            results.extend(Check(name, *each) for each in check(deployment))
        except (ChurnError, OSError) as error:
            reason = " ".join(without_user_info(str(error)).split())
            results.append(Check(name, "unknown", reason))
    return results


# What a check yields: status, message, and for what is not ok the expectation and the remedy.
Finding = tuple[Status, str] | tuple[Status, str, str, str]


def check_versions(deployment: Deployment) -> Iterator[Finding]:
    """Python, and every installed library against what this package asks for. An image has only a part of them."""
    from packaging.requirements import Requirement

    lowest, above = PYTHON
    version = ".".join(map(str, sys.version_info[:3]))
    if not lowest <= sys.version_info[:2] < above:
        expected = f"at least {lowest[0]}.{lowest[1]} and below {above[0]}.{above[1]}"
        yield "wrong", f"Python is {version}", expected, "install one of those and the package in it"
    listed = [Requirement(text) for text in metadata.requires("churn-assets") or ()]
    needed = [requirement for requirement in listed if requirement.marker is None or requirement.marker.evaluate()]
    installed = {requirement.name: _version(requirement.name) for requirement in needed}
    for requirement in needed:
        if (present := installed[requirement.name]) and present not in requirement.specifier:
            remedy = "install the versions of constraints.txt: pip install -c constraints.txt"
            yield "wrong", f"{requirement.name} is {present}", str(requirement.specifier), remedy
    number = sum(each is not None for each in installed.values())
    own = _version("churn-assets")
    yield "ok", f"churn-assets {own}, Python {version}; {number} of {len(needed)} libraries are installed and fit"


def _version(name: str) -> str | None:
    for each in (name, f"{name}-cpu"):  # xgboost under the name of its build without a GPU
        try:
            return metadata.version(each)
        except metadata.PackageNotFoundError:
            continue
    return None


def check_settings(deployment: Deployment) -> Iterator[Finding]:
    """Every setting can be read; wrong ones of the service and the dashboard show here, not when those start."""
    from churn_assets.alerting.destinations import AlertSettings

    readers = (
        ServingSettings.from_environ,
        DashboardSettings.from_environ,
        MetricsSettings.from_environ,
        KafkaSettings.from_environ,
        lambda environ: AlertSettings.from_environ(environ, deployment.settings.home),
    )
    is_wrong = False
    for read in readers:
        try:
            read(deployment.environ)
        except ChurnError as error:
            if not is_wrong:  # the next reader says the same of the same variable
                yield "wrong", str(error), "", ""
            is_wrong = True
    if not is_wrong:
        names = sorted(name for name in deployment.environ if name.startswith("CHURN_"))
        yield "ok", f"set: {', '.join(names)}" if names else "all have their defaults"


def check_folders(deployment: Deployment) -> Iterator[Finding]:
    """The home, and the contract."""
    settings = deployment.settings
    if not settings.home.is_dir():
        yield "wrong", f"{settings.home} does not exist", "the home of this deployment", "set CHURN_HOME, or: churn run"
    elif settings.instance and os.access(settings.predlog_dir / settings.instance, os.W_OK | os.X_OK):
        yield "ok", f"instance {settings.instance} can write its part of the log"
    elif not os.access(settings.home, os.W_OK | os.X_OK):
        remedy = f"mount it writable, or: chown -R {os.getuid()} {settings.home}"
        yield "wrong", f"{settings.home} cannot be written by user {os.getuid()}", "a writable home", remedy
    else:
        yield "ok", f"{settings.home} can be written"
    if not settings.contract_path.is_file():
        remedy = "set CHURN_CONTRACT and CHURN_ROOT"
        yield "wrong", f"{settings.contract_path} does not exist", "the contract of the customer table", remedy
        return
    from churn_assets.contract.load import load_contract

    contract = load_contract(settings.contract_path)
    champion = read_champion(settings.home)
    if champion is not None and champion.fingerprint != contract.fingerprint:
        yield (
            "wrong",
            f"{settings.contract_path} is another contract than that of the champion",
            "the one that the champion was trained by",
            "set CHURN_CONTRACT, or train by the new one: churn run",
        )
    else:
        yield "ok", f"contract {contract.name}: {settings.contract_path}"


def check_permissions(deployment: Deployment) -> Iterator[Finding]:
    """No file of the home belongs to another account, and nobody else reads the customers in it."""
    home = deployment.settings.home
    if not home.is_dir():
        return
    if mode := home.stat().st_mode & 0o007:
        remedy = f"chmod o-rwx {home}"
        yield "wrong", f"every user of this machine may {_rights(mode)} {home}", "mode 0750: it has customers", remedy
    keys = home / "keys.db"
    if keys.exists() and keys.stat().st_mode & 0o077:
        yield "wrong", f"{keys} can be read by others", "mode 0600", f"chmod 600 {keys}"
    places = [home, *sorted(home.iterdir()), *segments_of(deployment.settings.predlog_dir, OPEN, READY, DONE)]
    foreign = [path for path in places if path.lstat().st_uid != os.getuid()]
    if foreign and os.getuid() != 0:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        yield (
            "wrong",
            f"{foreign[0]}{more} belong to user {foreign[0].lstat().st_uid}",
            f"user {os.getuid()}, {_MINE}: all processes of a home have one",
            f"chown -R {os.getuid()} {home}",
        )
    elif not mode:
        yield "ok", "no other user of this machine may read the home"


def _rights(mode: int) -> str:
    return " and ".join(word for bit, word in ((4, "list"), (2, "write"), (1, "enter")) if mode & bit)


def check_clock(deployment: Deployment) -> Iterator[Finding]:
    """The clock of the machine against that of the home's disk, and against what the home has seen already."""
    settings, now = deployment.settings, deployment.now
    if not settings.home.is_dir():
        return
    remedy = "switch time synchronisation on (chrony, systemd-timesyncd) on each host"
    if os.access(settings.home, os.W_OK | os.X_OK):
        with tempfile.NamedTemporaryFile(dir=settings.home, prefix=".doctor-") as probe:
            difference = datetime.fromtimestamp(Path(probe.name).stat().st_mtime, UTC) - datetime.now(UTC)
        if abs(seconds := difference.total_seconds()) > CLOCK_S:
            expected = f"at most {CLOCK_S:g} s between the clocks"
            yield (
                "wrong",
                f"the disk of the home is {abs(seconds):.0f} s {_side(seconds)} this machine",
                expected,
                remedy,
            )
    newest = max((path.lstat().st_mtime for path in settings.home.iterdir()), default=0.0)
    ahead = newest - now.timestamp()
    if ahead > CLOCK_S:
        expected = "nothing of the future: deadlines and windows go by the clock"
        yield "wrong", f"a file of the home was written {ahead:.0f} s in the future", expected, remedy
    else:
        yield "ok", f"{now:%Y-%m-%d %H:%M} UTC, and nothing in the home is of the future"


def _side(seconds: float) -> str:
    return "ahead of" if seconds > 0 else "behind"


def check_disk(deployment: Deployment) -> Iterator[Finding]:
    """Room for the log: bytes and files."""
    home = deployment.settings.home
    if not home.is_dir():
        return
    usage, nodes = shutil.disk_usage(home), os.statvfs(home)
    free, least = usage.free, min(FREE_BYTES, int(FREE_SHARE * usage.total))
    if free < least:
        remedy = "free some: docs/operations.md (The disk is full)"
        yield "wrong", f"{_size(free)} of {_size(usage.total)} are free", f"at least {_size(least)}", remedy
    elif nodes.f_files and nodes.f_favail < FREE_SHARE * nodes.f_files / 5:
        expected = f"at least {FREE_SHARE / 5:.0%}"
        yield "wrong", f"{nodes.f_favail} of {nodes.f_files} files can still be made", expected, "remove old files"
    else:
        yield "ok", f"{_size(free)} of {_size(usage.total)} are free"


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def check_access(deployment: Deployment) -> Iterator[Finding]:
    """Keys, where others reach the service."""
    from churn_assets.access.keyring import check_address, is_loopback
    from churn_assets.access.keys import KeyStore

    settings = ServingSettings.from_environ(deployment.environ)
    check_address(settings.host, settings)
    usable = [key for key in KeyStore(settings.home).all() if key.state(deployment.now.timestamp()) == "valid"]
    if not usable and not is_loopback(settings.host) and settings.insecure:
        yield "wrong", f"{settings.host} is open to everyone", "a key", "unset CHURN_INSECURE, and: churn keys create"
    elif usable and not is_loopback(settings.host) and not settings.tls_cert:
        yield "ok", f"{len(usable)} keys; plain HTTP on {settings.host}: something in front of it has to speak HTTPS"
    else:
        yield "ok", f"{len(usable)} keys; listens on {settings.host}"


def check_ports(deployment: Deployment) -> Iterator[Finding]:
    """Each port has its server or is free; the service that the dashboard asks answers."""
    serving = ServingSettings.from_environ(deployment.environ)
    dashboard = DashboardSettings.from_environ(deployment.environ)
    servers = [
        ("service", serving.port, "/livez", "CHURN_PORT"),
        ("dashboard", dashboard.port, "/livez", "CHURN_DASHBOARD_PORT"),
        ("Dagster", deployment.dagster_port, "/server_info", "--port"),
    ]
    for name, port, path, setting in servers:
        if not _listens(port):
            yield "ok", f"{port} is free: no {name} on this machine"
        elif _answers(f"http://127.0.0.1:{port}{path}") or _answers(f"https://127.0.0.1:{port}{path}"):
            yield "ok", f"the {name} answers on {port}"
        else:
            remedy = f"end what listens there, or use another port: {setting}"
            yield "wrong", f"what listens on {port} does not answer {path}", f"the {name} or nothing", remedy
    if deployment.environ.get("CHURN_SERVICE_URL"):
        if _answers(f"{dashboard.service_url}/livez"):
            yield "ok", f"the service answers at {dashboard.service_url}"
        else:
            remedy = "start it: churn serve; or correct CHURN_SERVICE_URL"
            yield "wrong", f"{dashboard.service_url} does not answer /livez", "the service", remedy


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(ANSWER_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    """Whether a server answers 200; whom its certificate is made out to does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=ANSWER_S) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def check_champion(deployment: Deployment) -> Iterator[Finding]:
    """The model that answers: its bundle is there and as it was made."""
    from churn_assets.storage.sealed import verify

    home = deployment.settings.home
    champion = read_champion(home)
    if champion is None:
        yield "wrong", "no model has been promoted in this home", "a champion", "train one: churn run"
        return
    verify(champion_bundle(home))
    yield "ok", f"{champion.version}, its files have the hashes of its manifest"


def check_databases(deployment: Deployment) -> Iterator[Finding]:
    """PostgreSQL answers, if one is set, and has what the files have; ledger and alerts can be read; MLflow answers."""
    from churn_assets.alerting.alerts import open_alerts
    from churn_assets.alerting.destinations import AlertSettings
    from churn_assets.mlflow_registry.connect import store_path
    from churn_assets.promotion.ledger import Ledger

    settings = deployment.settings
    if settings.database_url:
        yield from _check_postgresql(settings)
    Ledger.of(settings).state()
    opened = open_alerts(AlertSettings.from_environ(deployment.environ, settings.home))
    yield "ok", f"the ledger can be read; {len(opened)} alerts are open"
    store = store_path(settings.mlflow_uri)
    shown = without_user_info(settings.mlflow_uri)
    if settings.mlflow_uri.startswith("postgresql"):
        yield "ok", "MLflow's store is a schema of the database"
    elif store is not None:
        yield "ok", f"MLflow's store is {'a file' if store.exists() else 'not made yet'}: {store}"
    elif _answers(f"{settings.mlflow_uri.rstrip('/')}/health"):
        yield "ok", f"MLflow answers at {shown}"
    else:
        yield "wrong", f"{shown} does not answer /health", "MLflow", "start it, or correct CHURN_MLFLOW_URI"


def _check_postgresql(settings: Settings) -> Iterator[Finding]:
    from churn_assets.alerting.alerts import AlertStore
    from churn_assets.alerting.destinations import AlertSettings
    from churn_assets.promotion.ledger import Ledger
    from churn_assets.storage.moving import is_copied
    from churn_assets.storage.postgresql import SESSIONS, look_at, plain_database_errors
    from churn_assets.storage.store import Database

    database, alerts = Database(settings.database_url), AlertSettings(settings.home)
    with plain_database_errors(database):
        server = look_at(database)
    if server.encoding != "UTF8":
        remedy = "make the database anew: CREATE DATABASE churn ENCODING 'UTF8' TEMPLATE template0"
        yield "wrong", f"the encoding of {database} is {server.encoding}", "UTF8, or texts cannot be stored", remedy
    if not server.may_make_schemas:
        remedy = "GRANT CREATE ON DATABASE to it, or make the schemas churn, churn_log, dagster and mlflow for it"
        yield "wrong", f"this account may not make schemas in {database}", "the right to, for the first start", remedy
    if server.most_sessions - server.sessions < 4 * SESSIONS:
        remedy = "raise max_connections, or put a pooler before it: docs/postgresql.md (Sessions)"
        yield "wrong", f"{server.sessions} of {server.most_sessions} sessions are in use", "room for more", remedy
    for source, target in (
        (Ledger(settings.ledger_path), Ledger(database)),
        (AlertStore(alerts), AlertStore(alerts, database)),
    ):
        if not is_copied(source, target):
            remedy = "stop what runs without CHURN_DATABASE_URL, then: churn database copy"
            yield "wrong", f"{source.place} has rows that were not copied to {database}", "all of them there", remedy
    yield (
        "ok",
        f"PostgreSQL {server.version} at {database}, {server.sessions} of {server.most_sessions} sessions in use",
    )


def check_log(deployment: Deployment) -> Iterator[Finding]:
    """Whether predictions still come, and are ingested: by the times of segments."""
    from churn_assets.contract.load import load_contract

    settings = deployment.settings
    hours = load_contract(settings.contract_path).monitoring.stale_hours
    segments = segments_of(settings.predlog_dir, OPEN, READY, DONE)
    if not segments:
        yield "ok", "no prediction was logged yet"
        return
    newest = max(path.stat().st_mtime for path in segments)
    age = (deployment.now.timestamp() - newest) / 3600
    waiting = len([path for path in segments if path.suffix == READY])
    if age > hours:
        remedy = "is the service called, and may it write the home? docs/operations.md (The log is stale)"
        yield "wrong", f"the last row was written {age:.0f} h ago", f"one within {hours:g} h (stale_hours)", remedy
    else:
        yield "ok", f"the last row was written {age:.1f} h ago; {waiting} segments wait for the ingest"


def check_broker(deployment: Deployment) -> Iterator[Finding]:
    """The broker of the events, where there is one, and the relay of this home."""
    from churn_assets.events.status import delay_of, describe_relay, read_relay_status

    kafka = KafkaSettings.from_environ(deployment.environ)
    if not kafka.servers:
        yield "ok", "CHURN_KAFKA_SERVERS is not set: no events are sent"
        return
    if _version("confluent-kafka") is None:
        remedy = "pip install 'churn-assets[events]'"
        yield "wrong", "the Kafka client is not installed", "it, because CHURN_KAFKA_SERVERS is set", remedy
        return
    from churn_assets.events.broker import missing_topics

    try:
        missing = missing_topics(kafka, ANSWER_S)
    except EventsError as error:
        yield "wrong", str(error), "", ""
        return
    made = f"; the relay makes {', '.join(missing)}" if missing else ", and has every topic"
    yield "ok", f"{kafka.servers} answers{made}"
    status = read_relay_status(deployment.settings)
    if status is None:
        yield "wrong", "no relay has ever run in this home", "one, because a broker is set", "churn events relay"
    elif late := delay_of(status, deployment.now):
        remedy = "docs/operations.md (Events are late)"
        yield "wrong", late, "events within seconds", remedy
    else:
        yield "ok", describe_relay(status, deployment.now)


def check_loop(deployment: Deployment) -> Iterator[Finding]:
    """The checks of the loop; `churn doctor --loop` has them alone."""
    from churn_assets.alerting import watchdog

    for check in watchdog.check_loop(deployment.settings, deployment.now):
        if check.status == "ok":
            yield "ok", f"{check.name}: {check.message}"
        else:
            status: Status = "wrong" if check.status == "overdue" else "unknown"
            yield status, f"{check.name}: {check.message}", "", check.remedy


CHECKS: Mapping[str, Callable[[Deployment], Iterator[Finding]]] = {
    "versions": check_versions,
    "settings": check_settings,
    "folders": check_folders,
    "permissions": check_permissions,
    "clock": check_clock,
    "disk": check_disk,
    "access": check_access,
    "ports": check_ports,
    "champion": check_champion,
    "databases": check_databases,
    "log": check_log,
    "broker": check_broker,
    "loop": check_loop,
}
