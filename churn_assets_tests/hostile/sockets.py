"""Raw connections to a service: what is sent, what comes back, and whether the service still holds them."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from urllib.parse import urlsplit

import psutil

FILE = b"/static_content/swagger-ui-bundle.js"  # 1.4 MB: more than the kernel takes without a reader

Address = tuple[str, int]


def address_of(url: str) -> Address:
    """Host and port of a service."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def connect(address: Address, sent: bytes = b"", timeout: float = 20) -> socket.socket:
    line = socket.create_connection(address, timeout=timeout)
    line.sendall(sent)
    return line


def read_until_closed(line: socket.socket) -> bytes:
    """Everything until the service closes; a reset is an end too."""
    received = b""
    try:
        while more := line.recv(65_536):
            received += more
    except ConnectionError:
        pass
    return received


def unread(
    address: Address, path: bytes = FILE, requests: int = 20, tls: ssl.SSLContext | None = None
) -> socket.socket:
    """A connection whose client asks again and again and reads nothing."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(address)
    if tls is not None:
        line = tls.wrap_socket(line, server_hostname="localhost")
    line.settimeout(0.5)
    try:
        for _ in range(requests):
            line.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    except (TimeoutError, ConnectionError):
        pass
    return line


def is_held(worker: psutil.Process, line: socket.socket) -> bool:
    """Whether the worker has its end of a connection open."""
    port = line.getsockname()[1]
    return any(each.raddr and each.raddr.port == port for each in worker.net_connections("tcp"))


def released_s(worker: psutil.Process, line: socket.socket, most_s: float) -> float:
    """Seconds until the worker has closed its end of a connection. Reading would be what it waits for."""
    start = time.monotonic()
    while not is_held(worker, line):  # it has not accepted the connection yet
        assert time.monotonic() - start < most_s, "the service has not accepted the connection"
    while is_held(worker, line):
        assert time.monotonic() - start < most_s, "the service still holds the connection"
        time.sleep(0.1)  # between two looks
    return time.monotonic() - start


def stop_s(process: subprocess.Popen[bytes]) -> float:
    """Seconds from SIGTERM until the service has ended."""
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return time.monotonic() - start
