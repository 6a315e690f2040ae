"""The lines of the log, one JSON object each; `kind` names the type.

The service encodes them without a check, because one encoder call is all that a request can pay. The bounds in the
annotations are checked when a line is decoded at ingest, see `warehouse.parse`.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import msgspec

ANONYMOUS, IMPORT = "anonymous", "import"  # sources of feedback without a key and without a name
OTHER = "(other)"  # in place of a column's name, for a field that the contract does not know
INSTANTS = ("contacted_at", "as_of", "scored_at", "observed_at", "received_at", "since_at", "until_at", "noted_at")

_ENCODER = msgspec.json.Encoder()
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class Prediction(msgspec.Struct, tag="prediction", tag_field="kind", frozen=True, gc=False, omit_defaults=True):
    """One score, with everything needed to compute it again.

    `features` are the contract's columns as requested, before any computation; `score` is the calibrated probability,
    `margin` the model's log-odds; `latency_us` runs from the request's arrival to this line. Both are None for rows
    of `churn score --log`, which have no request. `arm` and `policy` name the route by which the model was chosen.
    `source` is the id of the API key that asked, or "batch". A `test` is a trial that monitoring leaves out; a `shadow`
    score was given to nobody.
    """

    prediction_id: _Id
    request_id: str
    customer_id: str | None
    as_of: _Id
    scored_at: _Id
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    margin: float | None
    decision: bool
    threshold: float
    risk_band: str
    model_version: _Id
    contract: str
    fingerprint: _Id
    arm: str
    policy: str
    status: str
    latency_us: float | None
    warnings: list[str]
    features: dict[str, object]
    source: str | None = None
    test: bool = False
    shadow: bool = False


class Feedback(msgspec.Struct, tag="feedback", tag_field="kind", frozen=True, gc=False, omit_defaults=True):
    """The outcome of a customer, named by a prediction or by the customer's id.

    `source` is the id of the API key that reported it, or the name that an import was given.
    """

    feedback_id: _Id
    request_id: str
    prediction_id: _Id | None
    customer_id: _Id | None
    churned: bool
    observed_at: _Id
    contacted: bool | None
    received_at: _Id
    source: str | None = None


class Contact(msgspec.Struct, tag="contact", tag_field="kind", frozen=True, gc=False):
    """That a customer was reached ("contacted"), got an offer ("offered"), has agreed to stay ("saved"), or was left
    alone for comparison ("control"), at an instant; `who` did it.

    Who has agreed to stay was reached; whether the customer stayed is an outcome, not a contact."""

    contact_id: _Id
    customer_id: _Id
    event: Literal["contacted", "offered", "saved", "control"]
    contacted_at: _Id
    who: _Id | None
    received_at: _Id


class SourceDecision(msgspec.Struct, tag="source_decision", tag_field="kind", frozen=True, gc=False):
    """Whether feedback counts (`accepted`) that `source` reported and that was received from `since_at` to before
    `until_at`. The last decision about a report holds; `who` and `why` say whose it is."""

    decision_id: _Id
    source: _Id
    accepted: bool
    since_at: _Id
    until_at: _Id
    who: _Id
    why: _Id
    received_at: _Id


class Unacknowledged(msgspec.Struct, tag="unacknowledged", tag_field="kind", frozen=True, gc=False):
    """Ids of rows that are in the log though their request was refused: the disk answered after the timeout."""

    noted_at: _Id
    ids: list[_Id]


class LostRows(msgspec.Struct, tag="lost_rows", tag_field="kind", frozen=True, gc=False):
    """Rows that were acknowledged and whose `lost_segment` was deleted or moved away while its worker ran. "" and 0:
    the folder was replaced while no segment was open."""

    noted_at: _Id
    lost_segment: str
    lost: _Count


class Rejections(msgspec.Struct, tag="rejections", tag_field="kind", frozen=True, gc=False, omit_defaults=True):
    """How many requests one worker refused between two instants, by cause, without their content.

    `rows` counts the rows for which they were, by column of the contract or name of its rule, `OTHER` for anything
    else; a row may be counted under several. A batch is refused as a whole, so that one request may be many rows. Files
    that `churn score --log` scores have rows, and no request.
    """

    since_at: _Id
    until_at: _Id
    worker: str
    counts: dict[str, _Count]
    rows: dict[str, _Count] = {}


Row = Prediction | Feedback | Contact | Rejections | SourceDecision | Unacknowledged | LostRows


def parse_instant(text: str) -> dt.datetime:
    """An ISO 8601 day or instant in UTC, which it is in if it names no zone. Raises ValueError, OverflowError."""
    instant = dt.datetime.fromisoformat(text)
    return instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant.astimezone(dt.UTC)


def encode_line(row: Row) -> bytes:
    """The row as one line of the log, its newline included."""
    return _ENCODER.encode(row) + b"\n"


class LineHead(msgspec.Struct, frozen=True, gc=False):
    """The kind and the ids of a line, decoded without the rest; None where the line has none. `shadow`: it is a score
    that was given to nobody."""

    kind: str | None = None
    prediction_id: str | None = None
    feedback_id: str | None = None
    contact_id: str | None = None
    customer_id: str | None = None
    shadow: bool = False

    @property
    def own_id(self) -> str | None:
        """The id of the prediction, of the feedback or of the contact that the line is."""
        return self.feedback_id or self.contact_id or self.prediction_id


_HEAD = msgspec.json.Decoder(LineHead)


def decode_head(line: bytes) -> LineHead | None:
    """The head of a line, or None if the line is not a JSON object with these types."""
    try:
        return _HEAD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
