"""The champion pointer: always one whole champion, whoever is killed while writing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from churn_assets.errors import NoChampion, PointerCorrupt
from churn_assets.promotion.pointer import POINTER, Champion, read_champion, require_champion, write_champion

CHAMPION = Champion(
    version="0123456789abcdef",
    bundle="bundles/0123456789abcdef",
    fingerprint="f" * 64,
    registered_version=3,
    since_at=datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
    by="registered_model",
    reason="first model",
)


def test_a_champion_is_read_as_it_was_written(tmp_path):
    home = tmp_path / "deep" / "home"
    assert read_champion(home) is None
    write_champion(home, CHAMPION)
    assert read_champion(home) == require_champion(home) == CHAMPION
    assert CHAMPION.path(home) == home / "bundles" / "0123456789abcdef"
    assert [p.name for p in home.iterdir()] == [POINTER]


def test_instants_are_kept_in_utc(tmp_path):
    local = datetime(2026, 11, 21, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    write_champion(tmp_path, Champion(**{**CHAMPION.__dict__, "since_at": local, "registered_version": None}))
    assert json.loads((tmp_path / POINTER).read_text())["since_at"] == "2026-11-21T12:00:00+00:00"
    assert read_champion(tmp_path).since_at == local


def test_nothing_promoted_yet_says_what_to_do(tmp_path):
    with pytest.raises(NoChampion, match="make run"):
        require_champion(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        json.dumps({"version": "x"}).encode(),
        json.dumps({**CHAMPION.__dict__, "since_at": "yesterday"}).encode(),
        json.dumps({**CHAMPION.__dict__, "since_at": "2026-11-21T12:00:00"}).encode(),
        json.dumps({**CHAMPION.__dict__, "since_at": "2026-11-21T12:00:00+00:00", "bundle": "../x"}).encode(),
        json.dumps({**CHAMPION.__dict__, "since_at": "2026-11-21T12:00:00+00:00", "bundle": "/x"}).encode(),
        json.dumps({**CHAMPION.__dict__, "since_at": "2026-11-21T12:00:00+00:00", "version": 7}).encode(),
        json.dumps({**CHAMPION.__dict__, "since_at": "2026-11-21T12:00:00+00:00", "more": 1}).encode(),
    ],
    ids=str,
)
def test_an_unreadable_pointer_is_an_error_never_no_champion(tmp_path, content):
    (tmp_path / POINTER).write_bytes(content)
    with pytest.raises(PointerCorrupt, match=r"champion\.json: cannot be read \([^\n]+restore it, or remove it"):
        read_champion(tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_a_fault_of_the_system_never_advises_to_remove_the_pointer(tmp_path, monkeypatch, number):
    open_any = os.open

    def fail(path, *options, **more):
        if str(path).endswith(POINTER):
            raise OSError(number, os.strerror(number), str(path))
        return open_any(path, *options, **more)

    write_champion(tmp_path, CHAMPION)
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(PointerCorrupt, match=r"champion\.json: cannot be read \(.*correct its permissions") as raised:
        read_champion(tmp_path)
    assert "remove" not in str(raised.value)


def test_a_pointer_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_champion(tmp_path, CHAMPION)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_champion(tmp_path, Champion(**{**CHAMPION.__dict__, "version": "other"}))
    assert read_champion(tmp_path) == CHAMPION
    assert [p.name for p in tmp_path.iterdir()] == [POINTER]


_WRITER = """
import dataclasses, sys
from pathlib import Path
from churn_assets.promotion.pointer import read_champion, write_champion
home = Path(sys.argv[1])
champion = read_champion(home)
print("ready", flush=True)
number = 0
while True:
    number += 1
    write_champion(home, dataclasses.replace(champion, version=str(number), reason="x" * (number % 5000)))
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_pointer(tmp_path):
    write_champion(tmp_path, CHAMPION)
    for attempt in range(8):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        end = time.monotonic() + 0.01 + 0.013 * attempt
        seen = 0
        while time.monotonic() < end:
            assert read_champion(tmp_path) is not None
            seen += 1
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert read_champion(tmp_path) is not None
        assert seen
