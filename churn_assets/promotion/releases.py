"""How a model is let in: shadow, canary, ab, the next step, promote, roll back. The rules of each move.

    champion -> shadow -> canary (steps) -> champion        each move is a new policy, whose id is larger
         `-> ab -> champion

A move names the policy that its caller saw (`expected`); of two at once one wins, the other is told who did. Refused
versions may only shadow. A canary or ab needs versions that the gate has passed, and a person has approved where the
contract asks for it; former champions count as passed. A version that was thrown out is rejected in the ledger with
it: neither the loop nor the service lets it in again, only a person, by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from os import W_OK, access
from secrets import token_hex
from typing import Any, Literal

from churn_assets.contract.limits import Release
from churn_assets.contract.model import Contract
from churn_assets.errors import ContractError, LedgerUnavailable, TransitionRefused
from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer, require_champion
from churn_assets.promotion.records import Challenger, Person, PolicyMove
from churn_assets.promotion.rollout.policies import RUNNING, Draft, champion_policy, policy_id
from churn_assets.promotion.rollout.status import (
    ReleaseStatus,
    describe_policy,
    minute,
    read_release_status,
    versions_of,
)
from churn_assets.release.policy import ANSWERING, CHALLENGER, CHAMPION, MAX_ARMS, Policy, PolicyArm, Step
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash, verified_bundle_hash, verify

SERVICE, LOOP = "service", "loop"  # who moves without a person
_AUTOMATIC = (SERVICE, LOOP)
_GONE = ("rolled_back", "inconclusive", "champion_moved")  # outcomes after which no challenger answers
_NO_PERSON = frozenset((*_AUTOMATIC, "the gate", "training"))  # names in the history that are no person's
_VERSION = re.compile(r"[0-9a-f]{16}")
_ARM = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class AbArm:
    """An arm of an ab: `version` answers the share `weight` of the customers."""

    version: str
    weight: float


@dataclass(frozen=True)
class _Candidate:
    """A version that may be let in; `challenger` is its newest round at the gate, None for one without."""

    version: str
    bundle: str
    sha256: str
    challenger: Challenger | None
    was_champion: bool

    def arm(self, name: str, weight: float) -> PolicyArm:
        return PolicyArm(name, self.version, self.bundle, self.sha256, weight)


class Releases:
    """The only way to start, go on with and end a release. `Releases.of(settings)` is the usual one.

    Every method first finishes or abandons what a killed process left. Those that move return the move, done, and
    raise TransitionRefused for one that the rules do not allow, and if the policy is another than `expected` now (an
    id, or "champion" for a home where no release runs; None: whatever it is). Besides NoChampion, PointerCorrupt,
    BundleCorrupt, HomeBusy after 20 s behind another mover, LedgerCorrupt, LedgerUnavailable, and OSError on a full
    disk. The contract in use, whose `[release]` has the steps, limits and deadline of a new release, is what `contract`
    gives; else the one of the settings if its tables are those of the home's models, and if not the one that the bundle
    carries: who moves may have the environment of another home. Where the user named it (`is_named`) another is an
    error, ContractError or BundleMismatch.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        pointer: ChampionPointer,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        contract: Callable[[], Contract] | None = None,
        *,
        is_named: bool = False,
    ) -> None:
        self._settings, self._home = settings, settings.home
        self._ledger, self._pointer, self._clock = ledger, pointer, clock
        self._given, self._is_named = contract, is_named
        self._champion = ChampionMoves(settings.bundles_dir, ledger, pointer, clock)
        self._policies = self._champion.policies

    @classmethod
    def of(cls, settings: Settings, *, is_named: bool = False) -> Releases:
        """The releases of a home, with its ledger and its files; `is_named` if the user named the contract."""
        return cls(settings, Ledger(settings.ledger_path), ChampionPointer(settings.home), is_named=is_named)

    def recover(self) -> None:
        """Finish or abandon what a killed process left, and let the policy follow the champion."""
        self._champion.recover()

    def status(self) -> ReleaseStatus:
        """How the release stands. A home that can only be read is shown as it is."""
        if access(self._home, W_OK):
            self.recover()
        return read_release_status(self._ledger, self._policies, self._home)

    # -- strategies --------------------------------------------------------------------------------------

    def shadow(self, version: str, by: str, why: str, expected: str | None = None) -> PolicyMove:
        """`version`, any of this home, scores the rows that the champion answers; nobody gets its answers."""
        with self._moving(by, why, expected) as now:
            _expect_free(now, "shadow", (version,))
            candidate = self._candidate(version, now)
            arms = (candidate.arm(CHALLENGER, 0.0), replace(now.champion, weight=1.0))
            return self._start("shadow", arms, now, by, why)

    def canary(
        self, version: str, by: str, why: str, expected: str | None = None, weight: float | None = None
    ) -> PolicyMove:
        """`version` answers a share of the customers that grows by the contract's steps.

        With `weight` it starts at exactly this share, under 1, and goes on with the contract's steps that are larger.
        """
        with self._moving(by, why, expected) as now:
            _expect_free(now, "canary", (version,))
            candidate = self._candidate(version, now)
            approved, decides = self._expect_passed(candidate, now, by)
            release = self._contract(now.champion.bundle).release
            weights = _weights(release.canary_weights, weight)
            steps = tuple(Step(share, release.canary_hold_minutes, release.canary_rows) for share in weights)
            arms = _canary_arms(candidate.arm(CHALLENGER, weights[0]), now.champion)
            return self._start("canary", arms, now, by, why, steps, approved, decides)

    def ab(self, arms: Mapping[str, AbArm], by: str, why: str, expected: str | None = None) -> PolicyMove:
        """Named arms answer fixed shares of the customers; the champion, whose arm is not named, answers the rest.

        It must have a rest: without its customers nothing is compared.
        """
        with self._moving(by, why, expected) as now:
            versions = tuple(arm.version for arm in arms.values())
            _expect_free(now, "ab", versions)
            _expect_arms(arms)
            approved: dict[str, str] = {}
            decides: dict[int, Any] = {}
            policy_arms = []
            for name, arm in arms.items():
                candidate = self._candidate(arm.version, now)
                passed, decided = self._expect_passed(candidate, now, by)
                approved, decides = {**approved, **passed}, {**decides, **decided}
                policy_arms.append(candidate.arm(name, arm.weight))
            rest = replace(now.champion, weight=max(0.0, 1.0 - sum(arm.weight for arm in arms.values())))
            return self._start("ab", (*policy_arms, rest), now, by, why, (), approved, decides)

    # -- how a release goes on, and ends -----------------------------------------------------------------

    def advance(
        self, policy_id: str, by: str = SERVICE, why: str = "the step held", numbers: Mapping[str, Any] | None = None
    ) -> PolicyMove:
        """The next step of the canary `policy_id`; after its last step the challenger becomes champion.

        `numbers` are what this was decided by, as JSON.
        """
        with self._moving(by, why, policy_id) as now:
            challenger = now.challenger
            if now.kind != "canary" or challenger is None:
                raise TransitionRefused(
                    f"policy {now.id} is a {now.kind}, expected a canary: nothing else has steps; churn release status"
                )
            if now.step + 1 >= len(now.steps):
                return self._promote(challenger.version, now, by, why, numbers)
            step = now.step + 1
            arms = _canary_arms(replace(challenger, weight=now.steps[step].weight), now.champion)
            return self._policies.put(Draft("advance", replace(now, arms=arms, step=step), by, why, numbers=numbers))

    def promote(
        self, version: str, by: str, why: str, expected: str | None = None, numbers: Mapping[str, Any] | None = None
    ) -> PolicyMove:
        """Make an approved challenger the champion, which ends the release; so does an arm of the running one.

        Of a canary or ab that runs only an arm can be promoted. A former champion can be where it is one.
        """
        with self._moving(by, why, expected) as now:
            if now.kind in ANSWERING and version not in {arm.version for arm in now.arms}:
                _expect_free(now, "promotion", (version,))
            return self._promote(version, now, by, why, numbers)

    def rollback(self, by: str, why: str, expected: str | None = None) -> PolicyMove:
        """End the running release, so that the champion answers everybody; without one go back to the former champion.

        The challengers that answered are rejected with it. If the newest move has ended a release, or has gone back
        to the present champion, it is refused, unless `expected` is the id of the present policy: of two people who
        undo the same thing, the second must not undo more. Raises RollbackRefused without a former champion.
        """
        with self._moving(by, why, expected) as now:
            if now.kind not in RUNNING:
                if expected != now.id:
                    _expect_none_ended(self._ledger.newest_policy_move("done"), self._champion.champion_before())
                self._champion.rollback_held(None, by, why, again=expected == now.id)
                return self._following()
            decides = self._rejected(now, ("approved",)) if now.kind in ANSWERING else {}
            draft = Draft("rollback", champion_policy(now.champion, now), by, why, "rolled_back", decides=decides)
            return self._policies.put(draft)

    def end(
        self,
        policy_id: str,
        outcome: Literal["rolled_back", "inconclusive"],
        why: str,
        numbers: Mapping[str, Any] | None = None,
        by: str = SERVICE,
    ) -> PolicyMove:
        """End the release `policy_id` without a person: a guardrail is crossed, or its deadline has passed.

        `numbers` are the guardrails' report. Its challengers are rejected with it, but for a shadow that is
        inconclusive.
        """
        with self._moving(by, why, policy_id) as now:
            if now.kind not in RUNNING:
                raise TransitionRefused(
                    f"policy {now.id} is of kind champion, expected a release that runs; churn release status"
                )
            lives = ("waiting_gate", "waiting_approval", "approved")
            decides = self._rejected(now, lives) if outcome == "rolled_back" or now.kind in ANSWERING else {}
            draft = Draft("end", champion_policy(now.champion, now), by, why, outcome, numbers, decides)
            return self._policies.put(draft)

    # -- rules -------------------------------------------------------------------------------------------

    @contextmanager
    def _moving(self, by: str, why: str, expected: str | None) -> Iterator[Policy]:
        """Hold the lock, finish what was left, and give the policy in force, which is the expected one."""
        Person(by)  # raises for a name that cannot stand in the history
        if not why.strip():
            raise TransitionRefused("why is empty, expected a reason; it goes into the history: --why")
        with self._pointer.locked():
            self._champion.recover_held()
            champion = require_champion(self._home)
            now = self._policies.in_force
            if now is None:  # no policy can name a champion whose bundle is gone
                bundle_hash(champion.path(self._home))
                raise TransitionRefused(f"{self._home}: has no policy for champion {champion.version}; try again")
            if expected not in (None, now.id) and not (expected == CHAMPION and now.kind == "champion"):
                raise TransitionRefused(self._conflict(now, str(expected)))
            yield now

    def _conflict(self, now: Policy, expected: str) -> str:
        newest = self._ledger.newest_policy_move("done")
        made = (
            f"{newest.by} made the move {newest.kind} on {minute(newest.intended_at)}: {newest.why}"
            if newest is not None
            else f"{self._ledger.path} has no move of it, so that ledger was lost: this is the policy of its file"
        )
        return (
            f"the release has changed: policy {now.id} is in force ({describe_policy(now)}), expected {expected[:40]}; "
            f"{made}. Look at it, then decide again: churn release status"
        )

    def _following(self) -> PolicyMove:
        """The move by which the policy has followed the champion's. Raises LedgerUnavailable if it could not."""
        newest, champion = self._ledger.newest_policy_move("done"), require_champion(self._home)
        if newest is None or newest.after.champion.version != champion.version:
            raise LedgerUnavailable(
                f"{self._ledger.path}: champion {champion.version} answers everybody, and its policy could not be "
                "written, expected a ledger and a folder that can be written; see the disk, then: churn release status"
            )
        return newest

    def _start(
        self,
        kind: Literal["shadow", "canary", "ab"],
        arms: tuple[PolicyArm, ...],
        now: Policy,
        by: str,
        why: str,
        steps: tuple[Step, ...] = (),
        approved: Mapping[str, str] | None = None,
        decides: Mapping[int, Any] | None = None,
    ) -> PolicyMove:
        release: Release = self._contract(now.champion.bundle).release
        at = self._clock()
        same = now.challenger is not None and now.challenger.version == arms[0].version
        policy = Policy(
            id=policy_id(0),
            kind=kind,
            arms=arms,
            salt=now.salt if same and kind != "ab" else token_hex(16),
            by=by,
            why=why,
            at=at,
            steps=steps,
            deadline_at=at + timedelta(days=release.deadline_days),
            limits=release.guardrails,
        )
        outcome: Literal["", "replaced"] = "replaced" if now.kind in RUNNING and not same else ""
        return self._policies.put(Draft(kind, policy, by, why, outcome, None, decides, approved))

    def _promote(self, version: str, now: Policy, by: str, why: str, numbers: Mapping[str, Any] | None) -> PolicyMove:
        candidate = self._candidate(version, now)
        if candidate.was_champion:
            if version not in {arm.version for arm in now.arms}:
                raise TransitionRefused(
                    f"version {version} was champion before, expected a challenger; go back to it: churn rollback --to "
                    f"{version}"
                )
            self._champion.promote_former_held(version, by, why, numbers)
            return self._following()
        self._expect_passed(candidate, now, SERVICE)
        challenger = candidate.challenger
        assert challenger is not None  # else it has not passed
        assert challenger.verdict is not None
        to = Champion(
            version,
            candidate.bundle,
            self._fingerprint(candidate),
            challenger.registered_version,
            self._clock(),
            by,
            why,
        )
        self._champion.move_held(to, "promotion", by, why, challenger.verdict.champion, numbers)
        return self._following()

    def _contract(self, bundle: str) -> Contract:
        """The contract in use of a model of this home. Raises ContractError, BundleMismatch."""
        if self._given is not None:
            return self._given()
        from churn_assets.scoring.bundle import contract_in_use, read_contract  # whose NumPy a rollback does not need

        path = self._home / bundle
        contract = contract_in_use(path, self._settings.contract_path, is_named=self._is_named) or read_contract(path)
        if contract is None:
            raise ContractError(
                f"{bundle}: its contract cannot be read, and {self._settings.contract_path} is not one of its tables, "
                "expected the contract of this home's models; name it: --contract"
            )
        return contract

    def _fingerprint(self, candidate: _Candidate) -> str:
        """Of the contract in use; of the bundle's where that cannot be read."""
        try:
            return self._contract(candidate.bundle).fingerprint
        except ContractError:
            if self._is_named:
                raise
            return str(verify(self._home / candidate.bundle).get("fingerprint"))

    def _candidate(self, version: str, now: Policy) -> _Candidate:
        """A version of this home other than the champion. Raises BundleCorrupt, TransitionRefused if it is unknown."""
        if version == now.champion.version:
            raise TransitionRefused(f"version {version} is the champion, expected another version of this home")
        rounds, done = self._ledger.rounds(version), self._ledger.moves("done")
        past = [move for move in done if move.to.version == version]
        was_champion = bool(past) or bool(done and done[0].before == version)
        bundle = rounds[-1].bundle if rounds else past[-1].to.bundle if past else self._unjudged(version)
        known = rounds[-1].bundle_sha256 if rounds else past[-1].bundle_sha256 if past else None
        sha256 = verified_bundle_hash(self._home / bundle)
        if known is not None and sha256 != known:
            raise TransitionRefused(
                f"version {version}: its bundle is {sha256[:12]} now, it was {known[:12]} when it was judged; restore "
                f"{bundle}, or retrain"
            )
        decided = bool(rounds) and rounds[-1].status != "promoted"
        return _Candidate(version, bundle, sha256, rounds[-1] if rounds else None, was_champion and not decided)

    def _unjudged(self, version: str) -> str:
        """The bundle of a version that the ledger does not know."""
        path = self._settings.bundles_dir / version
        if _VERSION.fullmatch(version) and path.is_dir():
            return path.relative_to(self._home).as_posix()
        raise TransitionRefused(f"there is no version {version[:40]!r} in this home, {self._others()}")

    def _others(self) -> str:
        """Which versions there are beside the champion, for a message."""
        champion = require_champion(self._home).version
        challengers = [challenger.version for challenger in reversed(self._ledger.challengers())]
        moves = reversed(self._ledger.moves("done"))
        former = [version for move in moves for version in (move.to.version, move.before) if version]
        known = [v for v in dict.fromkeys((*challengers, *former)) if v != champion]
        if not known:
            return (
                f"and none beside champion {champion} yet, expected a challenger; a retraining makes one: "
                "churn retrain --by NAME --why TEXT"
            )
        return f"expected one of: {', '.join(known[:5])}; see churn status"

    def _expect_passed(
        self, candidate: _Candidate, now: Policy, by: str
    ) -> tuple[dict[str, str], dict[int, Literal["approved", "rejected"]]]:
        """Whether others than the champion's customers may get answers of this version: what the move must find
        approved, and what it approves again. Raises TransitionRefused."""
        version, challenger = candidate.version, candidate.challenger
        if candidate.was_champion:
            return {}, {}
        shadow = f"it may shadow: churn release shadow {version}"
        if challenger is None:
            raise TransitionRefused(
                f"version {version} never was at the gate, expected a challenger that has passed it; {shadow}"
            )
        match challenger.status:
            case "waiting_gate":
                raise TransitionRefused(
                    f"challenger {version} waits for the gate, expected one that has passed it; run the job promote, "
                    f"until then {shadow}"
                )
            case "waiting_approval":
                raise TransitionRefused(
                    f"challenger {version} has passed the gate and waits for a person, expected an approval: churn "
                    f"approve {version} --by NAME --why TEXT"
                )
            case "refused":
                raise TransitionRefused(
                    f"challenger {version} is refused ({challenger.message}), expected one that has passed the gate; "
                    f"{shadow}"
                )
        _expect_compared_with(challenger, now)
        if challenger.status == "rejected":
            self._expect_person(challenger, by, shadow)
            return {}, {challenger.number: "approved"}
        return {version: candidate.sha256}, {}

    def _expect_person(self, challenger: Challenger, by: str, shadow: str) -> None:
        """A challenger whose rejection came with the end of its release is let in again by a person alone, one that a
        person rejected, before or after such an end, by nobody."""
        version = challenger.version
        thrown_out = [
            move for move in self._ledger.policy_moves("done") if move.decides.get(challenger.number) == "rejected"
        ]
        last = thrown_out[-1] if thrown_out else None
        # The ledger rejects it in the same transaction in which the move ends; a person's rejection is another one.
        with_its_end = last is not None and (challenger.changed_at, challenger.message) == (last.ended_at, last.why)
        if last is None or not with_its_end or challenger.verdict is None or not challenger.verdict.passed:
            raise TransitionRefused(
                f"challenger {version} is rejected ({challenger.message}), expected one that has passed the gate; "
                f"{shadow}"
            )
        if by in _AUTOMATIC:
            raise TransitionRefused(
                f"version {version} was thrown out on {minute(last.intended_at)} by {last.by} ({last.why}), expected a "
                f"person who lets it in again: churn release canary {version} --by NAME --why TEXT"
            )

    def _rejected(self, now: Policy, statuses: Sequence[str]) -> dict[int, Literal["approved", "rejected"]]:
        """The challengers of a release in these statuses, which are rejected with it."""
        rounds = [self._ledger.rounds(arm.version) for arm in now.arms if arm.name != CHAMPION]
        return {r[-1].number: "rejected" for r in rounds if r and r[-1].status in statuses}


def is_reserved(name: str) -> bool:
    """Whether the history has this name for what is no person: whoever asks a person refuses it."""
    return name.strip().lower() in _NO_PERSON


def _expect_free(now: Policy, strategy: str, versions: Sequence[str]) -> None:
    """While customers get answers of a release no other begins; a shadow gives way, but not to itself."""
    if now.kind in ANSWERING:
        raise TransitionRefused(
            f"the {strategy} of {', '.join(versions)[:200]} is refused: {describe_policy(now)} runs (policy {now.id}, "
            f"{now.by}: {now.why}), expected none; end it first: churn release promote VERSION, or churn release "
            "rollback"
        )
    if strategy == now.kind and now.challenger is not None and now.challenger.version in versions:
        raise TransitionRefused(
            f"version {now.challenger.version} is in shadow already (policy {now.id}, by {now.by} on "
            f"{minute(now.at)}), expected another; see churn release status"
        )


def _expect_none_ended(newest: PolicyMove | None, before: str | None) -> None:
    """Who rolls back just after a release has ended means that one; a promotion that ended it is still to be undone.
    `before` is the champion before the present one."""
    if newest is None or newest.outcome not in _GONE:
        return
    kind = newest.before.kind if newest.before is not None else "release"
    further = f": churn rollback --to {before}, or churn release rollback --expect {newest.after.id}"
    raise TransitionRefused(
        f"no release runs: {newest.by} has ended the {kind} of {versions_of(newest)} on {minute(newest.intended_at)} "
        f"({newest.outcome.replace('_', ' ')}: {newest.why}), and champion {newest.after.champion.version} answers "
        "everybody; expected a release that runs. Nothing is left to end, "
        + (f"if the champion too shall go back{further}" if before else "and no champion was before this one")
    )


def _expect_arms(arms: Mapping[str, AbArm]) -> None:
    names = [name for name in arms if not _ARM.fullmatch(name) or name == CHAMPION]
    if names or not 1 <= len(arms) < MAX_ARMS:
        raise TransitionRefused(
            f"the arms are {', '.join(arms)[:200] or 'none'}, expected 1 to {MAX_ARMS - 1} names of small letters, "
            f"digits, - and _, other than {CHAMPION}, whose arm has the rest of the customers"
        )
    weights = [arm.weight for arm in arms.values()]
    if not all(0.0 < weight < 1.0 for weight in weights) or sum(weights) >= 1.0 - 1e-9:
        raise TransitionRefused(
            f"the weights are {', '.join(f'{weight:g}' for weight in weights)}, expected shares over 0 that sum to "
            "less than 1: the arms are compared with the champion's customers"
        )


def _expect_compared_with(challenger: Challenger, now: Policy) -> None:
    verdict = challenger.verdict
    if verdict is None or verdict.champion != now.champion.version:
        compared = verdict.champion if verdict else "no model"
        raise TransitionRefused(
            f"{challenger.version} was compared with {compared}, and {now.champion.version} is champion now, expected "
            "the one it was compared with; the gate runs again"
        )


def _weights(steps: Sequence[float], start: float | None) -> tuple[float, ...]:
    if start is None:
        return tuple(steps)
    if not 0.0 < start < 1.0:
        raise TransitionRefused(
            f"the weight is {start:g}, expected a share over 0 and under 1, which leaves the champion customers to "
            "compare with: --weight 0.05"
        )
    return (start, *(weight for weight in steps if weight > start))


def _canary_arms(challenger: PolicyArm, champion: PolicyArm) -> tuple[PolicyArm, ...]:
    """The challenger first: a growing weight takes customers from the champion alone."""
    return challenger, replace(champion, weight=1.0 - challenger.weight)
