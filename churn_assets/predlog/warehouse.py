"""The ingested log: the only writer of `<home>/warehouse/log.duckdb`.

A segment is taken in one transaction with its row in `segments`; then its file is named `.done`, the
warehouse is copied to `published.duckdb`, and old segments go to the archive. A kill between any two of
these is made good by the next ingest: a segment that the table names is not taken again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.errors import LogUnreadable
from churn_assets.predlog import journal
from churn_assets.predlog.connect import alone, opened
from churn_assets.predlog.known import KnownContracts
from churn_assets.predlog.published import FILE, publish
from churn_assets.predlog.schema import migrate, targets
from churn_assets.predlog.segment import DONE, READY, adopt_orphans, sync_folder
from churn_assets.predlog.stage import Place, Read, load_carefully, load_plain, read_strictly
from churn_assets.predlog.strict import Checker
from churn_assets.settings import Settings

PATIENCE_S = 30.0


@dataclass
class IngestReport:
    """What one ingest did. Counts are of this ingest; `migrations` are words for each change of the tables."""

    segments: int = 0
    predictions: int = 0
    feedback: int = 0
    rejections: int = 0
    quarantined: int = 0
    torn: int = 0
    bytes: int = 0
    adopted: int = 0
    archived: int = 0
    expired: int = 0
    published: bool = False
    migrations: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Lines that were taken."""
        return self.predictions + self.feedback + self.rejections

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rows": self.rows}


def pending(folder: Path) -> list[Path]:
    """Segments that were handed over and not ingested, oldest first; one look at the folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == READY)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LogUnreadable(f"{folder}: cannot be listed ({error.strerror}); name a folder you may read") from error


def ingest(
    settings: Settings,
    contract: Contract,
    *,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    patience_s: float = PATIENCE_S,
) -> IngestReport:
    """Take every segment that was handed over, each exactly once; publish, archive, forget what is too old.

    A home without any log is left as it is. Raises WarehouseLocked after `patience_s` seconds,
    WarehouseCorrupt, LogUnavailable, and LogUnreadable for segments that cannot be read, after all others.
    """
    report = IngestReport()
    folder, database = settings.predlog_dir, settings.warehouse_dir / FILE
    if not database.exists() and not (folder.is_dir() and any(folder.iterdir())):
        return report
    with alone(settings.warehouse_dir, patience_s):
        report.adopted = adopt_orphans(folder)
        with opened(database, patience_s) as connection:
            report.migrations = migrate(connection, contract)
            session = Session(connection, settings, contract, now)
            for path in pending(folder):
                session.take(path, report)
            session.settle()
            connection.execute("CHECKPOINT")
        report.published = publish(settings.warehouse_dir)
    if report.unreadable:
        raise LogUnreadable(
            f"{len(report.unreadable)} segments cannot be read, the first is {report.unreadable[0]}; "
            "all others are ingested; mend it and ingest again"
        )
    return report


class Session:
    """One ingest with the warehouse open. What was learnt of contracts lasts as long."""

    def __init__(self, connection: Any, settings: Settings, contract: Contract, now: Callable[[], dt.datetime]) -> None:
        self._connection, self._settings, self._now = connection, settings, now
        home = settings.warehouse_dir
        self._check = Checker(KnownContracts(home / "contracts", settings.bundles_dir, contract).find)
        self._targets: dict[str, dict[str, str]] = {}
        row = connection.execute("SELECT coalesce(max(last_seq), 0), coalesce(max(number), 0) FROM segments").fetchone()
        self._seq, self._number = row

    def take(self, path: Path, report: IngestReport) -> None:
        """One segment file; what cannot be read is noted and left."""
        try:
            if not self._has(path.stem):
                self.load(path.stem, path, lambda: _lines(path), report)
            path.rename(path.with_suffix(DONE))
        except OSError as error:
            report.unreadable.append(f"{path} ({error.strerror or error})")

    def load(self, name: str, path: Path, lines: Callable[[], Iterator[bytes]], report: IngestReport) -> None:
        """Rows and the segment's own row, in one transaction. Raises OSError, duckdb.Error."""
        import duckdb

        read = read_strictly(lines(), self._check)
        for fingerprint in read.fingerprints - self._targets.keys():
            self._targets[fingerprint] = targets(self._connection, self._check.contracts[fingerprint])
        place = Place(name, self._seq, self._targets)
        try:
            if not read.plain:
                raise duckdb.DataError("lines to be sorted out")
            self._commit(place, read, lambda: load_plain(self._connection, path, place, read, self._check))
        except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException):
            read = read_strictly(lines(), self._check)
            scratch = self._settings.warehouse_dir
            self._commit(
                place, read, lambda: load_carefully(self._connection, lines, place, read, self._check, scratch)
            )
        counts = read.counts
        report.segments += 1
        report.predictions += counts.predictions
        report.feedback += counts.feedback
        report.rejections += counts.rejections
        report.quarantined += len(counts.quarantined)
        report.torn += counts.torn
        report.bytes += counts.size

    def settle(self) -> None:
        """Make the new names durable and the journal complete."""
        sync_folder(self._settings.predlog_dir)
        journal.bring_up(self._settings.warehouse_dir, self._connection)

    def _has(self, name: str) -> bool:
        return self._connection.execute("SELECT 1 FROM segments WHERE name = ?", [name]).fetchone() is not None

    def _commit(self, place: Place, read: Read, load: Callable[[], None]) -> None:
        connection, counts = self._connection, read.counts
        connection.execute("BEGIN")
        try:
            load()
            connection.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, false)",
                [
                    *(place.name, self._number + 1, place.base + 1, place.base + counts.lines, counts.rows),
                    *(counts.predictions, counts.feedback, counts.rejections, len(counts.quarantined)),
                    *(counts.torn, counts.size, self._now().astimezone(dt.UTC).replace(tzinfo=None)),
                ],
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        self._number += 1
        self._seq = place.base + counts.lines


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
