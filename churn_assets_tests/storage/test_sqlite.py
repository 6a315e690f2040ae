"""A store: durable transactions, snapshots for readers, plain errors."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from churn_assets.storage.sqlite import SqliteStore
from churn_assets_tests.disks import fill, small_disk


class Refused(Exception):
    pass


class Unavailable(Exception):
    pass


class Corrupt(Exception):
    pass


class Counters(SqliteStore):
    schema = "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;\n"
    busy_s = 0.05

    def _refused(self, message):
        return Refused(message)

    def _unavailable(self, message):
        return Unavailable(message)

    def _corrupt(self, message):
        return Corrupt(message)

    def add(self, name, value):
        self.add_all((name, value))

    def add_all(self, *counters):
        with self._writing() as db:
            for counter in counters:
                db.execute("INSERT INTO counters VALUES (?, ?)", counter)

    def all(self):
        with self._reading() as db:
            return {row["name"]: row["value"] for row in db.execute("SELECT * FROM counters ORDER BY name")}


@pytest.fixture
def store(tmp_path):
    return Counters(tmp_path / "home" / "counters.db")


def test_reading_makes_nothing_and_writing_makes_the_file(store):
    assert store.all() == {}
    assert not store.path.parent.exists()
    store.add("a", 1)
    assert store.all() == {"a": 1}
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_exception_undoes_the_whole_transaction(store):
    store.add("a", 1)
    with pytest.raises(Refused):
        store.add_all(("b", 2), ("a", 3))
    assert store.all() == {"a": 1}


def test_a_reader_sees_one_instant_while_another_writes(store):
    store.add("a", 1)
    with store._reading() as db:
        before = db.execute("SELECT count(*) FROM counters").fetchone()[0]
        store.add("b", 2)
        assert db.execute("SELECT count(*) FROM counters").fetchone()[0] == before == 1
    assert store.all() == {"a": 1, "b": 2}


def test_a_violated_constraint_is_refused(store):
    store.add("a", 1)
    with pytest.raises(Refused, match="UNIQUE constraint failed"):
        store.add("a", 2)


def test_a_locked_store_can_be_read_and_not_written(store):
    store.add("a", 1)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            store.add("b", 2)
        assert store.all() == {"a": 1}
        holder.execute("ROLLBACK")


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"Not a directory|File exists"):
        Counters(tmp_path / "file" / "deep" / "counters.db").add("a", 1)


def test_a_damaged_file_a_foreign_one_and_a_later_one_are_corrupt(store):
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database " * 200)
    with pytest.raises(Corrupt, match="not a database"):
        store.all()
    store.path.unlink()
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(Corrupt, match="no such table"):
        store.all()
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA user_version = 2")
    for call in (store.all, lambda: store.add("a", 1)):
        with pytest.raises(Corrupt, match="its format is 2, expected 1"):
            call()


def test_a_file_that_was_made_and_never_written_is_empty(store):
    store.path.parent.mkdir()
    store.path.touch()
    assert store.all() == {}
    store.add("a", 1)
    assert store.all() == {"a": 1}


_KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO counters VALUES ('half', 1)")
os._exit(9)
"""


def test_a_killed_writer_leaves_nothing_of_its_transaction(store):
    store.add("a", 1)
    assert subprocess.run([sys.executable, "-c", _KILLED, os.fspath(store.path)], check=False).returncode == 9
    assert store.all() == {"a": 1}
    store.add("b", 2)


def test_a_first_writer_waits_for_another_first_writer(store, monkeypatch):
    """The other has made the file and not yet changed its journal mode: SQLite's timeout does not cover that."""
    monkeypatch.setattr(Counters, "busy_s", 20.0)
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ("ROLLBACK",))
        release.start()
        store.add("a", 1)
        release.join()
    assert store.all() == {"a": 1}


def test_a_first_writer_gives_up_after_its_time(store):
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            store.add("a", 1)
    assert store.all() == {}


FULL = """
import sys
from pathlib import Path
from churn_assets_tests.storage.test_sqlite import Counters, Unavailable
store = Counters(Path(sys.argv[1]))
for call in (lambda: store.add("b", 2), store.all) * 2:
    try:
        print(call())
    except Unavailable as error:
        print("unavailable:", error)
"""


def test_on_a_full_disk_a_store_is_unavailable_and_no_process_ends(tmp_path):
    """SQLite maps the index of its write-ahead log; it writes each page of that before it uses it."""
    with small_disk(tmp_path / "disk", 512) as disk:
        store = Counters(disk / "counters.db")
        store.add("a", 1)
        filler = fill(disk)
        done = subprocess.run([sys.executable, "-c", FULL, str(store.path)], capture_output=True, text=True)
        assert done.returncode == 0, (done.returncode, done.stderr)
        assert done.stdout.count("unavailable: ") >= 2, done.stdout
        filler.unlink()
        store.add("b", 2)
        assert store.all() == {"a": 1, "b": 2}
