"""What a line of the log says. One JSON object a line; `kind` tells which of these it is."""

from __future__ import annotations

import msgspec

_ENCODER = msgspec.json.Encoder()


class Prediction(msgspec.Struct, tag="prediction", tag_field="kind", frozen=True, gc=False):
    """One score that was given, with everything needed to compute it again.

    `features` are the contract's columns as they were asked, before any computation; `score` is the
    calibrated probability, `margin` the model's log-odds; `latency_us` runs from the request's arrival
    to this line. Both are None for rows of `churn score --log`, which no request asked for. `arm` and `policy`
    say by which route the model was chosen.
    """

    prediction_id: str
    request_id: str
    customer_id: str | None
    as_of: str
    scored_at: str
    score: float
    margin: float | None
    decision: bool
    threshold: float
    risk_band: str
    model_version: str
    contract: str
    fingerprint: str
    arm: str
    policy: str
    status: str
    latency_us: float | None
    warnings: list[str]
    features: dict[str, object]


class Feedback(msgspec.Struct, tag="feedback", tag_field="kind", frozen=True, gc=False):
    """What became of a customer, by the prediction or by the customer it belongs to."""

    feedback_id: str
    request_id: str
    prediction_id: str | None
    customer_id: str | None
    churned: bool
    observed_at: str
    contacted: bool | None
    received_at: str


class Rejections(msgspec.Struct, tag="rejections", tag_field="kind", frozen=True, gc=False):
    """How many requests one worker refused between two instants, by cause; never what they held."""

    since_at: str
    until_at: str
    worker: str
    counts: dict[str, int]


Row = Prediction | Feedback | Rejections


def encode_line(row: Row) -> bytes:
    """The row as one line of the log, its newline included."""
    return _ENCODER.encode(row) + b"\n"
