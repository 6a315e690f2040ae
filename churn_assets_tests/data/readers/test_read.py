"""The same customers from every kind of file, and one clear line for every file that is none."""

import dataclasses
import datetime as dt

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from churn_assets.data.readers.read import iter_batches, read_names, read_table
from churn_assets.data.validation.parse import as_text
from churn_assets.errors import (
    ColumnMissing,
    DuplicateColumn,
    EmptySource,
    SheetNotFound,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
)
from churn_assets.synthetic.generate import generate
from churn_assets_tests.strategies import STORE

NAMES = [column.name for column in STORE.columns]


@pytest.fixture(scope="module")
def customers():
    return generate(STORE, 500, 3)


def texts(table):
    return pa.table({name: as_text(table.column(name)) for name in table.column_names})


def write_excel(path, table, sheet="data"):
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    page.append(table.column_names)
    for row in table.to_pylist():
        page.append(list(row.values()))
    book.save(path)


def write_duckdb(path, table):
    with duckdb.connect(str(path)) as connection:
        connection.register("given", table)
        connection.execute("CREATE TABLE people AS SELECT * FROM given")


WRITERS = {
    "xlsx": write_excel,
    "csv": lambda path, table: pa_csv.write_csv(table, path),
    "parquet": lambda path, table: pq.write_table(table, path),
    "duckdb": write_duckdb,
}


def source(path):
    return f"duckdb://{path}?table=people" if path.suffix == ".duckdb" else str(path)


@pytest.fixture(scope="module", params=WRITERS)
def written(request, customers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    WRITERS[request.param](folder / f"people.{request.param}", customers)
    odd = folder.rename(folder.with_name(f"{folder.name} 50%41 o?f's #1 k\u00fcnde\u65e5\u672c"))
    return source(odd / f"people.{request.param}")


def test_every_format_reads_the_same_cells(written, customers):
    read = read_table(written, STORE)
    assert read.column_names == customers.column_names
    assert texts(read).equals(texts(customers))


def test_batches_are_the_table_in_parts(written, customers):
    batches = list(iter_batches(written, STORE, 128))
    assert all(batch.num_rows <= 128 for batch in batches)
    assert texts(pa.Table.from_batches(batches)).equals(texts(customers))
    assert read_names(written, STORE) == customers.column_names


def test_types_are_the_contracts_affair(tmp_path, customers):
    for name in ("csv", "xlsx"):
        WRITERS[name](tmp_path / f"a.{name}", customers.slice(0, 5))
        assert set(read_table(tmp_path / f"a.{name}", STORE).schema.types) == {pa.string()}
    WRITERS["parquet"](tmp_path / "a.parquet", customers.slice(0, 5))
    assert read_table(tmp_path / "a.parquet", STORE).schema.field("created").type == pa.date32()


def test_cells_of_a_workbook_read_as_a_person_reads_them(tmp_path):
    row = dict.fromkeys(NAMES, 1.5) | {
        "custid": 278734.0,
        "created": dt.date(2012, 9, 28),
        "firstorder": dt.datetime(2012, 9, 28, 10, 30),
        "lastorder": dt.time(0, 0),
        "favday": "",
        "paperless": True,
    }
    write_excel(tmp_path / "a.xlsx", pa.table({name: [None] for name in NAMES}).slice(0, 0))
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    book["data"].append([row[name] for name in NAMES])
    book.save(tmp_path / "a.xlsx")
    read = read_table(tmp_path / "a.xlsx", STORE).to_pylist()[0]
    assert read["custid"] == "278734"
    assert read["created"] == "2012-09-28"
    assert read["firstorder"] == "2012-09-28T10:30:00"
    assert read["lastorder"] == "00:00:00"
    assert read["favday"] is None
    assert read["paperless"] == "true"
    assert read["avgorder"] == "1.5"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_detected_from_the_file(tmp_path, delimiter, encoding):
    lines = [delimiter.join(NAMES), delimiter.join(["é1", "0", *[""] * (len(NAMES) - 3), '"BO\nM"'])]
    (tmp_path / "a.csv").write_bytes("\r\n".join(lines).encode(encoding))
    row = read_table(tmp_path / "a.csv", STORE).to_pylist()[0]
    assert row["custid"] == "é1"
    assert row["created"] is None
    assert row["city"] == "BO\nM"


def header(names):
    return ",".join(names) + "\n"


def line(names=NAMES):
    return ",".join("1" for _ in names) + "\n"


BAD_FILES = {
    "an empty file": ("a.csv", b"", EmptySource, "is empty"),
    "blank lines only": ("a.csv", b"\n\n", EmptySource, "is empty"),
    "only a header": ("a.csv", header(NAMES).encode(), EmptySource, "header and no rows"),
    "no label column": (
        "a.csv",
        (header([n for n in NAMES if n != "retained"]) + line(NAMES[1:])).encode(),
        ColumnMissing,
        r"lacks column 'retained' \(the label\)",
    ),
    "a misspelt column": (
        "a.csv",
        (header([n.replace("esent", "e_sent") for n in NAMES]) + line()).encode(),
        ColumnMissing,
        "'e_sent' looks like 'esent'",
    ),
    "a column twice": ("a.csv", (header([*NAMES, "city"]) + line([*NAMES, "x"])).encode(), DuplicateColumn, "'city'"),
    "a ragged row": ("a.csv", (header(NAMES) + line() + "1,2\n").encode(), SourceUnreadable, "Expected 15 columns"),
    "bytes": ("a.csv", b"\x00\x01\x02" * 50, SourceUnreadable, "zero bytes"),
    "no workbook": ("a.xlsx", b"hello", SourceUnreadable, "is not a workbook"),
    "no parquet": ("a.parquet", b"hello", SourceUnreadable, "is not a Parquet file"),
    "an unknown suffix": ("a.yaml", b"{}", SourceUnreadable, "ends in '.yaml'"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_clear_line(tmp_path, case):
    name, content, error, words = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        read_table(tmp_path / name, STORE)
    assert "\n" not in str(caught.value)
    with pytest.raises(error):
        list(iter_batches(tmp_path / name, STORE, label_required=True))


def test_a_missing_file_names_the_files_of_its_folder(tmp_path):
    (tmp_path / "real.csv").write_text("x")
    with pytest.raises(SourceNotFound, match=r"no file at .*nope.csv; files in that folder: real.csv"):
        read_table(tmp_path / "nope.csv", STORE)
    with pytest.raises(SourceNotFound, match="that folder has no files"):
        read_table(tmp_path / "nowhere" / "nope.csv", STORE)
    with pytest.raises(SourceNotFound, match="is a folder"):
        read_table(tmp_path, STORE)


def test_a_wrong_sheet_names_those_there_are(tmp_path, customers):
    write_excel(tmp_path / "a.xlsx", customers.slice(0, 3), sheet="Sheet1")
    with pytest.raises(SheetNotFound, match="no sheet 'data'; it has: Sheet1"):
        read_table(tmp_path / "a.xlsx", STORE)
    any_sheet = dataclasses.replace(STORE, source=dataclasses.replace(STORE.source, sheet=None))
    assert read_table(tmp_path / "a.xlsx", any_sheet).num_rows == 3


def test_a_workbook_without_rows_is_empty(tmp_path, customers):
    write_excel(tmp_path / "a.xlsx", customers.slice(0, 0))
    with pytest.raises(EmptySource):
        read_table(tmp_path / "a.xlsx", STORE)
    openpyxl.Workbook().save(tmp_path / "b.xlsx")
    any_sheet = dataclasses.replace(STORE, source=dataclasses.replace(STORE.source, sheet=None))
    with pytest.raises(EmptySource):
        read_table(tmp_path / "b.xlsx", any_sheet)


def test_a_missing_duckdb_table_names_those_there_are(tmp_path, customers):
    write_duckdb(tmp_path / "a.duckdb", customers.slice(0, 3))
    with pytest.raises(SourceNotFound, match="has no table 'persons'; it has: people"):
        read_table(f"duckdb://{tmp_path}/a.duckdb?table=persons", STORE)
    (tmp_path / "b.duckdb").write_text("hello" * 1000)
    with pytest.raises(SourceUnreadable, match="cannot be opened as DuckDB"):
        read_table(f"duckdb://{tmp_path}/b.duckdb?table=persons", STORE)


@pytest.mark.parametrize(
    "text", ["duckdb://a.duckdb", "http://there/a.csv", "generated://store?rows=many", "generated://store?rows=0"]
)
def test_a_source_that_cannot_be_parsed_is_an_error(text):
    with pytest.raises(SourceError):
        read_table(text, STORE)


def test_a_file_to_be_scored_needs_no_label(tmp_path, customers):
    pq.write_table(customers.drop_columns(["retained"]), tmp_path / "a.parquet")
    assert next(iter_batches(tmp_path / "a.parquet", STORE)).num_rows == 500
    with pytest.raises(ColumnMissing):
        read_table(tmp_path / "a.parquet", STORE)
    assert read_table(tmp_path / "a.parquet", STORE, label_required=False).num_rows == 500
