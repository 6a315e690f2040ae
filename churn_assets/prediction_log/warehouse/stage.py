"""One segment into the tables, inside a transaction that the caller began.

The common case is one pass of DuckDB over the file, after every line was read strictly. Where a line was
refused, an id is there twice, a value is spelled in a rarer way or the contract changed within the segment, the
lines that are right are written down canonically, one file a contract, and those are loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Contract, Kind
from churn_assets.prediction_log.schema import TYPES, literal, quoted
from churn_assets.prediction_log.warehouse.parse import Checker, Feedback, Line, Prediction, Refused, Rejections

if TYPE_CHECKING:
    import duckdb

Targets = Mapping[str, Mapping[str, str]]  # fingerprint -> column of its contract -> column of the table

_TEXT = 4096  # of a line in quarantine; the segment has all of it

_FIXED = {
    "kind": "VARCHAR", "prediction_id": "VARCHAR", "request_id": "VARCHAR", "customer_id": "VARCHAR",
    "as_of": "VARCHAR", "scored_at": "VARCHAR", "score": "DOUBLE", "margin": "DOUBLE", "decision": "BOOLEAN",
    "threshold": "DOUBLE", "risk_band": "VARCHAR", "model_version": "VARCHAR", "contract": "VARCHAR",
    "fingerprint": "VARCHAR", "arm": "VARCHAR", "policy": "VARCHAR", "status": "VARCHAR", "latency_us": "DOUBLE",
    "warnings": "VARCHAR[]", "feedback_id": "VARCHAR", "churned": "BOOLEAN", "observed_at": "VARCHAR",
    "contacted": "BOOLEAN", "received_at": "VARCHAR", "since_at": "VARCHAR", "until_at": "VARCHAR",
    "worker": "VARCHAR", "counts": "MAP(VARCHAR, BIGINT)",
}  # fmt: skip
_PREDICTION = (
    "prediction_id", "request_id", "customer_id", "as_of", "scored_at", "score", "margin", "decision", "threshold",
    "risk_band", "model_version", "contract", "fingerprint", "arm", "policy", "status", "latency_us", "warnings",
)  # fmt: skip
_FEEDBACK = (
    "feedback_id", "request_id", "prediction_id", "customer_id", "churned", "observed_at", "contacted", "received_at",
)  # fmt: skip
_INSTANTS = frozenset({"as_of", "scored_at", "observed_at", "received_at", "since_at", "until_at"})


@dataclass
class Counts:
    """What became of a segment's lines; `lines` counts whole ones."""

    predictions: int = 0
    feedback: int = 0
    rejections: int = 0
    lines: int = 0
    torn: int = 0
    size: int = 0
    quarantined: list[tuple[int, str, bytes]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Lines that were ingested."""
        return self.predictions + self.feedback + self.rejections


@dataclass(frozen=True)
class Read:
    """A segment after the strict reading: numbers of the lines that are right, and their contracts."""

    counts: Counts
    fingerprints: frozenset[str]

    @property
    def plain(self) -> bool:
        """Whether DuckDB can read the file as it is."""
        return not self.counts.quarantined and not self.counts.torn and len(self.fingerprints) <= 1


def read_strictly(lines: Iterable[bytes], check: Checker) -> Read:
    """Check every line of a segment, numbered from 1; only refused lines are kept."""
    counts, fingerprints = Counts(), set()
    for line in lines:
        counts.size += len(line)
        if not line.endswith(b"\n"):
            counts.torn += 1
            continue
        counts.lines += 1
        try:
            row = check(line)
        except Refused as error:
            counts.quarantined.append((counts.lines, str(error), line))
            continue
        if isinstance(row, Prediction):
            fingerprints.add(row.fingerprint)
    return Read(counts, frozenset(fingerprints))


@dataclass(frozen=True)
class Place:
    """Where a segment's rows go: its name, the `seq` before its first line, the columns of each contract."""

    name: str
    base: int
    targets: Targets


def load_plain(connection: duckdb.DuckDBPyConnection, path: Path, place: Place, read: Read, check: Checker) -> None:
    """A whole segment file in one pass; `seq` is `base` and the line's number. Raises duckdb.Error."""
    fingerprint = next(iter(read.fingerprints), "")
    _stage(connection, path, check.contracts.get(fingerprint), "rowid - (SELECT min(rowid) FROM staged) + 1")
    _insert(connection, place, fingerprint, check.contracts.get(fingerprint), read.counts)


def load_carefully(
    connection: duckdb.DuckDBPyConnection,
    lines: Callable[[], Iterator[bytes]],
    place: Place,
    read: Read,
    check: Checker,
    scratch: Path,
) -> None:
    """The lines that are right, those that are not into quarantine. Raises duckdb.Error."""
    refused = {number for number, _, _ in read.counts.quarantined}
    good = [(n, line) for n, line in enumerate(lines(), 1) if line.endswith(b"\n") and n not in refused]
    known = _known_ids(connection, [_own_id(check(line)) for _, line in good])
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        parts: dict[str, Any] = {}
        for number, line in good:
            row = check(line)
            try:
                spelled = check.canonical(line, number)
                own = _own_id(row)
                if own in known:
                    raise Refused(f"duplicate: {' '.join(own)} is there already")
            except Refused as error:
                read.counts.quarantined.append((number, str(error), line))
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
            _insert(connection, place, key, check.contracts.get(key), read.counts)
    read.counts.quarantined.sort(key=lambda refusal: refusal[0])
    _quarantine(connection, place.name, read.counts.quarantined)


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
    connection: duckdb.DuckDBPyConnection, place: Place, fingerprint: str, contract: Contract | None, counts: Counts
) -> None:
    own, cells = [quoted(c) for c in _PREDICTION], [_read(c) for c in _PREDICTION]
    if contract is not None:
        kinds = {column.name: column.kind for column in contract.scoring_columns}
        for column, target in place.targets[fingerprint].items():
            own.append(quoted(target))
            cell = f"features.{quoted(column)}"
            cells.append(_within(f"left({cell}, 10)::DATE", cell) if kinds[column] is Kind.DATE else cell)
    where = f"{literal(place.name)}, {place.base} + number"
    counts.predictions += _rows(connection.execute(
        f"INSERT INTO predictions (segment, seq, {', '.join(own)}) "
        f"SELECT {where}, {', '.join(cells)} FROM lines WHERE kind = 'prediction' ORDER BY number"
    ))  # fmt: skip
    counts.feedback += _rows(connection.execute(
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
    counts.rejections += rejections


def _read(column: str) -> str:
    return _within(f"{column}::TIMESTAMPTZ AT TIME ZONE 'UTC'", column) if column in _INSTANTS else quoted(column)


def _within(value: str, text: str) -> str:
    """SQL of an instant or a day that Python has too: 'infinity' and years before 1 are a mistake."""
    return f"CASE WHEN {text} IS NULL OR year({value}) BETWEEN 1 AND 9999 THEN {value} ELSE error('no day') END"


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
