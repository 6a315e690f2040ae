"""Any sequence of moves ends where the last one says, also if the process dies between any two writes of any of them.

Hypothesis makes moves, legal ones and others, and kills some. A model of the rules, which knows nothing of files, says
which are refused and where each leads. A killed move, once recovered, has happened if its deciding file was written,
and else has not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from churn_assets.errors import RollbackRefused, TransitionRefused
from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import ChampionPointer, require_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.release.policy import CHALLENGER, CHAMPION, POLICY, read_policy
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, champion, home_with, verdict
from churn_assets_tests.promotion.test_releases import STEPS, USED

VERSIONS = st.integers(0, 3)
PEOPLE = ("ana", "ben")
ACTORS = st.sampled_from([*PEOPLE, "service", "loop"])
KILLS = st.none() | st.integers(0, 11)  # after how many beginnings and ends of writes the process dies


class Killed(BaseException):
    """The process is gone."""


class Fuse:
    """Burns down by one at each beginning and each end of a write."""

    def __init__(self, left: int | None) -> None:
        self.left = left
        self.decided = False  # whether the file that decides was written

    def burn(self) -> None:
        if self.left == 0:
            raise Killed
        if self.left is not None:
            self.left -= 1


def mortal(kind: type, fuse: Fuse, writes: tuple[str, ...], decides: tuple[str, ...] = ()) -> type:
    """A subclass whose methods `writes` may kill the process before and after they write."""

    def dying(name: str) -> Callable[..., Any]:
        def write(self: Any, *arguments: Any) -> Any:
            fuse.burn()
            result = getattr(kind, name)(self, *arguments)
            fuse.decided |= name in decides
            fuse.burn()
            return result

        return write

    return type(f"Mortal{kind.__name__}", (kind,), {name: dying(name) for name in writes})


LEDGER_WRITES = (
    "intend_move", "finish_move", "abandon_move", "intend_policy", "finish_policy", "abandon_policy",
)  # fmt: skip


@dataclasses.dataclass
class Model:
    """The rules as a person would explain them. `status` and `against` are of each version's newest verdict."""

    champion: str
    line: list[str]
    kind: str = "champion"
    arms: dict[str, tuple[str, float]] = dataclasses.field(default_factory=dict)  # without the champion's
    step: int = 0
    weights: tuple[float, ...] = ()
    ended: bool = False  # whether the last move has ended a release, other than by a promotion of its arm
    undone: bool = False  # whether the last move of the champion has gone back
    former: set[str] = dataclasses.field(default_factory=set)
    status: dict[str, str] = dataclasses.field(default_factory=dict)
    against: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def answering(self) -> bool:
        return self.kind in ("canary", "ab")

    def passed(self, version: str, by: str) -> bool:
        status = self.status.get(version)
        if status in (None, "promoted"):
            return version in self.former
        compared = self.against[version] == self.champion
        return compared and (status == "approved" or (status == "thrown out" and by in PEOPLE))

    def start(self, kind: str, arms: dict[str, tuple[str, float]], by: str, weights: tuple[float, ...] = ()) -> bool:
        versions = [version for version, _ in arms.values()]
        shadowed = kind == self.kind == "shadow" and self.arms[CHALLENGER][0] in versions
        if self.answering or shadowed or self.champion in versions:
            return False
        if kind != "shadow" and not all(self.passed(version, by) for version in versions):
            return False
        for version in versions if kind != "shadow" else ():
            if self.status.get(version) == "thrown out":
                self.status[version] = "approved"
        self.kind, self.arms, self.step, self.weights, self.ended = kind, arms, 0, weights, False
        return True

    def advance(self, by: str) -> bool:
        if self.kind != "canary":
            return False
        version, _ = self.arms[CHALLENGER]
        if self.step + 1 == len(self.weights):
            return self.promote(version, by)
        self.step += 1
        self.arms = {CHALLENGER: (version, self.weights[self.step])}
        return True

    def promote(self, version: str, by: str) -> bool:
        in_release = version in [arm for arm, _ in self.arms.values()]
        if version == self.champion or (self.answering and not in_release):
            return False
        if self.status.get(version) in (None, "promoted"):
            if version not in self.former or not in_release:
                return False
            self.line.append(version)
            self.become(version)
            return True
        if not self.passed(version, "service"):
            return False
        self.status[version] = "promoted"
        self.line.append(version)
        self.become(version)
        return True

    def go_back(self, version: str) -> None:
        undone = version in self.line
        if undone:
            while self.line[-1] != version:
                self.line.pop()
        else:
            self.line.append(version)
        self.become(version, undone)

    def become(self, version: str, undone: bool = False) -> None:
        self.former.add(version)
        self.undone = undone
        self.champion = version
        self.finish(self.kind != "champion" and version not in [arm for arm, _ in self.arms.values()])

    def finish(self, ended: bool = True) -> None:
        self.kind, self.arms, self.step, self.weights, self.ended = "champion", {}, 0, (), ended

    def roll_back_champion(self, again: bool = False) -> bool:
        if len(self.line) < 2 or (self.undone and not again):
            return False
        self.go_back(self.line[-2])
        return True

    def throw_out(self, statuses: tuple[str, ...]) -> None:
        for version, _ in self.arms.values():
            if self.status.get(version) in statuses:
                self.status[version] = "thrown out"
        self.finish()


class Releasing(RuleBasedStateMachine):
    """One home and its model."""

    @initialize()
    def begin(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where a sync costs nothing
        self.folder = Path(tempfile.mkdtemp(prefix="release-faults-", dir=memory))
        self.settings, self.versions = home_with(self.folder, 4)
        first = self.versions[0]
        self.moves().move(champion(first), "first", "training", "the first")
        self.model = Model(first, [first], former={first})
        self.judge(1, True)
        self.promote(1, "ana", None)
        self.judge(2, True)

    @property
    def passing(self) -> list[int]:
        """Versions that a person could let in now."""
        if self.model.answering:
            return []
        return [n for n, v in enumerate(self.versions) if v != self.model.champion and self.model.passed(v, "ana")]

    def moves(self, fuse: Fuse | None = None) -> ChampionMoves:
        return ChampionMoves(self.settings.bundles_dir, *self.mortals(fuse or Fuse(None)), lambda: AT)

    def releases(self, fuse: Fuse | None = None) -> Releases:
        return Releases(self.settings, *self.mortals(fuse or Fuse(None)), lambda: AT, lambda: USED)

    def mortals(self, fuse: Fuse) -> tuple[Ledger, ChampionPointer]:
        ledger = mortal(Ledger, fuse, LEDGER_WRITES)
        decides = ("write", "write_policy")  # of a move of the champion the first, and the policy follows it
        pointer = mortal(ChampionPointer, fuse, ("write", "write_policy"), decides)
        return ledger(self.settings.ledger_path), pointer(self.folder)

    def attempt(
        self, kill: int | None, move: Callable[[Releases, ChampionMoves], object], change: Callable[[Model], bool]
    ) -> None:
        """Make a move, killed or not, and the same change to the model."""
        before = dataclasses.replace(
            self.model, line=[*self.model.line], former={*self.model.former}, status={**self.model.status}
        )
        allowed = change(self.model)
        fuse = Fuse(kill)
        try:
            move(self.releases(fuse), self.moves(fuse))
        except (TransitionRefused, RollbackRefused):
            assert not allowed
        except Killed:
            assert allowed
            if not fuse.decided:
                self.model = before
            with contextlib.suppress(Killed):  # so may who recovers
                self.releases(Fuse(1)).recover()
        else:
            assert allowed
        self.releases().recover()

    @rule(place=VERSIONS, passed=st.booleans())
    def judge(self, place: int, passed: bool) -> None:
        """The gate judges a version against the champion."""
        version, ledger = self.versions[place], Ledger(self.settings.ledger_path)
        if version == self.model.champion or self.model.status.get(version) == "approved":
            return
        sha256 = bundle_hash(self.settings.bundles_dir / version)
        ledger.add_challenger(version, f"bundles/{version}", sha256, None, None, AT)
        judged = dataclasses.replace(verdict(version, passed), champion=self.model.champion)
        ledger.record_verdict(version, judged, needs_person=False, at=AT)
        self.model.status[version] = "approved" if passed else "refused"
        self.model.against[version] = self.model.champion
        self.thrown_out_by_verdict(version)

    @rule(place=VERSIONS)
    def reject(self, place: int) -> None:
        version = self.versions[place]
        if self.model.status.get(version) != "approved":
            return
        ledger = Ledger(self.settings.ledger_path)
        approved_by = ledger.challenger(version).approved_by  # what a person has approved nobody else may reject
        ledger.reject(version, approved_by if isinstance(approved_by, Person) else Person("ana"), "no", AT)
        self.model.status[version] = "rejected"
        self.thrown_out_by_verdict(version)

    def thrown_out_by_verdict(self, version: str) -> None:
        """A canary or ab ends where a version that answers in it is no longer approved."""
        answers = self.model.answering and version in [arm for arm, _ in self.model.arms.values()]
        if answers and self.model.status[version] in ("refused", "rejected"):
            self.model.finish()
        self.releases().recover()

    @rule(version=VERSIONS, by=ACTORS, kill=KILLS)
    def shadow(self, version: int, by: str, kill: int | None) -> None:
        name = self.versions[version]
        self.attempt(
            kill, lambda r, _: r.shadow(name, by, "look"), lambda m: m.start("shadow", {CHALLENGER: (name, 0.0)}, by)
        )

    @rule(version=VERSIONS, by=ACTORS, weight=st.sampled_from([None, 0.1, 0.9]), kill=KILLS)
    def canary(self, version: int, by: str, weight: float | None, kill: int | None) -> None:
        name = self.versions[version]
        weights = STEPS if weight is None else (weight, *(w for w in STEPS if w > weight))
        arms = {CHALLENGER: (name, weights[0])}
        self.attempt(
            kill, lambda r, _: r.canary(name, by, "try", weight=weight), lambda m: m.start("canary", arms, by, weights)
        )

    @rule(one=VERSIONS, two=VERSIONS, by=ACTORS, kill=KILLS)
    def ab(self, one: int, two: int, by: str, kill: int | None) -> None:
        arms = {"one": (self.versions[one], 0.25), "two": (self.versions[two], 0.25)}
        named = {name: AbArm(*arm) for name, arm in arms.items()}
        self.attempt(kill, lambda r, _: r.ab(named, by, "which"), lambda m: m.start("ab", arms, by))

    @rule(kill=KILLS)
    def advance(self, kill: int | None) -> None:
        self.attempt(kill, lambda r, _: r.advance(self.policy_id()), lambda m: m.advance("service"))

    # What chance alone seldom makes legal:

    @precondition(lambda self: self.model.kind == "canary")
    @rule(kill=KILLS)
    def advance_canary(self, kill: int | None) -> None:
        self.advance(kill)

    @precondition(lambda self: self.passing)
    @rule(place=st.integers(0, 3), weight=st.sampled_from([None, 0.1, 0.9]), kills=st.lists(KILLS, max_size=4))
    def let_in(self, place: int, weight: float | None, kills: list[int | None]) -> None:
        """A canary and its steps, a kill in each or not."""
        self.canary(self.passing[place % len(self.passing)], "ana", weight, None)
        for kill in kills:
            self.files_ledger_and_model_agree()
            self.advance(kill)

    @precondition(lambda self: len(self.passing) > 1)
    @rule(kill=KILLS)
    def start_ab(self, kill: int | None) -> None:
        self.ab(self.passing[0], self.passing[-1], "ana", kill)

    @precondition(lambda self: self.passing or self.model.answering)
    @rule(place=st.integers(0, 3), kill=KILLS)
    def promote_what_may_be(self, place: int, kill: int | None) -> None:
        arms = [self.versions.index(version) for version, _ in self.model.arms.values()]
        choices = arms if self.model.answering else self.passing
        self.promote(choices[place % len(choices)], "ana", kill)

    @precondition(lambda self: not self.passing and not self.model.answering)
    @rule(version=VERSIONS)
    def pass_one(self, version: int) -> None:
        self.judge(version, True)

    @rule(version=VERSIONS, by=ACTORS, kill=KILLS)
    def promote(self, version: int, by: str, kill: int | None) -> None:
        name = self.versions[version]
        self.attempt(kill, lambda r, _: r.promote(name, by, "it won"), lambda m: m.promote(name, by))

    @rule(by=st.sampled_from(PEOPLE), sees=st.booleans(), kill=KILLS)
    def roll_back(self, by: str, sees: bool, kill: int | None) -> None:
        expected = self.policy_id() if sees else None

        def change(model: Model) -> bool:
            if model.kind == "champion":
                return (sees or not model.ended) and model.roll_back_champion(again=sees)
            model.throw_out(("approved",) if model.answering else ())
            return True

        self.attempt(kill, lambda r, _: r.rollback(by, "complaints", expected), change)

    @rule(outcome=st.sampled_from(["rolled_back", "inconclusive"]), kill=KILLS)
    def end(self, outcome: Any, kill: int | None) -> None:
        def change(model: Model) -> bool:
            if model.kind == "champion":
                return False
            model.throw_out(("approved",) if outcome == "rolled_back" or model.answering else ())
            return True

        self.attempt(kill, lambda r, _: r.end(self.policy_id(), outcome, "errors rise"), change)

    @rule(kill=KILLS)
    def roll_back_champion(self, kill: int | None) -> None:
        self.attempt(kill, lambda _, m: m.rollback(None, "ana", "complaints"), lambda m: m.roll_back_champion())

    @rule(version=VERSIONS, kill=KILLS)
    def roll_back_to(self, version: int, kill: int | None) -> None:
        name = self.versions[version]

        def change(model: Model) -> bool:
            if name == model.champion or name not in model.former:
                return False
            model.go_back(name)
            return True

        self.attempt(kill, lambda _, m: m.rollback(name, "ana", "complaints"), change)

    @precondition(lambda self: len(self.model.former) > 1 and not self.model.answering)
    @rule(place=st.integers(0, 3), kill=KILLS, second=st.booleans())
    def promote_a_former_champion(self, place: int, kill: int | None, second: bool) -> None:
        """By a shadow, the one release that any version may have; then two people undo it."""
        former = sorted(self.model.former - {self.model.champion})
        name = self.versions.index(former[place % len(former)])
        self.shadow(name, "ana", None)
        self.promote(name, "ana", kill)
        self.files_ledger_and_model_agree()
        for by in PEOPLE if second else ():
            self.roll_back(by, False, None)

    @rule(content=st.sampled_from(["{", "", None]))
    def damage(self, content: str | None) -> None:
        (self.folder / POLICY).unlink()
        if content is not None:
            (self.folder / POLICY).write_text(content)
        self.releases().recover()

    def policy_id(self) -> str:
        policy = read_policy(self.folder)
        assert policy is not None
        return policy.id

    @invariant()
    def files_ledger_and_model_agree(self) -> None:
        ledger, policy = Ledger(self.settings.ledger_path), read_policy(self.folder)
        assert policy is not None
        newest = ledger.newest_policy_move("done")
        assert newest is not None
        assert policy == newest.after
        assert ledger.policy_moves("intended") == ledger.moves("intended") == []
        assert require_champion(self.folder).version == policy.champion.version == self.model.champion
        arms = {arm.name: (arm.version, arm.weight) for arm in policy.arms if arm.name != CHAMPION}
        assert (policy.kind, arms) == (self.model.kind, self.model.arms)
        assert policy.step == self.model.step
        stored = {c.version: c.status for c in ledger.challengers()}
        assert stored == {v: "rejected" if s == "thrown out" else s for v, s in self.model.status.items()}
        ids = [move.after.id for move in ledger.policy_moves()]
        assert ids == sorted(set(ids))

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


Releasing.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestReleasing = Releasing.TestCase
