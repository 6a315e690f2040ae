"""Three losses of power while a real daemon works, at random moments of three stages; the loop ends as it should.

`python -m benchmarks.kill_rounds` plays a hundred, with the training of the package on more customers.
"""

from __future__ import annotations

import random
import time

import dagster as dg
import pytest

from churn_assets_tests.defs.home import run
from churn_assets_tests.defs.kill_rounds import LoopHome, Size, fill_log, make_root

SIZE = Size(rows=600, window=300, module="churn_assets_tests.defs.round_definitions")
UPSTREAM = ("column_audit", "customer_features", "leakage_audit", "raw_customers", "splits", "validated_customers")
LIMIT_S = 240.0  # of one wait, on a machine with other work


@pytest.fixture
def home(tmp_path):
    """A home with a first champion, and a window of predictions with their labels that nobody has ingested."""
    root = make_root(tmp_path / "root", SIZE)
    source = {"CHURN_SOURCE": f"generated://store?rows={SIZE.rows}&seed=7"}
    made = LoopHome(root, tmp_path / "home", source)
    assets = [*UPSTREAM, *(f"{name}_candidate" for name in ("logistic", "boosted", "deep", "network"))]
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(made.settings, instance, [*assets, "rejected_customers", "chosen_model", "registered_model"])
    assert result.success
    fill_log(made.settings, SIZE)
    yield made
    made.close()


def test_three_losses_of_power_change_nothing_about_where_the_loop_comes_to(home):
    rng = random.Random()
    moments = [(rng.choice(("ingest_log", "monitor")), 3.0), ("retrain", 8.0), ("promote", 3.0)]
    for stage, longest_s in moments:
        home.start()
        home.wait_for(stage, lambda stage=stage: home.under_way(stage), LIMIT_S)
        time.sleep(rng.uniform(0.0, longest_s))  # a moment without any condition is what is tested
        assert home.kill() >= 3
    home.start()
    home.wait_for("the end", home.is_done, LIMIT_S)
    end = home.end()
    assert (end.labels, end.predictions, end.feedback, end.windows) == (300, 300, 300, 1)
    assert end.not_once == ()
    assert end.decision == "300 new labels are final, 300 start a retraining"
    assert end.challengers == ("refused",), "so few customers prove nothing"
    assert not end.promoted
    home.stop()
