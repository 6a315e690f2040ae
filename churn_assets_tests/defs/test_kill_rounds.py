"""Three losses of power while a real daemon works, at random moments of three stages; the loop ends as it should.

`python -m benchmarks.kill_rounds` plays a hundred, with the training of the package on more customers.
"""

from __future__ import annotations

import datetime as dt
import random
import time

import pytest

from churn_assets_tests.defs.kill_rounds import LoopHome, fill_log, make_root
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, json_rows
from churn_assets_tests.serving.client import home_with_champion
from examples.demo.traffic import Customers

WINDOW = 300
LIMIT_S = 240.0  # of one wait, on a machine with other work


@pytest.fixture
def home(tmp_path):
    """A home with a first champion, and a window of predictions with their labels that nobody has ingested."""
    root = make_root(tmp_path / "root", TEXT, WINDOW, module="churn_assets_tests.defs.round_definitions")
    made = LoopHome(root, home_with_champion(tmp_path / "home"))
    churned = [number % 5 == 0 for number in range(WINDOW)]
    fill_log(made.settings, Customers(json_rows(customers(WINDOW, seed=11)), churned, dt.date.fromisoformat(AS_OF)))
    yield made
    made.close()


def test_three_losses_of_power_change_nothing_about_where_the_loop_comes_to(home):
    rng = random.Random()
    for stage, longest_s in ((rng.choice(("ingest_log", "monitor")), 3.0), ("retrain", 3.0), ("promote", 2.0)):
        home.start()
        home.wait_for(stage, lambda stage=stage: home.under_way(stage), LIMIT_S)
        time.sleep(rng.uniform(0.0, longest_s))  # a moment without any condition is what is tested
        assert home.kill() >= 4, "the command, its supervisor, the code server, the daemon"
    home.start()
    home.wait_for("the end", home.is_done, LIMIT_S)
    end = home.end()
    assert (end.labels, end.predictions, end.feedback, end.windows, end.not_once) == (WINDOW, WINDOW, WINDOW, 1, ())
    assert end.decision == f"{WINDOW} new labels are final, {WINDOW} start a retraining"
    assert (end.challengers, end.promoted) == (("refused",), False), "no customers are frozen in this home"
    home.stop()
