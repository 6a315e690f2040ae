"""The log as an outbox: whatever happens to its files, each row is taken once, in the order of its segment."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path

import pytest

from churn_assets.events import outbox
from churn_assets.events.outbox import Batch, Outbox
from churn_assets.events.positions import Position, Positions, apply, corrections, encode, replay
from churn_assets.prediction_log.records import encode_line
from churn_assets.prediction_log.segment import DONE, OPEN, READY
from churn_assets.prediction_log.warehouse.archive import compact
from churn_assets_tests.prediction_log.home import feedback, prediction, rejections, settings, write

DAY = dt.date(2026, 11, 1)


def taken(box: Outbox, positions: Positions) -> list[str]:
    batch = Batch()
    box.collect(positions, batch)
    apply(positions, batch.changes)
    return [json.loads(message.value)["prediction_id"] for message in batch.messages]


def box_of(home: Path, **options: object) -> Outbox:
    of = settings(home)
    return Outbox(of.predlog_dir, of.archive_dir, "topic", **options)  # type: ignore[arg-type]


def test_rows_come_once_as_they_are_written_and_a_torn_tail_when_it_is_whole(tmp_path):
    box, positions = box_of(tmp_path), Positions()
    whole = encode_line(prediction("b"))
    path = write(settings(tmp_path), "s1", prediction("a"), whole[:50], suffix=OPEN)
    assert taken(box, positions) == ["a"]
    assert taken(box, positions) == []
    with path.open("ab") as file:
        file.write(whole[50:] + encode_line(prediction("c")))
    assert taken(box, positions) == ["b", "c"]
    path.rename(path.with_suffix(READY))
    assert taken(box, positions) == []
    assert positions == {"segment/s1": Position(path.with_suffix(READY).stat().st_size, ended=True)}


def test_what_is_no_prediction_is_passed_over_and_what_cannot_be_sent_is_counted(tmp_path):
    shadow, wrong = prediction("s", shadow=True), prediction("w", score=7.0)
    write(settings(tmp_path), "s1", feedback("f"), shadow, wrong, b"no json\n", rejections(disk=1), prediction("a"))
    batch = Batch()
    box_of(tmp_path).collect({}, batch)
    assert [json.loads(message.value)["prediction_id"] for message in batch.messages] == ["a"]
    assert (batch.rows, batch.skipped) == (6, 2)


def test_a_batch_ends_within_a_segment_and_the_next_goes_on_there(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_ROWS", 3)
    write(settings(tmp_path), "s1", *(prediction(f"a{i}") for i in range(5)))
    write(settings(tmp_path), "s2", *(prediction(f"b{i}") for i in range(2)), suffix=DONE)
    box, positions = box_of(tmp_path), Positions()
    assert [taken(box, positions) for _ in range(4)] == [["a0", "a1", "a2"], ["a3", "a4", "b0"], ["b1"], []]


def test_segments_of_every_instance_are_followed(tmp_path):
    (settings(tmp_path).predlog_dir / "pod-1").mkdir(parents=True)
    write(settings(tmp_path), "pod-1/s1@pod-1", prediction("a"), suffix=OPEN)
    write(settings(tmp_path), "pod-1/s2@pod-1", prediction("b"), suffix=DONE)
    box, positions = box_of(tmp_path), Positions()
    assert taken(box, positions) == ["a", "b"]
    assert taken(box, positions) == []


@pytest.mark.parametrize("seed", range(12))
def test_each_row_is_taken_once_whatever_happens_to_the_files_and_to_the_relay(seed, tmp_path, monkeypatch):
    """Appends, ends of segments, ingests, archives, and batches that are lost before they are committed, at random."""
    rng, of = random.Random(seed), settings(tmp_path)
    monkeypatch.setattr(outbox, "MAX_ROWS", rng.choice([1, 3, 50]))
    box, positions, received, written = box_of(tmp_path), Positions(), list[str](), list[str]()
    for step in range(60):
        names = {path.stem: path for path in of.predlog_dir.glob("*")} if of.predlog_dir.exists() else {}
        match rng.choice(["begin", "append", "append", "end", "ingest", "archive", "take", "take", "lose"]):
            case "begin":
                write(of, f"s{step:03d}", suffix=OPEN)
            case "append" if opened := [path for path in names.values() if path.suffix == OPEN]:
                written.append(f"p{step}")
                with rng.choice(opened).open("ab") as file:
                    file.write(encode_line(prediction(written[-1])))
            case "end" | "ingest" as move:
                old, new = (OPEN, READY) if move == "end" else (READY, DONE)
                for path in names.values():
                    if path.suffix == old and rng.random() < 0.5:
                        path.rename(path.with_suffix(new))
            case "archive":
                compact(of.archive_dir, of.predlog_dir, [(n, DAY) for n, p in names.items() if p.suffix == DONE])
            case "take":
                received += taken(box, positions)
            case "lose":
                box.collect(positions, Batch())
                box.restart()
    for _ in range(len(written) + 10):
        received += taken(box, positions)
    assert sorted(received) == sorted(written)


def test_what_was_deleted_before_it_was_sent_is_told_after_an_hour(tmp_path):
    lines: list[str] = []
    now = [0.0]
    box = box_of(tmp_path, report=lines.append, clock=lambda: now[0])
    path = write(settings(tmp_path), "s1", prediction("a"), suffix=OPEN)
    sent = write(settings(tmp_path), "s2", prediction("b"))
    positions: Positions = {}
    taken(box, positions)
    path.unlink()
    sent.unlink()
    taken(box, positions)
    now[0] = 3599.0
    taken(box, positions)
    assert (len(positions), lines) == (2, [])
    now[0] = 3601.0
    taken(box, positions)
    assert positions == {}
    assert (box.lost_segments, len(lines)) == (1, 1)
    assert "segment/s1: was deleted before it was relayed" in lines[0]


def test_the_backlog_is_bytes_and_the_age_of_the_oldest_row_that_waits(tmp_path):
    box, positions = box_of(tmp_path), Positions()
    assert box.backlog(positions) == outbox.Backlog(0, None)
    first = encode_line(prediction("a", scored_at="2026-11-21T10:00:00+00:00"))
    path = write(settings(tmp_path), "s1", first, prediction("b", scored_at="2026-11-21T10:05:00+00:00"), suffix=OPEN)
    assert box.backlog(positions) == outbox.Backlog(path.stat().st_size, dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC))
    positions["segment/s1"] = Position(len(first))
    assert box.backlog(positions).oldest_at == dt.datetime(2026, 11, 21, 10, 5, tzinfo=dt.UTC)
    taken(box, positions)
    assert box.backlog(positions).size == 0


def test_positions_of_an_aborted_transaction_count_for_nothing():
    def record(number: int, key: str, position: Position | None) -> tuple[int, str, bytes | None]:
        return number, key, encode(position)

    records = [
        record(1, "segment/a", Position(10)),
        record(2, "segment/b", Position(5)),
        record(3, "segment/a", Position(20)),  # of a relay that was killed
        record(3, "segment/b", None),
    ]
    assert replay(records, committed=2) == ({"segment/a": Position(10), "segment/b": Position(5)}, 3)
    assert replay(records, committed=3) == ({"segment/a": Position(20)}, 3)
    assert replay(records, committed=None) == ({"segment/a": Position(20)}, 3)  # no offset is left: all of them count
    assert replay([], committed=7) == ({}, 7)


def test_what_was_aborted_counts_for_nothing_either_after_the_next_transaction():
    """A relay that is killed in a transaction, then one that is killed after its first: the third goes by the first."""
    records = [(1, "segment/a", encode(Position(10))), (2, "segment/a", encode(Position(99))), (2, "segment/b", None)]
    positions, newest = replay(records, committed=1)
    changes = corrections(records, 1, positions)
    assert changes == {"segment/a": Position(10), "segment/b": None}
    records += [(newest + 1, key, encode(position)) for key, position in changes.items()]
    assert replay(records, committed=newest + 1)[0] == {"segment/a": Position(10)}
    assert corrections(records, newest + 1, positions) == {}
    assert corrections(records, None, positions) == {}
