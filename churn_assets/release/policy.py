"""The routing policy: which model answers which customer. One small file beside the champion pointer.

    champion   one model answers everybody
    shadow     the champion answers, the challenger scores the same rows off the path of the answer
    canary     the challenger answers a share of the customers, which grows in steps
    ab         named arms answer shares that stay

It is in force while the champion's pointer names its champion; otherwise the champion answers under the policy
`CHAMPION`. So a pointer that moves ends every release, also where the mover died before it wrote a policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec

from churn_assets.contract.limits import Guardrails
from churn_assets.errors import PolicyCorrupt, has_controls
from churn_assets.storage.files import read_json_object, write_json

POLICY = "policy.json"
CHAMPION, CHALLENGER = "champion", "challenger"  # names of arms; the first is a policy's id where none is in force
DIRECT = "direct"  # in place of a policy's id: the client has named the version
FALLBACK = "fallback"  # the status of a row that the champion answered, because the model of its arm could not
PolicyKind = Literal["champion", "shadow", "canary", "ab"]
ANSWERING: tuple[PolicyKind, ...] = ("canary", "ab")  # in which other models than the champion answer too
MAX_ARMS = 8


@dataclass(frozen=True)
class PolicyArm:
    """A model of the policy: `bundle` is its path relative to the home, `sha256` that of its manifest; `weight` is the
    share of the customers that it answers, 0 for a shadow."""

    name: str
    version: str
    bundle: str
    sha256: str
    weight: float

    def __post_init__(self) -> None:
        path = PurePosixPath(self.bundle)
        if path.is_absolute() or ".." in path.parts or not path.parts or has_controls(self.bundle):
            raise ValueError(f"bundle is {self.bundle[:80]!r}, expected a path inside the home")
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"the weight of {self.name[:40]!r} is {self.weight}, expected 0 to 1")


@dataclass(frozen=True)
class Step:
    """A step of a canary: the challenger's `weight`, held for at least `hold_minutes` and `rows` of its rows."""

    weight: float
    hold_minutes: float
    rows: int


@dataclass(frozen=True)
class Policy:
    """A release as it is now. Instants are UTC.

    `id` is unique in the home, later ones are larger texts. Of `arms` the one named `champion` is the champion's; the
    order is that of `choose`: the challenger of a canary is first, so that a growing weight takes customers from the
    champion alone. `salt` keys the hash, and stays from the first step of a rollout to its last. `step` counts `steps`
    from 0, since `step_since`. After `deadline_at` a release that has concluded nothing is inconclusive, and ends.
    `limits` are those of the contract when the release began.
    """

    id: str
    kind: PolicyKind
    arms: tuple[PolicyArm, ...]
    salt: str
    by: str
    why: str
    at: datetime
    steps: tuple[Step, ...] = ()
    step: int = 0
    step_since: datetime | None = None
    deadline_at: datetime | None = None
    limits: Guardrails = field(default_factory=Guardrails)

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if CHAMPION not in names or len(set(names)) < len(names) or len(names) > MAX_ARMS:
            raise ValueError(f"the arms are {', '.join(names)[:200]}, expected different names, one of them {CHAMPION}")
        if self.kind in ("shadow", "canary") and sorted(names) != [CHALLENGER, CHAMPION]:
            raise ValueError(
                f"the arms of a {self.kind} are {', '.join(names)[:200]}, expected champion and challenger"
            )
        if abs(sum(arm.weight for arm in self.arms) - 1.0) > 1e-9:
            raise ValueError(f"the weights sum to {sum(arm.weight for arm in self.arms):g}, expected 1")
        if self.steps and not 0 <= self.step < len(self.steps):
            raise ValueError(f"step is {self.step}, expected 0 to {len(self.steps) - 1}")
        if any(at is not None and at.tzinfo is None for at in (self.at, self.step_since, self.deadline_at)):
            raise ValueError("an instant has no time zone, expected UTC")

    @property
    def champion(self) -> PolicyArm:
        """The champion's arm."""
        return next(arm for arm in self.arms if arm.name == CHAMPION)

    @property
    def challenger(self) -> PolicyArm | None:
        """The arm of the shadow or of the canary, None for other kinds."""
        return next((arm for arm in self.arms if arm.name == CHALLENGER), None)

    def choose(self, share: float) -> PolicyArm:
        """The arm of a customer whose hash is `share` (see `share_of`): the first whose weight, summed with those
        before, exceeds it."""
        sums = accumulate(arm.weight for arm in self.arms)
        return next((arm for arm, up_to in zip(self.arms, sums, strict=True) if share < up_to), self.champion)

    def to_json(self) -> dict[str, Any]:
        """As file and ledger store it; `policy_from_json` is the inverse."""
        stored: dict[str, Any] = msgspec.to_builtins(self)
        return stored


_HASH_BYTES = 8


def share_of(salt: str, customer_id: str) -> float:
    """Where somebody stands among all customers: a number in [0, 1), uniform over ids, the same in every process and
    for ever, that nobody can choose who does not know the salt."""
    digest = blake2b(customer_id.encode("utf-8", "surrogatepass"), key=salt.encode(), digest_size=_HASH_BYTES).digest()
    return min(int.from_bytes(digest, "big") / 2.0 ** (8 * _HASH_BYTES), 1.0 - 2.0**-53)


def policy_from_json(stored: dict[str, Any]) -> Policy:
    """Raises ValueError for anything that `Policy.to_json` does not give."""
    if unknown := stored.keys() - Policy.__dataclass_fields__.keys():
        raise ValueError(f"unknown fields {sorted(unknown)}")
    return msgspec.convert(stored, Policy)


def read_policy(home: Path) -> Policy | None:
    """The policy of a home, None before the first. Raises PolicyCorrupt if it cannot be read."""
    path = home / POLICY
    try:
        return policy_from_json(read_json_object(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        message = " ".join(str(error).split())[:160]
        raise PolicyCorrupt(
            f"{path}: cannot be read ({message}), expected a policy as this package writes it; the champion answers "
            "until it is right: churn release status writes it again"
        ) from error


def write_policy(home: Path, policy: Policy) -> Path:
    """Put `policy` in force; a reader sees the old one or the new one, never a part of either."""
    return write_json(home / POLICY, policy.to_json())
