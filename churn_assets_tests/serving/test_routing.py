"""Canary and A/B: which model answers whom, by every route, and what is logged and counted of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from churn_assets.promotion.pointer import champion_bundle
from churn_assets.release.counts import counts_folder, read_counts
from churn_assets.release.policy import CHALLENGER, CHAMPION, share_of, write_policy
from churn_assets.serving.open_inference.customers import describe_inputs
from churn_assets.serving.routing.counts import KEPT_S, ArmCounter, CountsWriter, SplitRows
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, json_rows, scorer_of
from churn_assets_tests.serving.client import ask, assert_refusal, home_with_champion, make_bundle
from churn_assets_tests.serving.policies import MOST_SENT, SALT, in_force, narrow_bundle, policy_of, write_canary

INFER = "/v2/models/churn/infer"
ROWS = json_rows(customers(60, seed=21))
IDS = [str(row["id"]) for row in ROWS]


def chosen(weight):
    return {name: CHALLENGER if share_of(SALT, name) < weight else CHAMPION for name in IDS}


def home_with_canary(home, weight=0.5, challenger=None):
    """(home, champion's bundle, challenger's bundle)."""
    home_with_champion(home)
    champion = champion_bundle(home)
    challenger = challenger or make_bundle(home, "logistic")
    write_canary(home, 1, champion, challenger, weight)
    return home, champion, challenger


def v2(rows):
    tensors = [
        {"name": t.name, "datatype": t.datatype, "shape": [len(rows)], "data": [row[t.name] for row in rows]}
        for t in describe_inputs(CONTRACT)
    ]
    return {"inputs": tensors, "parameters": {"as_of": AS_OF}}


def predictions(home):
    return [row for row in rows_of(home / "predlog") if row["kind"] == "prediction"]


def test_every_route_gives_a_customer_the_same_arm(tmp_path):
    home, champion, challenger = home_with_canary(tmp_path)
    expected = chosen(0.5)
    versions = {CHAMPION: champion.name, CHALLENGER: challenger.name}
    scores = {name: scorer_of(kind).score_table(customers(60, seed=21), AS_OF).probability.tolist()
              for name, kind in ((CHAMPION, "boosted"), (CHALLENGER, "logistic"))}  # fmt: skip
    assert set(expected.values()) == {CHAMPION, CHALLENGER}

    async def question(client, worker):
        alone = [(await client.post("/predict", json={**row, "as_of": AS_OF})).json() for row in ROWS]
        batch = await client.post("/predict_batch", json={"customers": ROWS, "as_of": AS_OF})
        single = [(await client.post(INFER, json=v2([row]))).json() for row in ROWS[:5]]
        return alone, batch.json()["predictions"], single, (await client.post(INFER, json=v2(ROWS))).json()

    alone, batch, single, many = ask(home, question)
    for place, (name, one, other) in enumerate(zip(IDS, alone, batch, strict=True)):
        assert one["model_version"] == other["model_version"] == versions[expected[name]]
        assert one["churn_probability"] == pytest.approx(scores[expected[name]][place], abs=1e-9)
        assert other["churn_probability"] == pytest.approx(scores[expected[name]][place], abs=1e-12)
    outputs = {output["name"]: output["data"] for output in many["outputs"]}
    assert many["model_version"] == ""
    assert outputs["model_version"] == [versions[expected[name]] for name in IDS]
    assert [answer["model_version"] for answer in single] == outputs["model_version"][:5]
    logged = predictions(home)
    assert len(logged) == 3 * len(ROWS) + 5
    for row in logged:
        assert (row["policy"], row["arm"], row["status"]) == ("r000001", expected[row["customer_id"]], "ok")
        assert row["model_version"] == versions[row["arm"]]


def test_an_id_in_another_spelling_has_the_same_arm_and_a_row_without_one_goes_by_its_prediction(tmp_path):
    home, _, _ = home_with_canary(tmp_path)

    async def question(client, worker):
        spellings = [{**ROWS[0], "id": name} for name in (4711, 4711.0, " 4711 ", "4711.0", "4711")]
        anonymous = [{key: cell for key, cell in ROWS[0].items() if key != "id"}] * 40
        for row in (*spellings, *anonymous):
            assert (await client.post("/predict", json={**row, "as_of": AS_OF})).status_code == 200
        await client.post("/predict_batch", json={"customers": anonymous, "as_of": AS_OF})

    ask(home, question)
    logged = predictions(home)
    assert len({row["arm"] for row in logged if row["customer_id"] == "4711"}) == 1
    nobody = [row for row in logged if row["customer_id"] is None]
    assert {row["arm"] for row in nobody} == {CHAMPION, CHALLENGER}
    for row in nobody:
        assert (row["arm"] == CHALLENGER) == (share_of(SALT, row["prediction_id"]) < 0.5)


def test_the_champion_answers_a_row_that_the_challenger_refuses(tmp_path):
    home, champion, _ = home_with_canary(tmp_path, 1.0, narrow_bundle(tmp_path))
    few, many = {**ROWS[0], "sent": MOST_SENT}, {**ROWS[1], "sent": MOST_SENT + 1}

    async def question(client, worker):
        for row in (few, many):
            assert (await client.post("/predict", json={**row, "as_of": AS_OF})).status_code == 200
        batch = await client.post("/predict_batch", json={"customers": [few, many] * 3, "as_of": AS_OF})
        assert batch.status_code == 200
        bad = {**few, "sent": -1}
        assert_refusal(await client.post("/predict", json={**bad, "as_of": AS_OF}), 422)
        body = {"customers": [few, many, bad], "as_of": AS_OF}
        (fault,) = assert_refusal(await client.post("/predict_batch", json=body), 422)["detail"]
        assert (fault["row"], fault["column"], fault["expected"]) == (2, "sent", "a whole number from 0 to 1000")

    ask(home, question)
    logged = predictions(home)
    assert len(logged) == 8
    for row in logged:
        is_refused = row["features"]["sent"] > MOST_SENT
        assert (row["arm"], row["status"]) == ((CHAMPION, "fallback") if is_refused else (CHALLENGER, "ok"))
        assert (row["model_version"] == champion.name) == is_refused
    counts = read_counts(home, "r000001")
    assert counts.arms.keys() == {CHALLENGER}, "rows of a fallback are no rows of the champion"
    arm = counts.arms[CHALLENGER]
    assert (arm.rows, arm.refused, arm.errors) == (4, 4, 0)
    assert (sum(arm.scores), sum(arm.seconds.values())) == (4, 1), "the time of a batch is no row's own"


def test_the_champion_answers_where_the_challenger_fails_and_only_its_own_failure_fails_the_request(tmp_path, capfd):
    home, champion, _ = home_with_canary(tmp_path)
    expected = chosen(0.5)

    async def question(client, worker):
        arms = worker.watcher.router.arms

        def fail(*_):
            raise ZeroDivisionError("customer 4711")

        broken = arms[CHALLENGER].model.customers
        broken.score = broken.score_many = fail
        for row in ROWS:
            assert (await client.post("/predict", json={**row, "as_of": AS_OF})).status_code == 200
        batch = await client.post("/predict_batch", json={"customers": ROWS, "as_of": AS_OF})
        assert [p["model_version"] for p in batch.json()["predictions"]] == [champion.name] * len(ROWS)
        trial = {"x-churn-test": "1"}
        assert (await client.post("/predict_batch", json={"customers": ROWS}, headers=trial)).status_code == 200
        metrics = (await client.get("/metrics")).text
        await asyncio.sleep(1.1)  # once the counts are written, the log has the reason
        arms[CHAMPION].model.customers.score = fail
        own = next(row for row in ROWS if expected[row["id"]] == CHAMPION)
        assert_refusal(await client.post("/predict", json={**own, "as_of": AS_OF}), 500)
        return metrics

    metrics = ask(home, question)
    fallen = sum(arm == CHALLENGER for arm in expected.values())
    assert f'{{arm="champion",model_version="{champion.name}",status="fallback"}} {3.0 * fallen}' in metrics
    counts = read_counts(home, "r000001")
    assert (counts.arms[CHALLENGER].rows, counts.arms[CHALLENGER].errors) == (0, 2 * fallen), "a trial does not count"
    assert (counts.arms[CHAMPION].rows, counts.arms[CHAMPION].errors) == (2 * (len(ROWS) - fallen), 1)
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (reason,) = {event["reason"] for event in events if event["event"] == "an arm failed"}
    assert reason.startswith("ZeroDivisionError in fail, test_routing.py:")
    assert "4711" not in reason


def test_the_arms_of_an_ab_answer_their_shares(tmp_path):
    home = home_with_champion(tmp_path)
    champion = champion_bundle(home)
    bundles = {"left": make_bundle(home, "logistic"), "right": make_bundle(home, "network"), CHAMPION: champion}
    arms = {"left": (bundles["left"], 0.25), "right": (bundles["right"], 0.25), CHAMPION: (champion, 0.5)}
    policy = policy_of(home, 7, "ab", arms)
    write_policy(home, policy)

    async def question(client, worker):
        await client.post("/predict_batch", json={"customers": ROWS})
        return await client.post("/predict_batch", json={"customers": ROWS}), (await client.get("/metrics")).text

    answer, metrics = ask(home, question)
    expected = {name: policy.choose(share_of(SALT, name)).name for name in IDS}
    assert set(expected.values()) == set(bundles)
    given = [p["model_version"] for p in answer.json()["predictions"]]
    assert given == [bundles[expected[name]].name for name in IDS]
    counted = read_counts(home, "r000007").arms.values()
    assert sum(arm.rows for arm in counted) == 2 * len(ROWS)
    assert sum(arm.customers for arm in counted) == len(set(IDS))
    for name, bundle in bundles.items():
        assert f'churn_model_info{{arm="{name}",contract="tiny",kind=' in metrics
        assert f'churn_model_load_seconds{{model_version="{bundle.name}"}}' in metrics
        assert f'churn_model_memory_bytes{{model_version="{bundle.name}"}}' in metrics
    assert 'churn_release_policy_info{kind="ab",policy="r000007"} 1.0' in metrics


def test_a_client_may_name_a_version_and_the_row_says_so(tmp_path):
    home, champion, challenger = home_with_canary(tmp_path)

    async def question(client, worker):
        path = "/v2/models/churn"
        for bundle in (champion, challenger):
            answer = (await client.post(f"{path}/versions/{bundle.name}/infer", json=v2(ROWS[:10]))).json()
            assert answer["model_version"] == bundle.name
            assert (await client.get(f"{path}/versions/{bundle.name}")).status_code == 200
        other = await client.post(f"{path}/versions/{'0' * 16}/infer", json=v2(ROWS[:1]))
        return (await client.get(path)).json()["versions"], other

    versions, other = ask(home, question)
    assert versions == [champion.name, challenger.name]
    assert (other.status_code, f"{champion.name} or {challenger.name}" in other.json()["error"]) == (404, True)
    logged = predictions(home)
    assert [row["model_version"] for row in logged] == [champion.name] * 10 + [challenger.name] * 10
    assert {(row["policy"], row["arm"]) for row in logged} == {("direct", CHAMPION), ("direct", CHALLENGER)}
    assert not counts_folder(home, "r000001").exists(), "an arm that the client chose tells nothing of the policy"


def test_policies_replace_each_other_and_what_was_before_is_shown_as_0(tmp_path):
    home, champion, challenger = home_with_canary(tmp_path)

    async def question(client, worker):
        seen = []

        async def answered(policy_id):
            await in_force(worker, policy_id)
            seen.append({(await client.post("/predict", json={**row, "as_of": AS_OF})).json()["model_version"]
                         for row in ROWS[:20]})  # fmt: skip

        await answered("r000001")
        write_policy(home, policy_of(home, 2, "champion", {CHAMPION: (champion, 1.0)}))
        await answered("r000002")
        write_policy(home, policy_of(home, 3, "shadow", {CHALLENGER: (challenger, 0.0), CHAMPION: (champion, 1.0)}))
        await answered("r000003")
        (home / "policy.json").write_text('{"half')
        await answered("champion")
        ready = (await client.get("/readyz")).json()["detail"]["model_refused"]
        (home / "policy.json").unlink()
        write_policy(home, policy_of(home, 4, "champion", {CHAMPION: (challenger, 1.0)}))  # is not the pointer's
        async with asyncio.timeout(30):
            while worker.watcher.refused is not None:
                await asyncio.sleep(0.01)
        await answered("champion")
        return seen, ready, (await client.get("/metrics")).text

    seen, ready, metrics = ask(home, question)
    assert seen == [{champion.name, challenger.name}] + [{champion.name}] * 4
    assert ready.startswith("policy.json: cannot be read"), ready
    assert str(home) not in ready
    assert {row["policy"] for row in predictions(home)} == {"r000001", "r000002", "r000003", "champion"}
    shown = {line.rpartition("} ")[0]: line.rpartition(" ")[2] for line in metrics.splitlines()}
    for policy, kind, value in (
        ("r000001", "canary", "0.0"),
        ("r000003", "shadow", "0.0"),
        ("champion",) * 2 + ("1.0",),
    ):
        assert shown[f'churn_release_policy_info{{kind="{kind}",policy="{policy}"'] == value
    info = f'churn_model_info{{arm="challenger",contract="tiny",kind="logistic",model_version="{challenger.name}"'
    assert shown[info] == "0.0"


def test_the_rows_of_a_shadow_are_offered_once_they_are_on_disk_and_no_others(tmp_path):
    home, champion, challenger = home_with_canary(tmp_path)

    class Feed:
        def __init__(self):
            self.rows = []

        def offer(self, lines):
            on_disk = {row["prediction_id"] for row in predictions(home)}
            own = [json.loads(line) for line in lines.splitlines()]
            assert {row["prediction_id"] for row in own} <= on_disk
            self.rows += own

    async def question(client, worker):
        feed = Feed()
        worker.shadow.offer = feed.offer
        await client.post("/predict_batch", json={"customers": ROWS[:5]})
        assert feed.rows == []
        write_policy(home, policy_of(home, 2, "shadow", {CHALLENGER: (challenger, 0.0), CHAMPION: (champion, 1.0)}))
        await in_force(worker, "r000002")
        await client.post("/predict", json={**ROWS[0], "as_of": AS_OF})
        await client.post("/predict_batch", json={"customers": ROWS[:3], "as_of": AS_OF})
        await client.post(INFER, json=v2(ROWS[:2]))
        return feed.rows

    rows = ask(home, question)
    assert [row["customer_id"] for row in rows] == [IDS[0], *IDS[:3], *IDS[:2]]
    assert {(row["policy"], row["arm"], row["model_version"]) for row in rows} == {("r000002", CHAMPION, champion.name)}


def test_counts_that_could_not_be_written_are_written_later_also_those_of_a_replaced_policy(tmp_path):
    writer, first, second = CountsWriter(tmp_path), ArmCounter("r000001"), ArmCounter("r000002")
    (tmp_path / "releases").write_text("no folder")
    writer.follow(first)
    first.count(SplitRows(errors=Counter({CHALLENGER: 2})))
    with pytest.raises(OSError, match="releases"):
        writer.write()
    (tmp_path / "releases").unlink()
    writer.follow(second)
    first.count(SplitRows(refused=Counter({CHALLENGER: 1})))
    second.count(SplitRows(errors=Counter({CHAMPION: 3}), test=True))
    writer.write()
    arm = read_counts(tmp_path, "r000001").arms[CHALLENGER]
    assert (arm.errors, arm.refused) == (2, 1)
    assert not counts_folder(tmp_path, "r000002").exists()
    (path,) = counts_folder(tmp_path, "r000001").iterdir()
    written = path.stat().st_mtime_ns
    for _ in range(KEPT_S):
        writer.write()
    assert path.stat().st_mtime_ns == written, "nothing has changed"
    first.count(SplitRows(errors=Counter({CHALLENGER: 1})))  # later than a request may take
    writer.write()
    assert read_counts(tmp_path, "r000001").arms[CHALLENGER].errors == 2


def test_an_exception_of_the_guardrails_ends_nothing_and_they_look_again(tmp_path):
    home = home_with_champion(tmp_path)

    async def question(client, worker):
        looks = []

        class Guard:
            def check(self):
                looks.append(1)
                raise ValueError("once more")

        worker.guard = Guard()
        async with asyncio.timeout(10):
            while len(looks) < 2:
                await asyncio.sleep(0.02)

    ask(home, question)
