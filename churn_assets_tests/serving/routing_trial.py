"""A service of two workers whose policy changes again and again while clients ask, and what its log says of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import http.client
import json
import random
import statistics
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil

from churn_assets.contract.limits import Release
from churn_assets.promotion.pointer import ChampionPointer
from churn_assets.promotion.records import PolicyMove
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.release.policy import ANSWERING, CHALLENGER, CHAMPION, POLICY, Policy, read_policy, share_of
from churn_assets.serving.routes import BATCHES_AT_ONCE
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.promotion.test_releases import challenge
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT
from churn_assets_tests.serving.client import ROW, make_bundle, served, wait_for
from churn_assets_tests.serving.faults import family
from churn_assets_tests.serving.policies import ANYTHING
from churn_assets_tests.serving.releases.homes import make_home

PICKED_UP_S = 2.0
WEIGHTS = (0.05, 0.25, 0.5, 1.0)
BY = "ana"
# The tiny models differ, and the steps are the trial's: the service moves nothing by itself.
CONTRACT_WITHOUT_LIMITS = dataclasses.replace(
    CONTRACT, release=Release(**vars(ANYTHING), canary_weights=WEIGHTS, canary_hold_minutes=1e7, canary_rows=10**9)
)
REGULARS = 150  # customers who ask under every policy; each other request is of somebody new


class Clients:
    """Threads that ask without pause for a customer or, four of them, for a few: a worker takes no more batches at
    once. `failed` are answers other than 200 and broken connections."""

    def __init__(self, url: str, clients: int, seed: int) -> None:
        self._where, self._stop = urlsplit(url), threading.Event()
        self.failed: list[str] = []
        self.requests = 0
        args = [(random.Random(f"{seed} {number}"), number < BATCHES_AT_ONCE) for number in range(clients)]
        self._threads = [threading.Thread(target=self._ask, args=each, daemon=True) for each in args]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def _ask(self, rng: random.Random, has_batches: bool) -> None:
        connection = http.client.HTTPConnection(self._where.hostname or "", self._where.port, timeout=10)
        while not self._stop.is_set():
            path, body = "/predict", {**_customer(rng), "as_of": AS_OF}
            if has_batches and rng.random() < 0.2:
                path, body = "/predict_batch", {"customers": [_customer(rng) for _ in range(20)], "as_of": AS_OF}
            try:
                connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                self._stop.wait(0.02)
                continue
            self.requests += 1
            if response.status != 200:
                self.failed.append(f"{response.status} {content[:200]!r}")
        connection.close()


def _customer(rng: random.Random) -> dict[str, Any]:
    regular = rng.random() < 0.5
    return {**ROW, "id": f"regular {rng.randrange(REGULARS)}" if regular else f"{rng.getrandbits(64):x}"}


@dataclass
class RoutingTrial:
    """A home, its policies in the order in which they were in force, when each was replaced, and which versions were
    champion. Each change is a move of `Releases`, the same that commands, API and loop make."""

    folder: Path
    clients: int
    seed: int
    policies: dict[str, Policy] = field(default_factory=dict)
    replaced_at: dict[str, float] = field(default_factory=dict)
    champions: list[tuple[float, str]] = field(default_factory=list)  # since when, version
    moves: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    requests: int = 0
    checked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        made = make_home(self.folder / "home")
        self.home, self.settings = made.path, made.settings
        self.versions = [made.champion, made.challenger, made.refused, make_bundle(made.path, "boosted_bag").name]
        self.releases = Releases(
            made.settings, made.ledger, ChampionPointer(made.path), contract=lambda: CONTRACT_WITHOUT_LIMITS
        )
        policy = read_policy(made.path)
        assert policy is not None
        self.policies[policy.id] = policy
        self.champions.append((0.0, made.champion))
        self._rng = random.Random(self.seed)
        self._changes: list[Callable[[], None]] = []

    def run(self, changes: int, pause_s: float, killed: Literal["worker", "service"]) -> None:
        """Serve; make so many moves, with a pause of about `pause_s` after each change; `kill -9` a worker, or all
        processes, while clients ask; serve again by the last policy."""
        with self._served() as (url, server):
            with self._clients(url):
                while sum(self.moves.values()) < changes:
                    self._change()
                    time.sleep(pause_s * self._rng.uniform(0.2, 1.8))
                self._canary(WEIGHTS[2])  # stays over the kill and the restart
                time.sleep(PICKED_UP_S)
            with self._clients(url, is_killed=True):
                time.sleep(0.3)
                if killed == "worker":  # the others answer meanwhile
                    self._rng.choice(family(server)[1]).kill()
                    time.sleep(15.0)  # in which BentoML replaces it
                else:
                    for process in family(server)[0]:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            process.kill()
        with self._served() as (url, _), self._clients(url):
            time.sleep(pause_s)

    @contextlib.contextmanager
    def _served(self) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        environ = {"CHURN_POLL_S": "0.5", "CHURN_LOG_SEGMENT_S": "2"}
        with served(self.folder, self.home, workers=2, environ=environ) as (url, server):
            wait_for(f"{url}/readyz", server, self.folder / "log")
            yield url, server

    @contextlib.contextmanager
    def _clients(self, url: str, is_killed: bool = False) -> Iterator[None]:
        """Clients ask; the connections of a process that is killed break, and that is no failure."""
        with Clients(url, self.clients, self._rng.randrange(2**32)) as clients:
            yield
        self.failed += [fault for fault in clients.failed if not is_killed or fault[:1].isdigit()]
        self.requests += clients.requests

    def _change(self) -> None:
        """A new canary or its next step, an A/B, a shadow, the end of what runs or a way back, a promotion. Of so many
        in a row each is one."""
        if not self._changes:
            self._changes = [self._canary, self._step, self._step, self._ab, self._shadow, self._end, self._promote]
            self._rng.shuffle(self._changes)
        self._changes.pop()()

    @property
    def _now(self) -> Policy:
        return next(reversed(self.policies.values()))

    def _move(self, make: Callable[[], PolicyMove]) -> None:
        """Make a move, and note what is in force since."""
        before, began = self._now, time.time()
        move = make()
        self.moves[move.kind] += 1
        self.replaced_at[before.id] = (self.home / POLICY).stat().st_mtime
        self.policies[move.after.id] = move.after
        if move.after.champion.version != before.champion.version:
            self.champions.append((began, move.after.champion.version))

    def _others(self, count: int) -> list[str]:
        """Versions that have passed the gate against this champion."""
        others = [version for version in self.versions if version != self._now.champion.version]
        chosen = self._rng.sample(others, count)
        for version in chosen:
            challenge(self.settings, version, self._now.champion.version)
        return chosen

    def _make_room(self) -> None:
        """End what runs: only then may something else begin."""
        if self._now.kind != "champion":
            self._move(lambda: self.releases.rollback(BY, "enough"))

    def _canary(self, weight: float | None = None) -> None:
        self._make_room()
        (version,) = self._others(1)
        self._move(lambda: self.releases.canary(version, BY, "it passed", weight=weight))

    def _step(self) -> None:
        """The next weight of the canary in force, after the last one its promotion; else a new canary."""
        if self._now.kind == "canary":
            self._move(lambda: self.releases.advance(self._now.id, BY))
        else:
            self._canary()

    def _ab(self) -> None:
        self._make_room()
        arms = {name: AbArm(version, 0.3) for name, version in zip(("left", "right"), self._others(2), strict=True)}
        self._move(lambda: self.releases.ab(arms, BY, "which is better?"))

    def _shadow(self) -> None:
        self._make_room()
        (version,) = self._others(1)
        self._move(lambda: self.releases.shadow(version, BY, "to look"))

    def _end(self) -> None:
        """The end of what runs, or the way back to the champion before."""
        if self._now.kind == "champion" and len(self.champions) < 2:
            self._canary()
        self._move(lambda: self.releases.rollback(BY, "back", self._now.id))

    def _promote(self) -> None:
        """A model that answers, or one that has passed the gate."""
        if self._now.kind in ANSWERING:
            version = next(arm.version for arm in self._now.arms if arm.name != CHAMPION)
        else:
            (version,) = self._others(1)
        self._move(lambda: self.releases.promote(version, BY, "it is better"))

    def check(self) -> list[str]:
        """What is wrong by the log; `checked` says what was seen."""
        logged = rows_of(self.home / "predlog")
        rows = [row for row in logged if row["kind"] == "prediction" and not row.get("shadow")]
        problems = [f"{len(self.failed)} of {self.requests} requests failed: {self.failed[:3]}"] if self.failed else []
        late: dict[str, float] = {}
        for row in rows:
            at = dt.datetime.fromisoformat(row["scored_at"]).timestamp()
            problems += self._check_row(row, at)
            if (replaced := self.replaced_at.get(row["policy"])) is not None:
                late[row["policy"]] = max(late.get(row["policy"], 0.0), at - replaced)
        problems += [
            f"rows of {policy} {s:.1f} s after it was replaced" for policy, s in late.items() if s > PICKED_UP_S
        ]
        if not any(row["policy"] in self.policies for row in rows):
            problems.append("no row has a policy")
        statuses = Counter(row["status"] for row in rows)
        problems += [f"{count} rows are {status}" for status, count in statuses.items() if status != "ok"]
        self.checked.append(
            f"{sum(self.moves.values())} moves ({', '.join(f'{n} {kind}' for kind, n in self.moves.most_common())}), "
            f"{len(self.champions)} champions; {self.requests:,} answers, {len(self.failed)} failed; "
            f"{len(rows):,} rows, {sum(row['policy'] == CHAMPION for row in rows):,} of them while models loaded; "
            f"a replaced policy went on for {statistics.median(late.values()):.2f} s (median), "
            f"at most {max(late.values()):.2f} s"
        )
        return problems + self._check_sticky(rows) + self._check_share(rows)

    def _check_row(self, row: dict[str, Any], at: float) -> list[str]:
        policy, version = self.policies.get(row["policy"]), row["model_version"]
        if policy is None:
            ends = [since for since, _ in self.champions[1:]] + [float("inf")]
            now = [v for (since, v), end in zip(self.champions, ends, strict=True) if since <= at < end + PICKED_UP_S]
            allowed = {(CHAMPION, each) for each in now} if row["policy"] == CHAMPION else set()
        elif policy.kind in ANSWERING:
            arm = policy.choose(share_of(policy.salt, row["customer_id"] or row["prediction_id"]))
            allowed = {(arm.name, arm.version)}
        else:
            allowed = {(CHAMPION, policy.champion.version)}
        if (row["arm"], version) in allowed:
            return []
        return [f"{row['policy']}: {row['customer_id']} has {row['arm']} {version}, expected {allowed}"]

    def _check_sticky(self, rows: list[dict[str, Any]]) -> list[str]:
        """A customer has one arm under a policy, and is never taken back from a challenger whose weight grows."""
        arms: dict[tuple[str, str], set[str]] = defaultdict(set)
        rollouts: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for row in rows:
            policy = self.policies.get(row["policy"])
            if policy is not None and policy.kind in ANSWERING:
                arms[policy.id, row["customer_id"]].add(row["arm"])
                if policy.kind == "canary":
                    rollouts[policy.salt, row["customer_id"]].append((policy.id, row["arm"]))
        problems = [
            f"{name} had {len(own)} arms under {policy}" for (policy, name), own in arms.items() if len(own) > 1
        ]
        for (_, name), seen in rollouts.items():
            order = [arm for _, arm in sorted(set(seen))]
            if order != sorted(order, reverse=True):  # champion, ..., challenger, ...
                problems.append(f"{name} was taken back: {order}")
        asked = Counter(key for key, own in arms.items() for _ in own)
        self.checked.append(
            f"{len(arms):,} customers of a canary or A/B, {sum(asked.values()) - len(arms)} with two arms"
        )
        return problems

    def _check_share(self, rows: list[dict[str, Any]]) -> list[str]:
        """Of the customers of all canaries, how many the challenger had, against the weights."""
        seen = {(row["policy"], row["customer_id"]): row["arm"] for row in rows}
        count, mean, variance, total = 0, 0.0, 0.0, 0
        for (policy_id, _), arm in seen.items():
            policy = self.policies.get(policy_id)
            if policy is not None and policy.kind == "canary" and policy.challenger is not None:
                weight = policy.challenger.weight
                count, total = count + (arm == CHALLENGER), total + 1
                mean, variance = mean + weight, variance + weight * (1.0 - weight)
        z = (count - mean) / max(variance, 1e-9) ** 0.5
        self.checked.append(
            f"the challengers of canaries had {count:,} of {total:,} customers, {mean:,.0f} by their weights: {z:+.2f} "
            f"standard errors, {'inside' if abs(z) < 2.576 else 'OUTSIDE'} the 99 % band"
        )
        return [] if abs(z) < 4.5 else [f"{count} of {total} customers have a challenger, expected {mean:.0f}"]
