"""The rows that a contract is drafted from: a table is streamed once; a large one is sampled.

The sample has the rows with the smallest hashes of their row numbers, so it follows no pattern of the file, does not
depend on its length, and is the same each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind, Role, Source
from churn_assets.data.hashing import hash_rows
from churn_assets.data.readers.delimited import LEGACY_ENCODINGS, SkippedLine, find_dialect
from churn_assets.data.readers.formats import fitting_sheets, open_workbook
from churn_assets.data.readers.read import check_names_once, iter_batches, reading_contract
from churn_assets.data.readers.source import Location, locate
from churn_assets.data.validation.parse import as_text
from churn_assets.errors import SourceUnreadable

SAMPLE_ROWS = 250_000
_SPELLED = "Are names and values spelled right? If not: --encoding."
LABEL_VALUES = 1_000  # counting stops at more different labels than this

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Sample:
    """`table`: the kept rows, in the file's order, of `rows` in the source. `labels` counts the label's
    spellings over all rows (null as ''). `source` has the options of reading, `where` names the file; `notes`,
    `questions` become comments."""

    table: pa.Table
    rows: int
    labels: Counter[str]
    source: Source
    where: str
    format: str
    notes: tuple[str, ...]
    questions: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every row of the source was kept."""
        return bool(self.table.num_rows == self.rows)


def read_sample(
    source: str | Path,
    label: str,
    sheet: str | None = None,
    encoding: str | None = None,
    sample_rows: int = SAMPLE_ROWS,
    progress: Progress | None = None,
) -> Sample:
    """Stream `source` once and keep at most `sample_rows` rows; memory is the sample and one batch.

    `progress` is called with the number of rows read. A file in another encoding than it seemed is read
    again. Raises the errors of reading, and DuplicateColumn.
    """
    location = locate(source, reading_contract(Source()))
    read_as, notes, questions = _reading_options(location, label, Source(sheet=sheet, encoding=encoding))
    wider = {None: ("cp1252", "latin-1"), "cp1252": ("latin-1",)}.get(read_as.encoding, ())
    tries = [read_as, *(replace(read_as, encoding=e) for e in wider if location.format == "csv" and encoding is None)]
    known = (Column(label, Kind.TEXT, Role.LABEL),)
    spelled: list[str] = []
    while True:
        attempt, lines = tries.pop(0), list[str]()
        contract = reading_contract(attempt, known)
        try:
            table, rows, labels = _stream(location, contract, label, sample_rows, progress, lines.append)
        except SourceUnreadable as error:
            if not tries or not any(word in str(error).lower() for word in ("utf", "codec")):
                raise
            spelled = [f"some bytes are not {attempt.encoding or 'UTF-8'}; {tries[0].encoding} is taken. {_SPELLED}"]
        else:
            comments = (*notes, *_about_lines(lines)), (*questions, *spelled)
            return Sample(table, rows, labels, attempt, location.name, location.format, *comments)


def spelled_in(names: Sequence[str], name: str) -> str | None:
    """`name` if it is in `names`, else the only one that equals it without surrounding blanks, else None."""
    same = [n for n in names if n.strip() == name.strip()]
    return name if name in names else same[0] if len(same) == 1 else None


def _reading_options(location: Location, label: str, given: Source) -> tuple[Source, list[str], list[str]]:
    """(options of reading, notes, questions)."""
    options, notes, questions = given, list[str](), list[str]()
    if location.format == "excel" and location.path is not None and given.sheet is None:
        workbook = open_workbook(location.path)
        fitting = fitting_sheets(location.path, workbook, (label,))
        if len(workbook.sheet_names) > 1:
            options = replace(options, sheet=fitting[0])
            notes.append(f"the workbook has several sheets: {', '.join(workbook.sheet_names)}")
        if len(fitting) > 1:
            questions.append(f"{', '.join(fitting)} have the label; '{fitting[0]}' is read. Another one? --sheet.")
    if location.format == "csv" and location.path is not None:
        dialect = find_dialect(location.path, given, (label,))
        guessed = None if dialect.encoding in ("utf-8", "utf-8-sig") else dialect.encoding
        delimiter = None if dialect.delimiter == "," else dialect.delimiter
        options = replace(options, delimiter=delimiter, encoding=given.encoding or guessed)
        if dialect.encoding == "utf-8-sig":
            notes.append("the file begins with a byte order mark, which is skipped")
        if dialect.wrapped:
            notes.append("every row is quoted as a whole; these quotes are removed")
        if len(dialect.names) == 1:
            notes.append("no delimiter: the header is one column")
        if dialect.skip > dialect.separator_line:
            questions.append(f"the header is line {dialect.skip + 1}: '{dialect.names[0]}', ... Is that right?")
        if guessed in LEGACY_ENCODINGS and not given.encoding:
            questions.append(f"the file is not UTF-8 and is read as {guessed}. {_SPELLED}")
    return options, notes, questions


def _about_lines(skipped: Sequence[str]) -> list[str]:
    """A note about lines that are no rows."""
    written = [line.strip("\x1a ") for line in skipped]
    if not any(written):  # a mark of the end of a file
        return []
    several = f"{len(skipped):,} lines have" if len(skipped) > 1 else "1 line has"
    return [f"{several} one cell (line '{next(filter(None, written))[:60]}') and no customer; such lines are skipped"]


def _stream(
    source: Location, contract: Contract, label: str, limit: int, progress: Progress | None, skipped: SkippedLine
) -> tuple[pa.Table, int, Counter[str]]:
    kept: list[pa.Table] = []
    hashes: list[npt.NDArray[np.uint64]] = []
    labels: Counter[str] = Counter()
    rows = held = 0
    highest = np.uint64(2**64 - 1)
    for batch in iter_batches(source.text, contract, skipped=skipped):
        if rows == 0:
            check_names_once([name for name in batch.schema.names if name.strip()], source.name)
        drawn = hash_rows(np.arange(rows, rows + batch.num_rows), 0, "sample")
        rows += batch.num_rows
        label_name = spelled_in(batch.schema.names, label)
        if label_name is not None and len(labels) <= LABEL_VALUES:
            labels.update(_counts(batch.column(batch.schema.names.index(label_name))))
        take = drawn <= highest
        kept.append(pa.table(batch).filter(pa.array(take)))
        hashes.append(drawn[take])
        held += int(take.sum())
        if held > 2 * limit:
            highest = _thin(kept, hashes, limit)
            held = sum(len(part) for part in hashes)
        if progress is not None:
            progress(rows)
    if rows > limit:
        _thin(kept, hashes, limit)
    return pa.concat_tables(kept).combine_chunks(), rows, labels


def _thin(kept: list[pa.Table], hashes: list[npt.NDArray[np.uint64]], limit: int) -> np.uint64:
    """Keep the `limit` rows with the smallest hashes; returns the largest of those."""
    all_hashes = np.concatenate(hashes)
    if len(all_hashes) <= limit:
        return np.uint64(2**64 - 1)
    highest = np.uint64(np.partition(all_hashes, limit - 1)[limit - 1])
    for index, part in enumerate(hashes):
        kept[index] = kept[index].filter(pa.array(part <= highest))
        hashes[index] = part[part <= highest]
    return highest


def _counts(cells: pa.Array) -> dict[str, int]:
    text = pc.fill_null(as_text(cells), "")
    return {pair["values"].as_py(): pair["counts"].as_py() for pair in pc.value_counts(text)}
