"""A workbook written row by row, in bounded memory, the same bytes for the same rows.

The least of Office Open XML (ECMA-376) that spreadsheets and calamine read: one sheet, texts in line,
dates as serial numbers with a date format.
"""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape

import pyarrow as pa

from churn_assets.errors import DataError

MAX_ROWS = 1_048_575  # a sheet has one more, for the header
_EPOCH = dt.date(1899, 12, 30)
_INSTANT = (1980, 1, 1, 0, 0, 0)
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'

_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">'
    '<sheets><sheet name="data" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="r2" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><fonts count="1"><font/></fonts><fills count="1"><fill/></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="2"><xf/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
}


class WorkbookWriter:
    """Writes record batches to one sheet named 'data'; use as a context manager."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        for name, text in _PARTS.items():
            self._zip.writestr(_entry(name), _HEAD + text)
        self._sheet: IO[bytes] = self._zip.open(_entry("xl/worksheets/sheet1.xml"), "w", force_zip64=True)
        self._rows = 0
        self._say(f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>')
        self._row(schema.names)

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises DataError past what a sheet holds."""
        self._rows += table.num_rows
        if self._rows > MAX_ROWS:
            raise DataError(f"a sheet holds {MAX_ROWS:,} rows and there are more; write .parquet or .csv instead")
        columns = [column.to_pylist() for column in table.columns]
        for row in zip(*columns, strict=True):
            self._row(row)

    def close(self) -> None:
        """Finish the file."""
        self._say("</sheetData></worksheet>")
        self._sheet.close()
        self._zip.close()

    def _row(self, cells: object) -> None:
        self._say(f"<row>{''.join(map(_cell, cells))}</row>")  # type: ignore[call-overload]  # any iterable of cells

    def _say(self, text: str) -> None:
        self._sheet.write(text.encode())


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _INSTANT)  # the day of writing would make equal tables unequal files
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _cell(value: object) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value!r}</v></c>"
    if isinstance(value, dt.date):
        return f'<c s="1"><v>{(value - _EPOCH).days}</v></c>'
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'
