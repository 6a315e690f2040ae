"""The files in which the workers' metrics are, with their room on disk taken before Prometheus maps them.

A write to a mapped page that a full disk cannot hold ends the process (SIGBUS). So the bytes of a file are written
here first. Where the folder that BentoML names has no room, this worker's files are in memory (`/dev/shm`) or among
the system's temporary files; where there is none either, its metrics are its own and nobody adds them up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import psutil

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# By the beginning of a file's name. Series are added to the first three: by model, by column.
SIZES: Mapping[str, int] = {"counter": 2**17, "gauge_livemax": 2**16, "gauge_livesum": 2**12, "histogram": 2**16}
_MARGIN = 2**13  # more than the longest series takes
_USED = struct.Struct("i")  # at the beginning of a file


class MetricFiles:
    """The files of one worker. `folders` have those of all workers; none without several processes."""

    def __init__(self, environ: Mapping[str, str], others: Iterable[Path] | None = None) -> None:
        named = environ.get(VARIABLE)
        self.folders: tuple[Path, ...] = ()
        self._paths: dict[str, Path] = {}
        if named is None:
            return
        other = [_own_folder(parent, named) for parent in (_temporary() if others is None else others)]
        for folder in (Path(named), *other):
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o700, exist_ok=True)
                if folder in other:
                    _check_owner(folder)
                self._paths = {kind: _make(folder / f"{kind}_{os.getpid()}.db", SIZES[kind]) for kind in SIZES}
                self.folders = (Path(named), *other)
                break

    @property
    def folder(self) -> Path | None:
        """Where this worker's files are; None if they are nowhere."""
        return next((path.parent for path in self._paths.values()), None)

    def reserve(self, kind: str) -> bool:
        """Whether one more series has room in a file. It is doubled on disk before Prometheus doubles what it maps."""
        if kind not in self._paths:
            return True  # in this process's memory
        with contextlib.suppress(OSError), self._paths[kind].open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            used = _USED.unpack(os.pread(file.fileno(), _USED.size, 0))[0]
            return size - used > _MARGIN or _extend(file.fileno(), size, 2 * size)
        return False

    def of_workers(self) -> list[Path]:
        """The files of all workers, those that were killed among them."""
        return sorted(path for folder in self.folders for path in folder.glob("*.db"))


def _make(path: Path, size: int) -> Path:
    """A file of so many bytes that are on disk; one that is there stays. Raises OSError, and leaves none."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        known = os.fstat(handle).st_size
        if known < size and not _extend(handle, known, size):
            path.unlink()
            raise OSError(f"{path}: no room")
    finally:
        os.close(handle)
    return path


def _extend(handle: int, size: int, wanted: int) -> bool:
    """Write zeros at the end of a file: what the disk has taken it keeps room for. False if it takes fewer."""
    try:
        while size < wanted:
            size += os.pwrite(handle, bytes(wanted - size), size)
    except OSError:
        return False
    return True


def _check_owner(folder: Path) -> None:
    """Raise OSError for a folder in which others may write: they could cut off a file that is mapped."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OSError(f"{folder}: belongs to somebody else, or others may write there")


def _temporary() -> list[Path]:
    return [folder for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())) if folder.is_dir()]


def _own_folder(parent: Path, named: str) -> Path:
    """A folder of this user and service in `parent`; those of services that have ended are removed."""
    mark = f"churn-metrics-{sha256(f'{os.getuid()} {named}'.encode()).hexdigest()[:16]}-"
    for path in parent.glob(f"{mark}*"):
        supervisor = path.name.removeprefix(mark)
        if supervisor.isdigit() and not psutil.pid_exists(int(supervisor)) and path.stat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)
    return parent / f"{mark}{os.getppid()}"
