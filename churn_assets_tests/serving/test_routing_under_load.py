"""Policies change while clients ask: a short round of `benchmarks.release_routing`, on the real service."""

from churn_assets_tests.serving.routing_trial import RoutingTrial


def test_policies_change_under_load_over_a_kill_and_a_restart(tmp_path):
    trial = RoutingTrial(tmp_path, clients=4, seed=11)
    trial.run(changes=7, pause_s=0.6, killed="service")
    assert trial.check() == []
    assert {policy.kind for policy in trial.policies.values()} == {"champion", "shadow", "canary", "ab"}
    assert len(trial.champions) >= 2
