"""Delimited text as record batches of strings: encoding, delimiter and header are found where the contract has none."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv

from churn_assets.contract.model import Source
from churn_assets.data.readers.source import READ_ERRORS, open_stream
from churn_assets.errors import EmptySource, SourceUnreadable, one_line

Opened = tuple[pa.Schema, Iterator[pa.RecordBatch]]
SkippedLine = Callable[[str], None]  # is called with each line that is no row

DELIMITERS = (",", ";", "\t", "|", "^", "~")
# Tried in this order for bytes that are not UTF-8; cp1252 is what spreadsheets write most, latin-1 reads every byte.
_WINDOWS = ("cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874")
LEGACY_ENCODINGS = (
    *("cp1252", "gb18030", "cp932", "euc_kr", "big5", *_WINDOWS),
    *("iso8859-2", "koi8-r", "mac_roman", "cp850", "latin-1"),
)
HEAD_ROWS = 200
_SNIFF_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 22
_MARKS = {
    "utf-8-sig": codecs.BOM_UTF8,
    "utf-32": rb"\xff\xfe\0\0|\0\0\xfe\xff",
    "utf-16": rb"\xff\xfe|\xfe\xff",
    "utf-16-le": rb"[^\0]\0[^\0]\0",
}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?(?=\s)', re.IGNORECASE)  # Excel's own first line
_NO_DELIMITER = "\x1f"
_LONGEST_NOTE = 200  # characters
_HTML = re.compile(r"\s*<(?:!doctype|html|table|\?xml|head|meta|style)\b", re.IGNORECASE)
# A sign within a word: these bytes are a letter in the right encoding. (Some words have an apostrophe or a dash.)
_SIGN_IN_WORD = re.compile(
    r"(?<=[^\W\d_])[\x80-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\u2020-\u2044\u20ac\u2100-\u2bff](?=[^\W\d_])"
)


class Dialect(NamedTuple):
    """How a delimited file is read: `skip` lines stand above the header (with `separator_line`, one is `sep=;`).

    The header has `matches` of the wanted names; most rows have `typical` filled cells; `wrapped` ones are in quotes.
    """

    encoding: str
    delimiter: str
    names: list[str]
    skip: int
    matches: int
    typical: int
    separator_line: bool
    wrapped: bool = False


def open_csv(path: Path, source: Source, wanted: Iterable[str], skipped: SkippedLine | None = None) -> Opened:
    """A stream of record batches of strings, an empty cell being null, as `find_dialect` says; memory is one block.

    In a table of at least 3 columns a short line without a delimiter, such as "(400 rows affected)", is no row;
    `skipped` is called with it. Raises EmptySource and SourceUnreadable, the latter also while batches are read.
    """
    dialect = find_dialect(path, source, wanted)

    def without_note(row: pa_csv.InvalidRow) -> str:
        is_note = row.actual_columns == 1 and row.expected_columns > 2 and len(row.text) <= _LONGEST_NOTE
        if not is_note or row.text.count('"') % 2:  # a quote that was left open
            return "error"
        if skipped is not None:
            skipped(row.text)
        return "skip"

    options = pa_csv.ReadOptions(
        encoding="utf-8" if dialect.encoding == "utf-8-sig" else dialect.encoding,
        block_size=_BLOCK_BYTES,
        skip_rows=dialect.skip + dialect.wrapped,
        column_names=["row"] if dialect.wrapped else None,
    )
    parse = pa_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=without_note)
    outer = pa_csv.ParseOptions(delimiter=_NO_DELIMITER, newlines_in_values=True) if dialect.wrapped else parse
    types = dict.fromkeys(("row", *dialect.names), pa.string())
    convert = pa_csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    try:
        reader = pa_csv.open_csv(open_stream(path), options, outer, convert)
    except READ_ERRORS as error:
        if "Empty CSV file" in str(error):
            raise EmptySource(f"{path.name} has a header and no rows; expected at least 1 customer; add rows") from None
        raise _unreadable_text(path, error) from None

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                if dialect.wrapped:
                    rows = pa.BufferReader("\n".join(filter(None, batch.column(0).to_pylist())).encode())
                    names = pa_csv.ReadOptions(column_names=dialect.names)
                    yield from pa_csv.read_csv(rows, names, parse, convert).to_batches()
                else:
                    yield batch
        except READ_ERRORS as error:
            raise _unreadable_text(path, error) from None

    schema = pa.schema([(name, pa.string()) for name in dialect.names]) if dialect.wrapped else reader.schema
    return schema, batches()


def find_dialect(path: Path, source: Source, wanted: Iterable[str]) -> Dialect:
    """The dialect by the first megabyte: the contract's, or the one with most of the `wanted` names in its header, of
    several such encodings the one with the fewest signs within words. Raises EmptySource and SourceUnreadable."""
    names = {name.strip() for name in wanted}
    try:
        with open_stream(path) as file:
            texts = decoded(file.read(_SNIFF_BYTES), source.encoding)
    except READ_ERRORS as error:
        raise _unreadable_text(path, error) from None
    if not any(text.strip() for text in texts.values()):
        raise EmptySource(f"{path.name} is empty; expected a header and rows")
    if _HTML.match(next(iter(texts.values()))):
        raise SourceUnreadable(
            f"{path.name} is a page of HTML, not delimited text; open it in a spreadsheet program and save it as .xlsx"
        )
    if "\x00" in next(iter(texts.values())):
        raise SourceUnreadable(f"{path.name} contains zero bytes; expected text; is it a csv file?")
    dialects = [_dialect(text, encoding, source.delimiter, names) for encoding, text in texts.items()]
    return max(dialects, key=lambda dialect: (dialect.matches, -len(_SIGN_IN_WORD.findall(texts[dialect.encoding]))))


def decoded(head: bytes, encoding: str | None = None) -> dict[str, str]:
    """`head` in each encoding that can be meant: of its byte order mark, UTF-16, the one given, UTF-8, legacy ones.
    Raises UnicodeError if it fits none, LookupError if the `encoding` given is unknown."""
    marks = [mark for mark in [marked_encoding(head)] if mark]
    for names in (marks,) if marks else ([encoding],) if encoding else (["utf-8"], LEGACY_ENCODINGS):
        texts = {}
        for name in names:
            with contextlib.suppress(UnicodeError):
                texts[name] = codecs.getincrementaldecoder(name)().decode(head)
        if texts:
            return texts
    raise UnicodeError(f"its bytes are not {', '.join(marks) or encoding}")


def marked_encoding(head: bytes) -> str | None:
    """The encoding that the first bytes of a text show: by a byte order mark, or the zeros of UTF-16."""
    return next((name for name, mark in _MARKS.items() if re.match(mark, head)), None)


def _dialect(text: str, encoding: str, delimiter: str | None, wanted: set[str]) -> Dialect:
    mark = _SEPARATOR_LINE.match(text)
    delimiters = (delimiter,) if delimiter else (mark[1],) if mark else DELIMITERS

    def candidates(text: str) -> list[Dialect]:
        return [_with_delimiter(text, encoding, candidate, wanted, mark is not None) for candidate in delimiters]

    dialects = candidates(text)
    if all(dialect.typical == 1 for dialect in dialects):
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=_NO_DELIMITER)
        inner = candidates("\n".join("".join(row) for row in islice(rows, HEAD_ROWS)))
        dialects = [dialect._replace(wrapped=True) for dialect in inner if dialect.typical > 1] or dialects
    return max(dialects, key=lambda dialect: (dialect.matches, -dialect.skip, len(dialect.names)))


def _with_delimiter(text: str, encoding: str, delimiter: str, wanted: set[str], marked: bool) -> Dialect:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    ends, rows = [0], []
    with contextlib.suppress(csv.Error):  # a quote is left open: reading all of it says so
        for row in islice(reader, HEAD_ROWS):
            rows.append(row)
            ends.append(reader.line_num)
    at = marked + header_row(rows[marked:], wanted)
    names = rows[at] if at < len(rows) else []
    matches = len(wanted & {name.strip() for name in names})
    skip, typical = ends[min(at, len(rows))], _typical(rows[at + 1 :] or rows[at:])
    return Dialect(encoding, delimiter, names, skip, matches, typical, marked)


def header_row(rows: Sequence[Sequence[str | None]], wanted: set[str]) -> int:
    """The index of the header in the first rows of a table: the first row, unless it has fewer filled cells than most.
    Then it is, of the rows with more than half of the typical number, the first with most `wanted` names. Names
    of groups above the header are passed over, too: some are repeated, and only the row below has a wanted name."""
    typical = _typical(rows)

    def matches(index: int) -> int:
        return len(wanted & {(cell or "").strip() for cell in rows[index]})

    if not rows:
        return 0
    if _filled(rows[0]) >= typical:
        groups = len(set(rows[0])) < len(rows[0]) and matches(0) == 0
        return int(groups and len(rows) > 2 and matches(1) > 0 and _filled(rows[1]) >= typical)
    return max((index for index, row in enumerate(rows) if 2 * _filled(row) > typical), key=matches)


def _filled(row: Sequence[str | None]) -> int:
    return sum(bool(cell and cell.strip()) for cell in row)


def _typical(rows: Sequence[Sequence[str | None]]) -> int:
    return statistics.median_low(list(filter(None, map(_filled, rows))) or [0])


def _unreadable_text(path: Path, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        f"{path.name} cannot be read as delimited text: {one_line(error, 200)}; repair it, or set [source] delimiter "
        "and encoding (in a draft: --encoding)"
    )
