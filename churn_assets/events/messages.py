"""The messages of each topic, and their JSON Schemas.

A message is a JSON object with `schema_version` and `kind`. A version only gains fields that a reader may ignore; any
other change is a new version. `schemas/` has the published schemas, which `schema_of` makes and a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from churn_assets.prediction_log.records import Prediction

VERSION = 1
MAX_BYTES = 900_000  # of a value: below the broker's default limit of a message, with its key and headers
_ID = "https://github.com/churn-assets/schemas/{}.v{}.json"


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a topic; the key decides its partition, so that one customer's stay in order."""

    topic: str
    key: bytes
    value: bytes


class PredictionEvent(
    Prediction, tag="prediction", tag_field="kind", frozen=True, gc=False, kw_only=True, omit_defaults=False
):
    """A prediction as the log has it. `features_omitted`: they were too large for a message; the log has them."""

    schema_version: Literal[1] = 1
    features_omitted: bool = False


class _Window(msgspec.Struct, frozen=True, kw_only=True):
    """A closed window of predictions under one contract (`fingerprint`), compared with a model's training rows."""

    schema_version: Literal[1] = 1
    event_id: str
    fingerprint: str
    window: int
    model_version: str
    customers: int
    rows: int
    first_scored_at: str
    last_scored_at: str
    message: str


class DriftEvent(_Window, tag="drift", tag_field="kind", frozen=True, kw_only=True):
    """Columns of a window that drift; where `data` is "broken" the drift counts for nothing."""

    drifted: tuple[str, ...]
    data: str


class OutliersEvent(_Window, tag="outliers", tag_field="kind", frozen=True, kw_only=True):
    """Shares (0 to 1) of `sampled` rows of a window, and of the training rows, that `method` flags."""

    method: str
    sampled: int
    share: float
    reference_share: float | None


class GateCheck(msgspec.Struct, frozen=True):
    """One check of a verdict; `limit` is null where it has none."""

    check: str
    value: float | None
    limit: float | None
    passed: bool
    message: str


class GateEvent(msgspec.Struct, tag="gate", tag_field="kind", frozen=True, kw_only=True):
    """What became of a challenger in one round before the gate; `by` is who approved it, "" for nobody."""

    schema_version: Literal[1] = 1
    event_id: str
    challenger: str
    champion: str
    round: int
    status: Literal["waiting_gate", "refused", "waiting_approval", "approved", "rejected", "promoted"]
    passed: bool | None
    reason: str
    by: str
    changed_at: str
    checks: tuple[GateCheck, ...]


class FeedbackMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome, as `POST /feedback` takes it: of a prediction, a customer, or both."""

    schema_version: Literal[1]
    churned: bool
    observed_at: str
    prediction_id: str | None = None
    customer_id: str | int | None = None
    contacted: bool | None = None


KINDS: Mapping[str, type[msgspec.Struct]] = {
    "prediction": PredictionEvent,
    "drift": DriftEvent,
    "outliers": OutliersEvent,
    "gate": GateEvent,
    "feedback": FeedbackMessage,
}
Event = PredictionEvent | DriftEvent | OutliersEvent | GateEvent

_LINE = msgspec.json.Decoder(PredictionEvent)
_ENCODER = msgspec.json.Encoder()


def prediction_message(topic: str, line: bytes) -> Message | None:
    """The message of a prediction's line of the log; None for a shadow's, which was given to nobody. Raises
    msgspec.DecodeError (ValidationError among them) for a line that the ingest quarantines."""
    event = _LINE.decode(line)
    if event.shadow:
        return None
    value = _ENCODER.encode(event)
    if len(value) > MAX_BYTES:
        event = msgspec.structs.replace(event, features={}, warnings=[], features_omitted=True)
        value = _ENCODER.encode(event)
    return Message(topic, (event.customer_id or event.prediction_id).encode(), value)


def message_of(topic: str, key: str, event: Event) -> Message:
    """The message of any other event."""
    return Message(topic, key.encode(), _ENCODER.encode(event))


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one of `KINDS`."""
    (_, definitions) = msgspec.json.schema_components(
        [KINDS[kind]], schema_hook=lambda kind: {"description": "Any JSON value."}, ref_template="#/$defs/{name}"
    )
    own = definitions.pop(KINDS[kind].__name__)
    if kind == "feedback":
        own["anyOf"] = [
            {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
            for name in ("prediction_id", "customer_id")
        ]
    else:  # every field is written
        own["required"] = list(own["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID.format(kind, VERSION),
        **own,
        **({"$defs": definitions} if definitions else {}),
    }
