"""What pages read: the published copy of the log, the reports of monitoring, the contract, the alerts.

A file that is missing, damaged or just being replaced takes away its own part of a page: `attempt` notes what is wrong.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from churn_assets.alerting.alerts import Entry, all_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.errors import ChurnError, SettingsError
from churn_assets.monitoring.data_quality import QualityReport
from churn_assets.monitoring.drift.report import DriftReport
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.windows import R, read_report
from churn_assets.prediction_log.warehouse.connection import has_table
from churn_assets.prediction_log.warehouse.published import PublishedLog, stamp_of
from churn_assets.promotion.ledger import Ledger
from churn_assets.settings import DashboardSettings, Settings

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

MOST_KEPT = 64  # values that are kept as they were made of files
MOST_MARKS = 10_000  # contact events of this process that are remembered until the log has them
_CONTACTS = "SELECT customer_id, event, contacted_at, {who} FROM {table}"
_AGAIN = "run `monitor`: it is made again"


@dataclass(frozen=True)
class Mark:
    """A contact event, one of `prediction_log.contacts.EVENTS`, at an instant, by whom: "" where the copy does not
    say."""

    event: str
    at: dt.datetime
    who: str


class Sources:
    """Everything that the pages of one home read; `environ` names where alerts go, `clock` is UTC."""

    def __init__(
        self,
        settings: Settings,
        dashboard: DashboardSettings,
        environ: Mapping[str, str],
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.settings, self.dashboard, self.environ, self.clock = settings, dashboard, environ, clock
        self.log = PublishedLog(settings)
        self._lock = threading.Lock()
        self._marks: deque[tuple[str, Mark]] = deque(maxlen=MOST_MARKS)
        self._made: dict[Hashable, tuple[tuple[Hashable, ...], Any]] = {}

    def on_another_log(self) -> Sources:
        """The same sources, and what is kept of them, with a log that nobody else asks."""
        other = copy(self)
        other.log = PublishedLog(self.settings)
        return other

    @property
    def ledger(self) -> Ledger:
        """Decisions, challengers, approvals and moves."""
        return Ledger(self.settings.ledger_path)

    def contract(self) -> Contract:
        """The contract in use. Raises ContractError."""
        return self.parsed(self.settings.contract_path, load_contract)

    def quality(self) -> QualityReport | None:
        """The newest report on the data, as the asset left it. Raises WindowUnreadable."""
        return self._report("data_quality_report", QualityReport)

    def drift(self) -> DriftReport | None:
        """The newest report on drift. Raises WindowUnreadable."""
        return self._report("drift_report", DriftReport)

    def performance(self) -> PerformanceReport | None:
        """The newest report on performance. Raises WindowUnreadable."""
        return self._report("performance_report", PerformanceReport)

    def contacts(self) -> Mapping[str, tuple[Mark, ...]]:
        """Contact events by customer, the newest first: those of the published log, and those that this process has
        recorded since. Raises WarehouseCorrupt, LogUnreadable."""
        rows = self.log.ask("contacts", _read_contacts) or []
        with self._lock:
            own = list(self._marks)
        marks: dict[str, dict[tuple[str, dt.datetime], Mark]] = {}
        for customer, mark in [*((customer, mark) for customer, mark in rows), *own]:
            marks.setdefault(customer, {}).setdefault((mark.event, mark.at), mark)
        return {
            customer: tuple(sorted(known.values(), key=lambda mark: mark.at, reverse=True))
            for customer, known in marks.items()
        }

    def remember(self, customer: str, mark: Mark) -> None:
        """Show an event that was recorded before the log is ingested again."""
        with self._lock:
            self._marks.append((customer, mark))

    def alert_settings(self) -> AlertSettings:
        """Where alerts are stored and sent; not sent where the destinations cannot be used."""
        try:
            return AlertSettings.from_environ(self.environ, self.settings.home)
        except SettingsError:
            return AlertSettings(self.settings.home)

    def alerts(self) -> list[Entry]:
        """Every alert, newest first. Raises AlertsUnreadable."""
        return all_alerts(self.alert_settings())

    def parsed(self, path: Path, parse: Callable[[Path], T]) -> T:
        """What `parse` makes of a file, kept until the file changes."""
        return self.kept(path, path, lambda: parse(path))

    def kept(self, key: Hashable, path: Path, make: Callable[[], T]) -> T:
        """What `make` makes by means of a file, kept under `key` until the file changes."""
        return self.made(key, (stamp_of(path),), make)

    def made(self, key: Hashable, stamps: tuple[Hashable, ...], make: Callable[[], T]) -> T:
        """What `make` makes, kept under `key` for as long as the `stamps` of what it is made from are the same; not
        where one of them is None."""
        kept = self._made.get(key)
        if kept is not None and kept[0] == stamps:
            return cast(T, kept[1])
        value = make()
        if None not in stamps:
            if len(self._made) >= MOST_KEPT:
                self._made.clear()
            self._made[key] = stamps, value
        return value

    def _report(self, asset: str, kind: type[R]) -> R | None:
        path = self.settings.assets_dir / f"{asset}.json"
        return self.parsed(path, lambda file: read_report(file, kind, remedy=_AGAIN))


def attempt(problems: list[str], read: Callable[[], T]) -> T | None:
    """What `read` returns; None, with its message among the `problems`, if it cannot be read."""
    try:
        return read()
    except (ChurnError, OSError, msgspec.MsgspecError) as error:
        problems.append(" ".join(str(error).split()))
        return None


def _read_contacts(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, Mark]]:
    known = has_table(connection, "contacts")
    table, who = ("contacts", "who") if known else ("contact_events", "NULL")
    rows = connection.execute(_CONTACTS.format(who=who, table=table)).fetchall()
    return [(customer, Mark(event, at.replace(tzinfo=dt.UTC), name or "")) for customer, event, at, name in rows]
