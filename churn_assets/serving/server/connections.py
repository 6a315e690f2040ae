"""The connections of a worker: how many there are, how long each may take, how much memory they hold.

uvicorn's protocol has no limit of its own on the head of a request, waits for ever for one, and keeps a connection
whose client reads nothing. What is added here is counted by the worker's `Connections`, and looked at twice a second,
so that a request costs no timer. It replaces uvicorn's timer of idle connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from churn_assets.serving.http import JSON, Header, Refused, unavailable
from churn_assets.serving.server.process import STOP_S, end_within
from churn_assets.settings import ServingSettings

HEAD_BYTES = 65_536  # of the request line and the headers of a request, or of trailers
MAX_HEADERS = 100
MAX_PIPELINED = 32  # requests that wait on one connection for the answer to the one before
SMALL_BODY = 16_384  # bytes: a shorter body is never refused for lack of memory
BYTES_PER_S = 65_536  # at which an answer must be read, beyond `CHURN_SEND_S`
TICK_S = 0.5
_STOP_SEND_S = 5.0  # for clients to read their last answer
_RESERVED_FILES = 128  # of the process's limit on open files: log, metrics, bundles, libraries

_LOGGER = logging.getLogger("uvicorn.error.connections")
_LOGGER.setLevel(logging.ERROR)  # else whoever sends bytes that are not HTTP fills the log

NOT_HTTP = Refused(
    400, "http", "the bytes are not an HTTP/1.1 request, expected one; is it another protocol, or HTTPS?"
)
LONG_HEAD = Refused(
    431,
    "head",
    f"the head of the request is too long, expected at most {HEAD_BYTES:,} bytes and {MAX_HEADERS} headers; "
    "send fewer or shorter headers",
)
NO_MEMORY = unavailable("memory", "bodies and answers hold all memory that they may, expected less; ask again")
NO_ROOM = unavailable("connections", "every connection of this worker has a request, expected fewer; ask again")


@dataclass(frozen=True)
class ConnectionLimits:
    """Connections at most; seconds for the head of a request, for a body that nobody reads, between two requests, and
    to read an answer; bytes of bodies and of answers that are not read, all connections together."""

    connections: int
    head_s: float
    body_s: float
    idle_s: float
    send_s: float
    held_bytes: int

    @classmethod
    def of(cls, settings: ServingSettings) -> ConnectionLimits:
        """Those of the settings; fewer connections where the process may not open so many files."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = max(8, files - _RESERVED_FILES) if files != resource.RLIM_INFINITY else settings.connections
        times = settings.head_s, settings.timeout_s, settings.idle_s, settings.send_s
        return cls(min(settings.connections, room), *times, settings.held_bytes)


class Connection(Protocol):
    """What is counted: a connection that speaks HTTP, or one that has not ended its TLS handshake."""

    transport: asyncio.Transport
    body_bytes: int
    unread_since: float | None

    @property
    def is_busy(self) -> bool: ...  # noqa: D102

    @property
    def unread_bytes(self) -> int: ...  # noqa: D102

    def check(self, now: float) -> None: ...  # noqa: D102

    def refuse(self, refusal: Refused) -> None: ...  # noqa: D102


class Connections:
    """The open connections of a worker, the one that has been without a request for longest first."""

    def __init__(self, limits: ConnectionLimits, count_refusal: Callable[[str], None]) -> None:
        self.limits, self.count_refusal = limits, count_refusal
        self.slow_head = Refused(
            408,
            "slow_head",
            f"the head of the request took more than {limits.head_s:g} seconds, expected it sooner; send it again",
        )
        self.open: OrderedDict[Connection, None] = OrderedDict()
        self.app: ASGIApp | None = None  # that answers, instead of the server's with all its middlewares
        self.tls: ssl.SSLContext | None = None
        self.now = time.monotonic()  # to half a second: reading the clock for each event would cost more
        self.body_bytes = 0
        self.stopping_at: float | None = None

    async def watch(self) -> None:
        """Close what has taken too long, again and again."""
        while True:
            await asyncio.sleep(TICK_S)
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        """Close what has taken too long at this instant."""
        self.now = now
        for connection in list(self.open):
            connection.check(now)
        if self.stopping_at is not None and now - self.stopping_at > _STOP_SEND_S:
            for connection in [each for each in self.open if not each.is_busy]:
                self.drop(connection)
        self.free_memory()

    def add(self, connection: Connection) -> None:
        """Note a new connection; where there is no room, the first that has no request in work is dropped for it."""
        self.open[connection] = None
        if len(self.open) > self.limits.connections:
            idle = next((each for each in self.open if not each.is_busy and each is not connection), None)
            if idle is None:
                connection.refuse(NO_ROOM)
            else:
                self.drop(idle)

    def drop(self, connection: Connection) -> None:
        """Close a connection at once, whatever its client has not read."""
        self.remove(connection)
        connection.transport.abort()

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is not forgotten yet."""
        self.open.pop(connection, None)
        self.release(connection)

    def release(self, connection: Connection) -> None:
        """The bodies of a connection are no longer in memory."""
        self.body_bytes -= connection.body_bytes
        connection.body_bytes = 0

    def has_room(self, headers: Iterable[Header]) -> bool:
        """Whether the body that these headers announce may be held."""
        size = next((int(value) for name, value in headers if name == b"content-length"), 0)
        return size <= SMALL_BODY or self.body_bytes + size <= self.limits.held_bytes

    def free_memory(self) -> None:
        """Drop connections whose clients do not read, longest first, while too much is held."""
        unread = [(each, size) for each in self.open if (size := each.unread_bytes)]
        held = self.body_bytes + sum(size for _, size in unread)
        for connection, size in sorted(unread, key=lambda pair: pair[0].unread_since or self.now):
            if held <= self.limits.held_bytes:
                return
            held -= size
            self.drop(connection)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within the limits of a worker. WebSockets are answered in HTTP."""

    def __init__(self, registry: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ws_protocol_class = None
        self.app = registry.app or self.app
        self.lower: asyncio.Transport | None = None  # of TLS, which has most of what a client has not read
        self.logger = _LOGGER
        self.registry = registry
        self.since = registry.now  # of the state below
        self.in_head = self.in_body = False  # a request has begun to arrive, and its head or its body has not ended
        self.unparsed = 0  # bytes that arrived since the parser reported a body or the end of anything
        self.body_bytes = 0  # of the request in work
        self.unread_since: float | None = None
        self.refused = self.postponed = False
        self._reason = NOT_HTTP  # for which the parser stops
        self.answered: RequestResponseCycle | None = None  # the last request that the application got

    @property
    def is_busy(self) -> bool:
        """Whether the service works on a request, and not its client: by sending it, or by reading the answer."""
        if self.cycle is None or self.cycle.response_complete or self.flow.write_paused:
            return False
        return not self.in_body or bool(self.pipeline)

    @property
    def unread_bytes(self) -> int:
        """Of answers that are written, and that the system has not taken yet."""
        lower = 0 if self.lower is None else self.lower.get_write_buffer_size()
        return self.transport.get_write_buffer_size() + lower

    def check(self, now: float) -> None:
        """Close the connection if its client has taken too long."""
        limits, registry, waited = self.registry.limits, self.registry, now - self.since
        unread = self.unread_bytes
        if not unread:
            self.unread_since = None
        elif self.unread_since is None:
            self.unread_since = now + unread / BYTES_PER_S
        elif now - self.unread_since > limits.send_s:
            registry.drop(self)
            return
        if self.is_busy or self.refused:
            return
        if self.in_head:
            if waited > limits.head_s:
                self.refuse(registry.slow_head)
        elif self.in_body:  # the application waits for a body that it reads; nobody for one that it refused
            if waited > limits.body_s and self.cycle.response_complete:
                registry.drop(self)
        elif waited > limits.idle_s:
            self.transport.close()

    def refuse(self, refusal: Refused) -> None:
        """Answer without the application, and close; first come the answers to requests that have arrived."""
        if self.refused:
            return
        self.refused = True
        self.registry.count_refusal(refusal.cause)
        if self.is_busy or self.pipeline:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(raw_response(refusal))
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.registry.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.registry.remove(self)
        super().connection_lost(exc)
        if self.answered is not None and not self.answered.response_complete:  # uvicorn tells the last request only
            self.answered.disconnected = True
            self.answered.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self.refused:
            return
        self.unparsed += len(data)
        super().data_received(data)
        if self.unparsed > HEAD_BYTES:
            self.refuse(LONG_HEAD)

    def send_400_response(self, msg: str) -> None:
        """The parser, or a limit that it met, has stopped."""
        self.refuse(self._reason)

    def _unsupported_upgrade_warning(self) -> None:
        """An answer in HTTP is the last: the parser reads nothing after a request for another protocol."""
        self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.in_head, self.since = True, self.registry.now

    def on_headers_complete(self) -> None:
        """The head of a request has arrived."""
        is_long = self.unparsed > HEAD_BYTES and self._head_bytes() > HEAD_BYTES
        if is_long or len(self.headers) > MAX_HEADERS or len(self.pipeline) >= MAX_PIPELINED:
            self._reason = LONG_HEAD
            raise ValueError  # which makes the parser stop
        if self.registry.body_bytes > SMALL_BODY and not self.registry.has_room(self.headers):
            self._reason = NO_MEMORY  # before it has come: to read and throw away megabytes would slow down the others
            raise ValueError
        super().on_headers_complete()
        self.in_head, self.in_body, self.since = False, True, self.registry.now
        self.unparsed = 0
        self.headers = []  # what comes now are trailers, which the application does not see

    def on_body(self, body: bytes) -> None:
        """A part of a body has arrived."""
        self.unparsed = 0
        if self.refused or self.cycle.response_complete:
            return
        size, registry = len(body), self.registry
        self.body_bytes += size
        registry.body_bytes += size
        if self.body_bytes > SMALL_BODY and registry.body_bytes > registry.limits.held_bytes:
            self.refuse(NO_MEMORY)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has arrived."""
        self.in_body, self.unparsed = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written. The next request of this client waits until it has read most of it."""
        self.server_state.total_requests += 1
        registry = self.registry
        registry.release(self)
        if self.transport.is_closing() or self not in registry.open:
            return
        registry.open.move_to_end(self)
        self.since = registry.now
        if self.flow.write_paused:
            self.postponed = True
            self.flow.pause_reading()
            registry.free_memory()
        else:
            self.unread_since = None
            self._continue()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self.unread_since = None
        if self.postponed:
            self.postponed = False
            self._continue()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answered = cycle
        super()._start_asgi_task(cycle, app)

    def _continue(self) -> None:
        """The next request that has arrived, else what arrives next; nothing is read meanwhile."""
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self.refused:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """The service stops: the connection closes once its requests are answered."""
        if self.registry.stopping_at is None:
            self.registry.stopping_at = time.monotonic()
        end_within(STOP_S)
        super().shutdown()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


def raw_response(refusal: Refused) -> bytes:
    """The bytes of an answer that closes the connection."""
    body = refusal.body()
    status = HTTPStatus(refusal.status)
    headers = [
        (b"content-type", JSON),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", os.urandom(8).hex().encode()),
        (b"connection", b"close"),
        *refusal.headers,
    ]
    lines = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode()), *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
