"""The ingested log: the only writer of `<home>/warehouse/log.duckdb`.

A segment is ingested in one transaction with its row in `segments`; then its file is renamed to `.done`, the
warehouse is copied to `published.duckdb`, and old segments go to the archive. After a kill between any two of these
steps the next ingest completes them: a segment that the table names is not ingested again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Contract
from churn_assets.errors import LogUnreadable
from churn_assets.prediction_log.schema import migrate, targets
from churn_assets.prediction_log.segment import DONE, READY, adopt_orphans, files_of
from churn_assets.prediction_log.warehouse import archive
from churn_assets.prediction_log.warehouse.connection import FILE, alone, opened, publish
from churn_assets.prediction_log.warehouse.parse import Checker, KnownContracts
from churn_assets.prediction_log.warehouse.rebuild import (
    SegmentRow,
    append_to_journal,
    discard,
    insert_segment,
    missing_segments,
)
from churn_assets.prediction_log.warehouse.stage import SegmentLoader, SegmentRead, read_strictly
from churn_assets.settings import Settings
from churn_assets.storage.files import sync_directory

if TYPE_CHECKING:
    import duckdb

PATIENCE_S = 30.0


@dataclass
class IngestReport:
    """What one ingest did. Counts are of this ingest; `migrations` describe each change of the tables.

    `restored` segments had been ingested before and were not in the warehouse; for `missing` of them there is no
    file any more. `archived` counts files, `expired` segments.
    """

    segments: int = 0
    predictions: int = 0
    feedback: int = 0
    rejections: int = 0
    quarantined: int = 0
    torn: int = 0
    bytes: int = 0
    adopted: int = 0
    restored: int = 0
    missing: int = 0
    archived: int = 0
    expired: int = 0
    published: bool = False
    migrations: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Lines that were ingested."""
        return self.predictions + self.feedback + self.rejections

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rows": self.rows}


def pending(folder: Path) -> list[Path]:
    """Segments that were handed over and not ingested, oldest first. Raises LogUnreadable."""
    return files_of(folder, READY)


def ingest(
    settings: Settings,
    contract: Contract,
    *,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    patience_s: float = PATIENCE_S,
    rebuild: bool = False,
) -> IngestReport:
    """Ingest every segment that was handed over, each exactly once; publish, archive, delete what has expired.

    A home without a log is left as it is. `rebuild` deletes the warehouse and makes it again from segments and
    archives; the same happens if it is not there. Raises WarehouseLocked after `patience_s` seconds,
    WarehouseCorrupt, LogUnavailable, and LogUnreadable for segments that cannot be read, after all others.
    """
    report = IngestReport()
    folder, home = settings.predlog_dir, settings.warehouse_dir
    if not home.exists() and not (folder.is_dir() and any(folder.iterdir())):
        return report
    at = now().astimezone(dt.UTC).replace(tzinfo=None)
    with alone(home, patience_s):
        folder.mkdir(parents=True, exist_ok=True)
        report.adopted = adopt_orphans(folder)
        if rebuild:
            discard(home / FILE)
        with opened(home / FILE, patience_s) as connection:
            report.migrations = migrate(connection, contract)
            session = Session(connection, settings, contract, report, at)
            for name, file, journal_row in missing_segments(settings, session.names(), session.number):
                session.restore(name, file, journal_row)
            for path in pending(folder):
                session.ingest(path)
            sync_directory(folder)
            append_to_journal(home, connection)
            if settings.log_retention_days:
                report.expired = archive.expire(connection, at - dt.timedelta(days=settings.log_retention_days))
            old = archive.due(connection, _start_of_day(at - dt.timedelta(hours=settings.log_archive_hours)))
            gone = archive.expired(connection)
            connection.execute("CHECKPOINT")
        report.published = publish(home)
        archive.remove(settings.archive_dir, folder, gone)
        report.archived = archive.compact(settings.archive_dir, folder, old)
    if report.unreadable:
        raise LogUnreadable(
            f"{len(report.unreadable)} segments cannot be read, the first is {report.unreadable[0]}; "
            "all others are ingested; correct its permissions and ingest again"
        )
    return report


class Session:
    """One ingest with the warehouse open; what it has read of contracts is kept until it ends."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        contract: Contract,
        report: IngestReport,
        at: dt.datetime,
    ) -> None:
        self._connection, self._scratch, self._report, self._at = connection, settings.warehouse_dir, report, at
        self._check = Checker(KnownContracts(settings.warehouse_dir / "contracts", settings.bundles_dir, contract))
        self._targets: dict[str, dict[str, str]] = {}
        [(self._seq, self.number)] = connection.execute(
            "SELECT coalesce(max(last_seq), 0), coalesce(max(number), 0) FROM segments"
        ).fetchall()

    def names(self) -> frozenset[str]:
        """Every segment that was ingested."""
        return frozenset(name for (name,) in self._connection.execute("SELECT name FROM segments").fetchall())

    def ingest(self, path: Path) -> None:
        """A segment file that was handed over; one that cannot be read is reported and left."""
        try:
            if not self._has(path.stem):
                self._load(path.stem, path, self._at)
            path.rename(path.with_suffix(DONE))
        except OSError as error:
            self._report.unreadable.append(f"{path} ({error.strerror or error})")

    def restore(self, name: str, path: Path | None, row: SegmentRow | None) -> None:
        """A segment that had been ingested, with the `seq` and the instant of its `row` in the journal.

        Without a file for it only the row is kept. Raises LogUnreadable.
        """
        self._report.restored += 1
        at = self._at
        if row is not None:
            self.number, self._seq, at = row.number - 1, row.first_seq - 1, row.ingested_at
        if path is not None:
            try:
                self._load(name, path, at)
            except OSError as error:
                raise LogUnreadable(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
        elif row is not None:
            insert_segment(self._connection, replace(row, expired=True))
            self.number, self._seq = row.number, row.last_seq
            self._report.missing += 1

    def _load(self, name: str, path: Path, at: dt.datetime) -> None:
        """The rows of a segment and its own row, in one transaction. Raises OSError, duckdb.Error."""
        import duckdb

        read = self._read(path)
        for fingerprint in read.fingerprints - self._targets.keys():
            self._targets[fingerprint] = targets(self._connection, self._check.contracts[fingerprint])
        loader = SegmentLoader(self._connection, self._check, self._targets, self._scratch, name, self._seq)
        try:
            self._commit(loader, loader.load_plain if read.plain else loader.load_carefully, path, read, at)
        except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException):
            if not read.plain:
                raise
            read = self._read(path)  # its counts were changed by the attempt
            self._commit(loader, loader.load_carefully, path, read, at)
        report = self._report
        report.segments += 1
        report.predictions += read.predictions
        report.feedback += read.feedback
        report.rejections += read.rejections
        report.quarantined += len(read.quarantined)
        report.torn += read.torn
        report.bytes += read.size

    def _read(self, path: Path) -> SegmentRead:
        with path.open("rb") as lines:
            return read_strictly(lines, self._check)

    def _has(self, name: str) -> bool:
        return self._connection.execute("SELECT 1 FROM segments WHERE name = ?", [name]).fetchone() is not None

    def _commit(
        self,
        loader: SegmentLoader,
        load: Callable[[Path, SegmentRead], None],
        path: Path,
        read: SegmentRead,
        at: dt.datetime,
    ) -> None:
        self._connection.execute("BEGIN")
        try:
            load(path, read)
            row = SegmentRow(
                name=loader.name,
                number=self.number + 1,
                first_seq=loader.base + 1,
                last_seq=loader.base + read.lines,
                rows=read.predictions + read.feedback + read.rejections,
                predictions=read.predictions,
                feedback=read.feedback,
                rejections=read.rejections,
                quarantined=len(read.quarantined),
                torn=read.torn,
                bytes=read.size,
                ingested_at=at,
                expired=False,
            )
            insert_segment(self._connection, row)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self.number += 1
        self._seq = loader.base + read.lines


def _start_of_day(at: dt.datetime) -> dt.datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
