"""What else a release asks of a worker: the rows of a shadow, and a look at the guardrails each second."""

from __future__ import annotations

from typing import Protocol


class ShadowFeed(Protocol):
    """Takes the answered rows that a shadow scores as well."""

    def offer(self, lines: bytes) -> None:
        """Lines of the prediction log, on disk already, of a policy that shadows. Returns at once, and raises nothing:
        the answer waits for it. Called in the event loop."""


class NoShadow:
    """Drops the rows."""

    def offer(self, lines: bytes) -> None:
        """Nothing."""


class ReleaseCheck(Protocol):
    """Looks at a release from time to time."""

    def check(self) -> None:
        """Look once. Called about once a second in a thread; an exception is logged, and the next look comes."""


class NoCheck:
    """Looks at nothing."""

    def check(self) -> None:
        """Nothing."""
