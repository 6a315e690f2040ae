"""A kept table as a file again."""

from __future__ import annotations

import hashlib
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from churn_assets.data.customers import TableOrigin
from churn_assets.data.readers.read import read_table
from churn_assets.data.versions.cells import table_digest
from churn_assets.data.versions.checkout import write_dvc_file, write_table_file
from churn_assets.data.versions.store import TableStore
from churn_assets.errors import SettingsError
from churn_assets_tests.strategies import STORE


@pytest.fixture
def kept(tmp_path) -> pa.Table:
    """A CSV file with awkward cells, read and kept."""
    path = tmp_path / "customers.csv"
    names = [column.name for column in STORE.columns]
    rows = [
        [f"id{n}", *("=1+1", 'say "hi"', "two\nlines", " blank ", "", "1,5", "0.10")[: len(names) - 1]]
        for n in range(3)
    ]
    quoted = [",".join('"' + cell.replace('"', '""') + '"' if cell else "" for cell in row) for row in rows]
    width = len(names) - len(rows[0])
    path.write_text("\n".join([",".join(names), *(line + "," * width for line in quoted)]) + "\n")
    table = TableOrigin("customers.csv").added_to(read_table(path, STORE))
    store = TableStore(tmp_path / "tables")
    return store.read(store.find(store.keep("raw", table).version))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_file_is_read_as_the_source_was(kept, suffix, tmp_path):
    written = write_table_file(kept, tmp_path / f"again{suffix}")
    assert written.exact
    again = read_table(written.path, STORE)
    assert again.cast(kept.schema.remove_metadata()).equals(kept.replace_schema_metadata(None))
    if suffix == ".parquet":
        assert table_digest(pq.read_table(written.path)) == table_digest(kept)
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o640


@pytest.mark.parametrize("column", [pa.array([1.5]), pa.array([""])])
def test_a_csv_that_loses_something_says_so(column, tmp_path):
    assert not write_table_file(pa.table({"a": column}), tmp_path / "a.csv").exact


def test_a_format_that_cannot_hold_the_table_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"a\.xlsx: expected a name that ends in \.parquet or \.csv"):
        write_table_file(pa.table({"a": [1]}), tmp_path / "a.xlsx")
    with pytest.raises(SettingsError, match=r"a\.csv: cannot hold this table .* write the other one"):
        write_table_file(pa.table({"a": [[1]]}), tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_dvc_finds_hash_size_and_path(tmp_path):
    path = tmp_path / "a 'b'; c.parquet"
    path.write_bytes(b"content")
    written = write_dvc_file(path)
    assert written.name == f"{path.name}.dvc"
    assert yaml.safe_load(written.read_text()) == {
        "outs": [{"md5": hashlib.md5(b"content").hexdigest(), "size": 7, "hash": "md5", "path": path.name}]
    }
