"""Kept tables: what is read back is what was kept, and a small change costs little."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import stat
import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.data.readers.read import read_table
from churn_assets.data.versions import store as store_module
from churn_assets.data.versions.cells import table_digest
from churn_assets.data.versions.manifest import manifest_path
from churn_assets.data.versions.rows import RowSequence, match_rows
from churn_assets.data.versions.store import TableStore
from churn_assets.errors import KeptTableCorrupt, TableNotKept
from churn_assets.synthetic.generate import generate
from churn_assets_tests.strategies import STORE

ROWS = 20_000
SOURCE = os.environ.get("CHURN_SOURCE", "")


@pytest.fixture(scope="module")
def customers() -> pa.Table:
    return generate(STORE, rows=ROWS, seed=3)


def same(read: pa.Table, kept: pa.Table) -> bool:
    """Bit for bit: `equals` would take -0.0 for 0.0, and no NaN for itself."""
    return table_digest(read) == table_digest(kept) and read.schema.equals(kept.schema, check_metadata=True)


def keep(store: TableStore, *tables: pa.Table) -> list[int]:
    """Keep tables one after another; the bytes that each added."""
    now, added = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), []
    for number, table in enumerate(tables):
        added.append(store.keep("raw", table, now=now + dt.timedelta(days=number)).stored_bytes)
    return added


# -- a change of one row in a hundred -----------------------------------------------------------------


def appended(table: pa.Table, new: pa.Table) -> pa.Table:
    return pa.concat_tables([table, new])


def inserted(table: pa.Table, new: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 5000), new, table.slice(5000)])


def sorted_in(table: pa.Table, new: pa.Table) -> pa.Table:
    places = np.random.default_rng(5).integers(0, table.num_rows, new.num_rows)
    order = np.argsort(np.concatenate([np.arange(table.num_rows) + 0.5, places]), kind="stable")
    return pa.concat_tables([table, new]).take(pa.array(order))


def changed(table: pa.Table, new: pa.Table) -> pa.Table:
    rows = np.random.default_rng(6).permutation(table.num_rows)[: new.num_rows]
    position = table.schema.get_field_index("avgorder")
    cells = np.array(table["avgorder"].to_pylist(), dtype=object)
    cells[rows] = [str(number / 100) for number in range(len(rows))]
    return table.set_column(position, "avgorder", pa.array(cells, table.schema.field(position).type))


CHANGES = [appended, inserted, sorted_in, changed]


def added_share(folder, table: pa.Table, change) -> float:
    rows = round(table.num_rows / 1.01)
    before, store = table.slice(0, rows), TableStore(folder)
    after = change(before, table.slice(rows))
    first, second = keep(store, before, after)
    assert same(store.read(store.find("raw")), after)
    assert store.stored_bytes() == pytest.approx(first + second, abs=64)  # but for the digits of a manifest's own size
    return second / first


@pytest.mark.parametrize("change", CHANGES)
def test_one_row_in_a_hundred_adds_at_most_three_bytes_in_a_hundred(change, customers, tmp_path):
    text = pa.table({name: pc.cast(customers[name], pa.string()) for name in customers.column_names})
    assert added_share(tmp_path, text, change) <= 0.03


@pytest.mark.skipif(not SOURCE.endswith("storedata_total.xlsx"), reason="CHURN_SOURCE does not name the public table")
def test_the_same_of_the_public_table(tmp_path):
    assert added_share(tmp_path, read_table(SOURCE, STORE), sorted_in) <= 0.03


def test_many_small_changes_one_after_another_stay_cheap(customers, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_DEEPEST", 5)
    rng, table, tables = np.random.default_rng(0), customers.slice(0, 6000), []
    for _ in range(8):
        new = customers.take(pa.array(rng.integers(6000, ROWS, 60)))
        table = sorted_in(table.filter(pa.array(rng.random(table.num_rows) > 0.01)), new)
        tables.append(table)
    store = TableStore(tmp_path)
    first, *later = keep(store, *tables)
    assert max(later) <= 0.10 * first  # of so few rows; the one without a base is the most
    assert {manifest.depth for manifest in store.versions().values()} == {0, 1, 2, 3, 4}
    for manifest, kept in zip(store.versions().values(), tables, strict=True):
        assert same(store.read(manifest), kept)


def test_a_column_with_one_value_costs_nothing_when_it_changes(customers, tmp_path):
    def on(day: str) -> pa.Table:
        return customers.append_column("as_of", pa.repeat(pa.scalar(dt.date.fromisoformat(day)), ROWS))

    first, second = keep(TableStore(tmp_path), on("2026-01-01"), on("2026-02-01"))
    assert second < 0.01 * first


# -- what is kept is read back ------------------------------------------------------------------------

CELLS = st.sampled_from([None, "", "a", "b", "café", "\x00", "x\ny"])
NUMBERS = st.sampled_from([None, 0.0, -0.0, float("nan"), float("inf"), 1.5])
TABLES = st.lists(st.tuples(CELLS, NUMBERS, st.sampled_from([None, True, False])), max_size=30).map(
    lambda rows: pa.table(
        {
            "id": pa.array([row[0] for row in rows], pa.string()),
            "number": pa.array([row[1] for row in rows], pa.float64()),
            "flag": pa.array([row[2] for row in rows], pa.bool_()),
        }
    )
)


@given(tables=st.lists(TABLES, min_size=1, max_size=6), gone=st.sets(st.integers(0, 5)), every_row=st.booleans())
@settings(max_examples=40)
def test_every_version_is_read_back_and_others_may_be_removed(tables, gone, every_row, tmp_path_factory):
    store = TableStore(tmp_path_factory.mktemp("tables"))
    kept = {store.keep("raw", table).version: table for table in tables}
    assert kept.keys() == store.versions().keys()
    removed = {version for number, version in enumerate(kept) if number in gone}
    store.remove(removed, every_row=every_row)
    assert store.versions().keys() == kept.keys() - removed
    for version, manifest in store.versions().items():
        assert same(store.read(manifest), kept[version])
    if every_row:
        rows = {row for table in map(store.read, store.versions().values()) for row in map(str, table.to_pylist())}
        held = sum(size for size in _pack_sizes(store).values())
        assert held <= sum(table.num_rows for version, table in kept.items() if version not in removed)
        assert not rows or store.stored_bytes() > 0
    store.remove(kept.keys())
    assert store.stored_bytes() == 0


def _pack_sizes(store: TableStore) -> dict[str, int]:
    return {name: rows for manifest in store.versions().values() for name, rows in manifest.packs}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=30))
def test_runs_give_the_sequence_back(rows):
    sequence = RowSequence(*(np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1)))
    again = RowSequence.from_runs(sequence.to_runs())
    assert again.source.tolist() == sequence.source.tolist()
    assert again.row.tolist() == sequence.row.tolist()


@given(TABLES, TABLES)
def test_a_row_is_matched_with_an_equal_one_and_only_then(kept, table):
    cells = [[table_digest(t.slice(n, 1)) for n in range(t.num_rows)] for t in (kept, table)]
    matched = match_rows(kept, table).tolist()
    assert [cells[0][m] if m >= 0 else None for m in matched] == [c if c in cells[0] else None for c in cells[1]]


COLUMNS = [
    pa.array(["a", None, "b", "a"]).dictionary_encode(),
    pa.array([dt.datetime(2026, 1, 1, 12, 30, 0, 5), None, dt.datetime(1999, 1, 1), None], pa.timestamp("us", "UTC")),
    pa.array([1, None, 3, 2**63], pa.uint64()),
    pa.array([1, None, 3, 4], pa.timestamp("s")),
    pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-2.00"), None], pa.decimal128(10, 2)),
    pa.array([b"\x00\xff", None, b"", b"a"], pa.large_binary()),
    pa.array([[1, 2], None, [], [3]], pa.list_(pa.int64())),
    pa.array([{"a": 1}, None, {"a": None}, {"a": 2}], pa.struct([("a", pa.int32())])),
    pa.array([None] * 4, pa.null()),
    pa.array([dt.time(1, 2), None, dt.time(3), dt.time(4)], pa.time64("us")),
]


@pytest.mark.parametrize("cells", COLUMNS, ids=lambda cells: str(cells.type)[:20])
def test_types_come_back_as_they_were(cells, tmp_path):
    store = TableStore(tmp_path)
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("cell", cells.type)], {b"churn_source": b"a file"})
    table = pa.table([pa.array([1, 2, 3, 4]), cells], schema=schema)
    keep(store, table, table.slice(1), pa.concat_tables([table, table.slice(2)]))
    for version, kept in zip(store.versions().values(), (table, table.slice(1)), strict=False):
        assert same(store.read(version), kept)
        assert store.read(version).to_pylist() == kept.to_pylist()


def test_a_type_that_no_file_holds_is_refused_and_leaves_the_store_as_it_was(tmp_path):
    store = TableStore(tmp_path)
    keep(store, pa.table({"id": [1, 2]}))
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    with pytest.raises(TableNotKept, match=r"the table is not kept \(.*convert them in the source"):
        store.keep("raw", pa.table({"id": [1, 2], "cell": union}))
    assert [manifest.rows for manifest in store.versions().values()] == [2]
    assert keep(store, pa.table({"id": [1, 2, 3]}))[0] > 0


def test_a_table_that_is_kept_already_adds_nothing_and_is_the_newest_then(customers, tmp_path):
    store, other = TableStore(tmp_path), customers.slice(0, 50)
    assert keep(store, customers.slice(0, 100), other, customers.slice(0, 100))[2] == 0
    assert [manifest.rows for manifest in store.versions().values()] == [50, 100]
    assert store.find("raw").rows == 100
    assert store.find("raw").kept_at < store.find("raw").used_at


def test_several_writers_keep_at_once(customers, tmp_path):
    parts = [customers.slice(start, 300) for start in range(0, 1200, 150)]
    threads = [threading.Thread(target=TableStore(tmp_path).keep, args=("raw", part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = TableStore(tmp_path)
    assert {table_digest(store.read(m)) for m in store.versions().values()} == {table_digest(part) for part in parts}


# -- files --------------------------------------------------------------------------------------------


def test_files_are_as_readable_as_those_of_the_log(customers, tmp_path):
    store = TableStore(tmp_path)
    keep(store, customers.slice(0, 100))
    files = [path for path in tmp_path.glob("*/*") if path.is_file()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


def test_a_damaged_or_missing_file_is_named(customers, tmp_path):
    store = TableStore(tmp_path)
    keep(store, customers.slice(0, 100), customers.slice(0, 50))
    other, version = store.versions().values()
    (pack,) = store.packs_dir.glob("*.parquet")
    content = pack.read_bytes()
    pack.write_bytes(content[: len(content) // 2])
    with pytest.raises(KeptTableCorrupt, match=rf"{pack.name}: cannot be read .* remove it"):
        store.read(version)
    pack.unlink()
    with pytest.raises(KeptTableCorrupt, match=pack.name):
        store.read(version)
    manifest_path(store.versions_dir, other.version).unlink()
    with pytest.raises(KeptTableCorrupt, match=f"needs version {other.version}, which is missing"):
        store.read(version)
    manifest_path(store.versions_dir, version.version).write_bytes(b"{}")
    with pytest.raises(KeptTableCorrupt, match="cannot be read"):
        store.versions()


def test_rows_of_another_pack_are_not_taken_for_those_that_were_kept(customers, tmp_path):
    store = TableStore(tmp_path)
    keep(store, customers.slice(0, 100))
    (pack,) = store.packs_dir.glob("*.parquet")
    store._write_pack(customers.slice(100, 100).rename_columns(list(map(str, range(customers.num_columns)))))
    (other,) = set(store.packs_dir.glob("*.parquet")) - {pack}
    other.replace(pack)
    with pytest.raises(KeptTableCorrupt, match=r"has other cells than were kept|cannot be read"):
        store.read(store.find("raw"))


def test_a_version_is_found_by_its_beginning_or_as_the_newest_of_a_table(customers, tmp_path):
    store = TableStore(tmp_path)
    with pytest.raises(TableNotKept, match="none is kept yet"):
        store.find("raw")
    keep(store, customers.slice(0, 100), customers.slice(0, 50))
    first, second = store.versions()
    assert store.find(first[:6]).version == first
    assert store.find("raw").version == second
    with pytest.raises(TableNotKept, match=r"version zzzz is not kept in .*`churn data log`"):
        store.find("zzzz")


def test_what_removing_would_free_is_about_what_it_frees(customers, tmp_path):
    store = TableStore(tmp_path)
    keep(store, customers, customers.slice(15_000))
    first, second = store.versions()
    estimate, freed = store.removal_bytes([first]), store.remove([first])
    assert estimate == pytest.approx(freed, rel=0.1)
    assert freed > 0
    assert same(store.read(store.find(second)), customers.slice(15_000))
