"""What else a release asks of a worker: a look at the guardrails each second."""

from __future__ import annotations

from typing import Protocol


class ReleaseCheck(Protocol):
    """Looks at a release from time to time."""

    def check(self) -> object:
        """Look once. Called about once a second in a thread; an exception is logged, and the next look comes."""


class NoCheck:
    """Looks at nothing."""

    def check(self) -> None:
        """Nothing."""
