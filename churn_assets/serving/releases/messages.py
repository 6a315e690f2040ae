"""What `/release` and `/retrain` are asked, and what they answer. Shares run from 0 to 1; instants are UTC."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from churn_assets.errors import CONTROLS
from churn_assets.release.policy import MAX_ARMS

MAX_TEXT = 500  # characters of a reason, which every page and list of moves shows whole

_LINE = rf"^[^{CONTROLS}]*[^\s{CONTROLS}][^{CONTROLS}]*$"  # one line that is not blank
Why = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, pattern=_LINE, description="It goes into the history.")]
By = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=_LINE,
        description="Who decides. Needed in a home without keys; beside a key it is noted with the key's id.",
    ),
]
Expected = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=40,
        pattern=_LINE,
        description="The id of the policy that you saw; the move is refused (409) if another is in force now.",
    ),
]
Version = Annotated[str, Meta(pattern="^[0-9a-f]{16}$", description="Of a bundle of this home.")]
Weight = Annotated[float, Meta(gt=0, lt=1, description="The share of the customers.")]
ArmName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,39}$")]


class ShadowMove(Struct, tag="shadow", tag_field="move", frozen=True, forbid_unknown_fields=True):
    """The version scores the rows that the champion answers; nobody gets its scores."""

    version: Version
    why: Why
    by: By | None = None
    expected: Expected | None = None


class CanaryMove(Struct, tag="canary", tag_field="move", frozen=True, forbid_unknown_fields=True):
    """The version answers a share of the customers that grows by the contract's steps, from `weight` on if it is
    given."""

    version: Version
    why: Why
    weight: Weight | None = None
    by: By | None = None
    expected: Expected | None = None


class AbArmShare(Struct, frozen=True, forbid_unknown_fields=True):
    """An arm of an ab."""

    version: Version
    weight: Weight


class AbMove(Struct, tag="ab", tag_field="move", frozen=True, forbid_unknown_fields=True):
    """Named arms answer shares of the customers that stay; the champion, which is not named, answers the rest."""

    arms: Annotated[dict[ArmName, AbArmShare], Meta(min_length=1, max_length=MAX_ARMS - 1)]
    why: Why
    by: By | None = None
    expected: Expected | None = None


class PromoteMove(Struct, tag="promote", tag_field="move", frozen=True, forbid_unknown_fields=True):
    """The version becomes champion, which ends the release."""

    version: Version
    why: Why
    by: By | None = None
    expected: Expected | None = None


class RollbackMove(Struct, tag="rollback", tag_field="move", frozen=True, forbid_unknown_fields=True):
    """The release ends and the champion answers everybody; without a release, the former champion does.

    If the newest move has ended a release, or has gone back to the present champion, it is a 409, unless `expected` is
    the id of the present policy.
    """

    why: Why
    by: By | None = None
    expected: Expected | None = None


ReleaseMove = ShadowMove | CanaryMove | AbMove | PromoteMove | RollbackMove


class RetrainRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A retraining, whatever the cooldown says."""

    why: Why
    by: By | None = None


class RetrainResponse(Struct, frozen=True):
    """The request that is open now; a running daemon takes it up."""

    request: Annotated[str, Meta(description="Its key, as `churn status` shows it.")]
    decision: str
    message: str


class ArmShare(Struct, frozen=True):
    """A model of a policy; `weight` is the share of the customers that it answers, 0 for a shadow."""

    name: str
    version: str
    weight: float


class PolicyFacts(Struct, frozen=True):
    """A policy; `kind` is champion, shadow, canary or ab. `step` counts the steps of a canary from 1."""

    id: str
    kind: str
    arms: list[ArmShare]
    by: str
    why: str
    at: str
    step: int | None
    steps: list[float]
    deadline_at: str | None


class MoveFacts(Struct, frozen=True):
    """A move that was made: from policy `before` to `after` (ids); `outcome` is that of the release that it ended, ""
    if it ended none."""

    move: str
    before: str | None
    after: str
    outcome: str
    by: str
    why: str
    at: str


class MoveResponse(Struct, frozen=True):
    """The move, and the policy that is in force with it; workers follow within 2 seconds."""

    made: MoveFacts
    policy: PolicyFacts


class LiveArm(Struct, frozen=True):
    """What the processes of the service have counted of an arm in the running release; of a canary in all its steps,
    without the shadow before it.

    `rows` were scored; of further rows `errors` could not be, and `refused` broke its contract. Shares and mean are of
    `rows`, the times of the scoring alone, to a tenth; all are null before the first row.
    """

    name: str
    version: str | None
    weight: float | None
    rows: int
    errors: int
    refused: int
    called_share: float | None
    warned_share: float | None
    mean_score: float | None
    scoring_p50_ms: float | None
    scoring_p99_ms: float | None


class LivePairs(Struct, frozen=True):
    """Rows that both models have scored. A flip is a row that one of them calls and the other does not; differences are
    challenger minus champion, and `sd_difference` is their standard deviation. `dropped` found the queue full."""

    rows: int
    flips: int
    agreement: float
    mean_difference: float
    sd_difference: float
    dropped: int


class ReleaseResponse(Struct, frozen=True):
    """How the release of this home stands.

    `policy` is null before the first champion. `rollout` are the policies of the running release, oldest first. `arms`
    and `pairs` are counted live; `guardrails` is the newest judgement on them, and `report` the asset `release_report`
    of this release, both null where there is none. `moves` are the newest, newest first. `problem` says what is wrong
    with the file of the policy.
    """

    policy: PolicyFacts | None
    running: bool
    rollout: list[str]
    waits_for: str
    arms: list[LiveArm]
    pairs: LivePairs | None
    guardrails: dict[str, Any] | None
    report: dict[str, Any] | None
    moves: list[MoveFacts]
    problem: str | None


TYPES = (ReleaseMove, MoveResponse, ReleaseResponse, RetrainRequest, RetrainResponse)
