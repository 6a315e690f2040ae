"""Files of a home: complete or as before, whatever stops the writer."""

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from churn_assets.storage import files
from churn_assets.storage.files import (
    PendingFile,
    canonical_json,
    open_file,
    owner_mark,
    read_file,
    read_json_object,
    remove_leftovers,
    replace_folder,
    replacing,
    write_bytes,
    write_json,
    write_json_unsynced,
    write_text,
)
from churn_assets_tests.storage.no_files import NO_FILES, within


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def syscalls(monkeypatch):
    """fsyncs and renames in the order in which they are made: ("fsync", path) and ("rename", path)."""
    calls = []
    fsync, replace = os.fsync, files.Path.replace  # type: ignore[attr-defined]

    def logged_fsync(handle):
        calls.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def logged_replace(path, target):
        calls.append(("rename", str(target)))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(files.Path, "replace", logged_replace)  # type: ignore[attr-defined]
    return calls


def test_content_is_on_disk_before_the_name_and_the_name_before_the_return(tmp_path, syscalls):
    path = write_text(tmp_path / "new" / "page.html", "line\r\nänd\n")
    assert path.read_bytes() == "line\r\nänd\n".encode()
    (first, temporary), *rest = syscalls
    assert first == "fsync"
    assert temporary.startswith(str(tmp_path / "new" / ".page.html."))
    assert rest == [("rename", str(path)), ("fsync", str(path.parent))]
    assert names(path.parent) == ["page.html"]


def test_counts_of_each_second_replace_the_file_whole_and_wait_for_no_disk(tmp_path, syscalls):
    path = write_json_unsynced(tmp_path / "counts.json", {"rows": 1})
    write_json_unsynced(path, {"rows": 2})
    assert syscalls == [("rename", str(path)), ("rename", str(path))]
    assert read_json_object(path) == {"rows": 2}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_unsynced(path, {"rows": float("nan")})
    assert names(tmp_path) == ["counts.json"]


def test_a_folder_is_on_disk_before_its_name(tmp_path, syscalls):
    def write(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "model.json").write_text("{}")

    for _ in range(2):  # the second replaces the first
        replace_folder(tmp_path / "model", write)
        assert [Path(path).name for _, path in syscalls[:2]] == ["deep", "model.json"]
        assert syscalls[-1] == ("fsync", str(tmp_path))
        assert len(syscalls) == 4
        assert names(tmp_path) == ["model"]
        assert (tmp_path / "model" / "deep" / "model.json").is_file()
        syscalls.clear()


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path):
    replace_folder(tmp_path / "model", lambda folder: (folder / "a").write_text("1"))

    def broken(folder):
        (folder / "a").write_text("2")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        replace_folder(tmp_path / "model", broken)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "1"


@pytest.mark.parametrize("failing", ["fsync", "write", "rename"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, failing):
    path = write_bytes(tmp_path / "champion.json", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    module, name = {
        "fsync": (os, "fsync"),
        "write": (files.Path, "write_bytes"),  # type: ignore[attr-defined]
        "rename": (files.Path, "replace"),  # type: ignore[attr-defined]
    }[failing]
    monkeypatch.setattr(module, name, full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["champion.json"]


def _write_and_die(path):
    pending = PendingFile(path)
    pending.temporary.write_bytes(b"half of the n")
    os._exit(9)


def _write_many(path, letter, times):
    for _ in range(times):
        write_bytes(path, letter * 50_000)


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path):
    path = write_bytes(tmp_path / "champion.json", b"old")
    writer = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 9
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new")  # what the killed one left is in nobody's way
    assert path.read_bytes() == b"new"


def test_a_killed_writers_temporary_file_is_overwritten_if_the_name_is_reused(tmp_path):
    (tmp_path / ".log.parquet.tmp").write_bytes(b"of a killed writer, longer than the new content")
    with replacing(tmp_path / "log.parquet", reuse_name=True) as temporary:
        assert not temporary.exists()
        temporary.write_bytes(b"new")
    assert names(tmp_path) == ["log.parquet"]
    assert (tmp_path / "log.parquet").read_bytes() == b"new"


def test_two_writers_and_a_reader_never_see_half_a_file(tmp_path):
    path = write_bytes(tmp_path / "page", b"a" * 50_000)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, letter, 40)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        assert len(content) == 50_000
        assert len(set(content)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["page"]


def test_the_mode_is_from_the_umask_or_the_caller(tmp_path):
    previous = os.umask(0o027)
    try:
        plain = write_text(tmp_path / "plain", "x")
        with replacing(tmp_path / "frozen", mode=0o444) as temporary:
            temporary.write_text("x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(plain.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "frozen").stat().st_mode) == 0o444


def test_json_has_one_form_and_refuses_nan(tmp_path):
    path = write_json(tmp_path / "a.json", {"b": 1, "a": [0.5, None]})
    assert path.read_bytes() == canonical_json({"a": [0.5, None], "b": 1})
    assert read_json_object(path) == {"a": [0.5, None], "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json_object(path)["b"] == 1
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match="is a JSON list, expected an object"):
        read_json_object(tmp_path / "list.json")


def test_what_killed_processes_left_is_removed_and_a_folder_gets_its_content_back(tmp_path):
    own = owner_mark()
    host, process, _ = own.split("-")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    dead = f"{host}-{ended.pid}-01234567"
    deep = tmp_path / "reports" / "v1"
    deep.mkdir(parents=True)
    for name in (f".a.json.{dead}.tmp", f".a.json.{own}.tmp", f".a.json.ffffffff-{ended.pid}-01234567.tmp", "a.json"):
        (tmp_path / name).write_text("x")
    (deep / f".page.html.{dead}.tmp").write_text("x")
    for name in (f".model.{dead}.tmp", f".model.{dead}.old", f".kept.{dead}.old", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    removed = remove_leftovers(tmp_path)
    assert len(removed) == 5
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.json", f".a.json.{own}.tmp", f".a.json.ffffffff-{ended.pid}-01234567.tmp", "reports", "model", "kept")
    }
    assert list(deep.iterdir()) == []
    assert (tmp_path / "model" / "file").read_text() == f".model.{dead}.old"
    assert (tmp_path / "kept" / "file").read_text() == "kept"
    assert process == str(os.getpid())


def test_what_another_host_left_goes_after_a_day_without_a_change(tmp_path):
    (tmp_path / ".a.json.ffffffff-1-01234567.tmp").write_text("half")
    folder = tmp_path / ".model.ffffffff-1-01234567.old"
    folder.mkdir()
    (folder / "file").write_text("old")
    changed_at = (folder / "file").stat().st_ctime
    assert remove_leftovers(tmp_path, now=changed_at + 86_000) == []
    assert len(remove_leftovers(tmp_path, now=changed_at + 86_500)) == 2
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "old"


@pytest.mark.parametrize("make", [*NO_FILES.values(), Path.mkdir], ids=[*NO_FILES, "a folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    path = tmp_path / "in" / "a.json"
    path.parent.mkdir()
    make(path)
    with within():
        for read in (open_file, read_file):
            with pytest.raises(OSError, match=r"is not a file|symbolic links"):
                read(path)
        with pytest.raises((OSError, ValueError), match=r"is not a file|symbolic links"):
            read_json_object(path)


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").symlink_to("a")
    assert read_file(tmp_path / "b") == b"1"
