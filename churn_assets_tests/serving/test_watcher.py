"""What a worker loads, swaps to, refuses and unloads when pointer and policy change, at a clock of the test."""

from __future__ import annotations

import dataclasses
import threading
import tracemalloc

import pytest

from churn_assets.promotion.pointer import champion_bundle
from churn_assets.release.policy import CHALLENGER, CHAMPION, write_policy
from churn_assets.serving.routing.models import load_served_model
from churn_assets.serving.routing.watcher import RETRY_S, UNUSED_S, ModelWatcher, PolicyFile, WatcherEvents
from churn_assets_tests.serving.client import home_with_champion, make_bundle, promote
from churn_assets_tests.serving.policies import narrow_bundle, policy_of, write_canary


class Watched(WatcherEvents):
    """A watcher of a home, and what it did: routers as (policy, versions by arm), loads, unloads, refusals."""

    def __init__(self, home):
        self.home, self.now = home, 0.0
        self.routers, self.loads, self.unloads, self.reasons = [], [], [], []
        self.bundles_refused = 0
        self.before_load = lambda path: None
        self.watcher = ModelWatcher(
            lambda: champion_bundle(home), self.load, self, lambda: self.now, home, PolicyFile(home)
        )

    def load(self, path):
        self.loads.append(path.name)
        self.before_load(path)
        return load_served_model(path)

    def router_changed(self, router):
        arms = {arm.name: arm.model.scorer.version for arm in router.arms.values()}
        self.routers.append((router.champion.policy, arms or {CHAMPION: router.champion.model.scorer.version}))

    def models_unloaded(self, versions):
        self.unloads += versions

    def bundle_refused(self):
        self.bundles_refused += 1

    def refused(self, reason):
        self.reasons.append(reason)

    def check(self, after_s=0.0):
        self.now += after_s
        self.watcher.check()
        return self.routers[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    home = home_with_champion(tmp_path_factory.mktemp("built"))
    return home, [champion_bundle(home), make_bundle(home, "logistic"), make_bundle(home, "network")]


@pytest.fixture
def bundles(built):
    """Champion, and two others; the home begins without a policy."""
    home, bundles = built
    (home / "policy.json").unlink(missing_ok=True)
    promote(home, bundles[0])
    return bundles


@pytest.fixture
def watched(built, bundles):
    watched = Watched(built[0])
    assert watched.check() == (CHAMPION, {CHAMPION: bundles[0].name})
    return watched


def versions(challenger, champion):
    return {CHALLENGER: challenger.name, CHAMPION: champion.name}


def test_models_that_are_loaded_are_swapped_to_directly_and_those_out_of_use_are_unloaded(watched, bundles):
    champion, first, _ = bundles
    home = watched.home
    write_canary(home, 1, champion, first, 0.05)
    assert watched.check() == ("r000001", versions(first, champion))
    write_canary(home, 2, champion, first, 0.25)  # the same models: nothing is loaded
    assert watched.check() == ("r000002", versions(first, champion))
    assert watched.loads == [champion.name, first.name]
    assert [policy for policy, _ in watched.routers] == [CHAMPION, "r000001", "r000002"]
    write_policy(home, policy_of(home, 3, "champion", {CHAMPION: (champion, 1.0)}))
    assert watched.check() == ("r000003", {CHAMPION: champion.name})
    watched.check(UNUSED_S / 2)
    assert watched.unloads == []
    watched.check(UNUSED_S)
    assert watched.unloads == [first.name]


def test_a_look_that_changes_nothing_makes_no_counter(watched, bundles):
    champion, first, _ = bundles
    write_canary(watched.home, 1, champion, first, 0.5)
    assert watched.check() == ("r000001", versions(first, champion))
    counter = watched.watcher.router.counter
    tracemalloc.start()
    try:
        for _ in range(3):
            watched.watcher.check()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert watched.watcher.router.counter is counter
    assert peak < 200_000, peak  # bytes; the customers that a counter has seen take 524,288


def test_while_a_new_model_loads_the_champion_answers_and_not_the_replaced_policy(watched, bundles):
    champion, first, second = bundles
    write_canary(watched.home, 1, champion, first, 0.5)
    watched.check()
    present = []
    watched.before_load = lambda path: present.append(watched.routers[-1])
    write_canary(watched.home, 2, champion, second, 0.5)
    assert watched.check() == ("r000002", versions(second, champion))
    assert present == [(CHAMPION, {CHAMPION: champion.name})]


def test_another_thread_finds_a_replaced_policy_while_one_loads(watched, bundles):
    champion, first, _ = bundles
    home, loading, go_on = watched.home, threading.Event(), threading.Event()
    watched.before_load = lambda path: (loading.set(), go_on.wait(30))
    write_canary(home, 1, champion, first, 0.5)
    loader = threading.Thread(target=watched.watcher.check)
    loader.start()
    assert loading.wait(30)
    write_policy(home, policy_of(home, 2, "champion", {CHAMPION: (champion, 1.0)}))
    assert watched.check() == ("r000002", {CHAMPION: champion.name})
    go_on.set()
    loader.join(30)
    assert watched.routers[-1] == ("r000002", {CHAMPION: champion.name}), "what was loaded too late is out of use"
    watched.check(UNUSED_S)
    watched.check(UNUSED_S)
    assert watched.unloads == [first.name]


def test_a_promotion_needs_no_load_whichever_file_is_written_first(watched, bundles):
    champion, first, _ = bundles
    home = watched.home
    write_canary(home, 1, champion, first, 1.0)
    watched.check()
    promote(home, first)
    assert watched.check(0.5) == (CHAMPION, {CHAMPION: first.name})
    write_policy(home, policy_of(home, 2, "champion", {CHAMPION: (first, 1.0)}))
    assert watched.check(0.5) == ("r000002", {CHAMPION: first.name})
    write_policy(home, policy_of(home, 3, "champion", {CHAMPION: (champion, 1.0)}))
    assert watched.check(0.5) == (CHAMPION, {CHAMPION: first.name}), "not in force: the pointer names another"
    promote(home, champion)
    assert watched.check(0.5) == ("r000003", {CHAMPION: champion.name})
    assert watched.loads == [champion.name, first.name]
    assert watched.reasons == []


def test_a_new_champion_that_loads_ends_the_policy_of_the_old_one_at_once(watched, bundles):
    champion, first, second = bundles
    write_canary(watched.home, 1, champion, first, 0.5)
    watched.check()
    present = []
    watched.before_load = lambda path: present.append(watched.routers[-1])
    promote(watched.home, second)
    assert watched.check() == (CHAMPION, {CHAMPION: second.name})
    assert present == [(CHAMPION, {CHAMPION: champion.name})]


def test_a_challenger_that_cannot_be_loaded_is_refused_tried_again_and_the_champion_answers(watched, bundles):
    champion, first, _ = bundles
    faults = [OSError(f"{first}: gone")]

    def fail(path):
        if faults:
            raise faults[0]

    watched.before_load = fail
    write_canary(watched.home, 1, champion, first, 0.5)
    assert watched.check() == (CHAMPION, {CHAMPION: champion.name})
    assert watched.watcher.refused == f"{first.name}: gone"
    for _ in range(3):
        watched.check(1.0)
    assert watched.loads.count(first.name) == 1
    watched.check(RETRY_S)
    assert (watched.loads.count(first.name), watched.bundles_refused, len(watched.reasons)) == (2, 1, 1)
    faults.clear()
    assert watched.check(RETRY_S) == ("r000001", versions(first, champion))
    assert watched.watcher.refused is None


def change_arm(policy, name, **changes):
    arms = tuple(dataclasses.replace(arm, **changes) if arm.name == name else arm for arm in policy.arms)
    return dataclasses.replace(policy, arms=arms)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (CHALLENGER, {"sha256": "0" * 64}, "the sha256 of its manifest is "),
        (CHALLENGER, {"version": "0" * 16}, "is version "),
        (CHAMPION, {"sha256": "0" * 64}, "policy.json: the arm champion: the sha256 of its manifest is "),
    ],
)
def test_a_bundle_that_is_not_the_one_of_the_policy_is_refused(watched, bundles, name, changes, reason):
    champion, first, _ = bundles
    right = write_canary(watched.home, 1, champion, first, 0.5)
    write_policy(watched.home, change_arm(right, name, **changes))
    assert watched.check() == (CHAMPION, {CHAMPION: champion.name})
    assert watched.watcher.refused.removeprefix(f"{first.name}: ").startswith(reason)
    assert "expected the same" in watched.watcher.refused
    watched.check(RETRY_S)
    assert len(watched.reasons) == 1
    assert watched.bundles_refused == (name == CHALLENGER)
    write_policy(watched.home, right)
    assert watched.check(RETRY_S) == ("r000001", versions(first, champion))


def test_a_challenger_with_another_key_is_refused(watched, bundles):
    other = narrow_bundle(watched.home, key="customer")
    write_canary(watched.home, 1, bundles[0], other, 0.5)
    assert watched.check() == (CHAMPION, {CHAMPION: bundles[0].name})
    assert "its key column is 'customer', the champion's is 'id', expected the same" in watched.watcher.refused


def test_an_unreadable_pointer_ends_a_policy_and_the_champion_answers(watched, bundles):
    champion, first, _ = bundles
    write_canary(watched.home, 1, champion, first, 0.5)
    watched.check()
    (watched.home / "champion.json").write_text("{half")
    assert watched.check() == (CHAMPION, {CHAMPION: champion.name})
    assert watched.watcher.refused.startswith("champion.json: cannot be read")


def test_a_service_without_a_pointer_has_no_policies(watched, bundles):
    write_canary(watched.home, 1, bundles[0], bundles[1], 0.5)
    alone = ModelWatcher(lambda: bundles[0], home=watched.home)
    alone.check()
    assert (alone.router.champion.policy, alone.router.is_split) == (CHAMPION, False)
