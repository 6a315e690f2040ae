"""The decision loop under kills: a simulated daemon, runs and people on the real ledger, moves, rule and sensors.

A schedule is a seed. Everything that survives a killed process is kept for real (ledger, pointer, bundles)
or in `dagster_model.Dagster`, which stands for Dagster's own database, queue, pools and daemon; a kill is an exception
at one of the steps that persist something: before and after each commit, around the pointer's rename, around each
change of a run or slot.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from dagster import DagsterRunStatus as Status

from churn_assets.contract.limits import Monitoring, Release
from churn_assets.defs.promotion.sensors import CHALLENGER, REQUEST, record_failure, runs_to_promote, runs_to_retrain
from churn_assets.errors import RollbackRefused, TransitionRefused
from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import IN_FLIGHT, Ledger
from churn_assets.promotion.pointer import POINTER, Champion, ChampionPointer, read_champion, require_champion
from churn_assets.promotion.records import MonitoredWindow, MonitoringSummary, Person
from churn_assets.promotion.releases import LOOP, Releases
from churn_assets.promotion.retraining import ExternalTrigger
from churn_assets.promotion.service import PromotionService
from churn_assets.release.policy import Policy, read_policy
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash, seal, verify
from churn_assets_tests.promotion.dagster_model import ENDED, UNDER_WAY, Dagster, Fate, Killed, Run
from churn_assets_tests.promotion.dagster_model import LIMITS as RUN_LIMITS
from churn_assets_tests.promotion.homes import FakeRegistry, verdict
from churn_assets_tests.scoring.tiny import CONTRACT

LIMITS = Monitoring(cooldown_days=0.2, label_floor=10, labels_to_retrain=40)
STEPWISE = replace(CONTRACT, release=Release(canary_weights=(0.05, 0.5, 1.0), rollout="canary"))
STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
Rollout = Literal["direct", "canary"]


class KilledLedger(Ledger):
    """Passes by `fate` before and after each commit."""

    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with super()._writing() as db:
            yield db
            self._fate.step()
        self._fate.step()


class KilledPointer(ChampionPointer):
    """Passes by `fate` between the file and its rename, and after it."""

    def __init__(self, home: Path, fate: Fate) -> None:
        super().__init__(home)
        self._fate = fate

    def write(self, champion: Champion) -> None:
        temporary = self.home / f".{POINTER}.tmp"
        temporary.write_text(json.dumps(champion.to_json()))
        self._fate.step()
        temporary.replace(self.home / POINTER)
        self._fate.step()

    def write_policy(self, policy: Policy) -> None:
        self._fate.step()
        super().write_policy(policy)
        self._fate.step()


class Loop:
    """One home, its daemon and its people; `play` runs a schedule to its end and looks after every act.

    With `rollout` "canary" what the gate approves is let in step by step, watched by a service that goes on or ends it.
    """

    def __init__(self, home: Path, seed: int, rollout: Rollout = "direct") -> None:
        self.rollout = rollout
        self.settings = Settings(root=home, home=home, contract_path=home / "none.toml")
        self.rng, self.fate, self.now = random.Random(seed), Fate(), STARTED_AT
        self.ledger = KilledLedger(self.settings.ledger_path, self.fate)
        pointer = KilledPointer(home, self.fate)
        self.service = PromotionService(self.settings, self.ledger, pointer, FakeRegistry(), lambda: self.now)
        self.moves = ChampionMoves(self.settings.bundles_dir, self.ledger, pointer, lambda: self.now)
        self.releases = Releases(self.settings, self.ledger, pointer, lambda: self.now, lambda: STEPWISE)
        self.ends: Counter[str] = Counter()  # of canaries, by outcome
        self.runs = Dagster(self.fate)
        self.canceled: set[str] = set()  # requests whose run a person has canceled
        self.kills = 0
        self.window, self.labels = 0, 0
        self.windows: list[tuple[str, MonitoredWindow]] = []
        self.passed: set[tuple[str, str]] = set()  # versions the gate let pass, with their bundle's hash
        self.were: set[str] = set()  # versions that may answer: the first, and what was promoted
        self.trained: Counter[str] = Counter()
        self.asked: list[str] = []  # requests whose decision was acknowledged

    # -- what is done ---------------------------------------------------------------------------------

    def first(self) -> None:
        version, bundle, _ = self.bundle()
        self.were.add(version)
        champion = Champion(version, bundle, "f" * 64, None, self.now, "training", "the first model")
        self.moves.move(champion, "first", "training", "the first model")

    def bundle(self) -> tuple[str, str, str]:
        """A new sealed folder: its version, its path in the home, and the hash of its manifest."""
        text = str(self.rng.random())
        path = seal(
            self.settings.bundles_dir,
            lambda folder: (folder / "card.json").write_text(text),
            {"fingerprint": "f" * 64},
            check=lambda folder: None,
        )
        return path.name, f"bundles/{path.name}", bundle_hash(path)

    def train_by_hand(self) -> None:
        """`churn run` makes a challenger that nobody has asked for."""
        version, path, sha256 = self.bundle()
        self.ledger.add_challenger(version, path, sha256, None, None, self.now)

    def monitor(self, requested: ExternalTrigger | None = None) -> None:
        champion = read_champion(self.settings.home)
        version = champion.version if champion else ""
        if requested is None and self.rng.random() < 0.8:
            self.window += 1
            self.labels += self.rng.randrange(30)
            status = self.rng.choice(["drift", "drift", "stable", "insufficient"])
            quality = "broken" if self.rng.random() < 0.15 else "ok"
            window = MonitoredWindow(self.window, status, ("a", self.rng.choice("bc")), quality)
            self.windows.append((version, window))
        broken = bool(self.windows) and self.windows[-1][1].quality == "broken"
        summary = MonitoringSummary(
            windows=tuple(window for model_version, window in self.windows if model_version == version),
            broken="the data is broken" if broken else None,
            pr_auc_dropped=self.rng.random() < 0.1,
            fall="fell",
            labels=self.labels,
            new_labels=self.labels,
        )
        record = self.service.decide_retraining(LIMITS, lambda champion: summary, requested)
        if record.request is not None:
            self.asked.append(record.request)
            assert not broken, "a retraining was asked for while the data is broken"

    def by_hand(self) -> None:
        self.monitor(ExternalTrigger("hand", f"h{self.now.timestamp():.0f}", "ana", "because"))

    def by_schedule(self) -> None:
        self.monitor(ExternalTrigger("schedule", f"s{self.now:%d}"))

    def tick_retrain(self) -> None:
        for request in runs_to_retrain(self.service, self.ledger, self.runs):
            self.runs.launch("retrain", request.run_key or "", dict(request.tags))

    def tick_promote(self) -> None:
        for request in runs_to_promote(self.service, self.ledger, self.runs):
            self.runs.launch("promote", request.run_key or "", dict(request.tags))

    def tick_failures(self) -> None:
        failed = [run for run in self.runs.all if run.status is Status.FAILURE]
        for run in self.rng.sample(failed, min(len(failed), 2)):  # told late, twice or never
            record_failure(self.service, run, "it failed")  # type: ignore[arg-type]

    def tick_queue(self) -> None:
        self.runs.dequeue(
            self.now,
            lambda run: {"retrain": self.retrain, "promote": self.promote, "ingest_log": self.run_ingest}[run.job](run),
        )

    def tick_monitoring(self) -> None:
        self.runs.monitor_runs(self.now)

    def ingest(self) -> None:
        self.runs.launch("ingest_log", f"ingest {len(self.runs.all)}", {})

    def take_step(self) -> None:
        """A run goes on by one step, if it has a process and its pool a slot."""
        working = [run for run in self.runs.all if run.status is Status.STARTED and run.body is not None]
        if not working:
            return
        run = self.rng.choice(working)
        if not self.runs.claim(run):
            return
        status = None
        try:
            next(run.body)
        except StopIteration:
            status = Status.SUCCESS
        except (TransitionRefused, ValueError):
            status = Status.FAILURE
        if status is not None:
            self.runs.release(run)
            self.runs.set(run, status, self.now)

    def terminate(self) -> None:
        """A person ends a run in Dagster's UI: in the queue, by a signal, or by force if it has no process or hangs."""
        runs = [run for run in self.runs.all if run.status not in ENDED]
        if not runs:
            return
        run = self.rng.choice(runs)
        if run.status is Status.QUEUED:
            run.ended_itself, by_person = False, True
        elif run.body is None or self.rng.random() < 0.5:
            run.body, run.ended_itself, by_person = None, False, False
        else:
            run.body, by_person = None, True
            self.runs.release(run)
        if by_person and REQUEST in run.tags:
            self.canceled.add(run.tags[REQUEST])
        self.runs.set(run, Status.CANCELED, self.now)

    def run_ingest(self, run: Run) -> Iterator[None]:
        yield
        if self.rng.random() < 0.1:
            raise ValueError("the disk is full")
        yield

    def retrain(self, run: Run) -> Iterator[None]:
        key = run.tags[REQUEST]
        if self.rng.random() < 0.5:  # else the sensor finds out
            self.service.start_request(key, run.run_id)
        if run.run_key == key:
            self.trained[key] += 1
        yield
        if self.rng.random() < 0.25:
            raise ValueError("the training failed")
        version, path, sha256 = self.bundle()
        yield
        if self.rng.random() < 0.2:
            self.ledger.finish_request(key, "the same model came out", self.now)
        else:
            self.ledger.add_challenger(version, path, sha256, None, key, self.now)
        yield
        if self.rng.random() < 0.1:
            raise ValueError("the report failed after the challenger was made")

    def promote(self, run: Run) -> Iterator[None]:
        self.service.recover()
        found = self.ledger.challenger(run.tags[CHALLENGER])
        if found.status not in ("waiting_gate", "approved") or (found.status == "approved" and self.canary):
            return
        yield
        if self.rng.random() < 0.15:
            raise ValueError("MLflow is away")
        passed = self.rng.random() < 0.6
        if passed:
            self.passed.add((found.version, found.bundle_sha256))
        needs_person = self.rng.choice([False, True])
        judged = replace(verdict(found.version, passed), champion=require_champion(self.settings.home).version)
        found = self.ledger.record_verdict(found.version, judged, needs_person=needs_person, at=self.now)
        yield
        if found.status == "approved" and self.rollout == "canary":
            if self.canary is None:
                self.were.add(found.version)
                self.releases.canary(found.version, LOOP, "the gate has passed it")
        elif found.status == "approved":
            assert (found.version, found.bundle_sha256) in self.passed
            by = str(found.approved_by)
            to = Champion(found.version, found.bundle, "f" * 64, None, self.now, by, "promoted")
            self.were.add(found.version)
            self.moves.move(to, "promotion", by, "promoted")
        yield

    @property
    def canary(self) -> Policy | None:
        """The policy of a canary that runs."""
        policy, champion = read_policy(self.settings.home), require_champion(self.settings.home)
        return policy if policy and policy.kind == "canary" and policy.champion.version == champion.version else None

    def watch_canary(self) -> None:
        """The guard of the service looks, or a person does."""
        self.guard(self.rng.choice(["advance"] * 9 + ["rolled_back", "inconclusive", "by a person"]))

    def guard(self, move: str) -> None:
        policy = self.canary
        if policy is None:
            return
        with suppress(TransitionRefused):  # what a dead process left was finished first
            if move == "advance":
                self.releases.advance(policy.id)
            elif move == "by a person":
                self.releases.rollback("ana", "complaints", policy.id)
            else:
                self.releases.end(policy.id, "rolled_back" if move == "rolled_back" else "inconclusive", "errors rise")

    def person(self) -> None:
        waiting = self.ledger.challengers("waiting_approval")
        if waiting:
            version = self.rng.choice(waiting).version
            if self.rng.random() < 0.6:
                self.service.approve(version, Person("ana"), "read it")
            else:
                self.service.reject(version, Person("ana"), "no")

    def go_back(self) -> None:
        done = [move.to.version for move in self.ledger.moves() if move.status == "done"]
        to, present = self.rng.choice([None, *done]), require_champion(self.settings.home).version
        try:
            self.service.rollback(to, by="ana", why="complaints")
        except RollbackRefused:
            # For want of a champion before, after another who has just gone back, and to the one that is there.
            assert to in (None, present)

    def run_again(self) -> None:
        """Somebody presses "re-execute" on a run that has ended: Dagster copies its tags."""
        ended = [run for run in self.runs.all if run.job == "retrain" and run.status in ENDED]
        if ended:
            self.runs.launch("retrain", f"by hand {len(self.runs.all)}", self.rng.choice(ended).tags)

    def look(self) -> None:
        self.service.recover()

    # -- a schedule -----------------------------------------------------------------------------------

    def play(self, acts: int = 60) -> None:
        """`acts` random acts with kills among them, then calm until nothing moves; checks all the way."""
        self.first()
        ticks: list[Callable[[], None]] = [self.tick_retrain, self.tick_promote, self.monitor]
        asked = [self.by_hand, self.by_schedule, self.person, self.go_back]
        daemon = [self.tick_queue, self.tick_queue, self.tick_monitoring]
        rarely = [self.tick_failures, self.look, self.run_again, self.ingest, self.terminate]
        if self.rollout == "canary":
            ticks += [self.watch_canary] * 2
            asked += [self.train_by_hand]
        for _ in range(acts):
            if self.fate.kill_at <= self.fate.steps:
                self.fate.kill_at = self.fate.steps + self.rng.randint(1, 25)
            self.now += timedelta(hours=self.rng.choice([0.0, 0.01, 2.0]) * self.rng.random() * 2)
            self.alive(self.rng.choice([self.take_step] * 6 + daemon * 2 + ticks * 2 + asked + rarely))
            self.check()
        self.fate.kill_at = -1
        self.calm()
        self.check_end()

    def alive(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Killed:
            self.kills += 1
            self.runs.kill_processes()

    def calm(self) -> None:
        """No more kills and no more triggers: what was begun comes to its end."""
        ticks = (self.tick_monitoring, self.tick_retrain, self.tick_promote, self.tick_queue, self.watch_canary)
        for _ in range(120):
            self.now += timedelta(seconds=30)
            for act in (*ticks, *[self.take_step] * 6):
                act()
            self.check()
            ended = all(run.status in ENDED for run in self.runs.all)
            waits = self.ledger.requests(*IN_FLIGHT) or self.ledger.challengers_to_promote() or self.runs.slots
            if ended and not waits and self.canary is None:
                return

    # -- what must hold -------------------------------------------------------------------------------

    def check(self) -> None:
        """What a service, or anybody, may see at any moment."""
        champion = read_champion(self.settings.home)
        assert champion is not None
        assert champion.version in self.were, "a model answers that was never promoted"
        verify(champion.path(self.settings.home))
        assert sum(move.status == "intended" for move in self.ledger.moves()) <= 1
        assert len(self.ledger.policy_moves("intended")) <= 1
        if (policy := self.canary) is not None and policy.challenger is not None:
            arm = policy.challenger
            assert (arm.version, arm.sha256) in self.passed, "a model answers that never passed the gate"
        assert len(self.ledger.requests(*IN_FLIGHT)) <= 1
        assert max(self.trained.values(), default=0) <= 1, "a request was trained twice"
        tags = Counter(RUN_LIMITS[run.job] for run in self.runs.all if run.status in UNDER_WAY)
        assert max(tags.values(), default=0) <= 1, "two runs that exclude each other are under way"

    def check_end(self) -> None:
        """What was asked for has come to an end, once; the ledger and the pointer tell the same."""
        history, requests = self.ledger.moves(), self.ledger.requests()
        champion = read_champion(self.settings.home)
        done = [move for move in history if move.status == "done"]
        assert champion == done[-1].to
        assert not [move for move in history if move.status == "intended"]
        for before, after in pairwise(done):
            assert after.before == before.to.version, "there were two champions"
        policies = self.ledger.policy_moves("done")
        assert not self.ledger.policy_moves("intended")
        assert read_policy(self.settings.home) == policies[-1].after, "services follow another policy than the ledger's"
        assert (policies[-1].after.kind, policies[-1].after.champion.version) == ("champion", champion.version)
        for earlier, later in pairwise(policies):
            assert later.before == earlier.after, "a move of the policy is lost"
        self.ends = Counter(move.outcome for move in policies if move.before and move.before.kind == "canary")
        promoted = {move.to.version for move in done if move.kind == "promotion"}
        assert promoted == {c.version for c in self.ledger.challengers("promoted")}
        assert promoted <= {version for version, _ in self.passed}, "a model was promoted that never passed the gate"
        assert not self.ledger.requests(*IN_FLIGHT), "a request is lost"
        assert all(run.status in ENDED for run in self.runs.all), "the queue is blocked"
        assert not self.runs.slots, "a slot of a pool is lost"
        assert set(self.asked) <= {request.key for request in requests}
        asking = {made.number for made in self.ledger.decisions(10_000) if made.decision.kind == "retrain"}
        chains: dict[int, list[Any]] = {}
        for request in requests:
            chains.setdefault(request.decision, []).append(request)
        assert chains.keys() == asking, "a decision and its request were parted"
        for chain in chains.values():
            assert [request.attempt for request in chain] == list(range(1, len(chain) + 1))
            assert [request.status for request in chain[:-1]] == ["failed"] * (len(chain) - 1)
            canceled = chain[-1].key in self.canceled or "left no challenger" in chain[-1].outcome
            assert chain[-1].status == "finished" or (len(chain) == 3 or canceled), chain[-1]
        labels = {made.number: made.decision.inputs.labels for made in self.ledger.decisions(10_000)}
        trained = [request for request in requests if request.status == "finished"]
        used = labels[trained[-1].decision] if trained else 0
        assert self.ledger.state().labels_used == used, "labels of a request without a model are used up"
        decision_of = {request.key: request.decision for request in requests}
        made = Counter(decision_of[c.request] for c in self.ledger.challengers() if c.request is not None)
        assert max(made.values(), default=0) <= 1, "a decision made two challengers"
        for challenger in self.ledger.challengers("waiting_gate", "approved"):
            assert challenger.attempt > 3, "a challenger is forgotten"
