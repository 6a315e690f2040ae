"""While the log is replaced the pages stay up; with a follower they show the copy before until the new one is ready."""

from __future__ import annotations

import shutil
import threading

import pytest

from churn_assets.dashboard.follower import IDLE_S, WATCHED_S, LogFollower
from churn_assets.prediction_log.warehouse.published import PublishedLog
from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.dashboard.test_monitoring import changed
from churn_assets_tests.test_home_0_1 import INGESTED, WAITING

HALF = "DELETE FROM predictions WHERE seq % 2 = 0"
COUNT = "SELECT count(*) FROM predictions"


def counted(visitor) -> int:
    return int(visitor.json("/overview.json")["traffic"][2]["requests"]["predictions"])


def test_a_new_copy_is_shown_once_it_is_prepared(settings):
    visitor = visit(settings)
    log, follower = visitor.dashboard.sources.log, LogFollower(visitor.dashboard.sources)
    assert follower.step(log.asked_s)
    assert counted(visitor) == INGESTED
    assert not follower.step(log.asked_s), "there is no newer copy"
    changed(settings, HALF)
    assert counted(visitor) == INGESTED
    assert follower.step(log.asked_s)
    after = counted(visitor)
    assert 0 < after < INGESTED
    (settings.warehouse_dir / "published.duckdb").write_bytes(b"x" * 100_000)
    assert counted(visitor) == after, "the answers were prepared"


def test_the_two_models_that_are_compared_first_are_prepared_too(settings):
    visitor = visit(settings)
    LogFollower(visitor.dashboard.sources).step(visitor.dashboard.sources.log.asked_s)
    shutil.rmtree(settings.bundles_dir / WAITING / "model")
    assert visitor.json("/compare.json")["same_customers"]["rows"] > 0


def test_while_nobody_looks_a_copy_is_prepared_every_few_minutes(settings):
    visitor = visit(settings)
    log, follower = visitor.dashboard.sources.log, LogFollower(visitor.dashboard.sources)
    assert follower.step(log.asked_s + WATCHED_S)
    changed(settings, HALF)
    assert not follower.step(log.asked_s + WATCHED_S + IDLE_S / 2)
    assert follower.step(log.asked_s + WATCHED_S + IDLE_S)


def test_a_copy_that_is_damaged_is_said_and_a_good_one_counts_again(settings):
    visitor = visit(settings)
    log, follower = visitor.dashboard.sources.log, LogFollower(visitor.dashboard.sources)
    follower.step(log.asked_s)
    published = settings.warehouse_dir / "published.duckdb"
    content = published.read_bytes()
    published.unlink()
    published.write_bytes(b"half")
    follower.step(log.asked_s)
    assert "published.duckdb cannot be opened" in visitor.get("/monitoring").text
    published.write_bytes(content)
    follower.step(log.asked_s)
    assert counted(visitor) == INGESTED
    assert visitor.json("/monitoring.json")["problems"] == []


def test_questions_are_answered_while_the_copy_is_replaced(settings):
    log, wrong, asked, stop = PublishedLog(settings), [], [], threading.Event()

    def ask():
        number = 0
        while not stop.is_set():
            number += 1
            count = log.ask(("count", threading.get_ident(), number), lambda db: db.execute(COUNT).fetchall()[0][0])
            if count != INGESTED:
                wrong.append(count)
        asked.append(number)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        changed(settings, "CHECKPOINT")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(asked) == len(threads), "a question has failed"


@pytest.mark.parametrize("path", ["/", "/monitoring", "/customer?id=C00000214"])
def test_a_copy_that_is_gone_takes_its_part_away(settings, path):
    visitor = visit(settings)
    visitor.get(path)
    (settings.warehouse_dir / "published.duckdb").unlink()
    visitor.get(path)
