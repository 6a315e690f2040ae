"""The processes of a service: a worker never outlives its supervisor, nor the time that it has to stop.

Nothing here waits for the event loop, which may be what hangs. To end a worker at once loses nothing: what was
acknowledged is on disk, and the next worker adopts its segment.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import cache

from churn_assets.errors import SettingsError
from churn_assets.structured_log import LOGGER, log_event

SERVICE = "churn_assets.serving.service:ChurnService"  # as BentoML finds it
SUPERVISOR = "_CHURN_SUPERVISOR"  # set by the supervisor for its workers: its pid; no setting
SUPERVISOR_POLL_S = 0.5
ORPHAN_S = 3.0  # that a worker without a supervisor has to stop
STOP_S = 25.0  # from SIGTERM on; a process manager often sends SIGKILL after 30


def is_worker() -> bool:
    """Whether this process is a worker of BentoML: its supervisor gives it a socket."""
    return "--fd" in sys.argv


def name_supervisor() -> None:
    """Have the workers that this process starts know it. A worker cannot find out by itself: if the supervisor has died
    before the worker asks, its parent is another process already."""
    os.environ[SUPERVISOR] = str(os.getpid())


def follow_supervisor() -> None:
    """In a worker, from now on: stop as on SIGTERM once the supervisor has died, and end if that takes too long.

    Workers of a supervisor that was killed would keep the port and answer, unknown to whoever starts the service
    again. The kernel gives an orphan another parent, so that a reused pid cannot be mistaken for the supervisor.
    """
    named = os.environ.get(SUPERVISOR, "")
    supervisor = int(named) if named.isdigit() else os.getppid()
    threading.Thread(target=_follow, args=(supervisor,), name="supervisor", daemon=True).start()


def _follow(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(SUPERVISOR_POLL_S)
    facts = {"supervisor": supervisor}
    log_event(logging.getLogger(LOGGER), logging.ERROR, "the supervisor has died, stopping", **facts)
    end_within(ORPHAN_S)
    os.kill(os.getpid(), signal.SIGTERM)


@cache  # the first call with a time counts
def end_within(seconds: float) -> None:
    """End this process by then, however far it is with its stop."""
    timer = threading.Timer(seconds, _end, (seconds,))
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    facts = {"seconds": seconds}
    log_event(logging.getLogger(LOGGER), logging.ERROR, "stopping took too long, the process ends now", **facts)
    os._exit(1)


def free_memory() -> None:
    """Give back what is not used any more: a model that was replaced is garbage in cycles, which the collector, made
    lazy for requests, would find after hours, and its memory would stay with the C library."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc only
    if trim is not None:
        trim(0)


def check_grpc_port(host: str, port: int, grpc_port: int) -> None:
    """`check_port` for gRPC, unless it is off. Workers share its port, and another service would do so unnoticed."""
    if grpc_port == port:
        raise SettingsError(
            f"CHURN_GRPC_PORT is {grpc_port}, as the port of HTTP, expected another; correct one of them"
        )
    if grpc_port:
        check_port(host, grpc_port, "CHURN_GRPC_PORT, 0 for no gRPC")


def check_port(host: str, port: int, setting: str = "--port") -> None:
    """Raise SettingsError unless a server could listen there now; `setting` names the port for the user."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"port {port} of {host} is taken by another process, expected a free one; "
                f"end that process, or use another port: {setting}"
            ) from error
        raise SettingsError(
            f"{host}, port {port}, is no place to listen ({error.strerror}), expected an address of this machine and "
            f"a port that you may use; correct --host (CHURN_HOST) or {setting}"
        ) from error
