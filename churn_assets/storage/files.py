"""Files that a reader sees complete or not at all, and that survive a loss of power once written.

Every file of a home is written into a temporary file in the same folder: fsync of that file, rename, fsync of the
folder; counts that change each second are not synced. A process that is killed before the rename leaves the old file as
it was, and a hidden `.<name>.<host>-<process>-<digits>.tmp`, which `remove_leftovers` removes.
Only `prediction_log.segment`, which appends to an open file and syncs many rows at once, does not come here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import Any

_HOST = sha256(socket.gethostname().encode()).hexdigest()[:8]
_MARK = "(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-"
_SILENT_S = 86_400.0  # since another host's last change of a file: its writer has been gone for long
NOT_A_FILE = "is not a file"
_LEFTOVER = re.compile(rf"\.(?P<name>.+)\.{_MARK}[0-9a-f]{{8}}\.(?P<kind>tmp|old)")


class PendingFile:
    """A file that is written as `temporary` and replaces `path` at `commit`; the folder of `path` is made.

    `mode` are its permissions, None for those that the umask gives. `reuse_name`: always the same temporary
    name, so that the rest of a killed writer is overwritten and not left; only for a caller that holds a lock.
    """

    def __init__(self, path: Path, mode: int | None = None, reuse_name: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        digits = "" if reuse_name else f".{owner_mark()}"
        self.temporary = path.with_name(f".{path.name}{digits}.tmp")
        self._mode = mode
        if reuse_name and self.temporary.exists():
            self.discard()

    def commit(self, is_synced: bool = True) -> Path:
        """Give the file its name, once it is on disk. Raises OSError; the old file is there as long as it can be."""
        if is_synced:
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if self._mode is not None:
            self.temporary.chmod(self._mode)
        self.temporary.replace(self.path)
        if is_synced:
            sync_directory(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Remove what was written."""
        self.temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, mode: int | None = None, reuse_name: bool = False) -> Iterator[Path]:
    """The temporary path to write to; it replaces `path` when the block ends, and is removed if it raises."""
    pending = PendingFile(path, mode, reuse_name)
    try:
        yield pending.temporary
        pending.commit()
    except BaseException:
        pending.discard()
        raise


def write_bytes(path: Path, content: bytes) -> Path:
    """Replace `path` by a file of this content; its path. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """The same for text, as UTF-8 with the line ends it has."""
    return write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> Path:
    """The same for a JSON value, in its canonical form. Raises ValueError for NaN and infinity."""
    return write_bytes(path, canonical_json(value))


def write_json_unsynced(path: Path, value: object) -> Path:
    """As `write_json`, for a file that is written again in a second: after a loss of power it may be empty or the old
    one. A sync would make those wait who sync the prediction log."""
    pending = PendingFile(path)
    try:
        pending.temporary.write_bytes(canonical_json(value))
        return pending.commit(is_synced=False)
    except BaseException:
        pending.discard()
        raise


def canonical_json(value: object) -> bytes:
    """The one form in which JSON is written to a file: sorted keys, one a line; ValueError for NaN and infinity."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def open_file(path: Path) -> BufferedReader:
    """A file for reading bytes. Raises OSError, also for what is no file: to open a pipe would wait for a writer, and a
    device may have no end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket
            raise
        raise OSError(errno.EINVAL, NOT_A_FILE, str(path)) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, NOT_A_FILE, str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path) -> bytes:
    """The content of a file. Raises OSError, as `open_file`."""
    with open_file(path) as file:
        return file.read()


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises OSError, and ValueError for what is not a JSON object."""
    try:
        value = json.loads(read_file(path))
    except OSError as error:
        if error.strerror == NOT_A_FILE:
            raise ValueError(NOT_A_FILE) from None
        raise
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except LookupError as error:  # its first bytes look like an encoding that Python lacks
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}, expected an object")
    return value


def replace_folder(path: Path, write: Callable[[Path], object]) -> Path:
    """Replace the folder `path` by one that `write` fills; a reader finds the old one or the new one. A kill between
    the two renames leaves no folder `path`, and the old one beside it as `.<name>.<digits>.old`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = owner_mark()
    temporary, old = path.with_name(f".{path.name}.{digits}.tmp"), path.with_name(f".{path.name}.{digits}.old")
    try:
        temporary.mkdir()
        write(temporary)
        sync_tree(temporary)
        if path.is_dir():
            path.rename(old)
        temporary.rename(path)
        sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return path


def owner_mark() -> str:
    """A part of a temporary name: this host, this process, and digits that make it unique."""
    return f"{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"


def remove_leftovers(folder: Path, depth: int = 2, now: float | None = None) -> list[Path]:
    """Remove what processes left in `folder`, and `depth` folders below, when they were killed: temporary files and
    folders. A folder that was being replaced gets its old content back. Returns what was removed.

    What belongs to a process of this host that lives stays, and what another host has changed in the last day: whether
    its process lives cannot be seen from here, and a pod never comes back under its name. `now` is in seconds since
    1970. Raises OSError.
    """
    removed, now = [], time.time() if now is None else now
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        match = _LEFTOVER.fullmatch(path.name)
        if match is None:
            if depth and path.is_dir() and not path.is_symlink():
                removed += remove_leftovers(path, depth - 1, now)
        elif _is_left(path, match, now):
            target = path.with_name(match["name"] or "")
            if match["kind"] == "old" and not target.exists():
                path.rename(target)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_left(path: Path, match: re.Match[str], now: float) -> bool:
    """Whether nobody writes a temporary file or folder any more."""
    if match["host"] == _HOST:
        return not _lives(int(match["process"]))
    entries = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    with contextlib.suppress(FileNotFoundError):  # its process has just finished it
        return max(entry.lstat().st_ctime for entry in entries) < now - _SILENT_S
    return False


def _lives(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def sync_tree(directory: Path) -> None:
    """Put every file and folder below `directory`, and itself, on disk."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        else:
            sync_directory(path)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Make names that were written or renamed in `directory` survive a loss of power."""
    if os.name == "nt":  # a folder has no handle to sync there
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
