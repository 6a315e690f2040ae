"""One segment into the tables, inside a transaction that the caller began.

The common case is one pass of DuckDB over the file, after the strict check of every line. If a line was refused, an
id is repeated, a value has a rarer spelling or the contract changed within the segment, the accepted lines are
written in their canonical spelling, one file a contract, and those are loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Contract, Kind
from churn_assets.prediction_log.records import INSTANTS, Feedback, Rejections
from churn_assets.prediction_log.schema import TYPES, literal, quoted
from churn_assets.prediction_log.warehouse.parse import Checker, Line, Prediction, Refused

if TYPE_CHECKING:
    import duckdb

Targets = Mapping[str, Mapping[str, str]]  # fingerprint -> column of its contract -> column of the table

_TEXT = 4096  # of a line in quarantine; the segment has all of it

_PREDICTION = Prediction.__struct_fields__[:-1]  # without the features
_FEEDBACK = Feedback.__struct_fields__
_FIXED = {
    **dict.fromkeys(("kind", *_PREDICTION, *_FEEDBACK, *Rejections.__struct_fields__), "VARCHAR"),
    **dict.fromkeys(("score", "margin", "threshold", "latency_us"), "DOUBLE"),
    **dict.fromkeys(("decision", "churned", "contacted"), "BOOLEAN"),
    "warnings": "VARCHAR[]",
    "counts": "MAP(VARCHAR, BIGINT)",
}


@dataclass
class SegmentRead:
    """The lines of a segment after the strict check, then what became of them.

    `lines` counts complete ones, `fingerprints` are the contracts of its predictions, `quarantined` has
    (line number, reason, line). `predictions`, `feedback` and `rejections` are counted when they are inserted.
    """

    lines: int = 0
    torn: int = 0
    size: int = 0
    fingerprints: set[str] = field(default_factory=set)
    quarantined: list[tuple[int, str, bytes]] = field(default_factory=list)
    predictions: int = 0
    feedback: int = 0
    rejections: int = 0

    @property
    def plain(self) -> bool:
        """Whether DuckDB can read the file as it is."""
        return not self.quarantined and not self.torn and len(self.fingerprints) <= 1


def read_strictly(lines: Iterable[bytes], check: Checker) -> SegmentRead:
    """Check every line of a segment, numbered from 1; only refused lines are kept."""
    read = SegmentRead()
    for line in lines:
        read.size += len(line)
        if not line.endswith(b"\n"):
            read.torn += 1
            continue
        read.lines += 1
        try:
            row = check(line)
        except Refused as error:
            read.quarantined.append((read.lines, str(error), line))
            continue
        if isinstance(row, Prediction):
            read.fingerprints.add(row.fingerprint)
    return read


@dataclass(frozen=True)
class Place:
    """Where a segment's rows go: its name, the `seq` before its first line, the columns of each contract."""

    name: str
    base: int
    targets: Targets


def load_plain(
    connection: duckdb.DuckDBPyConnection, path: Path, place: Place, read: SegmentRead, check: Checker
) -> None:
    """A whole segment file in one pass; `seq` is `base` and the line's number. Raises duckdb.Error."""
    fingerprint = next(iter(read.fingerprints), "")
    _stage(connection, path, check.contracts.get(fingerprint), "rowid - (SELECT min(rowid) FROM staged) + 1")
    _insert(connection, place, fingerprint, check.contracts.get(fingerprint), read)


def load_carefully(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    place: Place,
    read: SegmentRead,
    check: Checker,
    scratch: Path,
) -> None:
    """The accepted lines into the tables, the others into quarantine. Raises OSError, duckdb.Error."""
    refused = {number for number, _, _ in read.quarantined}
    with path.open("rb") as lines:
        good = [(n, line) for n, line in enumerate(lines, 1) if line.endswith(b"\n") and n not in refused]
    known = _known_ids(connection, [_own_id(check(line)) for _, line in good])
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        parts: dict[str, Any] = {}
        for number, line in good:
            row = check(line)
            try:
                spelled = check.canonical(line, number)
                own = _own_id(row)
                if own in known:
                    raise Refused(f"duplicate: {' '.join(own)} is in the log already")
            except Refused as error:
                read.quarantined.append((number, str(error), line))
                continue
            if own is not None:
                known.add(own)
            key = row.fingerprint if isinstance(row, Prediction) else ""
            if key not in parts:
                parts[key] = (Path(folder) / f"{len(parts)}.jsonl").open("wb")
            parts[key].write(spelled)
        for part in parts.values():
            part.close()
        for key, part in parts.items():
            _stage(connection, Path(part.name), check.contracts.get(key), "line")
            _insert(connection, place, key, check.contracts.get(key), read)
    read.quarantined.sort(key=lambda refusal: refusal[0])
    _quarantine(connection, place.name, read.quarantined)


def _own_id(row: Line) -> tuple[str, str] | None:
    match row:
        case Prediction():
            return "prediction_id", row.prediction_id
        case Feedback():
            return "feedback_id", row.feedback_id
        case Rejections():
            return None


def _known_ids(connection: duckdb.DuckDBPyConnection, ids: Iterable[tuple[str, str] | None]) -> set[tuple[str, str]]:
    """Those of the ids that the tables have."""
    known: set[tuple[str, str]] = set()
    wanted = {own for own in ids if own is not None}
    for column, table in (("prediction_id", "predictions"), ("feedback_id", "feedback")):
        names = [name for kind, name in wanted if kind == column]
        rows = connection.execute(f"SELECT {column} FROM {table} WHERE {column} IN (SELECT unnest(?))", [names])
        known |= {(column, name) for (name,) in rows.fetchall()}
    return known


def _stage(connection: duckdb.DuckDBPyConnection, path: Path, contract: Contract | None, line: str) -> None:
    columns = dict(_FIXED)
    if contract is not None:
        cells = ", ".join(f"{quoted(c.name)} {_staged_type(c.kind)}" for c in contract.scoring_columns)
        columns["features"] = f"STRUCT({cells})"
    if line == "line":
        columns["line"] = "BIGINT"
    spec = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM read_json({literal(str(path))}, "
        f"format = 'newline_delimited', columns = {{{spec}}})"
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW lines AS SELECT *, {line} AS number FROM staged")


def _staged_type(kind: Kind) -> str:
    return "VARCHAR" if kind is Kind.DATE else TYPES[kind]


def _insert(
    connection: duckdb.DuckDBPyConnection, place: Place, fingerprint: str, contract: Contract | None, read: SegmentRead
) -> None:
    own, cells = [quoted(c) for c in _PREDICTION], [_read(c) for c in _PREDICTION]
    if contract is not None:
        kinds = {column.name: column.kind for column in contract.scoring_columns}
        for column, target in place.targets[fingerprint].items():
            own.append(quoted(target))
            cell = f"features.{quoted(column)}"
            cells.append(_within(f"left({cell}, 10)::DATE", cell) if kinds[column] is Kind.DATE else cell)
    where = f"{literal(place.name)}, {place.base} + number"
    read.predictions += _rows(connection.execute(
        f"INSERT INTO predictions (segment, seq, {', '.join(own)}) "
        f"SELECT {where}, {', '.join(cells)} FROM lines WHERE kind = 'prediction' ORDER BY number"
    ))  # fmt: skip
    read.feedback += _rows(connection.execute(
        f"INSERT INTO feedback (segment, seq, {', '.join(_FEEDBACK)}) "
        f"SELECT {where}, {', '.join(map(_read, _FEEDBACK))} FROM lines WHERE kind = 'feedback' ORDER BY number"
    ))  # fmt: skip
    [(rejections,)] = connection.execute("SELECT count(*) FROM lines WHERE kind = 'rejections'").fetchall()
    if rejections:
        connection.execute(
            "INSERT INTO rejections (segment, seq, since_at, until_at, worker, cause, requests) "
            "SELECT segment, seq, since_at, until_at, worker, entry.key, entry.value FROM ("
            f"SELECT {literal(place.name)} AS segment, {place.base} + number AS seq, {_read('since_at')} AS since_at, "
            f"{_read('until_at')} AS until_at, worker, unnest(map_entries(counts)) AS entry "
            "FROM lines WHERE kind = 'rejections') ORDER BY seq, entry.key"
        )
    read.rejections += rejections


def _read(column: str) -> str:
    return _within(f"{column}::TIMESTAMPTZ AT TIME ZONE 'UTC'", column) if column in INSTANTS else quoted(column)


def _within(value: str, text: str) -> str:
    """SQL that fails for an instant or day that Python lacks: 'infinity' and years before 1 or after 9999."""
    return f"CASE WHEN {text} IS NULL OR year({value}) BETWEEN 1 AND 9999 THEN {value} ELSE error('not a date') END"


def _rows(result: Any) -> int:
    return int(result.fetchone()[0])


def _quarantine(connection: duckdb.DuckDBPyConnection, name: str, refused: Sequence[tuple[int, str, bytes]]) -> None:
    numbers = [number for number, _, _ in refused]
    reasons = [reason for _, reason, _ in refused]
    texts = [line.rstrip(b"\n")[:_TEXT].decode(errors="backslashreplace") for _, _, line in refused]
    connection.execute(
        "INSERT INTO quarantine SELECT ?, unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
        [name, numbers, reasons, texts],
    )
