"""Ctrl-C at any moment: work that a child process does, and a parent that does nothing but wait for it and for signals.

Python runs a signal handler between two instructions of the main thread only, so that a process deep in a library's C
code answers late. The parent here answers within 50 ms. It asks the child to stop, as ctrl-c does, and kills the
child's whole session `GRACE_S` later. If the parent is killed itself, the child notices and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

GRACE_S = 0.8  # from the request to stop to SIGKILL
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True)
class Ended:
    """How the work ended: its exit code, negative for a signal, and the signal by which the parent was asked to stop
    it, None if it came to its own end."""

    code: int
    stopped_by: int | None = None


def exit_on_interrupt() -> None:
    """Let SIGINT end this process at once, in one line: for a time in which nothing is at work, such as imports.

    An ignored SIGINT, as in the background of a script, stays ignored.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """The opposite: SIGINT raises KeyboardInterrupt, so that a command at work can clean up."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(number: int, frame: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"stopped before anything was done\n")
    os._exit(128 + number)


def run_in_child(
    work: Callable[[], int], stopping: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Ended:
    """Call `work`, which returns an exit code, in a child process; wait for its end or for a signal.

    `stopping` is entered, in this process, when the child has been asked to stop, and left when it is gone. Where the
    system has no fork, the work is done in this process.
    """
    if not hasattr(os, "fork"):
        return Ended(work())
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, lambda number, _: received.append(number))
    alive, parent = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(parent)
        _do(work, alive)
    os.close(alive)
    try:
        while (code := _ended(child)) is None and not received:
            time.sleep(_POLL_S)  # waitpid would not return on a signal that is only noted
        if code is None:
            _send(os.kill, child, signal.SIGINT)
            end = time.monotonic() + GRACE_S
            with stopping():
                code = _wait(child, end)
            return Ended(code, received[0] if code != 0 else None)
        return Ended(code)
    finally:
        os.close(parent)
        for number, handler in before.items():
            signal.signal(number, handler)


def _do(work: Callable[[], int], alive: int) -> None:
    """The child: a session of its own, so that ctrl-c reaches it through its parent alone."""
    code = 1
    try:
        os.setsid()
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        _end_with_parent(alive)
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _end_with_parent(alive: int) -> None:
    """Let the parent's end, which closes the pipe `alive`, end this session. On Linux the kernel ends this process even
    where it stays in C code; a thread needs the interpreter's lock."""

    def wait() -> None:
        os.read(alive, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _ended(child: int) -> int | None:
    """The child's exit code, None while it is at work."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _wait(child: int, end: float) -> int:
    """The exit code of a child that was asked to stop; its session is killed at `end`, and when it has ended."""
    while (code := _ended(child)) is None and time.monotonic() < end:
        time.sleep(_POLL_S)  # waitpid has no timeout
    _send(os.killpg, child, signal.SIGKILL)
    if code is None:
        _send(os.kill, child, signal.SIGKILL)  # one that was just forked has no session yet
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code


def _send(send: Callable[[int, int], None], to: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        send(to, number)
