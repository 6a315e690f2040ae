"""Which model answers a customer: the policy in force, and a loaded model for each of its arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from churn_assets.release.policy import ANSWERING, CHAMPION, DIRECT, Policy, share_of
from churn_assets.serving.routing.counts import ArmCounter
from churn_assets.serving.routing.models import ServedModel


@dataclass(frozen=True, slots=True)
class Arm:
    """The model that answers a request, and by which policy it was chosen."""

    model: ServedModel
    name: str = CHAMPION
    policy: str = CHAMPION


@dataclass(frozen=True, slots=True)
class Router:
    """The models that answer, and the policy by which one is chosen; a request takes it once and keeps it.

    `policy` is None where none is in force: then the champion answers everybody, under the id `CHAMPION`. `arms` has
    the arms of a canary or A/B by name, and is empty for the other kinds, where the champion answers everybody;
    `counter` counts their rows.
    """

    champion: Arm
    policy: Policy | None = None
    arms: Mapping[str, Arm] = field(default_factory=dict)
    is_split: bool = False
    is_shadowed: bool = False
    counter: ArmCounter | None = None

    @classmethod
    def of(cls, champion: ServedModel, policy: Policy | None, models: Mapping[str, ServedModel]) -> Router:
        """The router of a policy in force whose `models`, by the name of their arm, are loaded."""
        if policy is None:
            return cls(Arm(champion))
        arms = {name: Arm(model, name, policy.id) for name, model in models.items()}
        first = arms.setdefault(CHAMPION, Arm(champion, CHAMPION, policy.id))
        if policy.kind in ANSWERING:
            return cls(first, policy, arms, is_split=True, counter=ArmCounter(policy.id))
        return cls(first, policy, is_shadowed=policy.kind == "shadow")

    def choose(self, customer_id: str) -> Arm:
        """The arm of a customer, or of a prediction without a customer's id: always the same one under a policy."""
        return self.at(self.share(customer_id))

    def share(self, customer_id: str) -> float:
        """The hash of a customer under the policy, in [0, 1); 0 where one model answers everybody."""
        return share_of(self.policy.salt, customer_id) if self.policy is not None and self.is_split else 0.0

    def at(self, share: float) -> Arm:
        """The arm of the customers with this hash."""
        if self.policy is None or not self.is_split:
            return self.champion
        return self.arms[self.policy.choose(share).name]

    def named(self, version: str) -> Router | None:
        """The router of a client that names the version it wants; None if no model that answers has it."""
        if version == self.champion.model.scorer.version and not self.is_split:
            return self
        arms = (arm for arm in self.arms.values() if arm.model.scorer.version == version)
        return next((Router(Arm(arm.model, arm.name, DIRECT)) for arm in arms), None)

    @property
    def versions(self) -> list[str]:
        """The versions of the models that answer, the champion's first."""
        others = (arm.model.scorer.version for arm in self.arms.values())
        return list(dict.fromkeys((self.champion.model.scorer.version, *others)))
