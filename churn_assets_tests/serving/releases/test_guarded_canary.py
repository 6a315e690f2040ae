"""A canary that turns bad on the real service: the champion is back in seconds, and no request fails."""

from __future__ import annotations

import time

from churn_assets.alerting.rules import release_alerts
from churn_assets.release.counts import read_counts
from churn_assets.release.guardrails import read_report
from churn_assets.release.policy import CHALLENGER, read_policy
from churn_assets_tests.serving.releases.bad_canary import BadCanary, until

BACK_S = 5.0


def test_a_canary_that_turns_bad_is_rolled_back_in_seconds_and_no_request_fails(tmp_path):
    canary = BadCanary(tmp_path)
    home, policy, narrow = canary.home, canary.policy, canary.challenger
    with canary.served():
        assert read_report(home.path, policy.id).waiting == "time"
        canary.turn_bad()
        seconds = until(lambda: read_policy(home.path).kind == "champion", BACK_S)
        for _ in range(20):  # both workers
            answers = [canary.client.post("/predict", json=canary.row_of_challenger).json() for _ in range(10)]
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
