"""Counts of several processes, read again and again."""

from __future__ import annotations

from churn_assets.release.counts import GUARDRAILS, ArmCounts, CountsReader, ReleaseCounts, counts_folder, write_counts

POLICY = "r000001"


def counts_of(rows, seconds):
    return ReleaseCounts({"champion": ArmCounts(rows=rows, seconds=seconds)})


def test_a_file_is_read_again_if_it_was_replaced_and_what_is_none_is_left_out(tmp_path):
    reader, folder = CountsReader(tmp_path), counts_folder(tmp_path, POLICY)
    assert reader.read(POLICY) == ReleaseCounts()
    write_counts(tmp_path, POLICY, "one", counts_of(3, {70: 2, 71: 1}))
    write_counts(tmp_path, POLICY, "two", counts_of(4, {71: 4}))
    (folder / GUARDRAILS).write_text("{}")
    (folder / "three.json").write_text('{"arms": ')
    (folder / "four.json").mkdir()
    first = reader.read(POLICY)
    assert first == counts_of(7, {70: 2, 71: 5})
    assert reader.read(POLICY) is first, "nothing was written"
    write_counts(tmp_path, POLICY, "two", counts_of(5, {71: 5}))
    write_counts(tmp_path, POLICY, "three", counts_of(1, {70: 1}))
    assert reader.read(POLICY) == counts_of(9, {70: 3, 71: 6})
    (folder / "one.json").unlink()
    assert reader.read(POLICY) == counts_of(6, {70: 1, 71: 5})
    assert reader.read("r000002") == ReleaseCounts()
