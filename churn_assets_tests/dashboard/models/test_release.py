"""The release that runs, on the page of the models: its figures are those of policy, counts, guardrails and the log."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.monitoring.windows import to_json
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.promotion.rollout.guard import ReleaseGuard
from churn_assets.release.counts import ReleaseCounts, read_counts, write_counts
from churn_assets.release.policy import CHALLENGER, CHAMPION, read_policy
from churn_assets.release.replay import ENDING
from churn_assets.reporting.release.collect import collect_release
from churn_assets_tests.dashboard.browser import NOW, numbers_in, visit
from churn_assets_tests.dashboard.models.test_models import WHO, form_of
from churn_assets_tests.dashboard.named_sources import unlike
from churn_assets_tests.dashboard.test_monitoring import changed
from churn_assets_tests.test_home_0_1 import CHAMPION as VERSION
from churn_assets_tests.test_home_0_1 import FIRST, WAITING


def count(settings, rows, pairs=False):
    """Counts as a process of the service writes them: (scored rows, errors) by arm, each row of a customer of its own,
    and of a shadow its pairs."""
    counts, rng = ReleaseCounts(), np.random.default_rng(3)
    for name, (scored, errors) in rows.items():
        for score in rng.beta(2, 7, scored):
            counts.arm(name).scored(float(score), bool(score > 0.4), False, 80e-6)
        counts.arm(name).errors, counts.arm(name).customers = errors, scored
    if pairs:
        counts.pairs.rows, counts.pairs.flips, counts.pairs.dropped = rows[CHALLENGER][0], 12, 3
        counts.pairs.difference_sum, counts.pairs.difference_squares = 4.0, 9.0
    policy = read_policy(settings.home)
    write_counts(settings.home, policy.id, "worker-1-abc", counts)
    return policy


def arms_of(settings):
    """The figures of the arms by the counts and the policy's file."""
    policy = json.loads((settings.home / "policy.json").read_text())
    counts = read_counts(settings.home, policy["id"])
    customers = {arm["name"]: counts.arm(arm["name"]).customers for arm in policy["arms"] if arm["weight"]}
    figures = []
    for arm in policy["arms"]:
        own = counts.arm(arm["name"])
        shares = [total / own.rows for total in (own.called, own.score_sum)] if own.rows else [None, None]
        share = customers[arm["name"]] / sum(customers.values()) if arm["name"] in customers else None
        figures.append(
            {
                **{"weight": arm["weight"], "share": share, "rows": own.rows, "errors": own.errors},
                **{"refused": own.refused, "called_share": shares[0], "mean_score": shares[1]},
                "p99_ms": own.quantile_ms(0.99),
            }
        )
    return figures


def judged(settings, now):
    """What the guard of the service says now, and its file."""
    assert "hold" in ReleaseGuard(settings, lambda *args, **more: None, clock=lambda: now).check()
    policy = read_policy(settings.home)
    return json.loads((settings.home / "releases" / policy.id / "guardrails.json").read_text())


def test_a_canary_shows_steps_shares_and_each_guardrail(settings):
    visitor = visit(settings)
    visitor.post(*form_of(visitor, FIRST, "canary"), status=200)
    assert visitor.json("/models.json")["release"]["guard"] is None
    assert "churn serve" in visitor.get("/models").text
    policy = count(settings, {CHALLENGER: (60, 1), CHAMPION: (940, 0)})
    report = judged(settings, policy.at + dt.timedelta(minutes=1))
    release = visitor.json("/models.json")["release"]
    assert [(arm["weight"], arm["share"], arm["rows"], arm["errors"]) for arm in release["arms"]] == [
        (0.05, 0.06, 60, 1), (0.95, 0.94, 940, 0)
    ]  # fmt: skip
    steps = load_contract(settings.contract_path).release
    assert [(step["weight"], step["rows"], step["hold_minutes"]) for step in release["steps"]] == [
        (weight, steps.canary_rows, steps.canary_hold_minutes) for weight in steps.canary_weights
    ]
    assert [step["state"] for step in release["steps"]] == ["now", *["to come"] * (len(release["steps"]) - 1)]
    assert release["steps"][0]["has_rows"] == 60
    assert [rail["check"] for rail in release["guardrails"]] == report["checks"]
    assert release["guard"]["message"] == report["message"]
    unread = next(rail for rail in release["guardrails"] if rail["check"]["check"] == "score_shift")
    assert unread["more_rows"] == 140
    content = visitor.get("/models")
    assert report["message"] in content.text
    assert "about 140 rows" in content.text
    assert set(content.numbers) <= set(numbers_in(visitor.json("/models.json")))
    named = {"arms": arms_of(settings), "guard": {**report, "version": None}, "rows": 60}
    assert unlike({name: release[name] for name in named}, named) == []


def test_a_shadow_shows_agreement_flips_and_differences(settings):
    visitor = visit(settings)
    visitor.post(*form_of(visitor, WAITING, "shadow"), status=200)
    policy = count(settings, {CHALLENGER: (400, 0), CHAMPION: (400, 0)}, pairs=True)
    pairs = visitor.json("/models.json")["release"]["pairs"]
    assert (pairs["rows"], pairs["flips"], pairs["agreement"], pairs["dropped"]) == (400, 12, 0.97, 3)
    assert pairs["mean_difference"] == 0.01
    assert pairs["sd_difference"] == pytest.approx((9.0 / 400 - 0.01**2) ** 0.5)
    text = visitor.get("/models").text
    assert "97.00%" in text
    assert "3 rows found the shadow's queue full" in text
    # From the shadow the same customers go on to a canary, once a person has approved.
    assert f"/models/{WAITING}/canary" in visitor.get("/models").addresses
    scored_by_both(settings, policy)
    release, content = visitor.json("/models.json")["release"], visitor.get("/models")
    report = collect_release(settings, None, NOW)
    assert release["analysis"] == json.loads(json.dumps(to_json(report.analysis)))
    assert release["analysis"]["pairs"]["rows"] == 300
    assert set(content.numbers) <= set(numbers_in(visitor.json("/models.json")))
    assert unlike(release["arms"], arms_of(settings)) == []
    assert 'aria-label="Score differences: rows: from' in visitor.client.get("/models").text


def scored_by_both(settings, policy):
    """The published log with 300 answers under this policy that a shadow has scored too."""
    with_columns_of_releases(
        settings,
        f"UPDATE predictions SET policy = '{policy.id}', arm = 'champion', status = 'ok' WHERE seq IN "
        "(SELECT seq FROM predictions ORDER BY seq DESC LIMIT 300)",
        "INSERT INTO predictions BY NAME SELECT * REPLACE (seq + 1000000 AS seq, "
        f"prediction_id || '{ENDING}' AS prediction_id, least(1.0, score * 1.1) AS score, "
        "score > .2 AS decision, 'challenger' AS arm, true AS shadow) "
        f"FROM predictions WHERE policy = '{policy.id}'",
    )


def answered_by_arms(settings, policy):
    """The published log as if its answers had been given under this policy."""
    with_columns_of_releases(
        settings,
        f"UPDATE predictions SET policy = '{policy.id}', arm = 'champion', status = 'ok'",
        f"UPDATE predictions SET arm = 'new', model_version = '{FIRST}' WHERE seq % 5 = 0",
    )


def with_columns_of_releases(settings, *changes):
    """Change the published log, which release 0.1 wrote without the columns of releases."""
    added = (f"ALTER TABLE predictions ADD COLUMN {name} BOOLEAN" for name in ("test", "shadow"))
    changed(settings, "; ".join((*added, *changes)))


def test_an_ab_shows_what_the_command_says_of_its_arms(settings):
    visitor = visit(settings)
    query = f"/ab?name_{FIRST}=new&share_{FIRST}=20"
    text = visitor.get(query).text
    assert f"champion {VERSION} 100.0% After" in text
    assert f"new {FIRST} 20.0% champion {VERSION} 80.0%" in text
    fields = {**visitor.get(query).forms[-1], **WHO}
    assert "is in force: ab of new" in visitor.post("/ab", fields, status=200).text
    policy = read_policy(settings.home)
    assert [(arm.name, arm.version, arm.weight) for arm in policy.arms] == [
        ("new", FIRST, 0.2),
        ("champion", VERSION, 0.8),
    ]
    assert (policy.by, policy.why) == ("Ana", "read the verdict")
    answered_by_arms(settings, policy)
    count(settings, {"new": (40, 0), CHAMPION: (160, 1)})
    shown = visitor.json("/models.json")["release"]["analysis"]
    report = collect_release(settings, None, NOW)
    assert shown == json.loads(json.dumps(to_json(report.analysis)))
    assert unlike(visitor.json("/models.json")["release"]["arms"], arms_of(settings)) == []
    assert {each["measure"] for each in shown["comparison"]["differences"]} >= {"called", "score"}
    assert shown["comparison"]["ratios"][0]["mismatch"] is False
    content = visitor.get("/models")
    assert "as asked" in content.text
    assert set(content.numbers) <= set(numbers_in(visitor.json("/models.json")))


@pytest.mark.parametrize(
    ("share", "message"),
    [("100", "over 0 and under 100 %"), ("0", "over 0 and under 100 %"), ("many", "over 0 and under 100 %"), ("", "")],
)
def test_shares_that_are_none_start_nothing(settings, share, message):
    visitor = visit(settings)
    query = f"/ab?name_{FIRST}=new&share_{FIRST}={share}"
    content = visitor.get(query)
    assert message in content.text
    assert all(form["method"] == "get" for form in content.forms if form["action"] == "/ab")
    token = visitor.get(f"/models/{FIRST}/shadow").form(f"/models/{FIRST}/shadow")["form_token"]
    fields = {**WHO, "form_token": token, "champion": VERSION, f"name_{FIRST}": "new", f"share_{FIRST}": share}
    visitor.post("/ab", fields, 422)
    assert read_policy(settings.home) is None or read_policy(settings.home).kind == "champion"


def test_of_two_who_start_at_once_the_second_is_told(settings):
    ana, ben = visit(settings), visit(settings)
    query = f"/ab?name_{FIRST}=new&share_{FIRST}=20"
    fields = {**ben.get(query).forms[-1], **WHO, "by": "Ben"}
    ana.post(*form_of(ana, FIRST, "canary"), status=200)
    assert "a canary of" in ben.post("/ab", fields, 409).text
    assert read_policy(settings.home).kind == "canary"
    ben.get("/ab", 409)


def test_the_report_of_a_release_is_linked_and_shown_in_a_sandbox(settings):
    Releases.of(settings).ab({"new": AbArm(FIRST, 0.2)}, "ana", "which is better")
    policy = read_policy(settings.home)
    folder = settings.home / "releases" / policy.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text("<p>the report</p>")
    visitor = visit(settings)
    assert f"/releases/{policy.id}/report" in visitor.get("/models").addresses
    response = visitor.client.get(f"/releases/{policy.id}/report")
    assert response.text == "<p>the report</p>"
    assert response.headers["content-security-policy"].startswith("sandbox")
    for other in ("r000999", "..", "%2e%2e", "x"):
        assert visitor.client.get(f"/releases/{other}/report").status_code == 404


def test_a_damaged_guardrail_report_is_named_and_the_rest_is_shown(settings):
    visitor = visit(settings)
    visitor.post(*form_of(visitor, FIRST, "canary"), status=200)
    policy = count(settings, {CHALLENGER: (60, 0), CHAMPION: (940, 0)})
    (settings.home / "releases" / policy.id / "guardrails.json").write_text('{"half": ')
    page = visitor.json("/models.json")
    assert page["release"]["guard"] is None
    assert page["release"]["arms"][0]["rows"] == 60
    assert any("guardrails' report cannot be read" in problem for problem in page["problems"])
