"""What is answered to bytes that are no HTTP: the web server's refusal, in the shape of every other.

Such bytes reach no application: uvicorn refuses them itself, as plain text. BentoML hands no protocol class
on to it, so ours is put under the name by which uvicorn finds its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_assets.serving.reply import refused

CAUSE = "http"
_WORDS = "these bytes are no HTTP/1.1 request, expected one; is it another protocol, or HTTPS?"
_REFUSAL = refused(400, CAUSE, _WORDS).body
_HEAD = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(_REFUSAL)}\r\n"
GARBAGE = f"{_HEAD}connection: close\r\n\r\n".encode() + _REFUSAL

_told: list[Callable[[str], None]] = []


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, its refusal apart, and without WebSockets: who asks for one is answered in HTTP."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ws_protocol_class = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, count it, and hang up."""
        for count in _told:
            count(CAUSE)
        self.transport.write(GARBAGE)
        self.transport.close()


def answer_garbage() -> bool:
    """Have uvicorn use our protocol in this process; False if it does not look where it used to.

    Then its own text answers such bytes, and nothing else is different.
    """
    names = getattr(config, "HTTP_PROTOCOLS", {})
    if "auto" not in names or not hasattr(HttpToolsProtocol, "send_400_response"):
        return False
    names["auto"] = f"{__name__}:Protocol"
    return True


def count_garbage(count: Callable[[str], None]) -> None:
    """Tell `count` of each refusal."""
    _told[:] = [count]
