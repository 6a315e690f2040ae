"""What a worker and its process for explanations send each other: frames of msgpack, each behind its length."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from churn_assets.errors import Violation
from churn_assets.scoring.online import InputWarning

Kind = Literal["explain", "counterfactual", "anchor"]
Status = Literal["ok", "rejected", "conflict", "unavailable", "failed"]

AS_OF = "as_of"  # the field of a customer that is no column
LENGTH = 4  # bytes of the length in front of a frame
READY = b"ready"  # the first frame of a process, once it can answer


class Question(Struct, frozen=True, array_like=True):
    """One customer to explain, as the JSON that was sent (msgpack has no number beyond 64 bits): by which bundle, at
    which day, and with which warnings of the request itself."""

    kind: Kind
    bundle: str
    customer: bytes
    day: str
    as_of: float
    warnings: list[InputWarning]


class Answer(Struct, frozen=True, array_like=True):
    """`body` is the JSON of an `ok` answer; `text` says why there is none; `violations` are those of a row that
    is rejected or conflicts with the contract."""

    status: Status
    body: bytes = b""
    text: str = ""
    violations: list[Violation] = []


def encode(message: Question | Answer) -> bytes:
    """A message as a frame."""
    return frame(msgspec.msgpack.encode(message))


def frame(content: bytes) -> bytes:
    """Content behind its length."""
    return len(content).to_bytes(LENGTH, "big") + content


decode_question = msgspec.msgpack.Decoder(Question).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
