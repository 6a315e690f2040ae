"""A release as the loop sees it: the report, figures of final labels for the guardrails, the watch, the command."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import warnings
from contextlib import closing

import dagster as dg
import msgspec
import pytest

from churn_assets.alerting.alerts import open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import release_alerts
from churn_assets.defs.release.assets import NO_RELEASE
from churn_assets.defs.release.sensors import release_watch_sensor
from churn_assets.html.templating import external_references
from churn_assets.promotion.releases import Releases
from churn_assets.promotion.rollout.watch import ReleaseWatch
from churn_assets.release.counts import ReleaseCounts, counts_folder, read_counts, write_counts
from churn_assets.release.guardrails import LabelFigures, read_label_figures, read_report, write_label_figures
from churn_assets.release.policy import CHALLENGER, read_policy
from churn_assets.release.replay import replay
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.online import CustomerScorer
from churn_assets_tests.defs.home import checks, metadata, run
from churn_assets_tests.prediction_log.home import feedback, write
from churn_assets_tests.release.test_analysis import ROWS_OF, answer, churned_by
from churn_assets_tests.release.test_guardrails import shadowed
from churn_assets_tests.serving.client import ask
from churn_assets_tests.serving.releases.homes import Home, make_home

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of click, in what typer imports
    import typer

    from churn_assets.cli.release import compare

ASSETS = ["prediction_log", "feedback_log", "labelled_predictions", "data_quality_report", "release_report"]


def watch_release(settings, now: dt.datetime) -> str:
    return ReleaseWatch(settings, lambda: now).check()


def in_shadow(home: Home) -> list:
    """Start a shadow, and log what it and the champion say, and what became of the customers."""
    of = home.settings
    policy = Releases.of(of).shadow(home.challenger, "ana", "look at it").after
    first, second = (CustomerScorer(load_bundle(of.bundles_dir / v)) for v in (home.champion, home.challenger))
    answers = [answer(n, row, policy, first, customer_id=f"c{n}") for n, row in enumerate(ROWS_OF)]
    outcomes = zip(answers, churned_by(answers, 3), strict=True)
    reports = [
        feedback(
            f"f{row.prediction_id}", prediction_id=row.prediction_id, customer_id=None, churned=churned,
            observed_at="2014-02-01T00:00:00+00:00" if churned else "2014-02-25T00:00:00+00:00",
        )
        for row, churned in outcomes
    ]  # fmt: skip
    write(of, "20261127T000000000000-1-a", *answers, *(replay(second, row) for row in answers), *reports)
    return answers


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A home whose shadow has a report; what the run of its assets gave."""
    home = make_home(tmp_path_factory.mktemp("release") / "home")
    in_shadow(home)
    with dg.DagsterInstance.ephemeral() as instance:
        yield home, run(home.settings, instance, ASSETS)


def test_the_report_is_json_a_page_and_figures_for_the_guardrails(reported):
    home, result = reported
    assert result.success
    policy = read_policy(home.path)
    folder = counts_folder(home.path, policy.id)
    report = json.loads((folder / "report.json").read_text())
    assert (report["kind"], report["policies"], report["challengers"]) == ("shadow", [policy.id], [home.challenger])
    assert report["pairs"]["rows"] == 400
    assert report["pairs"]["matured"]["pr_auc_difference"]["low"] < 1
    assert report["labels"][CHALLENGER]["rows"] == 400
    figures = read_label_figures(home.path, policy.id)[CHALLENGER]
    assert msgspec.to_builtins(figures) == report["labels"][CHALLENGER]
    assert json.loads((home.settings.assets_dir / "release_report.json").read_text()) == report
    page = (folder / "report.html").read_text()
    assert external_references(page) == []
    for text in ("Score differences", "Scores by arm", "PR-AUC on final labels", "Log-loss on final labels"):
        assert text in page
    assert policy.salt not in page + json.dumps(report)
    passed = checks(result)
    assert passed["the_release_page_is_self_contained"]
    assert passed["customers_come_to_the_arms_by_their_weights"]
    assert "on the same 400 rows" in metadata(result, "release_report")["message"]
    assert read_counts(home.path, policy.id) == ReleaseCounts()  # no file of the report counts as one of a process


def test_the_api_shows_the_report(reported):
    home, _ = reported
    shown = ask(home.path, lambda client, worker: client.get("/release")).json()
    assert shown["report"]["pairs"]["rows"] == 400


def test_the_command_compares_a_release_and_replays_any_version(reported, capsys):
    home, _ = reported
    policy = read_policy(home.path)
    place = {"home": home.path, "contract": home.path / "tiny.toml"}

    def compared(**options) -> tuple[int, str]:
        code = 0
        try:
            compare(**place, **options)
        except typer.Exit as end:
            code = end.exit_code
        return code, " ".join(capsys.readouterr().out.split())

    code, text = compared()
    assert code == 0
    assert f"shadow of {home.challenger} beside {home.champion}, policies {policy.id}" in text
    assert "on the same 400 rows" in text
    assert "guardrails: not judged yet" in text
    _, text = compared(version=home.challenger, as_json=True)
    assert json.loads(text)["end"] is None
    logged = json.loads(text)["pairs"] | {"matured": None}
    _, text = compared(version=home.challenger, replay=True, as_json=True)
    again = json.loads(text)
    assert (again["rows"], again["refused"], again["model_version"]) == (400, 0, home.challenger)
    assert again["pairs"] == logged  # the shadow's rows, bit for bit
    _, text = compared(version=home.refused, replay=True, since=dt.datetime(2026, 11, 27, 8, 1))
    assert "on the same 340 rows" in text
    assert compared(version=home.refused)[0] == compared(policy="r999999")[0] == 1
    for wrong in ({"replay": True}, {"version": home.refused, "until": dt.datetime(2026, 11, 27)}):
        with pytest.raises(typer.BadParameter, match="expected"):
            compare(**place, **wrong)


def by_the_loop(home: Home) -> str:
    write_label_figures(
        home.path, read_policy(home.path).id, {CHALLENGER: LabelFigures(900, -0.2, -0.3, -0.1, 0.0, -0.005, 0.005)}
    )
    watch_release(home.settings, dt.datetime.now(dt.UTC))
    return "by loop: rolled back: challenger: PR-AUC, fall 0.200"


def by_a_person(home: Home) -> str:
    watch_release(home.settings, dt.datetime.now(dt.UTC))
    Releases.of(home.settings).rollback("ben", "complaints since noon")
    return "by ben: rolled back: complaints since noon"


@pytest.mark.parametrize("end", [by_the_loop, by_a_person])
def test_the_command_says_how_a_release_ended(tmp_path, capsys, end):
    home = make_home(tmp_path / "home")
    in_shadow(home)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(home.settings, instance, ["prediction_log", "feedback_log"]).success
    policy, expected = read_policy(home.path), end(home)
    compare(home=home.path, contract=home.path / "tiny.toml")
    lines = capsys.readouterr().out.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("ended on ")]
    assert expected in "".join(lines[place : place + 3])
    assert "held until" not in "".join(lines)
    assert any(line.startswith("  error_rate: ") for line in lines[place:])
    compare(home=home.path, contract=home.path / "tiny.toml", as_json=True)
    ended = json.loads(capsys.readouterr().out)["end"]
    move = home.ledger.newest_policy_move("done")
    assert (ended["by"], ended["why"], ended["outcome"]) == (move.by, move.why, "rolled_back")
    assert (ended["numbers"] or {}).get("policy") == (policy.id if end is by_the_loop else None)


def test_without_a_release_the_report_says_so(tmp_path):
    home = make_home(tmp_path / "home")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(home.settings, instance, ["release_report"])
    assert result.success
    assert metadata(result, "release_report")["message"] == NO_RELEASE
    assert watch_release(home.settings, dt.datetime.now(dt.UTC)) == "no release runs"


def test_a_release_ends_by_its_deadline_where_no_service_runs(tmp_path):
    home = make_home(tmp_path / "home")
    started = Releases.of(home.settings).shadow(home.challenger, "ana", "look").after
    assert watch_release(home.settings, dt.datetime.now(dt.UTC)).startswith(f"{started.id}: hold: ")
    late = started.deadline_at + dt.timedelta(minutes=1)
    with dg.build_sensor_context() as context:
        skipped = release_watch_sensor(home.settings, lambda: late)(context)
    assert skipped.skip_message.startswith(f"{started.id}: inconclusive: the deadline ")
    move = home.ledger.newest_policy_move("done")
    assert (move.kind, move.outcome, move.by, move.after.kind) == ("end", "inconclusive", "loop", "champion")
    assert move.numbers["move"] == "inconclusive"
    assert read_report(home.path, started.id).move == "inconclusive"
    assert watch_release(home.settings, late) == "no release runs"


def test_a_person_is_reminded_of_a_clear_shadow_after_its_deadline_until_it_is_decided(tmp_path):
    home = make_home(tmp_path / "home")
    releases, alerts = Releases.of(home.settings), AlertSettings(home.path)
    started = releases.shadow(home.challenger, "ana", "look").after
    write_counts(home.path, started.id, "shadow-1", shadowed().counts)
    assert watch_release(home.settings, dt.datetime.now(dt.UTC)).endswith("a person decides what follows")
    assert open_alerts(alerts) == []
    late = started.deadline_at + dt.timedelta(minutes=1)
    for _ in range(2):
        with dg.build_sensor_context() as context:
            release_watch_sensor(home.settings, lambda: late)(context)
    (entry,) = open_alerts(alerts)
    assert (entry.kind, entry.key, entry.times) == ("release_waiting", f"release_waiting:{started.id}", 2)
    releases.rollback("ana", "enough seen")
    ended = release_alerts(home.ledger.policy_moves("done")).ended
    assert ended == {entry.key: f"Since then: champion {home.champion} answers everybody, by ana."}


def test_damaged_figures_of_labels_put_no_deadline_off(tmp_path):
    home = make_home(tmp_path / "home")
    started = Releases.of(home.settings).shadow(home.challenger, "ana", "look").after
    folder = counts_folder(home.path, started.id)
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text('{"arms": 3}')
    assert watch_release(home.settings, started.at).startswith(f"{started.id}: hold: ")
    assert read_report(home.path, started.id).move == "hold"
    assert watch_release(home.settings, started.deadline_at).startswith(f"{started.id}: inconclusive: ")
    assert home.ledger.newest_policy_move("done").by == "loop"


def test_a_crossing_is_kept_from_tick_to_tick(tmp_path):
    """The first tick finds the home busy; by the second the counts show nothing any more."""
    home = make_home(tmp_path / "home")
    started = Releases.of(home.settings).canary(home.challenger, "ana", "try it").after
    write_label_figures(home.path, started.id, {CHALLENGER: LabelFigures(900, -0.2, -0.3, -0.1, 0.0, -0.005, 0.005)})
    watch = ReleaseWatch(home.settings, lambda: started.at)
    triggered = "CREATE TRIGGER held BEFORE INSERT ON policies BEGIN SELECT RAISE(ABORT, 'held'); END"
    with closing(sqlite3.connect(home.settings.ledger_path)) as other:
        other.execute(triggered)
        assert "held" in watch.check()
        write_label_figures(home.path, started.id, {})
        other.execute("DROP TRIGGER held")
    assert watch.check().startswith(f"{started.id}: rollback: ")
    assert home.ledger.newest_policy_move("done").outcome == "rolled_back"


def test_final_labels_throw_a_canary_out_also_after_a_step(tmp_path):
    home = make_home(tmp_path / "home")
    releases = Releases.of(home.settings)
    first = releases.canary(home.challenger, "ana", "try it").after
    write_label_figures(home.path, first.id, {CHALLENGER: LabelFigures(900, -0.2, -0.3, -0.1, 0.0, -0.005, 0.005)})
    second = releases.advance(first.id).after
    said = watch_release(home.settings, dt.datetime.now(dt.UTC))
    assert said.startswith(f"{second.id}: rollback: challenger: PR-AUC, fall 0.200")
    move = home.ledger.newest_policy_move("done")
    assert (move.kind, move.outcome, move.by) == ("end", "rolled_back", "loop")
    assert read_policy(home.path).kind == "champion"
    assert home.ledger.challenger(home.challenger).status == "rejected"


def test_a_damaged_policy_is_told_and_nothing_else_happens(tmp_path):
    home = make_home(tmp_path / "home")
    Releases.of(home.settings).shadow(home.challenger, "ana", "look")
    (home.path / "policy.json").write_text("{")
    assert watch_release(home.settings, dt.datetime.now(dt.UTC)).startswith("PolicyCorrupt: ")
