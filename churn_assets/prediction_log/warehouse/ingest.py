"""The ingested log: the only writer of `<home>/warehouse/log.duckdb`.

A segment is ingested in one transaction with its row in `segments`; then its file is renamed to `.done`, the
warehouse is copied to `published.duckdb`, and old segments go to the archive. After a kill between any two of these
steps the next ingest completes them: a segment that the table names is not ingested again.

In the common case DuckDB reads a segment's file in one pass, after the strict check of every line. If a line was
refused, an id is repeated, a value has a rarer spelling or the contract changed within the segment, the accepted lines
are written in their canonical spelling, one file a contract, and those are loaded.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import LogUnreadable
from churn_assets.prediction_log.records import (
    INSTANTS,
    Contact,
    Feedback,
    LostRows,
    Rejections,
    SourceDecision,
    encode_line,
)
from churn_assets.prediction_log.schema import TYPES, literal, migrate, quoted, targets
from churn_assets.prediction_log.segment import DONE, READY, Segment, adopt_all_orphans, remove_unused, segments_of
from churn_assets.prediction_log.warehouse import archive
from churn_assets.prediction_log.warehouse.connection import (
    FILE,
    alone,
    ingested_names,
    make_views,
    nameable,
    opened,
    publish,
)
from churn_assets.prediction_log.warehouse.parse import Checker, Line, Prediction, Refused, SegmentRead
from churn_assets.prediction_log.warehouse.rebuild import (
    SCRATCH,
    SegmentRow,
    append_to_journal,
    insert_row,
    missing_segments,
)
from churn_assets.settings import Settings
from churn_assets.storage.files import open_file, remove_leftovers, sync_directory

if TYPE_CHECKING:
    import duckdb

_TEXT = 4096  # of a line in quarantine; the segment has all of it
_NUMBER = "rowid - (SELECT min(rowid) FROM staged) + 1"  # SQL of a line's number in a file that is read as it is
_COUNTS = ("predictions", "feedback", "rejections", "quarantined", "torn", "bytes")
_IDS = {  # column and table
    Prediction: ("prediction_id", "predictions"),
    Feedback: ("feedback_id", "feedback"),
    Contact: ("contact_id", "contacts"),
    SourceDecision: ("decision_id", "source_decisions"),
}
_STAGED = {**TYPES, Kind.DATE: "VARCHAR"}
_PREDICTION = Prediction.__struct_fields__[:-1]  # without the features
_FEEDBACK, _DECISION = Feedback.__struct_fields__, SourceDecision.__struct_fields__
_CONTACT = Contact.__struct_fields__
_FLAGS = ("test", "shadow")  # left out of a line where false
_FIXED = {
    **dict.fromkeys(("kind", *_PREDICTION, *_FEEDBACK, *_DECISION, *_CONTACT), "VARCHAR"),
    **dict.fromkeys((*Rejections.__struct_fields__, *LostRows.__struct_fields__), "VARCHAR"),
    **dict.fromkeys(("score", "margin", "threshold", "latency_us"), "DOUBLE"),
    **dict.fromkeys(("decision", "churned", "contacted", "accepted", *_FLAGS), "BOOLEAN"),
    **dict.fromkeys(("warnings", "ids"), "VARCHAR[]"),
    **dict.fromkeys(("counts", "rows"), "MAP(VARCHAR, BIGINT)"),
    "lost": "BIGINT",
}


@dataclass
class IngestReport:
    """What one ingest did; `migrations` describe each change of the tables.

    `restored` segments had been ingested before and were not in the warehouse; for `missing` of them there is no
    file any more. `archived` counts files, `expired` segments. Feedback of `quarantined_sources`
    counts no longer since this ingest, see `sources`.
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
    quarantined_sources: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Predictions, feedback and rejections that were ingested."""
        return self.predictions + self.feedback + self.rejections

    def add(self, row: SegmentRow) -> None:
        """Count a segment that was ingested."""
        self.segments += 1
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(row, name))

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rows": self.rows}


def pending(folder: Path) -> list[Path]:
    """Segments that were handed over and not ingested, oldest first. Raises LogUnreadable."""
    return segments_of(folder, READY)


def ingest(
    settings: Settings,
    contract: Contract,
    *,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    patience_s: float = 30.0,
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
        _remove_scratch(home)
        report.adopted = adopt_all_orphans(folder, settings.instance)
        if rebuild:  # the write-ahead log first: an old one must never be applied to a new warehouse
            for path in (home / f"{FILE}.wal", home / FILE):
                path.unlink(missing_ok=True)
        with nameable(home / FILE) as database, opened(database, patience_s) as connection:
            report.migrations = migrate(connection, contract)
            session = Session(connection, settings, contract, report, at)
            for name, file, journal_row in missing_segments(settings, ingested_names(connection), session.number):
                session.restore(name, file, journal_row)
            for path in pending(folder):
                session.ingest(path)
            report.quarantined_sources = session.judge(folder)
            for changed in session.folders | {folder}:
                sync_directory(changed)
            append_to_journal(home, connection)
            if settings.log_retention_days:
                report.expired = archive.expire(connection, at - dt.timedelta(days=settings.log_retention_days))
            old = archive.due(
                connection, dt.datetime.combine(at - dt.timedelta(hours=settings.log_archive_hours), dt.time.min)
            )
            gone = ingested_names(connection, "expired")
            connection.execute("CHECKPOINT")
        report.published = publish(home)
        archive.remove(settings.archive_dir, folder, gone)
        report.archived = archive.compact(settings.archive_dir, folder, old)
        remove_unused(folder)
    if report.unreadable:
        raise LogUnreadable(
            f"{len(report.unreadable)} segments cannot be read, the first is {report.unreadable[0]}; "
            "all others are ingested; correct its permissions and ingest again"
        )
    return report


def _remove_scratch(home: Path) -> None:
    """Remove what a killed ingest left; the lock is held. `tmp` was the beginning of such names before 0.3, and the
    last is what DuckDB swaps to."""
    for path in (*home.glob(f"{SCRATCH}*"), *home.glob("tmp????????"), home / f"{FILE}.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    remove_leftovers(home)


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
        self._share, self._instance = settings.feedback_share, settings.instance
        self._own_segments = settings.segments_dir
        self._check = Checker(settings.warehouse_dir / "contracts", settings.bundles_dir, contract)
        self.folders: set[Path] = set()  # in which segments were renamed
        self._targets: dict[str, dict[str, str]] = {}  # fingerprint -> column of its contract -> column of the table
        [(self.seq, self.number)] = connection.execute(
            "SELECT coalesce(max(last_seq), 0), coalesce(max(number), 0) FROM segments"
        ).fetchall()

    def ingest(self, path: Path) -> None:
        """A segment file that was handed over; one that cannot be read is reported and left."""
        try:
            if not self._connection.execute("SELECT 1 FROM segments WHERE name = ?", [path.stem]).fetchone():
                self._load(path.stem, path, self._at)
            path.rename(path.with_suffix(DONE))
            self.folders.add(path.parent)
        except OSError as error:
            self._report.unreadable.append(f"{path} ({error.strerror or error})")

    def judge(self, folder: Path) -> list[str]:
        """Stop counting implausible sources with new feedback, by lines of the log so that a rebuild does the same;
        their names. After a kill the next ingest judges what is new."""
        from churn_assets.prediction_log.sources import judge_sources, mark_judged  # NumPy, no use for a sensor

        make_views(self._connection, self._share)
        decisions = judge_sources(self._connection, self._at.replace(tzinfo=dt.UTC))
        if decisions:
            segment = Segment(self._own_segments, instance=self._instance)
            segment.append(b"".join(map(encode_line, decisions)))
            segment.hand_over()
            for path in pending(folder):
                self.ingest(path)
        mark_judged(self._connection)
        return [decision.source for decision in decisions]

    def restore(self, name: str, path: Path | None, row: SegmentRow | None) -> None:
        """A segment that had been ingested, with the `seq` and the instant of its `row` in the journal. Without a file
        for it only the row is kept. Raises LogUnreadable."""
        self._report.restored += 1
        at = self._at
        if row is not None:
            self.number, self.seq, at = row.number - 1, row.first_seq - 1, row.ingested_at
        if path is not None:
            try:
                self._load(name, path, at)
            except OSError as error:
                raise LogUnreadable(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
        elif row is not None:
            insert_row(self._connection, replace(row, expired=True))
            self.number, self.seq = row.number, row.last_seq
            self._report.missing += 1

    def _load(self, name: str, path: Path, at: dt.datetime) -> None:
        """The rows of a segment and its own row, in one transaction. Raises OSError, duckdb.Error."""
        import duckdb

        read = self._check.read(path)
        for fingerprint in read.fingerprints - self._targets.keys():
            self._targets[fingerprint] = targets(self._connection, self._check.contracts[fingerprint])
        try:
            self._commit(name, path, read, at, careful=not read.plain)
        except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException):
            if not read.plain:
                raise
            self._commit(name, path, read, at, careful=True)

    def _commit(self, name: str, path: Path, read: SegmentRead, at: dt.datetime, careful: bool) -> None:
        counts = Counter(predictions=0, feedback=0, rejections=0, others=0)
        self._connection.execute("BEGIN")
        try:
            if careful:
                self._load_carefully(name, path, read, counts)
            else:
                self._load_file(name, path, next(iter(read.fingerprints), ""), _NUMBER, counts)
            rows, seqs = counts.total(), (self.seq + 1, self.seq + read.lines)
            del counts["others"]
            counts.update(quarantined=len(read.quarantined), torn=read.torn, bytes=read.size)
            row = SegmentRow(name, self.number + 1, *seqs, rows, **counts, ingested_at=at, expired=False)
            insert_row(self._connection, row)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self.number, self.seq = row.number, row.last_seq
        self._report.add(row)

    def _load_carefully(self, name: str, path: Path, read: SegmentRead, counts: Counter[str]) -> None:
        """The accepted lines into the tables, the others into quarantine. Raises OSError, duckdb.Error."""
        refused = {number for number, _, _ in read.quarantined}
        with open_file(path) as lines:
            good = [(n, line) for n, line in enumerate(lines, 1) if line.endswith(b"\n") and n not in refused]
        known = self._known_ids(_own_id(self._check(line)) for _, line in good)
        parts: defaultdict[str, list[bytes]] = defaultdict(list)
        for number, line in good:
            row = self._check(line)
            own_id = _own_id(row)
            try:
                spelled = self._check.canonical(line, number)
                if own_id in known:
                    raise Refused(f"duplicate: {' '.join(own_id)} is in the log already")
            except Refused as error:
                read.quarantined.append((number, str(error), line))
                continue
            if own_id:
                known.add(own_id)
            parts[row.fingerprint if isinstance(row, Prediction) else ""].append(spelled)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self._scratch) as folder:
            for fingerprint, part in parts.items():
                file = Path(folder) / "part.jsonl"
                file.write_bytes(b"".join(part))
                self._load_file(name, file, fingerprint, "line", counts)
        read.quarantined.sort(key=itemgetter(0))
        texts = [line.rstrip(b"\n")[:_TEXT].decode(errors="backslashreplace") for _, _, line in read.quarantined]
        numbers, reasons = [number for number, _, _ in read.quarantined], [reason for _, reason, _ in read.quarantined]
        self._connection.execute(
            "INSERT INTO quarantine SELECT ?, unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            [name, numbers, reasons, texts],
        )

    def _known_ids(self, ids: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
        """Those of the ids that the tables have."""
        known: set[tuple[str, ...]] = set()
        wanted = set(ids) - {()}
        for column, table in _IDS.values():
            query = f"SELECT {column} FROM {table} WHERE {column} IN (SELECT unnest(?))"
            names = [name for kind, name in wanted if kind == column]
            known |= {(column, name) for (name,) in self._connection.execute(query, [names]).fetchall()}
        return known

    def _load_file(self, name: str, path: Path, fingerprint: str, number: str, counts: Counter[str]) -> None:
        """The lines of a file, its predictions of one contract; `number` is the SQL of a line's number."""
        contract = self._check.contracts.get(fingerprint)
        columns = dict(_FIXED)
        own, cells = [quoted(c) for c in _PREDICTION], [_read(c) for c in _PREDICTION]
        if contract is not None:
            kinds = {c.name: Kind.TEXT if c.name in contract.unread else c.kind for c in contract.logged_columns}
            struct = ", ".join(f"{quoted(column)} {_STAGED[kind]}" for column, kind in kinds.items())
            columns["features"] = f"STRUCT({struct})"
            own += map(quoted, self._targets[fingerprint].values())
            cells += [_read_feature(contract, name) for name in self._targets[fingerprint]]
        if number == "line":
            columns["line"] = "BIGINT"
        spec = ", ".join(f"{literal(column)}: {literal(sql_type)}" for column, sql_type in columns.items())
        execute = self._connection.execute
        execute(
            f"CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM read_json({literal(_not_a_pattern(path))}, "
            f"format = 'newline_delimited', columns = {{{spec}}})"
        )
        execute(f"CREATE OR REPLACE TEMP VIEW lines AS SELECT *, {number} AS number FROM staged")
        place = f"{literal(name)} AS segment, {self.seq} + number AS seq"
        [(predictions,)] = execute(
            f"INSERT INTO predictions (segment, seq, {', '.join(own)}) "
            f"SELECT {place}, {', '.join(cells)} FROM lines WHERE kind = 'prediction' ORDER BY number"
        ).fetchall()
        [(feedback,)] = execute(
            f"INSERT INTO feedback (segment, seq, {', '.join(_FEEDBACK)}) "
            f"SELECT {place}, {', '.join(map(_read, _FEEDBACK))} FROM lines WHERE kind = 'feedback' ORDER BY number"
        ).fetchall()
        [(contacts,)] = execute(
            f"INSERT INTO contacts (segment, seq, {', '.join(_CONTACT)}) "
            f"SELECT {place}, {', '.join(map(_read, _CONTACT))} FROM lines WHERE kind = 'contact' ORDER BY number"
        ).fetchall()
        [(decisions,)] = execute(
            f"INSERT INTO source_decisions (segment, seq, {', '.join(_DECISION)}) "
            f"SELECT {place}, {', '.join(map(_read, _DECISION))} FROM lines "
            "WHERE kind = 'source_decision' ORDER BY number"
        ).fetchall()
        execute(
            f"INSERT INTO unacknowledged (segment, seq, noted_at, id) SELECT {place}, {_read('noted_at')}, unnest(ids) "
            "FROM lines WHERE kind = 'unacknowledged' ORDER BY number"
        )
        execute(
            f"INSERT INTO lost_rows (segment, seq, noted_at, lost_segment, lost) SELECT {place}, {_read('noted_at')}, "
            "lost_segment, lost FROM lines WHERE kind = 'lost_rows' ORDER BY number"
        )
        [(others,)] = execute("SELECT count(*) FROM lines WHERE kind IN ('unacknowledged', 'lost_rows')").fetchall()
        [(rejections,)] = execute("SELECT count(*) FROM lines WHERE kind = 'rejections'").fetchall()
        for table, figure, counted in (("rejections", "requests", "counts"), ("rejected_rows", "rows", "rows")):
            if rejections:
                execute(
                    f"INSERT INTO {table} (segment, seq, since_at, until_at, worker, cause, {figure}) "
                    "SELECT segment, seq, since_at, until_at, worker, entry.key, entry.value FROM ("
                    f"SELECT {place}, {_read('since_at')} AS since_at, {_read('until_at')} AS until_at, worker, "
                    f"unnest(map_entries({counted})) AS entry FROM lines WHERE kind = 'rejections') "
                    "ORDER BY seq, entry.key"
                )
        counts.update(
            predictions=predictions, feedback=feedback, rejections=rejections, others=contacts + decisions + others
        )


def _not_a_pattern(path: Path) -> str:
    """A path for DuckDB's readers, which take `*`, `?` and `[` for a pattern of names."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def _own_id(row: Line) -> tuple[str, ...]:
    """The column of the row's id and the id; empty for kinds that have none."""
    column, _ = _IDS.get(type(row), ("", ""))
    return (column, getattr(row, column)) if column else ()


def _read(column: str) -> str:
    if column in _FLAGS:
        return f"coalesce({column}, false)"
    return _within(f"{column}::TIMESTAMPTZ AT TIME ZONE 'UTC'", column) if column in INSTANTS else quoted(column)


def _read_feature(contract: Contract, name: str) -> str:
    """SQL of a column's cell; what does not fit the type of an excluded one is null, for its line was not checked."""
    column, cell = contract.column(name), f"features.{quoted(name)}"
    unread = name in contract.unread
    if column.kind is not Kind.DATE:
        return f"TRY_CAST({cell} AS {TYPES[column.kind]})" if unread else cell
    cast = "TRY_CAST" if unread else "CAST"
    # An instant is its UTC day; the connection's time zone is UTC, so that one without a zone keeps its day.
    day = f"CASE WHEN length({cell}) > 10 THEN {cast}({cell} AS TIMESTAMPTZ)::DATE ELSE {cast}({cell} AS DATE) END"
    return f"CASE WHEN year({day}) BETWEEN 1 AND 9999 THEN {day} END" if unread else _within(day, cell)


def _within(value: str, text: str) -> str:
    """SQL that fails for an instant or day that Python lacks: 'infinity' and years before 1 or after 9999."""
    return f"CASE WHEN {text} IS NULL OR year({value}) BETWEEN 1 AND 9999 THEN {value} ELSE error('not a date') END"
