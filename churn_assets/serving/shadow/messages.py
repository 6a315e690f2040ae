"""What a worker and its shadow process send each other.

The worker writes one line with an `Assignment`, and then the lines of the prediction log as they are on disk. The
process writes a `Progress` as a line: first once both models are loaded, then about once a second.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class ShadowedModel(Struct, frozen=True):
    """A model of the policy: the folder of its bundle, and the hash of its manifest."""

    bundle: str
    sha256: str


class Assignment(Struct, frozen=True):
    """What a shadow process does until it ends: the policy, the home whose log and counts it writes, both models,
    the bounds of a segment, and the instance; whether it looks at the guardrails, and the level of its log."""

    policy: str
    home: str
    champion: ShadowedModel
    challenger: ShadowedModel
    segment_bytes: int
    segment_s: float
    instance: str = ""
    judges: bool = False
    level: str = "INFO"


class Progress(Struct, frozen=True):
    """What a shadow process has done since it started, in rows.

    Of those `handled`, the challenger has `scored`, `refused` or not been able to score (`errors`) some; the others are
    not of this policy. Of the scored, `unlogged` are not in the log, and of `differing` the champion's score is another
    than the answer had. The load of the challenger took `load_seconds`, and the process grew by `memory` bytes
    meanwhile. `problem` says what is wrong now, "" for nothing. A process that is not `ready` has not loaded its
    models, and ends.
    """

    ready: bool = True
    handled: int = 0
    scored: int = 0
    refused: int = 0
    errors: int = 0
    unlogged: int = 0
    differing: int = 0
    problem: str = ""
    load_seconds: float = 0.0
    memory: int = 0


def encode(message: Assignment | Progress) -> bytes:
    """A message as a line."""
    return msgspec.json.encode(message) + b"\n"


decode_assignment = msgspec.json.Decoder(Assignment).decode
decode_progress = msgspec.json.Decoder(Progress).decode
