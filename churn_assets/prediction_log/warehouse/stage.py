"""One segment into the tables, inside a transaction that the caller began.

The common case is one pass of DuckDB over the file, after the strict check of every line. If a line was refused, an
id is repeated, a value has a rarer spelling or the contract changed within the segment, the accepted lines are
written in their canonical spelling, one file a contract, and those are loaded.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from churn_assets.contract.model import Kind
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
class SegmentLoader:
    """Inserts one segment: its name, `base`, the `seq` before its first line, and the columns of each contract.

    `scratch` is a folder for temporary files.
    """

    connection: duckdb.DuckDBPyConnection
    check: Checker
    targets: Targets
    scratch: Path
    name: str
    base: int

    def load_plain(self, path: Path, read: SegmentRead) -> None:
        """A whole segment file in one pass; `seq` is `base` and the line's number. Raises duckdb.Error."""
        number = "rowid - (SELECT min(rowid) FROM staged) + 1"
        self._load_file(path, next(iter(read.fingerprints), ""), number, read)

    def load_carefully(self, path: Path, read: SegmentRead) -> None:
        """The accepted lines into the tables, the others into quarantine. Raises OSError, duckdb.Error."""
        refused = {number for number, _, _ in read.quarantined}
        with path.open("rb") as lines:
            good = [(n, line) for n, line in enumerate(lines, 1) if line.endswith(b"\n") and n not in refused]
        known = self._known_ids(_own_id(self.check(line)) for _, line in good)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder, contextlib.ExitStack() as stack:
            parts: dict[str, BinaryIO] = {}
            for number, line in good:
                row = self.check(line)
                own_id = _own_id(row)
                try:
                    spelled = self.check.canonical(line, number)
                    if own_id in known:
                        raise Refused(f"duplicate: {' '.join(own_id)} is in the log already")
                except Refused as error:
                    read.quarantined.append((number, str(error), line))
                    continue
                if own_id is not None:
                    known.add(own_id)
                key = row.fingerprint if isinstance(row, Prediction) else ""
                if key not in parts:
                    parts[key] = stack.enter_context((Path(folder) / f"{len(parts)}.jsonl").open("wb"))
                parts[key].write(spelled)
            for key, part in parts.items():
                part.close()
                self._load_file(Path(part.name), key, "line", read)
        read.quarantined.sort(key=lambda refusal: refusal[0])
        self._quarantine(read.quarantined)

    def _known_ids(self, ids: Iterable[tuple[str, str] | None]) -> set[tuple[str, str]]:
        """Those of the ids that the tables have."""
        known: set[tuple[str, str]] = set()
        wanted = {own_id for own_id in ids if own_id is not None}
        for column, table in (("prediction_id", "predictions"), ("feedback_id", "feedback")):
            names = [name for kind, name in wanted if kind == column]
            query = f"SELECT {column} FROM {table} WHERE {column} IN (SELECT unnest(?))"
            known |= {(column, name) for (name,) in self.connection.execute(query, [names]).fetchall()}
        return known

    def _load_file(self, path: Path, fingerprint: str, number: str, read: SegmentRead) -> None:
        """The lines of a file, its predictions of one contract; `number` is the SQL of a line's number."""
        contract = self.check.contracts.get(fingerprint)
        columns = dict(_FIXED)
        own, cells = [quoted(c) for c in _PREDICTION], [_read(c) for c in _PREDICTION]
        if contract is not None:
            kinds = {column.name: column.kind for column in contract.scoring_columns}
            struct = ", ".join(f"{quoted(name)} {_staged_type(kind)}" for name, kind in kinds.items())
            columns["features"] = f"STRUCT({struct})"
            for name, target in self.targets[fingerprint].items():
                own.append(quoted(target))
                cell = f"features.{quoted(name)}"
                cells.append(_within(f"left({cell}, 10)::DATE", cell) if kinds[name] is Kind.DATE else cell)
        if number == "line":
            columns["line"] = "BIGINT"
        spec = ", ".join(f"{literal(name)}: {literal(sql_type)}" for name, sql_type in columns.items())
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM read_json({literal(str(path))}, "
            f"format = 'newline_delimited', columns = {{{spec}}})"
        )
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW lines AS SELECT *, {number} AS number FROM staged")
        place = f"{literal(self.name)} AS segment, {self.base} + number AS seq"
        read.predictions += self._insert(
            f"INSERT INTO predictions (segment, seq, {', '.join(own)}) "
            f"SELECT {place}, {', '.join(cells)} FROM lines WHERE kind = 'prediction' ORDER BY number"
        )
        read.feedback += self._insert(
            f"INSERT INTO feedback (segment, seq, {', '.join(_FEEDBACK)}) "
            f"SELECT {place}, {', '.join(map(_read, _FEEDBACK))} FROM lines WHERE kind = 'feedback' ORDER BY number"
        )
        [(rejections,)] = self.connection.execute("SELECT count(*) FROM lines WHERE kind = 'rejections'").fetchall()
        if rejections:
            self._insert(
                "INSERT INTO rejections (segment, seq, since_at, until_at, worker, cause, requests) "
                "SELECT segment, seq, since_at, until_at, worker, entry.key, entry.value FROM ("
                f"SELECT {place}, {_read('since_at')} AS since_at, {_read('until_at')} AS until_at, worker, "
                "unnest(map_entries(counts)) AS entry FROM lines WHERE kind = 'rejections') ORDER BY seq, entry.key"
            )
        read.rejections += rejections

    def _insert(self, sql: str) -> int:
        [(count,)] = self.connection.execute(sql).fetchall()
        return int(count)

    def _quarantine(self, refused: Sequence[tuple[int, str, bytes]]) -> None:
        numbers = [number for number, _, _ in refused]
        reasons = [reason for _, reason, _ in refused]
        texts = [line.rstrip(b"\n")[:_TEXT].decode(errors="backslashreplace") for _, _, line in refused]
        self.connection.execute(
            "INSERT INTO quarantine SELECT ?, unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            [self.name, numbers, reasons, texts],
        )


def _own_id(row: Line) -> tuple[str, str] | None:
    match row:
        case Prediction():
            return "prediction_id", row.prediction_id
        case Feedback():
            return "feedback_id", row.feedback_id
        case Rejections():
            return None


def _staged_type(kind: Kind) -> str:
    return "VARCHAR" if kind is Kind.DATE else TYPES[kind]


def _read(column: str) -> str:
    return _within(f"{column}::TIMESTAMPTZ AT TIME ZONE 'UTC'", column) if column in INSTANTS else quoted(column)


def _within(value: str, text: str) -> str:
    """SQL that fails for an instant or day that Python lacks: 'infinity' and years before 1 or after 9999."""
    return f"CASE WHEN {text} IS NULL OR year({value}) BETWEEN 1 AND 9999 THEN {value} ELSE error('not a date') END"
