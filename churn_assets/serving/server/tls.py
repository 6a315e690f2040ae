"""TLS of a worker's connections, with the handshake within the same limits.

uvicorn hands a connection over once its handshake is done: until then none is counted, and each has a minute. So here
each is taken when it is accepted, and the handshake is made afterwards.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from churn_assets.errors import SettingsError
from churn_assets.serving.http import Refused
from churn_assets.serving.server.connections import Connections, LimitedProtocol

_UNREAD_BYTES = 65_536  # from here on the application waits for the client to read, as without TLS; the default is 8x


def check_certificate(certificate: str, key: str) -> None:
    """Raise SettingsError unless a server could show this certificate, both paths of PEM files."""
    try:  # a password would be asked for at the terminal of every worker
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except OSError as error:  # as which `ssl` reports what is wrong in the files, too
        reason = error.strerror or str(error)
        raise SettingsError(
            f"CHURN_TLS_CERT {certificate!r} and CHURN_TLS_KEY {key!r} cannot be used ({reason}), expected a "
            "certificate and its private key without a password, in PEM; correct them"
        ) from error


class TlsLifespan(LifespanOn):
    """The start of uvicorn's server, which takes its TLS over before it listens."""

    def __init__(self, registry: Connections, config: Config) -> None:
        super().__init__(config)
        registry.tls, config.ssl = config.ssl, None


class TlsHandshake(asyncio.Protocol):
    """A connection until its handshake is done: without a request, and closed after `CHURN_HEAD_S`."""

    is_busy, unread_bytes = False, 0

    def __init__(self, registry: Connections, context: ssl.SSLContext, protocol: LimitedProtocol) -> None:
        self._registry, self._context, self._protocol = registry, context, protocol
        self.body_bytes, self.unread_since = 0, None  # type: int, float | None
        self._since = time.monotonic()  # and not `registry.now`, which is late where the worker was busy
        self._early = b""  # what arrives before the handshake begins
        self._task: asyncio.Task[None] | None = None  # which nothing else holds

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        self.transport: asyncio.Transport = transport
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())
        self._registry.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._early += data

    def check(self, now: float) -> None:
        """Close the connection if its client has taken too long."""
        if now - self._since > self._registry.limits.head_s:
            self._registry.drop(self)

    def refuse(self, refusal: Refused) -> None:
        """Close: without TLS there is no answer."""
        self._registry.count_refusal(refusal.cause)
        self._registry.drop(self)

    async def _shake_hands(self) -> None:
        loop, protocol = asyncio.get_running_loop(), self._protocol
        loop.call_soon(self._pass_on)  # after the next line has set the protocol, before the handshake begins
        try:
            transport = await loop.start_tls(self.transport, protocol, self._context, server_side=True)
        except OSError:  # not TLS, or the client has left: its transport is closed
            return
        finally:
            is_open = self in self._registry.open
            self._registry.remove(self)
        if is_open and transport is not None and not transport.is_closing():
            transport.set_write_buffer_limits(_UNREAD_BYTES)
            protocol.lower = self.transport
            protocol.connection_made(transport)

    def _pass_on(self) -> None:
        protocol: Any = self.transport.get_protocol()  # that of TLS, an `asyncio.BufferedProtocol`
        rest = memoryview(self._early)
        while rest and protocol is not self:
            buffer = protocol.get_buffer(len(rest))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]
