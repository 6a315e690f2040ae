"""What goes into a home comes out again, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.defs.io_manager import HomeIOManager, read, write
from churn_assets.errors import AssetMissing, AssetStale

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Note:
    """Something that saves itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, folder: Path) -> None:
        (folder / "text.txt").write_text(self.text)

    @classmethod
    def load(cls, folder: Path) -> Note:
        return cls((folder / "text.txt").read_text())


class Broken(Note):
    def save(self, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("the disk is full")


def test_a_table_keeps_types_and_metadata(tmp_path):
    table = pa.table(
        {"day": pa.array([0, None], pa.date32()), "label": pa.array([1, 0], pa.int8()), "why": [["a"], []]}
    ).replace_schema_metadata({b"churn_as_of": b"2014-01-20"})
    write(tmp_path, "customers", table)
    found = read(tmp_path, "customers", pa.Table)
    assert found.equals(table)
    assert found.schema.metadata[b"churn_as_of"] == b"2014-01-20"


@given(value=st.dictionaries(st.text(), JSON))
def test_small_values_come_back_equal(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("home")
    write(folder, "small", value)
    assert read(folder, "small", dict) == value


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    write(tmp_path, "note", Note("one"))
    write(tmp_path, "note", Note("two"))
    assert read(tmp_path, "note", Note).text == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("before", ["one", None])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, before):
    if before:
        write(tmp_path, "note", Note(before))
    with pytest.raises(OSError, match="the disk is full"):
        write(tmp_path, "note", Broken("two"))
    assert [path.name for path in tmp_path.iterdir()] == (["note"] if before else [])
    if before:
        assert read(tmp_path, "note", Note).text == before


def test_a_number_json_does_not_know_is_refused_and_the_old_value_stays(tmp_path):
    write(tmp_path, "small", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, "small", {"a": float("nan")})
    assert read(tmp_path, "small", dict) == {"a": 1}


def test_a_value_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match="asset 'x' is a object, expected a table, JSON or something that saves itself"):
        write(tmp_path, "x", object())


def test_what_was_never_made_is_named(tmp_path):
    with pytest.raises(AssetMissing, match=r"^there is no 'splits' in .*; make it: churn run, or materialize splits$"):
        read(tmp_path, "splits", pa.Table)


def test_parquet_can_be_read_without_this_package(tmp_path):
    path = write(tmp_path, "customers", pa.table({"a": [1]}))
    assert pq.read_table(path)["a"].to_pylist() == [1]


@pytest.mark.parametrize(
    "value",
    [pa.table({"a": [1]}).replace_schema_metadata({b"churn_contract": b"old"}), {"fingerprint": "old"}],
    ids=["table", "small value"],
)
def test_what_was_made_under_another_contract_is_not_handed_out(tmp_path, value):
    write(tmp_path, "made", value)
    kind = dg.PythonObjectDagsterType(type(value))
    context = dg.build_input_context(asset_key=dg.AssetKey("made"), dagster_type=kind)
    with pytest.raises(AssetStale, match="'made' was made under contract old, the one in use is new"):
        HomeIOManager(folder=str(tmp_path), contract="new").load_input(context)
    HomeIOManager(folder=str(tmp_path), contract="old").load_input(context)
