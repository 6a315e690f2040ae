"""A whole release without a hand: the real service, a real Dagster daemon, real requests.

    python -m benchmarks.release_story [folder]

Customers change, and what became of them is reported. The daemon trains a model, the gate passes it, and the contract
(`rollout = "canary"`) lets it in by steps; clients ask meanwhile, one customer a request, and the service goes on from
step to step by its guardrails until the model is champion. Then a bad challenger is planted: the champion itself with a
threshold at which it calls nearly everybody. No metric of the gate depends on that, so that it passes; the canary shows
it, the guardrails throw it out, and the daemon raises the alert. Exits with 1 if anything ends otherwise, or a request
fails.

The contract is the store's with short windows, short steps and wider limits: a model that has learned from changed
customers scores otherwise, and times on a busy machine vary.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from benchmarks.customers import AS_OF, typed
from churn_assets.alerting.alerts import Entry, open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.errors import ChurnError
from churn_assets.promotion.pointer import Champion, require_champion
from churn_assets.promotion.records import PolicyMove
from churn_assets.promotion.registration import TrainedModel
from churn_assets.promotion.service import PromotionService
from churn_assets.release.policy import Policy, read_policy
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.scorer import Thresholds
from churn_assets.settings import Settings
from examples.demo.progress import Progress
from examples.demo.scenes import CAMPAIGN, Demo
from examples.demo.stage import DemoFailed, Stage
from examples.demo.traffic import Client, draw

CHANGES = {
    "monitoring": {"window": 2500, "cooldown_days": 30},
    "release": {
        "rollout": '"canary"',
        "canary_weights": [0.25, 0.5, 1.0],
        "canary_hold_minutes": 0.2,
        "canary_rows": 300,
        "recent_margin": -0.01,
        "max_p99_ratio": 4.0,
        "max_score_shift": 0.2,
        "max_distribution_shift": 0.5,
        "max_decision_shift": 0.3,
    },
}
CLIENTS, FRESH = 4, 6_000  # customers that each client draws at a time; nobody asks twice
PLANTED = 0.001  # a threshold
LIMIT_S = 3600.0


class Traffic:
    """Clients that ask without pause, each for new customers, one a request, for as long as the block runs."""

    def __init__(self, story: Story, seed: int) -> None:
        self._stop = threading.Event()
        self.clients = [Client(story.stage.port) for _ in range(CLIENTS)]
        self._threads = [
            threading.Thread(target=self._ask, args=(client, story, seed + number), daemon=True)
            for number, client in enumerate(self.clients)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        failed = [client.failure for client in self.clients if client.failed]
        if failed and error is None:
            raise DemoFailed(f"requests failed, expected none: {failed[0]}")

    @property
    def requests(self) -> int:
        return sum(client.requests for client in self.clients)

    def _ask(self, client: Client, story: Story, seed: int) -> None:
        while not self._stop.is_set():
            customers = draw(story.contract, FRESH, seed=seed, drifts=CAMPAIGN)
            seed += CLIENTS
            for row in customers.rows:
                client.post("/predict", {**row, "as_of": customers.as_of.isoformat()})
                if self._stop.is_set():
                    return


class Story(Demo):
    """The two releases on a stage."""

    def play(self) -> None:
        """Both of them. Raises DemoFailed at the first thing that is not as it should be."""
        champion = self.set_up()
        after = self.good_release(champion)
        self.bad_release(after)
        self.client.close()

    def good_release(self, before: Champion) -> Champion:
        """From changed customers to another champion."""
        self.send("usual customers", draw(self.contract, 2750, seed=101))
        self.reported_window(1)
        first, last = draw(self.contract, 5500, seed=102, drifts=CAMPAIGN).split(4250)
        self.send("customers after a mail campaign", first)
        self.report(first)
        self.send("customers after a mail campaign", last)
        policy = self.stage.wait_for("the gate, and the canary that follows", self._canary)
        assert policy.challenger is not None
        self.progress.line(f"challenger {policy.challenger.version} passed the gate; by {policy.by}: {policy.why}")
        begun = time.monotonic()
        with Traffic(self, 10_000) as traffic:
            after = self.stage.wait_for("its promotion", lambda: self._promoted(policy))
            self.stage.wait_for("the service to answer with it", lambda: self._serves(after) or None)
        moves = self._moves_since(policy)
        self.progress.line(
            f"{traffic.requests:,} requests in {time.monotonic() - begun:.0f} s, 0 failed: {_kinds(moves)}"
        )
        if [move.kind for move in moves] != ["canary", "advance", "advance", "promote"]:
            raise DemoFailed(f"the moves are {_kinds(moves)}, expected canary, advance, advance, promote")
        if after.version == before.version or self.ledger.challenger(after.version).status != "promoted":
            raise DemoFailed(f"challenger {after.version} is not promoted, expected that it is")
        return after

    def bad_release(self, champion: Champion) -> None:
        """A challenger that calls nearly everybody is let in and thrown out."""
        version = self._plant(champion)
        self.progress.line(f"planted challenger {version}: champion {champion.version} with a threshold of {PLANTED}")
        policy = self.stage.wait_for("the gate, and the canary that follows", self._canary)
        begun = time.monotonic()
        with Traffic(self, 20_000) as traffic:
            self.stage.wait_for("its rollback", lambda: self._ended(policy) or None)
        end = self._moves_since(policy)[-1]
        rows = sum(check["rows"] for check in (end.numbers or {})["checks"] if check["check"] == "decisions")
        self.progress.line(
            f"rolled back by {end.by} after {time.monotonic() - begun:.0f} s, {traffic.requests:,} requests "
            f"(0 failed), {rows:,} rows of the challenger: {end.why}"
        )
        if (end.kind, end.outcome) != ("end", "rolled_back") or "share of calls" not in end.why:
            raise DemoFailed(
                f"the release ended with {end.kind} {end.outcome}, {end.why}; expected a rollback by calls"
            )
        if self.ledger.challenger(version).status != "rejected" or require_champion(self.settings.home) != champion:
            raise DemoFailed(f"challenger {version} or champion {champion.version} is not what it was, expected that")
        self.stage.wait_for("the service to answer with the champion alone", lambda: self._serves(champion) or None)
        alert = self.stage.wait_for("the alert", self._alert)
        self.progress.line(f"alert: {alert.title}")

    def _plant(self, champion: Champion) -> str:
        """Register a challenger, as a training does: its version."""
        path = champion.path(self.settings.home)
        scorer = load_bundle(path)
        chosen = scorer.thresholds.chosen
        thresholds = Thresholds({**scorer.thresholds.values, chosen: PLANTED}, chosen)
        bundle = write_bundle(
            self.settings.bundles_dir,
            dataclasses.replace(scorer, thresholds=thresholds),
            card=json.loads((path / "card.json").read_text(encoding="utf-8")),
            golden=typed(40, 8, self.contract),
            as_of=str(AS_OF),
            reference=typed(50, 9, self.contract),
            provenance={"made_at": datetime.now(UTC).isoformat()},
        )
        model = TrainedModel(bundle.name, 0.9, generated=True)
        PromotionService.of(self.settings).register(self.contract, model, bundle, missing="it was planted")
        return bundle.name

    def _canary(self) -> Policy | None:
        for challenger in self.ledger.challengers("refused"):
            raise DemoFailed(f"challenger {challenger.version} was refused, expected to pass: {challenger.message}")
        policy = read_policy(self.settings.home)
        return policy if policy is not None and policy.kind == "canary" else None

    def _promoted(self, policy: Policy) -> Champion | None:
        if self._ended(policy):
            end = self._moves_since(policy)[-1]
            raise DemoFailed(f"the release ended with {end.kind} {end.outcome}, {end.why}; expected a promotion")
        champion = require_champion(self.settings.home)
        return None if policy.challenger is None or champion.version != policy.challenger.version else champion

    def _ended(self, policy: Policy) -> bool:
        moves = self._moves_since(policy)
        return bool(moves) and moves[-1].kind == "end"

    def _moves_since(self, policy: Policy) -> list[PolicyMove]:
        return [move for move in self.ledger.policy_moves("done") if move.after.id >= policy.id]

    def _alert(self) -> Entry | None:
        alerts = open_alerts(AlertSettings.from_environ(self.stage.environ, self.settings.home))
        return next((alert for alert in alerts if alert.kind == "release_rolled_back"), None)


def _kinds(moves: list[PolicyMove]) -> str:
    return ", ".join(f"{move.kind} by {move.by}" for move in moves)


def main() -> int:
    """Play it; 0 if it ended as it should."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path(scratch) / "story"
        settings = Settings.from_environ(os.environ)
        try:
            with Progress(sys.stdout) as progress, Stage(settings, folder, progress, LIMIT_S, changes=CHANGES) as stage:
                Story(stage, progress).play()
        except (DemoFailed, ChurnError) as error:
            print(f"the story failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
