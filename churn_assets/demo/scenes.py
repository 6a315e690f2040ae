"""The three scenes: customers drift, a pipeline breaks, a challenger that is no better.

Nothing is called but what a user has: HTTP requests to the service, the `churn` command, and the sensors
of a running Dagster daemon. What happens is read from the home and told as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from churn_assets.alerting.alerts import open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import DATA
from churn_assets.alerting.store import Entry
from churn_assets.contract.load import load_contract
from churn_assets.defs.run import runs_under_way
from churn_assets.demo.stage import Stage
from churn_assets.demo.traffic import Client, Customers, Steady, draw
from churn_assets.errors import DemoFailed
from churn_assets.monitoring.report_files import Report
from churn_assets.monitoring.windows.windows import DRIFT_JSON, QUALITY_JSON, read_window_report, read_windows
from churn_assets.prediction_log.warehouse.ingest import pending
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.pointer import Champion, read_champion, require_champion
from churn_assets.promotion.records import Challenger, Kept

TABLE = "generated://store?rows=3000&seed=7"
CAMPAIGN = ("esent*1.6",)
BROKEN = ("zero:esent",)
_MINUTE = 60.0

Tell = Callable[[str], None]


@dataclass
class Play:
    """A demo under way. `tell` takes one line a step, `count` what is being sent."""

    stage: Stage
    tell: Tell
    count: Callable[[str, Iterable[int]], None]
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = self.stage.settings
        self.contract = load_contract(self.settings.contract_path)
        self.ledger = Ledger(self.settings.ledger_path)
        self.client = Client(self.stage.port)
        self.probe = draw(self.contract, 20, seed=100)

    def set_up(self) -> Champion:
        """A first champion on made-up customers, the service on it, and Dagster's daemon."""
        self.tell("training a first model on 3,000 made-up customers")
        self.stage.run("training", "run", environ={"CHURN_SOURCE": TABLE})
        champion = require_champion(self.settings.home)
        self.stage.start("service", "bentoml", "serve", "churn_assets.serving.service:ChurnService")
        self.stage.start("daemon", "dagster._daemon", "run", "-w", str(self.stage.root / "workspace.yaml"))
        self.stage.wait_for("the service", lambda: self.stage.ready() or None, _MINUTE)
        self.tell(f"champion {champion.version} answers on port {self.stage.port}; the daemon's sensors watch the log")
        return champion

    def scene_drift(self, before: Champion) -> Champion:
        """Customers change, their outcomes become known: drift, retraining, gate, promotion, hot swap."""
        usual = draw(self.contract, 1100, seed=101)
        self.send("usual customers", usual)
        window = self.judged(1)
        self.expect(window, QUALITY_JSON, "ok")
        self.expect(window, DRIFT_JSON, "stable")
        self.tell("a window of usual customers: the data is whole, nothing drifts")
        changed = draw(self.contract, 2200, seed=102, drifts=CAMPAIGN)
        self.send("customers after a mail campaign", changed)
        self.count("outcomes", self.client.report(self.contract, changed))
        decided = self.decision("retrain", "retraining for drift")
        self.tell(f"decided to retrain: {decided.decision.words}")
        after = self.stage.wait_for("a new champion", lambda: self._another(before), 3 * _MINUTE)
        self.tell(f"challenger {after.version} held the gate and is champion: {after.reason}")
        self.stage.wait_for("the service to take it up", lambda: self._serves(after), _MINUTE)
        self.tell("the service answers with it, without a restart")
        return after

    def scene_broken(self) -> None:
        """A pipeline zeroes a column: the platform says data, and does not retrain."""
        asked = len(self.ledger.requests())
        windows = len(read_windows(self.settings, self.contract.fingerprint))
        self.send("customers whose esent a broken pipeline has zeroed", draw(self.contract, 1100, 103, faults=BROKEN))
        window = self.judged(windows + 1)
        self.expect(window, QUALITY_JSON, "broken")
        decided = self.decision("investigate_data", "the data to be looked at")
        if len(self.ledger.requests()) != asked:
            raise DemoFailed("a retraining was asked for on broken data, expected none; read churn history")
        self.tell(f"no retraining: {decided.decision.words}")
        told = self.stage.wait_for("the alert", self._data_alert, _MINUTE)
        self.tell(f"alert: {told.title}")

    def scene_equal(self, champion: Champion) -> Challenger:
        """The pipeline is mended, somebody asks for a model all the same: it is no better, and stays out."""
        windows = len(read_windows(self.settings, self.contract.fingerprint))
        mended = draw(self.contract, 2100, seed=104, drifts=CAMPAIGN)
        self.send("customers after the pipeline was mended", mended)
        # A few outcomes more: another model, which has hardly anything to be better by.
        self.count("outcomes", self.client.report(self.contract, mended.first(200)))
        self.expect(self.judged(windows + 2), QUALITY_JSON, "ok")  # the one before holds the last of the broken
        self.tell("the data is whole again")
        before = len(self.ledger.challengers())
        self.stage.run("by-hand", "retrain", "--by", "demo", "--why", "to see whether another model is any better")
        judged = self.stage.wait_for("the gate's verdict", lambda: self._verdict(before), 3 * _MINUTE)
        if judged.status != "refused" or read_champion(self.settings.home) != champion:
            raise DemoFailed(
                f"challenger {judged.version} is {judged.status}, expected it to be refused; {judged.words}"
            )
        self.tell(f"challenger {judged.version} stays out: {judged.words}")
        return judged

    def settle(self) -> None:
        """Let the last runs come to their end, so that nothing is left half done in the home that is looked at."""
        self.stage.stop("service")
        settings = self.settings
        self.stage.wait_for(
            "the last runs", lambda: not pending(settings.predlog_dir) and not runs_under_way(settings), _MINUTE
        )

    def send(self, words: str, customers: Customers) -> None:
        """Ask about all of them. Raises DemoFailed if one request was not answered."""
        self.count(words, self.client.predict(customers))
        if self.client.failed:
            raise DemoFailed(f"{self.client.failed} requests were not answered, expected all; read the service's log")

    def judged(self, number: int) -> int:
        """Wait until window `number` has its reports; the number of the newest that has."""

        def look() -> int | None:
            done = [
                w.window
                for w in read_windows(self.settings, self.contract.fingerprint)
                if self._report(w.window, DRIFT_JSON)
            ]
            return max(done) if done and max(done) >= number else None

        return self.stage.wait_for(f"the report on window {number}", look, 2 * _MINUTE)

    def expect(self, window: int, report: str, status: str) -> None:
        """Raise DemoFailed unless the window's report has this status."""
        found = self._report(window, report)
        if found is None or found.status != status:
            raise DemoFailed(f"window {window}: {report} says {found and found.status}, expected {status}")

    def decision(self, kind: str, words: str) -> Kept:
        """Wait for a decision of this kind that is newer than those seen so far."""
        seen = self.found.get("decision", 0)

        def look() -> Kept | None:
            fresh = [k for k in self.ledger.decisions() if k.number > seen and k.decision.kind == kind]
            return fresh[0] if fresh else None

        found = self.stage.wait_for(words, look, 2 * _MINUTE)
        self.found["decision"] = found.number
        return found

    def _report(self, number: int, name: str) -> Report | None:
        for window in read_windows(self.settings, self.contract.fingerprint):
            if window.window == number:
                return read_window_report(self.settings, window, name, Report)
        return None

    def _data_alert(self) -> Entry | None:
        found = open_alerts(AlertSettings.from_environ(self.stage.environ, self.settings.home))
        return next((entry for entry in found if entry.key == DATA), None)

    def _another(self, before: Champion) -> Champion | None:
        now = read_champion(self.settings.home)
        refused = self.ledger.challengers("refused")
        if refused:
            raise DemoFailed(f"challenger {refused[0].version} was refused, expected it to win: {refused[0].words}")
        return now if now is not None and now.version != before.version else None

    def _serves(self, champion: Champion) -> bool:
        said = self.client.post("/predict", {**self.probe.rows[0], "as_of": self.probe.as_of.isoformat()})
        return said is not None and said["model_version"] == champion.version

    def _verdict(self, before: int) -> Challenger | None:
        return next((c for c in self.ledger.challengers()[before:] if c.verdict is not None), None)


def perform(play: Play) -> Steady:
    """All three scenes, with one client asking throughout. Raises DemoFailed at the first thing that is not as
    it should be; returns the client, none of whose requests has failed."""
    champion = play.set_up()
    steady = Steady(play.stage.port, play.probe)
    with steady:
        play.tell("scene 1: customers change")
        champion = play.scene_drift(champion)
        play.tell("scene 2: a pipeline breaks")
        play.scene_broken()
        play.tell("scene 3: a challenger that is no better")
        play.scene_equal(champion)
    if steady.client.failed:
        raise DemoFailed(f"{steady.client.failed} of {steady.client.asked} steady requests failed, expected none")
    play.settle()
    return steady
