"""The service under a policy that shadows: its answers, its log, and the end of the process with its worker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import time

import httpx
import msgspec
import psutil

from churn_assets.prediction_log.records import Prediction
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.read import read_lines
from churn_assets.promotion.releases import Releases
from churn_assets.release.counts import read_counts
from churn_assets.release.policy import CHALLENGER, CHAMPION, write_policy
from churn_assets.release.replay import answered_id, replay, shadow_id
from churn_assets.settings import Settings
from churn_assets_tests.prediction_log.home import ask as query
from churn_assets_tests.prediction_log.home import settings as settings_of
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, TEXT, customers, json_rows
from churn_assets_tests.serving.client import in_process, served
from churn_assets_tests.serving.shadow.rig import DECODE, home_with_shadow, scorer_of_arm

ROWS = json_rows(customers(40, seed=3))
OWN = ("prediction_id", "scored_at")  # fields of an answer that no two answers share


def logged(home) -> tuple[dict[str, Prediction], dict[str, Prediction]]:
    """(answers, rows of the shadow) of the log, by id."""
    lines = [line.json for line in read_lines(home / "predlog")]
    rows = [DECODE(line) for line in lines if b'"kind":"prediction"' in line]
    return {r.prediction_id: r for r in rows if not r.shadow}, {r.prediction_id: r for r in rows if r.shadow}


async def answers_of(client):
    """What each route says of the customers."""
    one = [(await client.post("/predict", json={**row, "as_of": AS_OF})).json() for row in ROWS[:20]]
    many = (await client.post("/predict_batch", json={"customers": ROWS[20:], "as_of": AS_OF})).json()["predictions"]
    return [{name: value for name, value in answer.items() if name not in OWN} for answer in (*one, *many)]


def releases_of(home) -> tuple[Releases, str]:
    """The releases of a home with two models, and the version that is not the champion."""
    challenger = home_with_shadow(home).challenger
    assert challenger is not None
    (home / "tiny.toml").write_text(TEXT)
    environ = {"CHURN_HOME": str(home), "CHURN_CONTRACT": str(home / "tiny.toml")}
    return Releases.of(Settings.from_environ(environ)), challenger.version


async def until(holds, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def test_answers_are_the_same_and_each_has_a_row_of_the_shadow(tmp_path):
    """The policy is started and ended by the moves of a release."""
    releases, version = releases_of(tmp_path)

    async def go():
        async with in_process(tmp_path) as (client, worker):
            alone = await answers_of(client)
            assert worker.shadow.pid is None
            policy = releases.shadow(version, "ana", "try it").after
            await until(lambda: worker.shadow.is_scoring)
            pid = worker.shadow.pid
            shadowed = await answers_of(client)
            await client.post("/predict", json={**ROWS[0], "as_of": AS_OF, "sent": -1})  # refused: nothing to shadow
            await client.post("/predict", json=ROWS[0], headers={"x-churn-test": "1"})
            ready = (await client.get("/readyz")).json()
            await until(lambda: read_counts(tmp_path, policy.id).pairs.rows == 40)
            metrics = (await client.get("/metrics")).text
            releases.rollback("ana", "enough")
            await until(lambda: not psutil.pid_exists(pid))
            await client.post("/predict", json=ROWS[0])
            return policy, alone, shadowed, ready, metrics, (await client.get("/metrics")).text

    policy, alone, shadowed, ready, metrics, after = asyncio.run(go())
    seconds = f'churn_model_load_seconds{{model_version="{version}"}} '
    memory = f'churn_model_memory_bytes{{model_version="{version}"}} '
    assert 0.0 < float(metrics.partition(seconds)[2].split()[0]) < 30.0
    assert float(metrics.partition(memory)[2].split()[0]) >= 0.0
    assert f"{seconds}0.0" in after
    assert f"{memory}0.0" in after
    assert shadowed == alone
    assert ready["detail"] == {}
    assert "churn_shadow_dropped_total 0.0" in metrics
    answers, shadows = logged(tmp_path)
    under_policy = {name: row for name, row in answers.items() if row.policy == policy.id}
    assert len(answers) == 40 + 41 + 1
    assert {answered_id(name) for name in shadows} == under_policy.keys()
    assert len(shadows) == 41
    other, champion = (scorer_of_arm(tmp_path, policy, name) for name in (CHALLENGER, CHAMPION))
    for row in under_policy.values():
        assert replay(other, row) == shadows[shadow_id(row.prediction_id)]
        assert abs(replay(champion, row).score - row.score) < 1e-9
    of = settings_of(tmp_path)
    assert ingest(of, CONTRACT).quarantined == 0
    assert query(of, "SELECT (SELECT count(*) FROM predictions WHERE shadow), (SELECT count(*) FROM answers)") == [
        (41, 81)
    ]


def test_a_challenger_that_decides_otherwise_is_thrown_out_and_no_answer_lacks_its_row(tmp_path):
    """The whole way: answers, the process, its counts, its look at the guardrails, the end of the policy and of the
    process. The worker itself does not look."""
    releases, version = releases_of(tmp_path)

    async def go():
        async with in_process(tmp_path) as (client, worker):
            policy = releases.shadow(version, "ana", "try it").after
            await until(lambda: worker.shadow.is_scoring)
            worker.guard = None
            async with asyncio.timeout(60):
                while worker.watcher.router.is_shadowed:
                    await client.post("/predict_batch", json={"customers": ROWS, "as_of": AS_OF})
                    await asyncio.sleep(0.02)
            await until(lambda: worker.shadow.pid is None)
            return policy

    policy = asyncio.run(go())
    answers, shadows = logged(tmp_path)
    under_policy = {name for name, row in answers.items() if row.policy == policy.id}
    assert {answered_id(name) for name in shadows} == under_policy
    assert read_counts(tmp_path, policy.id).pairs.rows == len(shadows) > 200
    assert releases.status().moves[-1].by == "service"


def test_a_policy_whose_champion_is_no_longer_champion_shadows_nothing(tmp_path):
    policy = home_with_shadow(tmp_path)
    arms = tuple(dataclasses.replace(arm, version="another") if arm.name == CHAMPION else arm for arm in policy.arms)
    write_policy(tmp_path, dataclasses.replace(policy, arms=arms))

    async def go():
        async with in_process(tmp_path) as (client, worker):
            await client.post("/predict", json=ROWS[0])
            await asyncio.sleep(0.6)
            return worker.shadow.pid

    assert asyncio.run(go()) is None
    assert logged(tmp_path)[1] == {}


def test_without_a_log_readyz_says_that_nothing_is_shadowed(tmp_path):
    policy = home_with_shadow(tmp_path)
    write_policy(tmp_path, policy)

    async def go():
        async with in_process(tmp_path, log=False) as (client, worker):
            await until(lambda: worker.shadow.problem)
            assert (await client.post("/predict", json=ROWS[0])).status_code == 200
            return (await client.get("/readyz")).json()["detail"]

    detail = asyncio.run(go())
    assert detail == {"log": "off", "shadow": "policy r000001 shadows nothing: the prediction log is off (CHURN_LOG)"}


def children(service: psutil.Process) -> list[psutil.Process]:
    """The living shadows of a service."""
    found = []
    for process in service.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "churn_assets.serving.shadow.process" in process.cmdline():
                found.append(process)
    return found


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; who adopted it may be slow to notice."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait(holds, seconds):
    """The seconds that it takes until it holds."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)
    return time.monotonic() - start


def test_a_shadow_that_is_stopped_ends_with_its_worker(tmp_path):
    """In the service that BentoML starts, with a real supervisor."""
    home = tmp_path / "home"
    home.mkdir()
    policy = home_with_shadow(home)
    write_policy(home, policy)
    with served(tmp_path, home) as (url, supervisor):
        service = psutil.Process(supervisor.pid)
        wait(lambda: children(service), 30)
        (first,) = children(service)
        wait(lambda: first.nice() - service.nice() == 10, 10)
        with httpx.Client(base_url=url) as client:
            for customer in ROWS:
                assert client.post("/predict", json={**customer, "as_of": AS_OF}).status_code == 200
        wait(lambda: logged(home)[1], 20)
        first.send_signal(signal.SIGSTOP)
        os.kill(first.ppid(), signal.SIGKILL)
        assert wait(lambda: has_ended(first), 5.0) < 5.0
    answers, shadows = logged(home)
    challenger = scorer_of_arm(home, policy, CHALLENGER)
    assert shadows
    for row in shadows.values():
        assert msgspec.structs.asdict(replay(challenger, answers[answered_id(row.prediction_id)])) == (
            msgspec.structs.asdict(row)
        )
