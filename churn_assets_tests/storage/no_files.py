"""What a path may lead to that is no file, and that an `open` would wait for, or read without end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path


def _socket(path: Path) -> None:
    folder, here = os.open(path.parent, os.O_RDONLY), Path.cwd()
    try:
        os.fchdir(folder)  # a socket's path has at most 108 bytes
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)
        os.close(folder)


def _link_to_a_pipe(path: Path) -> None:
    pipe = path.parent.parent / f"pipe-{path.name}"
    os.mkfifo(pipe)
    path.symlink_to(pipe)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to a pipe": _link_to_a_pipe,
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a folder": lambda path: path.symlink_to(path.parent.parent),
}


@contextlib.contextmanager
def within(seconds: int = 10) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
