"""The loop's sensors, tick by tick: each request gets its run once, and no dead run keeps it."""

import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.events import JobCanceledData

from churn_assets.alerting.alerts import all_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.defs.policy import STATUS_TICKS
from churn_assets.defs.promotion.sensors import CHALLENGER, REQUEST, RUN_KEY, record_failure, release_sensors
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import ChampionPointer
from churn_assets.promotion.records import Decision, DecisionInputs, Person
from churn_assets.promotion.releases import Releases
from churn_assets.promotion.service import PromotionService
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, champion, history, home_with, moves, record_decision, verdict
from churn_assets_tests.scoring.tiny import CONTRACT

KEY = "retrain-drift-7-v1-1"
JOBS = {"retrain", "promote"}
LABELS = 30  # final ones at the decision


@dg.op(config_schema={"breaks": dg.Field(bool, default_value=False)})
def work(context: dg.OpExecutionContext) -> None:
    if context.op_config["breaks"]:
        raise ValueError("on purpose")


@dg.job
def retrain() -> None:
    work()


@dg.job
def promote() -> None:
    work()


class Home:
    """A home, Dagster's instance of it, and its sensors by name."""

    def __init__(self, settings, versions, instance):
        self.settings, self.versions, self.instance = settings, versions, instance
        self.ledger = Ledger(settings.ledger_path)
        self.sensors = {sensor.name: sensor for sensor in release_sensors(settings, JOBS)}

    def tick(self, name):
        """(run keys asked for, or the reason for none)."""
        with dg.build_sensor_context(instance=self.instance) as context:
            found = self.sensors[name](context)
        if isinstance(found, dg.SkipReason):
            return found.skip_message
        return [request.run_key for request in found.run_requests]

    def run(self, job, tags, breaks=False):
        config = {"ops": {"work": {"config": {"breaks": breaks}}}}
        done = job.execute_in_process(instance=self.instance, tags=tags, run_config=config, raise_on_error=False)
        return done.dagster_run

    def ask(self):
        inputs = DecisionInputs(labels=LABELS)
        record_decision(self.ledger, Decision("retrain", "drifted", "drift", "7", "v1", inputs=inputs), AT)

    def challenge(self):
        version = self.versions[1]
        path = self.settings.bundles_dir / version
        return self.ledger.add_challenger(version, f"bundles/{version}", bundle_hash(path), None, None, AT)


@pytest.fixture
def home(tmp_path):
    settings, versions = home_with(tmp_path, 2)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Home(settings, versions, instance)


def test_a_fresh_home_is_skipped_with_the_reason_and_left_as_it_is(home):
    assert home.tick("retrain_on_decision") == "no request is open"
    assert home.tick("promote_on_approval") == "no challenger waits for the gate"
    assert not home.settings.ledger_path.exists()


def test_an_open_request_waits_while_the_data_is_broken_and_is_run_once_it_is_complete(home):
    home.ask()
    record_decision(
        home.ledger, Decision("investigate_data", "mend it", inputs=DecisionInputs(broken="window 8: all zero")), AT
    )
    assert home.tick("retrain_on_decision") == f"{KEY} waits until the data is complete: window 8: all zero"
    assert [request.status for request in home.ledger.requests()] == ["open"]
    record_decision(home.ledger, Decision("wait", "one at a time"), AT)
    assert home.tick("retrain_on_decision") == [KEY]


def test_an_open_request_is_asked_for_at_each_tick_with_one_key_until_a_run_takes_it(home):
    home.ask()
    assert home.tick("retrain_on_decision") == home.tick("retrain_on_decision") == [KEY]
    home.ledger.start_request(KEY, "run1")
    home.instance.add_run(dg.DagsterRun("retrain", "run1", tags={REQUEST: KEY}, status=dg.DagsterRunStatus.STARTED))
    assert home.tick("retrain_on_decision") == "no request is open"
    assert [r.status for r in home.ledger.requests()] == ["started"]


def test_a_run_that_does_not_say_so_is_found_at_work(home):
    home.ask()
    home.instance.add_run(dg.DagsterRun("retrain", "run1", tags={REQUEST: KEY}, status=dg.DagsterRunStatus.STARTED))
    assert home.tick("retrain_on_decision") == home.tick("retrain_on_decision") == "no request is open"
    assert [(r.status, r.run_id) for r in home.ledger.requests()] == [("started", "run1")]


def test_a_failed_run_is_told_once_whoever_sees_it_first(home):
    home.ask()
    run = home.run(retrain, {REQUEST: KEY}, breaks=True)
    (event,) = (e for e in home.instance.all_logs(run.run_id) if e.dagster_event and e.dagster_event.is_run_failure)
    context = dg.build_run_status_sensor_context(
        "requests_of_failed_runs", event.dagster_event, home.instance, run
    ).for_run_failure()
    home.sensors["requests_of_failed_runs"](context)
    assert home.tick("retrain_on_decision") == ["retrain-drift-7-v1-2"]
    assert home.tick("retrain_on_decision") == ["retrain-drift-7-v1-2"]
    assert [(r.status, r.run_id) for r in home.ledger.requests()] == [("failed", run.run_id), ("open", None)]


@pytest.mark.parametrize("taken", [True, False], ids=["while it worked", "before it took the request"])
def test_a_run_that_failed_and_told_nobody_is_found(home, taken):
    home.ask()
    run = home.run(retrain, {REQUEST: KEY}, breaks=True)
    if taken:
        home.ledger.start_request(KEY, run.run_id)
    assert home.tick("retrain_on_decision") == ["retrain-drift-7-v1-2"]


def test_a_run_that_dagster_does_not_know_any_more_is_found(home):
    home.ask()
    home.ledger.start_request(KEY, "gone")
    assert home.tick("retrain_on_decision") == ["retrain-drift-7-v1-2"]
    assert "does not know the run" in home.ledger.requests()[0].outcome


def test_a_run_that_ended_without_a_model_ends_its_request_and_uses_no_labels(home):
    home.ask()
    home.ledger.start_request(KEY, "run1")
    home.instance.add_run(dg.DagsterRun("retrain", "run1", tags={REQUEST: KEY}, status=dg.DagsterRunStatus.SUCCESS))
    assert home.tick("retrain_on_decision") == "no request is open"
    (request,) = home.ledger.requests()
    assert (request.status, request.outcome) == ("abandoned", "run run1 ended and left no challenger")


def canceled_by_the_run(home, run):
    """As a run does that gets the signal of an ordinary termination."""
    home.instance.report_run_canceling(run)
    data = JobCanceledData(error=None)
    event = dg.DagsterEvent("PIPELINE_CANCELED", "retrain", event_specific_data=data)
    home.instance.report_dagster_event(event, run.run_id)


def canceled_in_the_queue(home, run):
    home.instance.report_run_canceling(run, message="Canceling run from the queue.")
    home.instance.report_run_canceled(run)


def forced(home, run):
    """As Dagster's UI does for a termination by force, also of a run whose process is gone."""
    home.instance.report_run_canceled(run, message="forcibly marked as canceled")


def forced_after_a_termination_that_did_not_help(home, run):
    home.instance.report_run_canceling(run)
    forced(home, run)


@pytest.mark.parametrize(
    ("launched", "cancel", "opens"),
    [
        (True, canceled_by_the_run, False),
        (False, canceled_in_the_queue, False),
        (True, forced, True),
        (True, forced_after_a_termination_that_did_not_help, True),
    ],
)
def test_a_termination_by_force_is_a_failed_attempt_and_a_persons_ends_the_request(home, launched, cancel, opens):
    home.ask()
    run = dg.DagsterRun("retrain", tags={REQUEST: KEY})
    home.instance.add_run(run)
    for event in ("PIPELINE_STARTING", "PIPELINE_START") if launched else ():
        home.instance.report_dagster_event(dg.DagsterEvent(event, "retrain"), run.run_id)
    home.tick("retrain_on_decision")
    assert [request.status for request in home.ledger.requests()] == ["started"]
    cancel(home, home.instance.get_run_by_id(run.run_id))
    assert home.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    asked = home.tick("retrain_on_decision")
    if opens:
        assert asked == ["retrain-drift-7-v1-2"]
        assert [request.status for request in home.ledger.requests()] == ["failed", "open"]
    else:
        assert asked == "no request is open"
        assert [(r.status, "canceled by a person" in r.outcome) for r in home.ledger.requests()] == [
            ("abandoned", True)
        ]
    assert home.ledger.state().labels_used == (LABELS if opens else 0)


def test_a_challenger_is_asked_for_while_no_run_is_at_it(home):
    challenger = home.challenge()
    assert home.tick("promote_on_approval") == [challenger.run_key]
    tags = {CHALLENGER: challenger.version, RUN_KEY: challenger.run_key}
    home.instance.add_run(dg.DagsterRun("promote", "run1", tags=tags, status=dg.DagsterRunStatus.STARTED))
    # by that run, which is about to move the champion
    home.ledger.record_verdict(challenger.version, verdict(challenger.version), needs_person=False, at=AT)
    assert home.tick("promote_on_approval") == "no challenger waits for the gate"


def test_an_approval_is_asked_for_under_a_new_key_and_a_wait_for_one_is_not(home):
    challenger = home.challenge()
    home.ledger.record_verdict(challenger.version, verdict(challenger.version), needs_person=True, at=AT)
    assert home.tick("promote_on_approval") == "no challenger waits for the gate"
    approved = home.ledger.approve(challenger.version, Person("ana"), "read it", challenger.bundle_sha256, AT)
    assert home.tick("promote_on_approval") == [approved.run_key] != [challenger.run_key]


def test_a_gate_whose_run_fails_is_asked_for_three_times(home):
    home.challenge()
    asked = []
    while isinstance(found := home.tick("promote_on_approval"), list):
        asked += found
        tags = {CHALLENGER: home.versions[1], RUN_KEY: found[0]}
        home.run(promote, tags, breaks=len(asked) != 2)  # the second ends well and leaves no verdict
    assert len(asked) == len(set(asked)) == 3


def test_a_tick_finishes_the_move_that_a_killed_run_left(home):
    class DyingLedger(Ledger):
        def finish_move(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moves(home.settings, DyingLedger(home.settings.ledger_path)).move(
            champion(home.versions[0]), "first", "training", "the first"
        )
    home.tick("promote_on_approval")
    assert [move.status for move in history(home.settings)] == ["done"]


def test_a_failed_run_of_another_job_or_ledger_is_skipped_with_the_reason(home):
    for tags, words in (
        ({}, "has neither a request nor a challenger"),
        ({REQUEST: "unknown"}, "there is no request unknown"),
    ):
        skipped = record_failure(
            PromotionService.of(home.settings), dg.DagsterRun("score", "run1", tags=tags), "it failed"
        )
        assert words in skipped.skip_message


def test_a_sensor_whose_job_there_is_not_is_left_out(home):
    assert {s.name for s in release_sensors(home.settings, {"retrain"})} == {
        "requests_of_failed_runs",
        "retrain_on_decision",
    }
    for sensor in home.sensors.values():
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        ticks = STATUS_TICKS if sensor.name == "requests_of_failed_runs" else 1
        assert sensor.minimum_interval_seconds == ticks * home.settings.sensor_s


def test_the_sensors_import_nothing_heavy():
    asked = (
        "import sys, churn_assets.defs.promotion.sensors; "
        "print({'mlflow', 'numpy', 'duckdb', 'pyarrow', 'evidently', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_release_that_ended_is_told_by_the_next_tick_and_once(home):
    moves(home.settings).move(champion(home.versions[0]), "first", "training", "the first")
    releases = Releases(home.settings, home.ledger, ChampionPointer(home.settings.home), contract=lambda: CONTRACT)
    releases.end(releases.shadow(home.versions[1], "ana", "look").after.id, "rolled_back", "its scores are 0")
    sensor = home.sensors["promote_on_approval"]
    with dg.build_sensor_context(instance=home.instance) as context:
        first = sensor.evaluate_tick(context)
    assert first.cursor == "3"
    (alert,) = all_alerts(AlertSettings(home.settings.home))
    assert (alert.kind, alert.times) == ("release_rolled_back", 1)
    with dg.build_sensor_context(instance=home.instance, cursor=first.cursor) as context:
        assert sensor.evaluate_tick(context).cursor == "3"
    assert [entry.times for entry in all_alerts(AlertSettings(home.settings.home))] == [1]
