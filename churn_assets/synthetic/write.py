"""Writes generated customers to a file as they are drawn; memory is one chunk, whatever the number of rows."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from churn_assets.contract.model import Contract
from churn_assets.errors import DataError, ScenarioError
from churn_assets.storage.files import replacing, write_text
from churn_assets.synthetic.generate import CHUNK_ROWS, generate_batches, snapshot_of
from churn_assets.synthetic.leaks import plant_leak
from churn_assets.synthetic.scenario import Scenario, play

_SMALL_CHUNK = 1000
SUFFIXES = (".parquet", ".csv", ".xlsx")


@dataclass(frozen=True)
class WrittenFiles:
    """The rows of the customer table (with repeated ones), and the files that were written."""

    rows: int
    files: tuple[Path, ...]


def write_customers(
    contract: Contract,
    rows: int,
    seed: int,
    path: Path,
    scenario: Scenario | None = None,
    *,
    truth: Path | None = None,
    labels: Path | None = None,
    leaks: Sequence[tuple[str, float]] = (),
    progress: Callable[[int], None] | None = None,
) -> WrittenFiles:
    """Generate `rows` customers of the contract into `path`; the same arguments give the same bytes.

    `truth` takes both outcomes of each customer under an offer, `labels` the labels with the day they are known; each
    is required exactly if the scenario has them. The contract that describes the `leaks` (see `read_leaks`) is written
    beside `path`, as `.toml`. Files appear complete or not at all. `progress` is called with the number of rows drawn.
    Raises ScenarioError and DataError.
    """
    scenario = scenario or Scenario()
    if rows < 1 or seed < 0:
        raise ScenarioError(f"{rows} rows with seed {seed}; expected at least 1 row and a seed of at least 0")
    _paired("--truth", truth, "an offer", scenario.offer is not None)
    _paired("--labels", labels, "a label delay", scenario.label_delay_days is not None)
    beside = _contract_file(path, scenario) if leaks else None
    today, contract_text, written = snapshot_of(contract), contract.text, 0
    parts = play(contract, generate_batches(contract, rows, seed, today), rows, seed, today, scenario)
    with (
        _writer(path, contract) as write_rows,
        _writer(truth, contract) as write_truth,
        _writer(labels, contract) as write_labels,
    ):

        def customers() -> Iterator[pa.Table]:
            for number, part in enumerate(parts, start=1):
                write_truth(part.truth)
                write_labels(part.labels)
                if progress is not None:
                    progress(min(number * CHUNK_ROWS, rows))
                yield part.customers

        for table, described in _with_leaks(contract, customers(), leaks, seed):
            write_rows(table)
            written += table.num_rows
            contract_text = described.text
    if beside is not None:
        write_text(beside, contract_text)
    return WrittenFiles(written, tuple(p for p in (path, truth, labels, beside) if p is not None))


def _contract_file(path: Path, scenario: Scenario) -> Path:
    """Where the contract of the leaks is written."""
    if scenario.label_delay_days is not None:
        raise ScenarioError(
            "a leak is drawn from the label, which a label delay leaves empty; "
            "expected one of the two options; remove one"
        )
    beside = path.with_suffix(".toml")
    if beside.exists():
        raise ScenarioError(
            f"{beside} exists already; "
            "expected no file there, because the contract of the leaks is written to it; move it"
        )
    return beside


def _with_leaks(
    contract: Contract, tables: Iterator[pa.Table], leaks: Sequence[tuple[str, float]], seed: int
) -> Iterator[tuple[pa.Table, Contract]]:
    """Each table with the leaks and the contract that describes it. Leaks are drawn for rows or small groups, so the
    size of the tables makes no difference."""
    for chunk, planted in enumerate(_large(tables) if leaks else tables):
        described = contract
        for number, (kind, strength) in enumerate(leaks):
            planted, described, _ = plant_leak(described, planted, kind, strength, _leak_seed(seed, chunk, number))
        yield planted, described


def _leak_seed(seed: int, chunk: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, chunk, number)).generate_state(1)[0])


def _large(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables, a last one of a few rows joined to the one before: it might have one class only."""
    held = next(tables)
    for table in tables:
        if table.num_rows < _SMALL_CHUNK:
            held = pa.concat_tables([held, table])
        else:
            yield held
            held = table
    yield held


def _paired(option: str, path: Path | None, what: str, is_on: bool) -> None:
    if (path is not None) != is_on:
        problem = f"{option} is given without {what}" if path else f"{what} is given without a file for its truth"
        raise ScenarioError(f"{problem}; expected both or neither; add or remove one ({option} FILE)")


@contextmanager
def _writer(path: Path | None, contract: Contract) -> Iterator[Callable[[pa.Table | None], None]]:
    """A function that appends rows to `path`, complete when the block ends; without a path it does nothing."""
    if path is None:
        yield lambda _: None
        return
    suffix = _suffix(path)
    with_commas = suffix != ".parquet" and "decimal_comma" in contract.source.repairs
    sink = None  # opened with the schema of the first rows
    with replacing(path) as temporary, ExitStack() as files:

        def write(table: pa.Table | None) -> None:
            nonlocal sink
            assert table is not None  # the options of a file and of its rows are given together
            table = _with_commas(table) if with_commas else table
            sink = sink or files.enter_context(closing(_open(temporary, suffix, table.schema, contract)))
            sink.write(table)

        yield write


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise ScenarioError(f"{path.name} ends in '{path.suffix}'; expected one of: {', '.join(SUFFIXES)}; rename it")
    return path.suffix.lower()


def _open(path: Path, suffix: str, schema: pa.Schema, contract: Contract) -> Any:
    """A writer with `write(table)` and `close()`."""
    if suffix == ".xlsx":
        return WorkbookWriter(path, schema)
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")
    options = pa_csv.WriteOptions(delimiter=contract.source.delimiter or ",")
    return pa_csv.CSVWriter(path, schema, write_options=options)


def _with_commas(table: pa.Table) -> pa.Table:
    """Fractions as texts with a decimal comma, as the contract reads them."""
    for index, name in enumerate(table.column_names):
        if pa.types.is_floating(table.schema.field(index).type):
            text = pc.replace_substring(table.column(index).cast(pa.string()), ".", ",")
            table = table.set_column(index, name, text)
    return table


# -- workbooks: the minimum of Office Open XML (ECMA-376) that spreadsheets and calamine read ----------------

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
    """Writes record batches to one sheet named 'data'."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        for name, text in _PARTS.items():
            self._zip.writestr(_entry(name), _HEAD + text)
        self._sheet: IO[bytes] = self._zip.open(_entry("xl/worksheets/sheet1.xml"), "w", force_zip64=True)
        self._rows = 0
        self._write_text(f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>')
        self._row(schema.names)

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises DataError past what a sheet holds."""
        self._rows += table.num_rows
        if self._rows > MAX_ROWS:
            raise DataError(f"a sheet has at most {MAX_ROWS:,} rows and there are more; write .parquet or .csv instead")
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            self._row(row)

    def close(self) -> None:
        """Finish the file."""
        self._write_text("</sheetData></worksheet>")
        self._sheet.close()
        self._zip.close()

    def _row(self, cells: Iterable[object]) -> None:
        self._write_text(f"<row>{''.join(map(_cell, cells))}</row>")

    def _write_text(self, text: str) -> None:
        self._sheet.write(text.encode())


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _INSTANT)  # with the time of writing, equal tables would be different files
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
