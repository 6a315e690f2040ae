"""The other routes, and what holds of all of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import json
import re
import threading
import time
from html.parser import HTMLParser

import httpx
import pytest

from churn_assets.errors import LogBusy
from churn_assets.prediction_log.segment import Segment
from churn_assets.promotion.pointer import require_champion
from churn_assets.scoring.bundle import write_ladder
from churn_assets.serving.pages import index_page
from churn_assets.serving.pages.reference import reference_page
from churn_assets.serving.routes import Handlers, routes
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT
from churn_assets_tests.serving.client import ASKED, ROW, SCORER, ask, assert_refusal, home_with_champion, post

REPORT = {"prediction_id": "p1", "churned": True, "observed_at": "2014-04-20"}


def get(home, path, method="GET", **options) -> httpx.Response:
    return ask(home, lambda client, worker: client.request(method, path), **options)


def test_feedback_is_durable_as_predictions_are(tmp_path):
    reports = [
        REPORT,
        {"customer_id": "c1", "churned": False, "observed_at": "2014-04-20T10:00:00+02:00", "contacted": True},
    ]
    payload = post(tmp_path, "/feedback", reports).json()
    assert payload["accepted"] == 2
    rows = list(rows_of(tmp_path / "predlog"))
    assert [row["feedback_id"] for row in rows] == payload["feedback_ids"]
    assert [row["kind"] for row in rows] == ["feedback", "feedback"]
    assert rows[0]["observed_at"] == "2014-04-20T00:00:00+00:00"
    assert rows[1]["observed_at"] == "2014-04-20T08:00:00+00:00"
    assert post(tmp_path, "/feedback", REPORT).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"prediction_id": None}, "prediction_id"),
        ({"prediction_id": 7}, "prediction_id"),
        ({"prediction_id": "x" * 201}, "prediction_id"),
        ({"churned": "yes"}, "churned"),
        ({"churned": None}, "churned"),
        ({"contacted": 1}, "contacted"),
        ({"observed_at": "2999-01-01"}, "observed_at"),
        ({"observed_at": "soon"}, "observed_at"),
        ({"observed_at": None}, "observed_at"),
        ({"observed_at": "0001-01-01T00:00:00+23:00"}, "observed_at"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_report_that_is_not_one_is_refused(tmp_path, change, column):
    (fault,) = assert_refusal(post(tmp_path, "/feedback", [REPORT, {**REPORT, **change}]), 422)["detail"]
    assert (fault["row"], fault["column"]) == (1, column)
    assert not [row for row in rows_of(tmp_path / "predlog") if row["kind"] == "feedback"]


@pytest.mark.parametrize("body", [[], [3], "x"])
def test_feedback_is_one_report_or_many(tmp_path, body):
    assert_refusal(post(tmp_path, "/feedback", body), 422)


def test_the_model_is_described(home):
    payload = get(home, "/model").json()
    assert payload["version"] == get(home, "/readyz").json()["model_version"]
    assert payload["metrics"] == {"test_pr_auc": 0.9}
    assert payload["trained_at"] == "2026-11-21T00:00:00+00:00"
    assert payload["thresholds"] == dict(SCORER.thresholds.values)
    assert [column["name"] for column in payload["columns"]] == ["id", *(c.name for c in CONTRACT.scoring_columns)]
    assert str(home) not in json.dumps(payload)


LADDER = {
    "recipe": "boosted trees",
    "sentences": ["At random .977, out of time .517.", "Without e-mail columns .433."],
    "rungs": [{"words": "all columns", "left_out": [], "random": {"pr_auc": 0.9, "low": 0.8, "high": 0.95}}],
    "bands": [{"words": "0 to 30 days", "rows": 7, "churners": 1}],
    "suspects": ["sent"],
    "findings": [],
    "columns": {"sent": {}},
}


def test_the_model_has_its_ladder_once_it_was_computed_for_this_version(tmp_path):
    home = home_with_champion(tmp_path)
    assert get(home, "/model").json()["ladder"] is None
    bundle = require_champion(home).path(home)
    write_ladder(bundle, bundle.name, LADDER)
    assert get(home, "/model").json()["ladder"] == {k: v for k, v in LADDER.items() if k != "columns"}
    write_ladder(bundle, "another", LADDER)
    assert get(home, "/model").json()["ladder"] is None


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        if tag in ("input", "select"):
            self.fields.append(facts["name"])
        if facts.get("src") or (tag == "link" and facts.get("href")):
            self.fetched.append(facts.get("src") or facts["href"])
        if tag not in ("meta", "input", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_has_a_field_for_each_column_and_fetches_nothing(home):
    page = _Page()
    response = get(home, "/")
    page.feed(response.text)
    assert response.headers["content-type"].startswith("text/html")
    assert page.fields == ["id", *(c.name for c in CONTRACT.scoring_columns), "as_of"]
    assert page.fetched == []
    assert page.open == []


def test_the_page_begins_with_a_customer_of_the_middle_and_says_where_to_send_it(home):
    text = html.unescape(get(home, "/").text)
    customer = json.loads(re.search(r"-d '(.*?)' <span id=\"url\">", text)[1])
    answer = post(home, "/predict", customer).json()
    assert {warning["column"] for warning in answer["warnings"]} <= {"as_of"}
    for name, value in customer.items():
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert re.search(rf'name="{name}"[^>]*(value="|>.*?<option selected>){re.escape(shown)}["<]', text), name
    assert "new URL('./predict', location.href)" in text


def test_the_page_leads_to_the_dashboard_where_its_address_is_known(home):
    link = '<a href="http://localhost:3001/">dashboard</a>'
    assert link in get(home, "/").text
    assert link in index_page(None, "nothing", "nonce", "http://localhost:3001")
    assert "dashboard" not in index_page(None, "nothing", "nonce")


def test_swagger_is_served_from_here(home):
    page = _Page()
    page.feed(get(home, "/docs").text)
    assert page.fetched
    assert all(source.startswith("./static_content/") for source in page.fetched)


def test_the_reference_has_every_route_schema_and_field_of_the_document_and_fetches_nothing(home):
    response, document = get(home, "/redoc"), get(home, "/docs.json").json()
    page = _Page()
    page.feed(response.text)
    assert (page.fetched, page.open) == ([], [])
    assert "<script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    text = html.unescape(response.text)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            (section,) = re.findall(rf"</span> <code>{re.escape(path)}</code></h3>\n(.*?)</section>", text, re.S)[
                [*item].index(method) :
            ][:1]
            assert operation["summary"] in section
            assert set(re.findall(r"<td><code>(\d{3})</code>", section)) == operation["responses"].keys()
            for parameter in operation.get("parameters", ()):
                assert f"<code>{parameter['name']} ({parameter['in']})</code>" in section
    for name, schema in document["components"]["schemas"].items():
        (section,) = re.findall(rf'<h3 id="schema-{name}">(.*?)</section>', text, re.S)
        assert set(re.findall(r"<tr><td><code>(\w+)</code>", section)) == schema.get("properties", {}).keys()
    targets = re.findall(r'href="#([^"]+)"', text)
    assert set(targets) <= set(re.findall(r' id="([^"]+)"', text)), "every link within the page has its place"


def test_the_reference_says_the_bounds_of_a_field_and_escapes_what_a_contract_says():
    schema = {"type": ["integer", "null"], "minimum": 0, "enum": [0, None], "description": "<script>alert(1)</script>"}
    operation = {"summary": "Score.", "responses": {"200": {"description": "Done."}}}
    page = reference_page(
        {
            "info": {"title": "t & u", "version": "1", "description": ""},
            "paths": {"/predict": {"post": operation}},
            "components": {"schemas": {"Customer": {"properties": {"sent": schema}, "required": ["sent"]}}},
        }
    )
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<title>t &amp; u: reference</title>" in page
    assert "<td>integer or null</td><td>one of 0, null; at least 0</td>" in page
    assert "<small>required</small>" in page


def test_the_openapi_document_describes_a_customer_of_the_contract(home):
    document = get(home, "/docs.json").json()
    customer = document["components"]["schemas"]["Customer"]
    assert set(customer["properties"]) == {"id", "as_of", *(c.name for c in CONTRACT.scoring_columns)}
    assert set(customer["required"]) == {c.name for c in CONTRACT.scoring_columns}
    sent = dict(customer["properties"]["sent"])
    assert 0 <= sent.pop("example") <= 1000
    assert sent == {"type": "integer", "minimum": 0, "maximum": 1000, "description": "E-mails sent."}
    assert customer["properties"]["city"]["enum"] == ["BLR", "BOM", "DEL", "MAA", None]
    for name, schema in customer["properties"].items():
        assert schema["description"], name
        assert "example" in schema, name
    for reference in re.findall(r'"\$ref":\s*"#/components/schemas/(\w+)"', json.dumps(document)):
        assert reference in document["components"]["schemas"]


def test_the_document_describes_what_model_and_readyz_answer(home):
    schemas = get(home, "/docs.json").json()["components"]["schemas"]
    assert list(get(home, "/model").json()) == list(schemas["ModelDescription"]["properties"])
    assert list(get(home, "/readyz").json()) == list(schemas["ReadyResponse"]["properties"])


def test_the_examples_of_the_document_are_a_typical_customer_of_today_and_draw_no_warning(home):
    schemas = get(home, "/docs.json").json()["components"]["schemas"]
    example = schemas["Customer"]["example"]
    assert example == {name: schema["example"] for name, schema in schemas["Customer"]["properties"].items()}
    answer = post(home, "/predict", example)
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])
    assert answer.json()["as_of"] == str(dt.datetime.now(dt.UTC).date())
    batch = {"customers": [schemas["CustomerBatch"]["properties"]["customers"]["items"]["example"]]}
    assert post(home, "/predict_batch", batch).json()["predictions"][0]["warnings"] == []


def test_every_route_is_in_the_document_and_the_other_way_round(home):
    async def question(client, worker):
        return {route.path: route.methods - {"HEAD"} for route in routes(Handlers(worker))}

    there = ask(home, question)
    documented = {
        path: {method.upper() for method in item} for path, item in get(home, "/docs.json").json()["paths"].items()
    }
    assert {path: methods for path, methods in there.items() if path not in ("/docs", "/redoc")} == documented


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405), ("PUT", "/feedback", 405), ("OPTIONS", "/predict", 405), ("POST", "/livez", 405),
        ("POST", "/metrics", 405), ("DELETE", "/", 405), ("BREW", "/model", 405), ("GET", "/nothing", 404),
        ("POST", "/predict/", 404), ("GET", "/../etc/passwd", 404), ("GET", "/schema.json", 404),
    ],
)  # fmt: skip
def test_an_unknown_path_or_method_is_refused_in_the_one_shape(home, method, path, status):
    response = get(home, path, method)
    assert_refusal(response, status)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/", "/model", "/livez", "/readyz", "/metrics", "/docs.json"])
def test_head_is_get_without_its_body(home, path):
    response = get(home, path, "HEAD")
    assert (response.status_code, response.content) == (200, b"")


def test_a_request_id_is_kept_if_it_is_one_and_made_if_not(home):
    kept = post(home, "/predict", ASKED, headers={"x-request-id": "abc-1.2:3"}).headers["x-request-id"]
    made = post(home, "/predict", ASKED, headers={"x-request-id": "a b\u00e9".encode()}).headers["x-request-id"]
    assert kept == "abc-1.2:3"
    assert re.fullmatch("[0-9a-f]{16}", made)


def test_without_a_model_the_service_lives_and_says_how_to_make_one(tmp_path):
    assert get(tmp_path, "/livez").status_code == 200
    ready = get(tmp_path, "/readyz")
    assert assert_refusal(ready, 503)["error"].startswith("champion.json: ")
    assert ready.headers["retry-after"]
    for path in ("/predict", "/predict_batch"):
        response = post(tmp_path, path, ASKED)
        assert "make run" in assert_refusal(response, 503)["error"]
        assert response.headers["retry-after"]
    assert_refusal(get(tmp_path, "/model"), 503)
    page = get(tmp_path, "/").text
    assert "make run" in page
    assert str(tmp_path) not in page
    assert get(tmp_path, "/docs.json").status_code == 200


def test_metrics_count_what_happened_under_bounded_labels(home):
    async def question(client, worker):
        for _ in range(3):
            await client.post("/predict", json=ASKED)
        await client.post("/predict_batch", json={"customers": [{**ROW, "sent": 999}] * 2, "as_of": AS_OF})
        await client.post("/predict", json={**ASKED, "sent": -1})
        await client.post("/predict", content=b"{", headers={"content-type": "application/json"})
        for number in range(30):
            await client.get(f"/nothing-{number}")
        return (await client.get("/metrics")).text

    text = ask(home, question)
    version = get(home, "/readyz").json()["model_version"]
    for line in (
        f'churn_predictions_total{{arm="champion",model_version="{version}",status="ok"}} 5.0',
        f'churn_predictions_total{{arm="champion",model_version="{version}",status="rejected"}} 1.0',
        'churn_request_rejected_total{cause="contract"} 1.0',
        'churn_request_rejected_total{cause="json"} 1.0',
        'churn_request_rejected_total{cause="path"} 30.0',
        'churn_input_warnings_total{column="as_of"} 5.0',
        'churn_input_warnings_total{column="sent"} 2.0',
        "churn_score_count 5.0",
        f'churn_model_info{{arm="champion",contract="tiny",kind="boosted",model_version="{version}"}} 1.0',
        "churn_log_queue 0.0",
    ):
        assert line in text.splitlines()
    assert "nothing-" not in text
    assert "churn_log_commit_seconds_count" in text
    assert "churn_prediction_latency_seconds_count 6.0" in text


class FullDisk(Segment):
    """No room."""

    def append(self, data: bytes) -> None:
        from churn_assets.errors import LogUnavailable

        raise LogUnavailable(f"{self.folder}: cannot be written (No space left on device)")


def test_what_is_not_on_disk_is_not_answered(tmp_path):
    home = home_with_champion(tmp_path)

    async def question(client, worker):
        worker.log._segment = FullDisk(home / "predlog")
        refused = [
            await client.post("/predict", json=ASKED),
            await client.post("/predict_batch", json={"customers": [ROW], "as_of": AS_OF}),
            await client.post("/feedback", json=REPORT),
        ]
        return refused, (await client.get("/readyz")).json(), (await client.get("/metrics")).text

    refused, ready, metrics = ask(home, question)
    for response in refused:
        assert_refusal(response, 503)
        assert str(home) not in response.text
        assert response.headers["retry-after"]
    assert ready["detail"]["log"] == "predlog: cannot be written (No space left on device)"
    assert 'churn_request_rejected_total{cause="disk"} 3.0' in metrics
    assert 'status="ok"' not in metrics


def test_a_full_queue_is_a_503_with_retry_after(home):
    async def question(client, worker):
        def busy(lines, rows):
            raise LogBusy("10 rows wait for the disk, expected at most 10; ask again in a second")

        worker.log.append = busy
        try:
            return await client.post("/predict", json=ASKED)
        finally:
            del worker.log.append

    response = ask(home, question)
    assert "rows wait" in assert_refusal(response, 503)["error"]
    assert response.headers["retry-after"] == "1"


def test_too_many_batches_at_once_are_a_503(home):
    async def question(client, worker):
        batch = {"customers": [ROW] * 300, "as_of": AS_OF}
        return await asyncio.gather(*(client.post("/predict_batch", json=batch) for _ in range(12)))

    replies = ask(home, question)
    assert {reply.status_code for reply in replies} == {200, 503}
    for reply in replies:
        if reply.status_code == 503:
            assert "batches are being scored" in assert_refusal(reply, 503)["error"]


def test_a_batch_that_takes_too_long_is_a_503_and_is_not_in_the_log(tmp_path):
    home = home_with_champion(tmp_path)

    async def question(client, worker):
        batch = {"customers": [ROW] * 50_000, "as_of": AS_OF}
        late = await client.post("/predict_batch", json=batch)
        deadline = time.monotonic() + 30
        while (again := await client.post("/predict_batch", json={"customers": [ROW]})).status_code != 200:
            assert time.monotonic() < deadline
        return late, again

    late, again = ask(home, question, timeout_s=0.15, batch_rows=50_000, batch_bytes=2**25, log_queue_rows=50_000)
    # On a busy machine the limit of the whole answer may be looked at before that of the batch.
    assert re.search("send fewer customers|expected it sooner", assert_refusal(late, 503)["error"])
    assert late.headers["retry-after"]
    ids = {row["prediction_id"] for row in rows_of(home / "predlog") if row["kind"] == "prediction"}
    assert again.json()["predictions"][0]["prediction_id"] in ids
    assert len(ids) < 50_000


def test_logs_are_lines_of_json_with_request_ids_and_without_what_was_asked(home, capfd):
    post(home, "/predict", {**ASKED, "city": "Atlantis"}, headers={"x-request-id": "r-1"}, access_log=True)
    lines = [json.loads(payload) for payload in capfd.readouterr().err.splitlines()]
    (request,) = [one for one in lines if one["event"] == "request"]
    assert (request["request_id"], request["status"], request["cause"]) == ("r-1", 422, "contract")
    assert [one["counts"] for one in lines if one["event"] == "rejected"] == [{"contract": 1}]
    assert "Atlantis" not in json.dumps(lines)
    post(home, "/predict", ASKED, level="ERROR", access_log=True)
    assert capfd.readouterr().err == ""


def test_a_body_that_never_ends_is_a_408(home):
    async def question(client, worker):
        async def parts():
            yield b"{"
            await asyncio.sleep(30)

        return await client.post("/predict", content=parts(), headers={"content-type": "application/json"})

    assert_refusal(ask(home, question, timeout_s=0.1), 408)


def test_an_internal_error_reveals_nothing(home, monkeypatch):
    monkeypatch.setattr("churn_assets.serving.routes.score_one", lambda *arguments: 1 / 0)
    payload = assert_refusal(post(home, "/predict", ASKED, headers={"x-request-id": "seen"}), 500)
    assert "division" not in payload["error"]
    assert "seen" in payload["error"]


def test_the_log_may_be_off_for_measuring(tmp_path):
    home = home_with_champion(tmp_path)
    assert post(home, "/predict", ASKED, log=False).status_code == 200
    assert not (home / "predlog").exists()


def test_an_answer_that_hangs_is_a_503_and_the_others_go_on(tmp_path):
    home, released = home_with_champion(tmp_path), threading.Event()

    async def question(client, worker):
        worker.metrics.exposition = lambda: released.wait(20)
        hung = await client.get("/metrics")
        released.set()
        return hung, await client.get("/model")

    hung, other = ask(home, question, timeout_s=0.1)
    assert "took more than 0.25 seconds" in assert_refusal(hung, 503)["error"]
    assert hung.headers["retry-after"] == "1"
    assert other.status_code == 200
