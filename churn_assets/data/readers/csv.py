"""Delimited text, read by Arrow, every cell a string."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from churn_assets.contract.model import Source
from churn_assets.errors import EmptySource, SourceUnreadable

DELIMITERS = (",", ";", "\t", "|")
_SNIFF_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 22
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def open_csv(path: Path, source: Source, wanted: Iterable[str]) -> pa_csv.CSVStreamingReader:
    """A stream of record batches of strings, an empty cell being null; memory is one block.

    Encoding and delimiter are the contract's, else told from the byte order mark, the first
    megabyte, and the header (the delimiter that yields most of the `wanted` names). Raises
    EmptySource and SourceUnreadable; reading on may raise pyarrow.ArrowInvalid.
    """
    encoding, delimiter, names = dialect(path, source, wanted)
    try:
        return pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(
                encoding="utf-8" if encoding == "utf-8-sig" else encoding, block_size=_BLOCK_BYTES
            ),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
            ),
        )
    except (pa.ArrowInvalid, UnicodeError, LookupError) as error:
        raise unreadable(path, error) from None


def dialect(path: Path, source: Source, wanted: Iterable[str]) -> tuple[str, str, list[str]]:
    """(encoding, delimiter, header names) of a delimited file."""
    with path.open("rb") as file:
        head = file.read(_SNIFF_BYTES)
    encoding = source.encoding or _encoding(head)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except (UnicodeError, LookupError) as error:
        raise unreadable(path, error) from None
    if not text.strip():
        raise EmptySource(f"{path.name} is empty; expected a header and rows")
    if "\x00" in text:
        raise SourceUnreadable(f"{path.name} holds zero bytes, expected text; is it a csv file?")
    names = set(wanted)
    headers = {d: next(csv.reader(io.StringIO(text), delimiter=d)) for d in _candidates(source)}
    best = max(headers, key=lambda d: (len(names & set(headers[d])), len(headers[d])))
    return encoding, best, headers[best]


def unreadable(path: Path, error: Exception) -> SourceUnreadable:
    """One line out of a parser's complaint."""
    words = " ".join(str(error).split())[:200]
    return SourceUnreadable(
        f"{path.name} cannot be read as delimited text: {words}; repair it, or set [source] delimiter and encoding"
    )


def _candidates(source: Source) -> tuple[str, ...]:
    return (source.delimiter,) if source.delimiter else DELIMITERS


def _encoding(head: bytes) -> str:
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"  # what spreadsheets write where they do not write UTF-8
    return "utf-8"
