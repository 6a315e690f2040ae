"""POST /explain, /counterfactual and /anchor, in process but for the process that computes them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal

import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.promotion.pointer import champion_bundle
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.explain import background
from churn_assets.serving.schemas import EXPLANATIONS
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, json_rows, scorer_of, training
from churn_assets_tests.serving.client import ASKED, ROW, ask, assert_refusal, make_bundle, post, promote


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose champion can explain."""
    home = tmp_path_factory.mktemp("explained")
    scorer = scorer_of("boosted")
    _, matrix, _ = training()
    known = background(scorer.model, scorer.program.specs, matrix)
    marked = TEXT.replace('doc = "E-mails sent."', 'doc = "E-mails sent."\nchangeable = "up"')
    scorer = dataclasses.replace(scorer, background=known, contract=parse_contract(marked))
    bundle = write_bundle(
        home / "bundles",
        scorer,
        card={"metrics": {"test_pr_auc": 0.9}, "as_of": AS_OF},
        golden=customers(40, seed=8),
        as_of=AS_OF,
        reference=customers(2000, seed=9),
        provenance={"made_at": "2026-11-21T00:00:00+00:00"},
    )
    promote(home, bundle)
    return home


def test_an_explanation_adds_up_to_the_log_odds_that_predict_logs(home):
    async def question(client, worker):
        await client.post("/predict", json=ASKED)
        return (await client.post("/explain", json={**ASKED, "id": "c7"})).json()

    told = ask(home, question)
    rows = [row for row in rows_of(home / "predlog") if row["kind"] == "prediction"]
    assert len(rows) == 1, "an explanation is no prediction"
    assert told["log_odds"] == pytest.approx(rows[0]["margin"], abs=1e-6)
    assert told["churn_probability"] == rows[0]["score"]
    total = told["base_log_odds"] + sum(part["contribution"] for part in told["contributions"])
    assert total == pytest.approx(told["log_odds"], abs=1e-4)
    assert sum(part["contribution"] for part in told["topics"]) + told["base_log_odds"] == pytest.approx(total)
    assert (told["customer_id"], told["exact"], told["as_of"]) == ("c7", True, AS_OF)
    assert {part["feature"] for part in told["contributions"]} == set(load_bundle(champion_bundle(home)).program.names)


def test_what_a_counterfactual_proposes_is_under_the_threshold_of_predict(home):
    rows = [{**row, "as_of": AS_OF} for row in json_rows(customers(20, seed=5))]

    async def question(client, worker):
        statuses = []
        for row in rows:
            told = (await client.post("/counterfactual", json=row)).json()
            predicted = (await client.post("/predict", json=row)).json()
            assert told["churn_probability"] == predicted["churn_probability"]
            assert told["changeable"] == ["sent"]
            for option in told["counterfactuals"]:
                changed = {**row, **{change["column"]: change["after"] for change in option["changes"]}}
                again = (await client.post("/predict", json=changed)).json()
                assert (again["churn"], again["churn_probability"]) == (False, option["churn_probability"])
            statuses.append(told["status"])
        return statuses

    assert set(ask(home, question)) == {"changed", "below_threshold", "none_found"}


def test_an_anchor_is_a_rule_that_the_customer_fulfils(home):
    told = post(home, "/anchor", ASKED).json()
    assert told["status"] == "holds"
    assert told["precision_low"] >= 0.95
    assert told["conditions"]
    for condition in told["conditions"]:
        own, value = ASKED[condition["column"]], condition["value"]
        assert {"=": own == value, "is missing": own is None}.get(condition["operator"], True)
        if condition["operator"] in ("<=", ">="):
            assert min(own, value) == (own if condition["operator"] == "<=" else value)


@pytest.mark.parametrize("path", EXPLANATIONS)
@pytest.mark.parametrize(
    ("body", "column"),
    [({**ASKED, "sent": -1}, "sent"), ({**ROW, "as_of": "soon"}, "as_of"), ([ROW], ""), ({}, "created")],
)
def test_a_customer_that_breaks_the_contract_is_refused_as_by_predict(home, path, body, column):
    detail = assert_refusal(post(home, path, body), 422)["detail"]
    assert detail[0]["column"] == column
    assert detail == assert_refusal(post(home, "/predict", body), 422)["detail"]


def test_a_full_queue_is_a_503_and_predict_answers_meanwhile(home):
    async def question(client, worker):
        await client.post("/explain", json=ASKED)  # the process has started
        process = await worker.explanations._start
        os.kill(process.pid, signal.SIGSTOP)  # so that the first stays at work
        asked = [asyncio.create_task(client.post("/explain", json=ASKED)) for _ in range(5)]
        refused = [task.result() for task in (await asyncio.wait(asked, timeout=0.5))[0]]
        predicted = await client.post("/predict", json=ASKED)
        os.kill(process.pid, signal.SIGCONT)
        return refused, predicted, [task.result() for task in (await asyncio.wait(asked))[0]]

    refused, predicted, replies = ask(home, question, explain_queue=2)
    assert predicted.status_code == 200
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 503, 503]
    for reply in refused:
        assert "2 explanations wait already" in assert_refusal(reply, 503)["error"]
        assert reply.headers["retry-after"] == "1"


def test_a_killed_process_starts_again(home):
    async def question(client, worker):
        first = await client.post("/explain", json=ASKED)
        process = await worker.explanations._start
        process.kill()
        await process.wait()
        second = await client.post("/explain", json=ASKED)
        return first, second, process.pid, (await worker.explanations._start).pid

    first, second, before, after = ask(home, question)
    assert first.json() == second.json()
    assert before != after


def test_an_explanation_that_hangs_is_ended_and_the_next_is_answered(home):
    async def question(client, worker):
        await client.post("/explain", json=ASKED)
        os.kill((await worker.explanations._start).pid, signal.SIGSTOP)
        late = await client.post("/explain", json=ASKED)
        worker.explanations.timeout_s = 30.0
        return late, await client.post("/explain", json=ASKED)

    late, following = ask(home, question, timeout_s=2.0)
    assert "took more than 2 seconds" in assert_refusal(late, 503)["error"]
    assert following.status_code == 200


def test_a_model_without_background_says_what_to_do(tmp_path):
    promote(tmp_path, make_bundle(tmp_path))
    assert "train again" in assert_refusal(post(tmp_path, "/explain", ASKED), 503)["error"]


def test_explanations_are_counted_by_kind(home):
    async def question(client, worker):
        await client.post("/explain", json=ASKED)
        await client.post("/explain", json={**ASKED, "sent": -1})
        return (await client.get("/metrics")).text

    text = ask(home, question)
    assert 'churn_explanations_total{kind="explain",status="ok"} 1.0' in text
    assert 'churn_explanations_total{kind="explain",status="rejected"} 1.0' in text
