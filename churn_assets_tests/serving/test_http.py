"""Every answer and every refusal of POST /predict, in process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from churn_assets.errors import BundleCorrupt, NoChampion
from churn_assets.scoring.bundle import write_bundle
from churn_assets.scoring.scorer import Scorer
from churn_assets.serving.http import MAX_BODY_BYTES, application
from churn_assets.serving.model import find_bundle, load_model
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows, scorer_of

SCORER = scorer_of("boosted")
CUSTOMERS = customers(20, seed=3)
ROW = json_rows(CUSTOMERS)[0]
BARRED = ("dagster", "mlflow", "sklearn", "torch", "pandas", "evidently", "xgboost", "duckdb", "matplotlib")


def post(body: bytes | Any, load: Callable[[], Scorer] = lambda: SCORER, path: str = "/predict") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(load))
        async with httpx.AsyncClient(transport=transport, base_url="http://churn") as client:
            return await client.post(path, content=content)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    told = {"card": {}, "provenance": {}}
    return write_bundle(root, SCORER, golden=customers(40, seed=8), as_of=AS_OF, reference=CUSTOMERS, **told)


def test_a_customer_gets_the_scorers_answer():
    response = post({**ROW, "as_of": AS_OF})
    expected = SCORER.score_table(CUSTOMERS.slice(0, 1), AS_OF).probability
    assert response.status_code == 200
    assert response.json() == {
        "customer_id": ROW["id"],
        "churn_probability": pytest.approx(expected[0], abs=1e-12),
        "churn": bool(SCORER.decide(expected)[0]),
        "threshold": 0.3,
        "risk_band": str(SCORER.band(expected)[0]),
        "as_of": AS_OF,
        "model_version": SCORER.version,
        "contract": "tiny",
    }


def test_every_row_scores_alone_as_in_the_table():
    together = SCORER.score_table(CUSTOMERS, AS_OF).probability
    alone = [post({**row, "as_of": AS_OF}).json()["churn_probability"] for row in json_rows(CUSTOMERS)]
    assert alone == pytest.approx(together.tolist(), abs=1e-12)


def test_the_id_may_be_left_out_and_today_is_the_default():
    response = post({name: cell for name, cell in ROW.items() if name != "id"})
    assert response.json()["customer_id"] is None
    assert len(response.json()["as_of"]) == 10


@pytest.mark.parametrize(
    ("change", "column", "words"),
    [
        ({"sent": -1}, "sent", "found -1"),
        ({"sent": "many"}, "sent", "found 'many'"),
        ({"city": "Paris"}, "city", "expected one of: BLR, BOM, DEL, MAA"),
        ({"created": "yesterday"}, "created", "found 'yesterday'"),
        ({"sent": None}, "sent", "found null"),
        ({"colour": "red"}, "colour", "found"),
        ({"as_of": "soon"}, "as_of", "expected an ISO date"),
        ({"as_of": 7}, "as_of", "expected an ISO date"),
    ],
)
def test_a_customer_that_breaks_the_contract_is_refused_in_one_line(change, column, words):
    response = post({**ROW, "as_of": AS_OF, **change})
    assert response.status_code == 422
    (line,) = response.json().values()
    assert f"column '{column}'" in line
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{bad", 400, "the body is no JSON"),
        (b"", 400, "the body is no JSON"),
        (b"\xff\xfe", 400, "the body is no JSON"),
        (b"[]", 400, "the body is a JSON list"),
        (b"null", 400, "the body is a JSON NoneType"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "expected at most 65,536"),
        (json.dumps({**ROW, "spent": float("nan")}).encode(), 422, "column 'spent'"),
        (json.dumps({**ROW, "spent": 1}).replace('"spent": 1', '"spent": 1e999').encode(), 422, "column 'spent'"),
        (b"[" * 100_000, 413, "expected at most"),
        (b"[" * 60_000, 400, "the body is no JSON"),
    ],
    ids=["half", "empty", "no utf-8", "list", "null", "large", "NaN", "infinite", "deep and large", "deep"],
)
def test_a_body_that_is_no_customer_is_refused(body, status, words):
    response = post(body)
    assert response.status_code == status
    assert words in response.json()["error"]


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/predict/", 307), ("/score", 404)])
def test_there_is_one_path(path, status):
    assert post(ROW, path=path).status_code == status


def test_without_a_model_the_answer_says_how_to_make_one(tmp_path):
    response = post(ROW, lambda: load_model({"CHURN_HOME": str(tmp_path)}, tmp_path))
    assert response.status_code == 503
    assert "run `make run`" in response.json()["error"]


def test_a_broken_bundle_is_a_503_that_names_it(bundle, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    with pytest.raises(BundleCorrupt):
        load_model({"CHURN_BUNDLE": str(broken)})
    assert post(ROW, lambda: load_model({"CHURN_BUNDLE": str(broken)})).status_code == 503


def test_a_model_that_comes_later_is_found():
    missing = [True]

    def load() -> Scorer:
        if missing.pop():
            raise NoChampion("not yet")
        return SCORER

    async def twice() -> list[int]:
        transport = httpx.ASGITransport(application(load))
        async with httpx.AsyncClient(transport=transport, base_url="http://churn") as client:
            missing.insert(0, False)
            return [(await client.post("/predict", json=ROW)).status_code for _ in range(2)]

    assert asyncio.run(twice()) == [503, 200]


def test_the_bundle_is_the_one_named_else_packed_else_the_champion(bundle, tmp_path):
    (tmp_path / "bundle").symlink_to(bundle)
    assert find_bundle({"CHURN_BUNDLE": "x", "CHURN_HOME": "y"}, tmp_path) == Path("x")
    assert find_bundle({"CHURN_HOME": str(tmp_path)}, tmp_path) == tmp_path / "bundle"
    with pytest.raises(NoChampion):
        find_bundle({"CHURN_HOME": str(tmp_path)}, tmp_path / "elsewhere")


@pytest.mark.parametrize("module", ["churn_assets.serving.service", "churn_assets.serving.http"])
def test_the_service_loads_and_scores_without_any_training_library(bundle, module):
    code = (
        f"import sys, os, json, {module}\n"
        "from churn_assets.serving.model import load_model\n"
        "from churn_assets.serving.answer import answer\n"
        "import datetime\n"
        f"said = answer(load_model({{'CHURN_BUNDLE': {str(bundle)!r}}}), json.loads({json.dumps(ROW)!r}), "
        "datetime.date(2014, 1, 20))\n"
        f"print(json.dumps([said['churn_probability'], [m for m in {BARRED!r} if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    probability, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert probability == pytest.approx(post({**ROW, "as_of": AS_OF}).json()["churn_probability"], abs=1e-12)
