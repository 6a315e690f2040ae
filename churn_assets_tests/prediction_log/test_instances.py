"""Several hosts with one log: a folder of segments each, one ingest."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import os
import time

import pytest

from churn_assets.errors import SegmentLost
from churn_assets.prediction_log.records import encode_line
from churn_assets.prediction_log.segment import DONE, OPEN, QUIET_S, READY, Segment, adopt_orphans, segment_path
from churn_assets.prediction_log.warehouse.ingest import ingest, pending
from churn_assets.prediction_log.warehouse.read import count, segment_names, tail, verify
from churn_assets_tests.prediction_log.home import STORE, ask, prediction, settings, tables

WEEK_S = 7 * 86_400.0


def line(name):
    return encode_line(prediction(name))


def written(of, instance, *names, **options):
    """A segment of an instance with a row for each name, open."""
    segment = Segment(of.predlog_dir / instance, instance=instance, **options)
    for name in names:
        segment.append(line(name))
    return segment


def age(path, seconds):
    past = time.time() - seconds
    os.utime(path, (past, past))


def left_behind(of, instance, name):
    """An open segment with a torn tail, whose worker has died."""
    folder = of.predlog_dir / instance
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"20261127T100000000000-7-ab{name}{'@' if instance else ''}{instance}{OPEN}"
    path.write_bytes(line(name) + b'{"torn')
    return path


def test_each_instance_writes_into_its_folder_and_every_reader_sees_all(tmp_path):
    of = settings(tmp_path)
    for instance in ("web-0", "web-1", ""):
        written(of, instance, f"{instance}-a").hand_over()
    still_open = written(of, "web-1", "web-1-b")
    ids = ["web-0-a", "web-1-a", "-a", "web-1-b"]
    assert verify(of.predlog_dir, ids).kept
    assert {row.own_id for row in tail(of.predlog_dir, 9)} == set(ids)
    ready = [name for name in segment_names(of.predlog_dir) if segment_path(of.predlog_dir, name, READY).exists()]
    assert len(ready) == 3
    assert len(pending(of.predlog_dir)) == 3
    assert ingest(of, STORE).predictions == 3
    still_open.hand_over()
    assert ingest(of, STORE).predictions == 1
    assert ask(of, "SELECT count(*), count(DISTINCT prediction_id) FROM predictions") == [(4, 4)]
    assert {path.parent.name for path in of.predlog_dir.rglob(f"*{DONE}")} == {"predlog", "web-0", "web-1"}


def test_two_hosts_whose_processes_have_the_same_numbers_have_segments_of_two_names(tmp_path, monkeypatch):
    of = settings(tmp_path)
    monkeypatch.setattr("churn_assets.prediction_log.segment.secrets.token_hex", lambda size: "0" * 2 * size)
    monkeypatch.setattr("churn_assets.prediction_log.segment._next_stamp", lambda folder: "20261127T100000000000")
    for instance in ("web-0", "web-1"):
        written(of, instance, instance).hand_over()
    assert ingest(of, STORE).predictions == 2


@pytest.mark.parametrize(("quiet_s", "adopted"), [(0.0, 0), (QUIET_S - 30, 0), (QUIET_S + 30, 1)])
def test_the_ingest_leaves_alone_what_another_instance_may_still_write(tmp_path, quiet_s, adopted):
    """The lock is free, as on a file system whose locks do not reach other hosts."""
    of = settings(tmp_path)
    path = left_behind(of, "web-0", "p")
    age(path, quiet_s)
    assert ingest(of, STORE).adopted == adopted
    assert path.exists() is not adopted
    assert verify(of.predlog_dir, ["p"]).kept


def test_a_lock_that_reaches_the_ingest_protects_a_worker_that_was_stopped_for_long(tmp_path):
    of = settings(tmp_path)
    path = left_behind(of, "web-0", "p")
    age(path, 10 * QUIET_S)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert ingest(of, STORE).adopted == 0
    assert ingest(of, STORE).adopted == 1


def test_an_instance_hands_over_at_once_what_its_own_processes_left_and_nothing_else(tmp_path):
    of = settings(tmp_path)
    own, other, none = (left_behind(of, instance, f"p{instance}") for instance in ("web-0", "web-1", ""))
    assert adopt_orphans(of.predlog_dir / "web-0") == 1
    assert [path.exists() for path in (own, other, none)] == [False, True, True]
    assert ingest(dataclasses.replace(of, instance="web-1"), STORE).predictions == 3


def test_a_worker_whose_segment_was_taken_acknowledges_nothing_more_in_it(tmp_path):
    """The worst case: locks reach nobody, and a worker goes on after a pause that was longer than any allowed one."""
    of = settings(tmp_path)
    segment = written(of, "web-0", "before")
    [path] = (of.predlog_dir / "web-0").glob(f"*{OPEN}")
    path.rename(path.with_suffix(READY))  # as an ingest does that cannot see the lock
    assert ingest(of, STORE).predictions == 1
    with pytest.raises(SegmentLost):
        segment.append(line("after"))
    segment.append(line("again"))
    segment.hand_over()
    ingest(of, STORE)
    assert ask(of, "SELECT prediction_id FROM predictions ORDER BY 1") == [("again",), ("before",)]


def test_archives_expiry_and_rebuild_hold_for_the_segments_of_instances(tmp_path):
    of = dataclasses.replace(settings(tmp_path), log_archive_hours=0)
    for instance in ("web-0", "web-1"):
        written(of, instance, f"{instance}-a").hand_over()
    ingest(of, STORE)
    before = tables(of)
    assert ingest(of, STORE, now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=2)).archived == 1
    assert not list(of.predlog_dir.rglob(f"*{DONE}"))
    assert count(of.predlog_dir, of.archive_dir).kinds == {"prediction": 2}
    ingest(of, STORE, rebuild=True)
    assert tables(of) == before


def test_the_folder_of_an_instance_goes_once_it_is_empty_and_was_silent_for_a_week(tmp_path):
    of = settings(tmp_path)
    written(of, "", "p").hand_over()
    for name in ("gone", "idle", "young", "full"):
        (of.predlog_dir / name).mkdir()
    (of.predlog_dir / "full" / f"a@full{OPEN}").write_bytes(line("q"))
    for name in ("gone", "idle", "full"):
        age(of.predlog_dir / name, WEEK_S + 60)
    Segment(of.predlog_dir / "idle", instance="idle").hand_over_if_due()  # a worker without rows does this each second
    ingest(of, STORE)
    assert sorted(path.name for path in of.predlog_dir.iterdir() if path.is_dir()) == ["full", "idle", "young"]
