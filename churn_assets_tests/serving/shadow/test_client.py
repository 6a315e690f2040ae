"""The shadow process and the worker's side of it: rows, counts, and every way in which the process may fail."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time

import msgspec
import psutil
import pytest

from churn_assets.release.counts import read_counts
from churn_assets.release.policy import CHALLENGER, CHAMPION
from churn_assets.release.replay import replay, shadow_id
from churn_assets_tests.serving.shadow.rig import answered, home_with_shadow, lines_of, rig, scorer_of_arm


@pytest.fixture(scope="module")
def policy(home):
    return home_with_shadow(home)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("shadowed")


@pytest.fixture(autouse=True)
def empty(home):
    """Each test begins without a log and without counts."""
    yield
    for path in (*(home / "predlog").glob("*"), *(home / "releases").rglob("*.json")):
        path.unlink()


def test_rows_are_logged_as_a_replay_gives_them_and_counted(home, policy):
    records = answered(home, policy, 150)
    trials = answered(home, policy, 10, 2, test=True)
    others = answered(home, policy, 5, 3, policy="r000000") + answered(home, policy, 5, 4, model_version="x")

    async def go():
        async with rig(home, policy) as own:
            own.shadow.offer(lines_of(records[:1]))  # nobody looked at the policy yet
            await own.started()
            for record in records:
                own.shadow.offer(lines_of([record]))
            own.shadow.offer(lines_of(trials + others))
            await own.until(lambda: own.metrics.rows["ok"] == 160)
            seen = own.shadow.problem
        return own, seen

    own, problem = asyncio.run(go())
    challenger = scorer_of_arm(home, policy, CHALLENGER)
    expected = {shadow_id(r.prediction_id): replay(challenger, r) for r in records + trials}
    assert own.rows() == expected
    assert all(row.shadow for row in expected.values())
    assert (problem, own.reported) == ("", [])
    counts = read_counts(home, policy.id)
    champion, other = counts.arms[CHAMPION], counts.arms[CHALLENGER]
    own_rows = [expected[shadow_id(record.prediction_id)] for record in records]
    assert champion.rows == other.rows == counts.pairs.rows == 150
    assert sum(champion.seconds.values()) == sum(other.seconds.values()) == 150
    assert champion.called == sum(record.decision for record in records)
    assert other.called == sum(row.decision for row in own_rows)
    differences = [row.score - record.score for row, record in zip(own_rows, records, strict=True)]
    assert counts.pairs.flips == sum(a.decision != b.decision for a, b in zip(own_rows, records, strict=True)) > 0
    assert counts.pairs.difference_sum == pytest.approx(sum(differences))
    assert counts.pairs.difference_squares == pytest.approx(sum(d * d for d in differences))
    assert other.score_sum == pytest.approx(sum(row.score for row in own_rows))
    assert counts.pairs.dropped == 0


def test_a_process_that_is_stopped_costs_rows_and_nothing_else(home, policy):
    records = answered(home, policy, 100)
    lines = [lines_of([record]) for record in records]

    async def go():
        async with rig(home, policy, shadow_queue=500) as own:
            pid = await own.started()
            assert own.shadow.is_judging
            os.kill(pid, signal.SIGSTOP)
            slowest, offered = 0.0, 0
            while own.metrics.rows["dropped"] < 1000:
                for line in lines:
                    start = time.perf_counter()
                    own.shadow.offer(line)
                    slowest = max(slowest, time.perf_counter() - start)
                    offered += 1
                await asyncio.sleep(0.01)
            await own.until(lambda: "has not gone on" in own.shadow.problem)
            assert not own.shadow.is_judging, "the worker looks at the guardrails in its place"
            assert own.shadow.pid == pid
            held = own.shadow.held_bytes
            os.kill(pid, signal.SIGCONT)
            await own.until(lambda: own.metrics.rows["ok"] == offered - own.metrics.rows["dropped"])
            await own.until(lambda: not own.shadow.problem)
            await own.until(lambda: read_counts(home, policy.id).pairs.dropped == own.metrics.rows["dropped"])
            return offered, slowest, held, pid == own.shadow.pid, own

    offered, slowest, held, is_same, own = asyncio.run(go())
    assert is_same, "a process that was stopped goes on"
    assert slowest < 0.05
    assert held <= 500 * 1000 + 2**20, "the queue and what the pipe has not taken"
    assert own.metrics.rows["ok"] + own.metrics.rows["dropped"] == offered
    assert read_counts(home, policy.id).arms[CHALLENGER].errors == 0


def test_a_process_that_is_killed_is_started_again_and_its_row_is_an_error(home, policy):
    records = answered(home, policy, 300)

    async def go():
        async with rig(home, policy) as own:
            first = await own.started()
            os.kill(first, signal.SIGSTOP)
            own.shadow.offer(lines_of(records[:200]))
            await own.until(lambda: own.shadow.queued_rows == 0)  # they are in the pipe
            os.kill(first, signal.SIGKILL)
            await own.until(lambda: own.reported)
            own.shadow.offer(lines_of(records[200:]))
            second = await own.started()
            await own.until(lambda: own.metrics.rows["ok"] == 100)
            return first, second, own

    first, second, own = asyncio.run(go())
    assert first != second
    assert own.reported == ["the shadow process has ended (signal 9); it starts again in 1 seconds"]
    assert own.metrics.rows == {"ok": 100, "error": 1, "dropped": 199}
    assert len(own.rows()) == 100
    counts = read_counts(home, policy.id)
    assert (counts.arms[CHALLENGER].errors, counts.pairs.dropped) == (1, 199)


def test_a_policy_that_ends_ends_the_process_with_all_its_rows_written(home, policy):
    records = answered(home, policy, 200)

    async def go():
        async with rig(home, policy) as own:
            pid = await own.started()
            own.shadow.offer(lines_of(records))
            own.policy = None
            await own.until(lambda: not psutil.pid_exists(pid))
            assert own.shadow.pid is None
            own.shadow.offer(lines_of(records))  # nobody wants them
            again = dataclasses.replace(policy, id="r000002")
            own.policy = again
            assert await own.started() != pid
            return own, again

    own, _ = asyncio.run(go())
    assert len(own.rows()) == 200
    assert own.metrics.rows == {"ok": 200}
    assert not list((home / "predlog").glob("*.open"))


def test_a_stop_of_the_worker_ends_a_process_that_hangs(home, policy):
    async def go():
        async with rig(home, policy) as own:
            pid = await own.started()
            os.kill(pid, signal.SIGSTOP)
            own.shadow.offer(lines_of(answered(home, policy, 20)))
            start = time.monotonic()
        return pid, time.monotonic() - start

    pid, seconds = asyncio.run(go())
    assert not psutil.pid_exists(pid)
    assert seconds < 5.0


def test_without_a_log_nothing_is_shadowed_and_it_is_said_once(home, policy):
    async def go():
        async with rig(home, policy, log=False) as own:
            await own.until(lambda: own.shadow.problem)
            await asyncio.sleep(0.6)
            own.shadow.offer(lines_of(answered(home, policy, 1)))
            return own.shadow.pid, own.shadow.problem, own.reported

    pid, problem, reported = asyncio.run(go())
    assert (pid, reported) == (None, [problem])
    assert problem == "policy r000001 shadows nothing: the prediction log is off (CHURN_LOG)"


def test_a_process_that_cannot_start_is_a_problem_and_no_error_of_the_challenger(home, policy):
    """The bundle is not the one of the policy. Rows wait until it starts; none was lost in it."""
    arms = tuple(dataclasses.replace(arm, sha256="0" * 64) if arm.name == CHALLENGER else arm for arm in policy.arms)
    wrong = dataclasses.replace(policy, arms=arms)

    async def go():
        async with rig(home, wrong) as own:
            await own.until(lambda: own.shadow.pid)
            own.shadow.offer(lines_of(answered(home, policy, 3)))
            await own.until(lambda: own.reported)
            return own.shadow.problem, own.reported, own.metrics.rows

    problem, reported, rows = asyncio.run(go())
    assert rows["error"] == 0
    assert CHALLENGER not in read_counts(home, wrong.id).arms
    assert "expected 000000000000... as the policy has it" in problem
    assert problem.endswith("it starts again in 1 seconds")
    assert len(reported) == 1
    assert len(problem.splitlines()) == 1


def test_what_the_challenger_refuses_or_cannot_score_is_counted_apart(home, policy):
    records = answered(home, policy, 30)
    refused = [msgspec.structs.replace(r, prediction_id=f"x{i}", features={}) for i, r in enumerate(records[:7])]
    damaged = [b"{half\n", b"\n", b'{"kind":"rejections"}\n']

    async def go():
        async with rig(home, policy) as own:
            await own.started()
            own.shadow.offer(lines_of(refused) + b"".join(damaged) + lines_of(records))
            await own.until(lambda: own.metrics.rows["ok"] == 30)
            return own.shadow.problem, own.metrics.rows

    problem, rows = asyncio.run(go())
    assert rows == {"ok": 30, "refused": 7}
    assert problem == "the champion scores 7 rows otherwise than they were answered"
    counts = read_counts(home, policy.id)
    assert (counts.arms[CHALLENGER].refused, counts.arms[CHALLENGER].rows, counts.pairs.rows) == (7, 30, 30)
    assert counts.arms[CHAMPION].rows == 37
