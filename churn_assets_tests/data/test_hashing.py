"""The hash of a table changes with its content and with nothing else."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from churn_assets.data.hashing import content_hash, data_hash
from churn_assets_tests.strategies import STORE, tables, typed_table

TABLE = pa.table({"a": pa.array([1, None, 3]), "b": ["x", "y", None]})


@pytest.mark.parametrize(
    "same",
    [
        TABLE.replace_schema_metadata({"said": "by someone"}),
        pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
        pa.table({"a": pa.array([9, 1, None, 3]), "b": ["z", "x", "y", None]}).slice(1),
    ],
    ids=["metadata", "chunks", "a slice of more"],
)
def test_what_is_no_content_does_not_matter(same):
    assert data_hash(same) == data_hash(TABLE)
    assert content_hash(same) == content_hash(TABLE)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.rename_columns(["a", "c"]),
        TABLE.select(["b", "a"]),
        TABLE.take([1, 0, 2]),
        TABLE.set_column(0, "a", pa.array([1, 2, 3])),
        TABLE.set_column(0, "a", pa.array([1.0, None, 3.0])),
    ],
    ids=["name", "order of columns", "order of rows", "a cell", "a type"],
)
def test_content_matters(other):
    assert data_hash(other) != data_hash(TABLE)
    assert content_hash(other) != content_hash(TABLE)


@given(rows=tables(STORE))
def test_a_file_does_not_change_the_hash_of_what_is_kept(rows):
    table = typed_table(STORE, rows)
    file = pa.BufferOutputStream()
    pq.write_table(table, file, compression="zstd")
    assert content_hash(pq.read_table(pa.BufferReader(file.getvalue()))) == content_hash(table)


def test_where_one_text_ends_and_the_next_begins_is_content():
    one, two = (pa.table({"a": texts}) for texts in (["ab", "c"], ["a", "bc"]))
    assert content_hash(one) != content_hash(two)
