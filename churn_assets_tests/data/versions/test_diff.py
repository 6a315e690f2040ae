"""What two versions have otherwise."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.data.versions.diff import ChangedCell, describe_diff, diff_tables
from churn_assets.errors import TableNotKept

BEFORE = pa.table({"id": ["a", "b", "b", "c"], "city": ["x", "y", None, "z"], "old": [1, 2, 3, 4]})
AFTER = pa.table({"id": ["b", "b", "d", "a"], "city": ["y", "w", "v", "x"], "new": [1, 2, 3, 4]})


def test_rows_are_compared_by_id_and_the_nth_of_one_id_with_the_nth():
    diff = diff_tables(BEFORE, AFTER, "id")
    assert (diff.added, diff.removed, diff.changed, diff.moved) == (1, 1, 1, True)
    assert (diff.added_ids, diff.removed_ids) == (["d"], ["c"])
    assert diff.cells == [ChangedCell("b", "city", None, "w")]
    assert (diff.cells_by_column, diff.columns_added, diff.columns_removed) == ({"city": 1}, ["new"], ["old"])
    assert describe_diff(diff) == [
        "4 rows before, 4 after: 1 added, 1 removed, 1 changed, in another order",
        "columns added: new",
        "columns removed: old",
        "changed cells by column: city 1",
        "added: d",
        "removed: c",
        "b: city was empty, is 'w'",
    ]


def test_lists_are_cut_and_counts_are_complete():
    many = pa.table({"id": list(map(str, range(1000))), "n": [0] * 1000})
    other = pa.table({"id": list(map(str, range(500, 1500))), "n": [1] * 1000})
    diff = diff_tables(many, other, "id", limit=3)
    assert (diff.added, diff.removed, diff.changed) == (500, 500, 500)
    assert (len(diff.added_ids), len(diff.removed_ids), len(diff.cells)) == (3, 3, 3)
    lines = describe_diff(diff)
    assert lines[-1] == "and 497 more cells"
    assert "added: 1000, 1001, 1002 and 497 more" in lines


def test_a_column_of_another_type_is_compared_as_text():
    diff = diff_tables(pa.table({"id": [1, 2], "n": [1, 2]}), pa.table({"id": [1, 2], "n": ["1", "3"]}), "id")
    assert diff.types_changed == ["n: int64 -> string"]
    assert diff.cells == [ChangedCell("2", "n", "2", "3")]


TABLES = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1.0, 2.0, None])), max_size=8).map(
    lambda rows: pa.table(
        {"id": pa.array([row[0] for row in rows], pa.string()), "n": pa.array([row[1] for row in rows], pa.float64())}
    )
)


@given(TABLES, TABLES)
def test_counts_are_those_of_a_comparison_row_by_row(before, after):
    def named(table: pa.Table) -> dict:
        seen, rows = {}, {}
        for name, number in zip(*table.to_pydict().values(), strict=True):
            seen[name] = seen.get(name, 0) + 1
            rows[name, seen[name]] = number
        return rows

    old, new, diff = named(before), named(after), diff_tables(before, after, "id")
    assert diff.added == len(new.keys() - old.keys())
    assert diff.removed == len(old.keys() - new.keys())
    assert diff.changed == sum(old[key] != new[key] for key in old.keys() & new.keys())
    assert diff.same == (before.to_pylist() == after.to_pylist())


@pytest.mark.parametrize("key", ["name", ""])
def test_a_table_without_the_id_says_so(key):
    with pytest.raises(TableNotKept, match=r"has 0 columns '.*', expected one to compare rows by; .* --key"):
        diff_tables(BEFORE, AFTER, key)
