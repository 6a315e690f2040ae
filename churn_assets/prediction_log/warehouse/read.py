"""Reading the log: counts and queries of the published copy, and every complete line of every segment, once."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from churn_assets.errors import LogUnreadable, NothingIngested, QueryRefused, one_line
from churn_assets.prediction_log.records import decode_head
from churn_assets.prediction_log.segment import DONE, OPEN, READY, open_segment, segments_of
from churn_assets.prediction_log.warehouse.archive import Archive, archives
from churn_assets.prediction_log.warehouse.connection import FILE, has_table, ingested_names, open_published
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb


_BATCH = 10_000  # rows of one answer to a query

# In this order. `enable_external_access` alone still lets SQL write beside the database, such as published.duckdb.wal.
_READ_ONLY = """
    SET autoinstall_known_extensions = false; SET autoload_known_extensions = false; SET enable_external_access = false;
    SET disabled_filesystems = 'LocalFileSystem'; SET lock_configuration = true;
"""
_NOT_READ_ONLY = re.compile(r"^Permission Error|configuration has been locked")
_COUNTS = """
    SELECT (SELECT count(*) FROM given) AS predictions,
        (SELECT count(*) FROM predictions) - (SELECT count(*) FROM given) AS shadow_scores,
        (SELECT count(*) FROM feedback) AS feedback,
        (SELECT count(*) FROM feedback f WHERE NOT EXISTS (
            SELECT 1 FROM given p WHERE p.prediction_id = f.prediction_id
        ) AND NOT EXISTS (SELECT 1 FROM given p WHERE p.customer_id = f.customer_id)) AS unknown,
        (SELECT coalesce(sum(requests), 0) FROM rejections) AS rejected_requests,
        (SELECT count(*) FROM quarantine) AS quarantined,
        (SELECT count(*) FROM segments) AS segments
"""
_VERSIONS = """
    SELECT model_version, arm, count(*) AS predictions, count(DISTINCT customer_id) AS customers,
        min(scored_at)::VARCHAR AS first, max(scored_at)::VARCHAR AS last
    FROM given GROUP BY ALL ORDER BY last DESC LIMIT 20
"""
_REASONS = """
    SELECT split_part(reason, ':', 1) AS reason, count(*) AS lines
    FROM quarantine GROUP BY ALL ORDER BY lines DESC LIMIT 20
"""
_OUTCOMES = """
    SELECT churned, contacted, count(*) AS reports, max(observed_at)::VARCHAR AS last
    FROM feedback GROUP BY ALL ORDER BY ALL
"""
_LOST = """
    SELECT noted_at, lost_segment, max(lost), bool_or(lost_segment IN (SELECT name FROM segments)) FROM lost_rows
    GROUP BY ALL ORDER BY ALL
"""
_INCOMPLETE = """
    SELECT name FROM segments
    LEFT JOIN (SELECT segment, count(*) AS present FROM predictions GROUP BY ALL) ON segment = name
    WHERE NOT expired AND predictions <> coalesce(present, 0)
"""


@dataclass(frozen=True)
class Totals:
    """Counts of the published copy; sizes are in bytes, instants in UTC.

    `shadow_scores` were given to nobody and are no `predictions`. `unknown` feedback names no prediction or customer
    of the log. `versions` are the rows of a table of predictions by model version and arm, `reasons` of quarantined
    lines by reason, `outcomes` of feedback by outcome. `not_once` are segments that are not in the warehouse exactly
    once.
    """

    predictions: int
    shadow_scores: int
    feedback: int
    unknown: int
    rejected_requests: int
    quarantined: int
    segments: int
    versions: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    not_once: list[str]
    sizes: dict[str, int]

    @property
    def quarantined_share(self) -> float:
        """Of all lines, 0 to 1."""
        rows = self.predictions + self.shadow_scores + self.feedback + self.quarantined
        return self.quarantined / rows if rows else 0.0


def count_all(settings: Settings) -> Totals | None:
    """The counts, or None where nothing was ingested. Raises WarehouseCorrupt, LogUnreadable."""
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        return _count(connection, settings)
    return None


def _count(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Totals:
    def rows(sql: str) -> list[dict[str, Any]]:
        result = connection.execute(sql)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    folder, archived = settings.predlog_dir, archives(settings.archive_dir)
    handed_over = segments_of(folder, READY, DONE)
    there = {name for archive in archived for name in archive.names}
    there |= {path.stem for path in handed_over if path.suffix == DONE}
    incomplete = {row["name"] for row in rows(_INCOMPLETE)}
    return Totals(
        **rows(_COUNTS)[0],
        versions=rows(_VERSIONS),
        reasons=rows(_REASONS),
        outcomes=rows(_OUTCOMES),
        not_once=sorted(incomplete | (there - ingested_names(connection))),
        sizes={
            "segments_bytes": _size_of(handed_over),
            "warehouse_bytes": _size_of([settings.warehouse_dir / FILE]),
            "archive_bytes": _size_of([archive.path for archive in archived]),
        },
    )


def _size_of(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


@dataclass(frozen=True)
class Loss:
    """A segment with `rows` acknowledged rows that was gone from the log at `noted_at` (UTC, naive), "" for the folder
    while none was open. `restored`: it has been ingested since."""

    noted_at: dt.datetime
    segment: str
    rows: int
    restored: bool


def read_losses(settings: Settings) -> list[Loss]:
    """Every loss that a service noted, oldest first. Raises WarehouseCorrupt."""
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        if has_table(connection, "lost_rows"):
            return [Loss(*row) for row in connection.execute(_LOST).fetchall()]
    return []


def ask(settings: Settings, sql: str, unsafe: bool = False) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """Batches of (column names, rows), at least one of them. Raises NothingIngested, QueryRefused. Unless `unsafe`, the
    SQL reaches no file, extension or setting; so a query that needs the disk for its memory fails."""
    import duckdb

    with open_published(settings) as connection:
        try:
            if not unsafe:
                connection.execute(_READ_ONLY)
            result = connection.execute(sql)
            if result is None:
                raise QueryRefused('the query is empty, expected SQL such as `churn log query "show all tables"`')
            names = [column[0] for column in result.description or ()]
            yield names, result.fetchmany(_BATCH)
            while rows := result.fetchmany(_BATCH):
                yield names, rows
        except duckdb.Error as error:
            message = " ".join(str(error).split("\n\nLINE", 1)[0].split())
            advice = '`churn log query "show all tables"` lists what there is'
            if not unsafe and _NOT_READ_ONLY.search(message):
                advice = "expected one that only reads the log and fits memory; for SQL that you trust give --unsafe"
            raise QueryRefused(f"the query failed ({message}); {advice}") from error


class LogLine(NamedTuple):
    """One complete line: the id of the prediction or feedback (None for others), its JSON."""

    own_id: str | None
    json: bytes


@dataclass
class LogCounts:
    """Counts of a reader: segments, bytes, lines by kind (a shadow's predictions are a kind), torn tails and lines that
    are not a JSON object."""

    segments: int = 0
    size: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    torn: int = 0
    broken: int = 0

    @property
    def rows(self) -> int:
        """Lines that could be read."""
        return self.kinds.total()


@dataclass(frozen=True)
class Verdict:
    """Which of the wanted ids are not in the log exactly once."""

    wanted: int
    missing: tuple[str, ...]
    repeated: tuple[str, ...]
    counts: LogCounts

    @property
    def kept(self) -> bool:
        """Whether each id is in the log exactly once."""
        return not self.missing and not self.repeated

    def __str__(self) -> str:
        """One line: the number of ids, and how many of them are not in the log once."""
        once = self.wanted - len(self.missing) - len(self.repeated)
        message = f"{once:,} of {self.wanted:,} ids are in the log exactly once"
        message += f"; {len(self.missing):,} are missing" if self.missing else ""
        message += f"; {len(self.repeated):,} are in it more than once" if self.repeated else ""
        if self.counts.torn or self.counts.broken:
            message += f" ({self.counts.torn} torn tails, {self.counts.broken} broken lines, none of them acknowledged)"
        return message


def segment_names(folder: Path) -> list[str]:
    """Names of the segments, open ones among them, oldest first; each name once. Raises LogUnreadable."""
    return sorted({path.stem for path in segments_of(folder, OPEN, READY, DONE)})


def read_lines(folder: Path, counts: LogCounts | None = None, archive: Path | None = None) -> Iterator[LogLine]:
    """Every line of the log, archived segments first; `counts` is added to.

    `archive` is the folder of archives, if those count too. A last line without its newline was never
    acknowledged: it is skipped and counted. Raises LogUnreadable if a segment or an archive cannot be read.
    """
    counts, names, read = counts or LogCounts(), segment_names(folder), set[str]()
    for archived in archives(archive) if archive else ():
        read.update(archived.names)
        yield from _archive_lines(archived, counts)
    gone = set()
    for name in names:
        if name not in read:
            lines = segment_lines(folder, name, counts)
            if lines is None:
                gone.add(name)
            else:
                yield from lines
    for archived in archives(archive) if archive and gone else ():  # what was archived since they were listed
        if not gone.isdisjoint(archived.names):
            yield from _archive_lines(archived, counts, frozenset(gone))


def verify(folder: Path, ids: Iterable[str], archive: Path | None = None) -> Verdict:
    """Whether each prediction or feedback id is in the log exactly once."""
    times = dict.fromkeys(ids, 0)
    counts = LogCounts()
    for line in read_lines(folder, counts, archive):
        if line.own_id in times:
            times[line.own_id] += 1
    missing = tuple(name for name, count in times.items() if count == 0)
    repeated = tuple(name for name, count in times.items() if count > 1)
    return Verdict(len(times), missing, repeated, counts)


def read_ids(path: Path) -> list[str]:
    """The ids of a file, one a line; empty lines are skipped. Raises LogUnreadable."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        text = f"{path}: cannot be read ({one_line(error, 500)}), expected a text file with one id a line"
        raise LogUnreadable(text) from error


def tail(folder: Path, rows: int, archive: Path | None = None) -> list[LogLine]:
    """The newest lines, oldest of them first; reads newest segments until it has enough, archives last."""
    kept = archives(archive) if archive else []
    in_archives = {name for archived in kept for name in archived.names}
    names = [name for name in reversed(segment_names(folder)) if name not in in_archives]
    parts = chain(
        (segment_lines(folder, name, LogCounts()) or () for name in names),
        (_archive_lines(archived, LogCounts()) for archived in reversed(kept)),
    )
    newest: list[LogLine] = []
    for lines in parts:
        newest = [*lines, *newest]
        if len(newest) >= rows:
            break
    return newest[max(0, len(newest) - rows) :]


def count(folder: Path, archive: Path | None = None) -> LogCounts:
    """Segments, bytes and rows by kind."""
    counts = LogCounts()
    for _ in read_lines(folder, counts, archive):
        pass
    return counts


def segment_lines(folder: Path, name: str, counts: LogCounts) -> Iterator[LogLine] | None:
    """The lines of a segment's file, None if there is none any more. Raises LogUnreadable."""
    file = open_segment(folder, name)
    if file is None:
        return None
    counts.segments += 1
    return _complete(file, counts)


def _archive_lines(archive: Archive, counts: LogCounts, names: frozenset[str] | None = None) -> Iterator[LogLine]:
    """The lines of an archive, or of the segments of these names in it."""
    counts.segments += len(archive.names if names is None else names & set(archive.names))
    return _complete((line for _, line in archive.lines(names)), counts)


def _complete(lines: BinaryIO | Generator[bytes], counts: LogCounts) -> Iterator[LogLine]:
    """The complete lines; `lines` is closed at the end."""
    with contextlib.closing(lines):
        for line in lines:
            counts.size += len(line)
            if not line.endswith(b"\n"):
                counts.torn += 1
                continue
            head = decode_head(line)
            if head is None:
                counts.broken += 1
                continue
            counts.kinds["shadow" if head.shadow else str(head.kind)] += 1
            yield LogLine(head.own_id, line[:-1])
