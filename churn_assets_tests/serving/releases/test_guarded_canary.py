"""A canary that turns bad on the real service: the champion is back in seconds, and no request fails."""

from __future__ import annotations

import dataclasses
import time

import httpx

from churn_assets.alerting.rules import release_alerts
from churn_assets.promotion.releases import Releases
from churn_assets.release.assignment import share_of
from churn_assets.release.counts import read_counts
from churn_assets.release.guardrails import read_report
from churn_assets.release.policy import CHALLENGER, read_policy
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, verdict
from churn_assets_tests.scoring.tiny import AS_OF
from churn_assets_tests.serving.client import ROW, served
from churn_assets_tests.serving.policies import MOST_SENT, narrow_bundle
from churn_assets_tests.serving.releases.homes import make_home

BACK_S = 5.0
GOOD, BAD = {**ROW, "sent": MOST_SENT - 1}, {**ROW, "sent": MOST_SENT + 100}  # a row that the challenger refuses


def until(holds, seconds):
    """Seconds until it holds."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds
        time.sleep(0.02)
    return time.monotonic() - start


def test_a_canary_that_turns_bad_is_rolled_back_in_seconds_and_no_request_fails(tmp_path):
    home = make_home(tmp_path / "home")
    narrow = narrow_bundle(home.path, kind="boosted").name  # the champion's model under a contract that allows less
    bundle = home.settings.bundles_dir / narrow
    home.ledger.add_challenger(narrow, f"bundles/{narrow}", bundle_hash(bundle), None, None, AT)
    judged = dataclasses.replace(verdict(narrow), champion=home.champion)
    home.ledger.record_verdict(narrow, judged, needs_person=False, at=AT)
    releases = Releases.of(home.settings)
    policy = releases.canary(narrow, "ana", "it passed", weight=0.5).after
    environ = {"CHURN_CONTRACT": str(home.settings.contract_path)}
    with served(tmp_path, home.path, workers=2, environ=environ) as (url, _), httpx.Client(base_url=url) as client:

        def ask(row, number):
            rows = [{**row, "id": f"{row['sent']} {number} {place}"} for place in range(200)]
            response = client.post("/predict_batch", json={"customers": rows, "as_of": AS_OF})
            assert response.status_code == 200
            return {answer["model_version"] for answer in response.json()["predictions"]}

        until(lambda: ask(GOOD, 0) == {home.champion, narrow}, 20)  # each worker has both models
        until(lambda: ask(GOOD, 1) == {home.champion, narrow}, 20)
        for number in range(2, 8):
            ask(GOOD, number)
        until(lambda: read_report(home.path, policy.id) is not None, 10)
        assert read_report(home.path, policy.id).waiting == "time"
        mine = next(f"c{n}" for n in range(99) if policy.choose(share_of(policy.salt, f"c{n}")).name == CHALLENGER)
        for number in range(4):
            assert ask(BAD, number) == {home.champion}  # it answers in the challenger's place
        seconds = until(lambda: read_policy(home.path).kind == "champion", BACK_S)
        one = {**GOOD, "id": mine, "as_of": AS_OF}
        for _ in range(20):  # both workers
            answers = [client.post("/predict", json=one).json() for _ in range(10)]
            if {answer["model_version"] for answer in answers} == {home.champion}:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the challenger still answers")
    assert seconds < BACK_S
    end = home.ledger.newest_policy_move("done")
    assert (end.kind, end.outcome, end.by, end.before.id) == ("end", "rolled_back", "service", policy.id)
    assert "refused rows or rows with a warning" in end.why
    (quality,) = (check for check in end.numbers["checks"] if check["check"] == "quality")
    assert quality["status"] == "crossed"
    assert quality["low"] > quality["limit"] == 0.05
    assert read_counts(home.path, policy.id).arms[CHALLENGER].refused > 300
    assert home.ledger.challenger(narrow).status == "rejected"
    (alert,) = release_alerts(home.ledger.policy_moves("done")).raised
    assert (alert.kind, alert.severity) == ("release_rolled_back", "error")
    assert "refused rows" in alert.message
