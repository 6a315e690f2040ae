"""The three scenes: customers drift, a pipeline breaks, a challenger is no better than the champion.

The demo does what a user can do: HTTP requests to the service, the `churn` command, and the sensors of a
running Dagster daemon. What happens is read from the home's files and its ledger.
"""

from __future__ import annotations

from collections.abc import Iterable

from churn_assets.alerting.alerts import Entry, open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import DATA
from churn_assets.contract.load import load_contract
from churn_assets.monitoring.windows import DRIFT_JSON, QUALITY_JSON, Report, read_window_report, read_windows
from churn_assets.prediction_log.warehouse.read import count_all
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, read_champion, require_champion
from churn_assets.promotion.records import Challenger, DecisionRecord
from examples.demo.progress import Progress
from examples.demo.stage import DemoFailed, Stage
from examples.demo.traffic import Client, Customers, SteadyClient, draw

TABLE = "generated://store?rows=3000&seed=7"
CAMPAIGN = ("esent*1.6",)
BROKEN = ("zero:esent",)


class Demo:
    """One demo on a stage. Raises DemoFailed at the first thing that is not as it should be.

    Windows hold 2,500 distinct customers. The last customers of a window are sent only after the outcomes of
    the earlier ones are ingested, so that the training that the window leads to has them on a machine of any speed.
    """

    def __init__(self, stage: Stage, progress: Progress) -> None:
        self.stage, self.progress = stage, progress
        self.settings = stage.settings
        self.contract = load_contract(self.settings.contract_path)
        self.ledger = Ledger.of(self.settings)
        self.client = Client(stage.port)
        self.probes = draw(self.contract, 20, seed=100)
        self._outcomes = 0

    def play(self) -> None:
        """All three scenes, with one client asking throughout; none of its requests may fail."""
        champion = self.set_up()
        steady = SteadyClient(self.stage.port, self.probes)
        with steady:
            self.progress.line("scene 1: customers change")
            champion = self.scene_drift(champion)
            self.progress.line("scene 2: a pipeline breaks")
            self.scene_broken_pipeline()
            self.progress.line("scene 3: a challenger that is no better")
            self.scene_equal_challenger(champion)
        if steady.client.failed:
            raise DemoFailed(
                f"{steady.client.failed} of {steady.client.requests} steady requests failed, expected none: "
                f"{steady.client.failure}; read the service's log in {self.stage.logs}"
            )
        self.client.close()
        self.stage.stop("service")
        # Nothing is left half done in the home that the user looks at.
        self.stage.wait_for("the last runs to end", lambda: self.stage.idle() or None)
        by_version = ", ".join(f"{count:,} by {version}" for version, count in steady.client.versions.items())
        self.progress.line(f"a steady client asked {steady.client.requests:,} times without a failure: {by_version}")

    def set_up(self) -> Champion:
        """A first champion on generated customers, the service with it, and Dagster's daemon."""
        self.progress.line("training a first model on 3,000 generated customers")
        self.stage.run("training", "run", environ={"CHURN_SOURCE": TABLE})
        champion = require_champion(self.settings.home)
        self.stage.watch_runs()
        self.stage.start("service", "bentoml", "serve", "churn_assets.serving.service:ChurnService")
        self.stage.start("daemon", "dagster._daemon", "run", "-w", str(self.stage.root / "workspace.yaml"))
        self.stage.wait_for("the service", lambda: self.stage.ready() or None)
        self.progress.line(f"champion {champion.version} answers on port {self.stage.port}; the daemon's sensors run")
        return champion

    def scene_drift(self, before: Champion) -> Champion:
        """Customers change and their outcomes become known: drift, retraining, gate, promotion, hot swap."""
        self.send("usual customers", draw(self.contract, 2750, seed=101))
        window = self.reported_window(1)
        self.expect(window, QUALITY_JSON, "ok")
        self.expect(window, DRIFT_JSON, "stable")
        self.progress.line("a window of usual customers: the data is complete, nothing drifts")
        changed = draw(self.contract, 5500, seed=102, drifts=CAMPAIGN)
        first, last = changed.split(4250)
        self.send("customers after a mail campaign", first)
        self.report(first)
        self.send("customers after a mail campaign", last)
        decided = self.decision(window + 2, "the decision to retrain for drift", "retrain")
        self.progress.line(f"decision: retrain; {decided.decision.message}")
        after = self.stage.wait_for("a new champion", lambda: self._new_champion(before))
        self.progress.line(f"challenger {after.version} passed the gate and is champion: {after.reason}")
        self.stage.wait_for("the service to load it", lambda: self._serves(after) or None)
        self.progress.line("the service answers with it, without a restart")
        return after

    def scene_broken_pipeline(self) -> None:
        """A pipeline zeroes a column: the decision is to investigate the data, not to retrain."""
        requests = len(self.ledger.requests())
        windows = self._windows()
        broken = draw(self.contract, 2750, seed=103, faults=BROKEN)
        self.send("customers whose esent was zeroed by a broken pipeline", broken)
        window = self.reported_window(windows + 1)
        self.expect(window, QUALITY_JSON, "broken")
        decided = self.decision(window, "the decision to investigate the data", "investigate_data")
        if len(self.ledger.requests()) != requests:
            raise DemoFailed("a retraining was requested on broken data, expected none; read churn history")
        self.progress.line(f"no retraining: {decided.decision.message}")
        alert = self.stage.wait_for("the alert", self._data_alert)
        self.progress.line(f"alert: {alert.title}")

    def scene_equal_challenger(self, champion: Champion) -> Challenger:
        """The pipeline is mended and a person asks for a model: it is no better and does not become champion."""
        windows = self._windows()
        first, last = draw(self.contract, 5250, seed=104, drifts=CAMPAIGN).split(3000)
        self.send("customers after the pipeline was mended", first)
        # A few more outcomes: the next model differs from the champion, and has hardly any reason to be better. Of the
        # window with the last broken customers nothing is learned, so they are of the window after it.
        self.report(first.split(2250)[1])
        self.send("customers after the pipeline was mended", last)
        # The next window holds the last of the broken customers, the one after it none.
        window = self.reported_window(windows + 2)
        self.expect(window, QUALITY_JSON, "ok")
        self.decision(window, "the decision on the mended window")
        self.progress.line("the data is complete again")
        challengers = len(self.ledger.challengers())
        self.stage.run("by-hand", "retrain", "--by", "demo", "--why", "to see whether another model is any better")
        challenger = self.stage.wait_for("the gate's verdict", lambda: self._verdict(challengers))
        if challenger.status != "refused" or read_champion(self.settings.home) != champion:
            raise DemoFailed(
                f"challenger {challenger.version} is {challenger.status}, expected refused: {challenger.message}"
            )
        self.progress.line(f"challenger {challenger.version} does not become champion: {challenger.message}")
        return challenger

    def send(self, description: str, customers: Customers) -> None:
        """Ask for all predictions. Raises DemoFailed if one request was not answered."""
        with self.progress.waiting(f"predictions for {description}"):
            self._count(len(customers.rows), self.client.predict(customers))
        if self.client.failed:
            raise DemoFailed(
                f"{self.client.failed} requests were not answered, expected all: {self.client.failure}; "
                f"read the service's log in {self.stage.logs}"
            )
        self.progress.line(f"sent {len(customers.rows):,} {description}")

    def report(self, customers: Customers) -> None:
        """Report what the customers did, and wait until the warehouse has it."""
        with self.progress.waiting("the service to take the outcomes"):
            self._count(len(customers.rows), self.client.report(self.contract, customers))
        self._outcomes += len(customers.rows)
        self.stage.wait_for(f"{self._outcomes:,} outcomes to be ingested", self._outcomes_ingested)
        self.progress.line(f"reported {len(customers.rows):,} outcomes; they are ingested")

    def reported_window(self, number: int) -> int:
        """Wait until window `number` has its reports; the number of the newest that has."""

        def newest_reported() -> int | None:
            windows = read_windows(self.settings, self.contract.fingerprint)
            done = [w.window for w in windows if read_window_report(self.settings, w, DRIFT_JSON, Report)]
            return max(done) if done and max(done) >= number else None

        return self.stage.wait_for(f"the reports on window {number}", newest_reported)

    def expect(self, window: int, report: str, status: str) -> None:
        """Raise DemoFailed unless the window's report has this status."""
        reported = self._report(window, report)
        actual = reported.status if reported else None
        if actual != status:
            raise DemoFailed(f"window {window}: the status in {report} is {actual}, expected {status}")

    def decision(self, window: int, description: str, kind: str | None = None) -> DecisionRecord:
        """Wait for a decision (of this kind) that knows the reports on `window`."""

        def decided() -> DecisionRecord | None:
            decisions = [k for k in self.ledger.decisions() if _newest_window(k) >= window]
            return next((k for k in decisions if kind in (None, k.decision.kind)), None)

        return self.stage.wait_for(description, decided)

    def _count(self, total: int, sent: Iterable[int]) -> None:
        for number in sent:
            self.progress.detail(f"{number:,} of {total:,}")

    def _outcomes_ingested(self) -> bool:
        totals = count_all(self.settings)
        return totals is not None and totals.feedback >= self._outcomes

    def _windows(self) -> int:
        return len(read_windows(self.settings, self.contract.fingerprint))

    def _report(self, number: int, name: str) -> Report | None:
        for window in read_windows(self.settings, self.contract.fingerprint):
            if window.window == number:
                return read_window_report(self.settings, window, name, Report)
        return None

    def _data_alert(self) -> Entry | None:
        alerts = open_alerts(AlertSettings.from_environ(self.stage.environ, self.settings.home))
        return next((alert for alert in alerts if alert.key == DATA), None)

    def _new_champion(self, before: Champion) -> Champion | None:
        self._check_request(0)
        champion = read_champion(self.settings.home)
        refused = self.ledger.challengers("refused")
        if refused:
            raise DemoFailed(f"challenger {refused[0].version} was refused, expected promotion: {refused[0].message}")
        return champion if champion is not None and champion.version != before.version else None

    def _serves(self, champion: Champion) -> bool:
        answer = self.client.post("/predict", {**self.probes.rows[0], "as_of": self.probes.as_of.isoformat()})
        return answer is not None and answer["model_version"] == champion.version

    def _check_request(self, challengers: int) -> None:
        """Raise DemoFailed if the newest retraining has ended and there are still only so many challengers."""
        request = self.ledger.requests()[-1]
        if request.status in ("finished", "abandoned") and len(self.ledger.challengers()) == challengers:
            raise DemoFailed(f"retraining {request.key} ended without a challenger, expected one: {request.outcome}")

    def _verdict(self, before: int) -> Challenger | None:
        self._check_request(before)
        return next((c for c in self.ledger.challengers()[before:] if c.verdict is not None), None)


def _newest_window(record: DecisionRecord) -> int:
    windows = record.decision.inputs.windows
    return windows[-1].window if windows else 0
