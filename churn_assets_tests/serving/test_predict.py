"""POST /predict and /predict_batch: every answer and every refusal, in process."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.values import iso_day
from churn_assets_tests.data.days import DAYS
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, json_rows
from churn_assets_tests.serving.client import (
    ASKED,
    CUSTOMERS,
    ROW,
    SCORER,
    ask,
    assert_refusal,
    home_with_champion,
    post,
)

ROWS = json_rows(CUSTOMERS)


def test_a_customer_gets_the_scorers_answer_and_a_row_in_the_log(tmp_path):
    home = home_with_champion(tmp_path)
    response = post(home, "/predict", ASKED, headers={"x-request-id": "mine-1"})
    expected = SCORER.score_table(CUSTOMERS.slice(0, 1), AS_OF)
    payload = response.json()
    assert response.status_code == 200
    assert response.headers["x-request-id"] == "mine-1"
    assert payload["churn_probability"] == pytest.approx(expected.probability[0], abs=1e-9)
    assert payload["churn"] == bool(expected.probability[0] >= SCORER.thresholds.value)
    assert payload["risk_band"] == str(SCORER.band(expected.probability)[0])
    assert (payload["customer_id"], payload["as_of"], payload["contract"]) == (ROW["id"], AS_OF, "tiny")
    (row,) = rows_of(home / "predlog")
    assert row["prediction_id"] == payload["prediction_id"]
    assert row["request_id"] == "mine-1"
    assert row["features"] == {name: cell for name, cell in ROW.items() if name != "id"}
    assert (row["score"], row["decision"], row["as_of"]) == (payload["churn_probability"], payload["churn"], AS_OF)
    assert (row["arm"], row["policy"], row["status"]) == ("champion", "champion", "ok")
    assert (row["model_version"], row["fingerprint"]) == (payload["model_version"], CONTRACT.fingerprint)
    assert row["margin"] == pytest.approx(expected.margin[0], abs=1e-9)
    assert row["latency_us"] > 0


def test_an_as_of_is_the_day_that_a_column_of_that_text_is(home):
    async def question(client, worker):
        rows = [{**ROW, "created": text, "lastorder": text, "as_of": text} for text in DAYS]
        return [(await client.post("/predict", json=row)).json() for row in rows]

    assert [payload["as_of"] for payload in ask(home, question)] == list(DAYS.values())
    assert [str(iso_day(text)) for text in DAYS] == list(DAYS.values())


def test_the_id_may_be_left_out_and_today_is_the_default(home):
    payload = post(home, "/predict", {name: cell for name, cell in ROW.items() if name != "id"}).json()
    assert payload["customer_id"] is None
    assert payload["as_of"] == payload["scored_at"][:10]


@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/feedback"])
def test_an_error_about_a_field_of_any_name_is_short_and_one_line(home, path):
    payload = assert_refusal(post(home, path, {"a\nb\r\u2028c" + "d" * 10_000: 1}), 422)
    assert len(payload["error"]) < 600
    assert all(len(fault["column"]) <= 100 for fault in payload["detail"])


@pytest.mark.parametrize(
    ("change", "column", "expected"),
    [
        ({"sent": 999}, "sent", "to"),
        ({"created": "2000-01-01", "lastorder": None}, "tenure_days", "to"),
        ({"as_of": "2015-01-20"}, "as_of", "within 30 days of now"),
        ({"as_of": "2999-01-01"}, "as_of", "not after today"),
    ],
)
def test_what_is_odd_and_no_error_is_warned_of(home, change, column, expected):
    payload = post(home, "/predict", {**ASKED, **change}).json()
    (warning,) = [one for one in payload["warnings"] if one["column"] == column]
    assert expected in warning["expected"]
    assert warning["found"]
    batch = post(home, "/predict_batch", {"customers": [{**ROW, **change} | {"as_of": 0}], "as_of": AS_OF})
    assert batch.status_code == 422, "as_of belongs to the batch"


def test_a_batch_warns_of_what_a_single_request_warns_of(home):
    odd = {name: cell for name, cell in {**ROW, "sent": 999, "created": "2001-01-01"}.items() if name != "as_of"}
    alone = post(home, "/predict", {**odd, "as_of": AS_OF}).json()["warnings"]
    (together,) = post(home, "/predict_batch", {"customers": [odd], "as_of": AS_OF}).json()["predictions"]
    assert together["warnings"] == alone


BAD = [
    ({"sent": -1}, "sent", "-1"),
    ({"sent": "many"}, "sent", "'many'"),
    ({"sent": 1.5}, "sent", "1.5"),
    ({"sent": True}, "sent", "true"),
    ({"sent": 10**30}, "sent", "1000000000"),
    ({"sent": None}, "sent", "null"),
    ({"spent": [1]}, "spent", "[1]"),
    ({"paperless": "yes"}, "paperless", "'yes'"),
    ({"city": "Paris"}, "city", "'Paris'"),
    ({"city": 3}, "city", "3"),
    ({"created": "yesterday"}, "created", "'yesterday'"),
    ({"created": "2012-02-30"}, "created", "'2012-02-30'"),
    ({"created": "1999-12-31"}, "created", "'1999-12-31'"),
    ({"created": 15000}, "created", "15000"),
    ({"colour": "red"}, "colour", "an unknown field"),
    ({"id": 7.5}, "id", "7.5"),
    ({"id": " "}, "id", "' '"),
]


@pytest.mark.parametrize(("change", "column", "cell"), BAD, ids=[str(case[0]) for case in BAD])
def test_a_customer_that_breaks_the_contract_is_refused_alone_and_in_a_batch(home, change, column, cell):
    payload = assert_refusal(post(home, "/predict", {**ASKED, **change}), 422)
    (fault,) = payload["detail"]
    assert (fault["row"], fault["column"]) == (0, column)
    assert cell in fault["found"]
    assert fault["expected"]
    batch = {"customers": [*ROWS[:3], {**ROW, **change}], "as_of": AS_OF}
    (together,) = assert_refusal(post(home, "/predict_batch", batch), 422)["detail"]
    assert together == {**fault, "row": 3}


@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
def test_values_that_contradict_each_other_are_a_conflict_with_the_contract(home, path):
    """422 is left to bodies that break their schema, which cannot relate two columns."""
    change = {"lastorder": "2011-01-01", "created": "2012-01-01"}
    alone, batch = {**ASKED, **change}, {"customers": [ROW, {**ROW, **change}], "as_of": AS_OF}
    payload = assert_refusal(post(home, path, alone if path == "/predict" else batch), 409)
    (fault,) = payload["detail"]
    assert fault == {
        "row": 0 if path == "/predict" else 1,
        "column": "created",
        "found": "created '2012-01-01', lastorder '2011-01-01'",
        "expected": "created <= lastorder (created_before_last_order)",
    }
    both = {**alone, "sent": -1}
    (fault,) = assert_refusal(post(home, "/predict", both), 422)["detail"]
    assert fault["column"] == "sent", "the schema comes first"


@pytest.mark.parametrize("as_of", ["soon", 7, "", "2014-13-01", "0001-01-01T00:00:00+23:59", "9" * 50, None, True, []])
def test_an_as_of_that_is_no_day_is_refused(home, as_of):
    for path, body in (("/predict", {**ROW, "as_of": as_of}), ("/predict_batch", {"customers": [ROW], "as_of": as_of})):
        response = post(home, path, body)
        if as_of is None:
            assert response.status_code == 200
            continue
        (fault,) = assert_refusal(response, 422)["detail"]
        assert fault["column"] == "as_of"


def test_a_missing_field_is_named(home):
    payload = assert_refusal(post(home, "/predict", {"sent": 3}), 422)
    assert {fault["column"] for fault in payload["detail"]} == set(ROW) - {"id", "sent"}


NO_JSON = {
    "half": b"{bad",
    "empty": b"",
    "no utf-8": b"\xff\xfe",
    "two": b"{}{}",
    "deep": b"[" * 60_000,
    "a pickle": pickle.dumps({"sent": 1}),
    "NaN": json.dumps({**ASKED, "spent": float("nan")}).encode(),
    "infinity": json.dumps({**ASKED, "spent": float("inf")}).encode(),
    "1e400": json.dumps({**ASKED, "spent": 7777}).replace("7777", "1e400").encode(),
    "a mark": b"\xef\xbb\xbf" + json.dumps(ASKED).encode(),
    "a lone surrogate": b'{"id": "\\ud800"}',
}


@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/feedback"])
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_strict_json_is_a_400(home, path, body):
    assert "the body is not JSON" in assert_refusal(post(home, path, body), 400)["error"]


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"3"])
def test_json_of_another_shape_is_a_422(home, body):
    assert_refusal(post(home, "/predict", body), 422)
    assert_refusal(post(home, "/predict_batch", body), 422)
    assert_refusal(post(home, "/feedback", body), 422)


@pytest.mark.parametrize(
    "given",
    [{"content-type": "text/plain"}, {"content-type": None}, {"content-encoding": "gzip"}, {"content-type": "x"}],
)
def test_another_content_type_is_a_415(home, given):
    assert_refusal(post(home, "/predict", ASKED, headers=given), 415)


@pytest.mark.parametrize("given", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_name_its_charset(home, given):
    assert post(home, "/predict", ASKED, headers={"content-type": given}).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/feedback"])
def test_a_body_over_the_limit_is_a_413_with_and_without_its_length(home, path):
    large = b" " * 5000

    async def question(client, worker):
        async def parts():
            for _ in range(5):
                yield large[:1000]

        kind = {"content-type": "application/json"}
        return [await client.post(path, content=body, headers=kind) for body in (large, parts())]

    for response in ask(home, question, body_bytes=4096, batch_bytes=4096):
        assert "at most 4,096 bytes" in assert_refusal(response, 413)["error"]


@pytest.mark.parametrize("customers", [None, {}, [], "x"])
def test_a_batch_has_from_one_to_the_limit_of_customers(home, customers):
    assert_refusal(post(home, "/predict_batch", {"customers": customers}), 422)
    assert_refusal(post(home, "/predict_batch", {"customers": [ROW] * 4}, batch_rows=3), 422)
    assert_refusal(post(home, "/predict_batch", {"customers": [ROW], "asof": AS_OF}), 422)
    assert_refusal(post(home, "/predict_batch", {"customers": [3]}), 422)


@pytest.mark.parametrize("key", ["x" * 201, "a\x1b[2J", "a\x7f", "a\x9bm", "a\u202eb", "\u200b", " "])
def test_an_id_is_at_most_200_printable_characters(home, key):
    expected = "200 printable characters"
    assert expected in assert_refusal(post(home, "/predict", {**ASKED, "id": key}), 422)["error"]
    assert expected in assert_refusal(post(home, "/predict_batch", {"customers": [{**ROW, "id": key}]}), 422)["error"]
    report = {"customer_id": key, "churned": True, "observed_at": "2014-01-20"}
    assert expected in assert_refusal(post(home, "/feedback", report), 422)["error"]


def test_an_id_of_200_letters_of_any_script_is_an_id(home):
    key = "\u0e01 \u00a0x" * 50
    assert post(home, "/predict", {**ASKED, "id": key}).json()["customer_id"] == key


def test_more_rows_than_the_queue_of_the_log_takes_are_a_413_that_names_the_limit(home):
    report = {"customer_id": "c", "churned": True, "observed_at": "2014-01-20"}
    for path, body in (("/predict_batch", {"customers": [ROW] * 4}), ("/feedback", [report] * 4)):
        error = assert_refusal(post(home, path, body, log_queue_rows=3), 413)["error"]
        assert "the body has 4 rows, expected at most 3 rows (CHURN_LOG_QUEUE)" in error
    assert post(home, "/predict_batch", {"customers": [ROW] * 3}, log_queue_rows=3).status_code == 200
    assert post(home, "/predict_batch", {"customers": [ROW] * 4}, log_queue_rows=3, log=False).status_code == 200


def test_a_batch_of_more_bytes_than_the_log_takes_is_a_413(home, monkeypatch):
    monkeypatch.setattr("churn_assets.serving.routes.MAX_BYTES", 1000)
    assert "1,000 bytes" in assert_refusal(post(home, "/predict_batch", {"customers": [ROW] * 4}), 413)["error"]


def test_unknown_fields_of_a_batch_are_refused_by_the_first_ten_of_a_row(home):
    wide = {"customers": [{str(name): 1 for name in range(20_000)}] * 3}
    payload = assert_refusal(post(home, "/predict_batch", wide), 422)
    assert [fault["column"] for fault in payload["detail"] if fault["row"] == 1][:2] == ["0", "1"]
    unknown = [fault for fault in payload["detail"] if fault["found"] == "an unknown field"]
    assert len(unknown) == 30


def test_nothing_of_a_refused_batch_is_in_the_log(tmp_path):
    home = home_with_champion(tmp_path)
    post(home, "/predict_batch", {"customers": [*ROWS, {**ROW, "sent": -1}], "as_of": AS_OF})
    assert [row["kind"] for row in rows_of(home / "predlog")] == ["rejections"]
    assert [row["counts"] for row in rows_of(home / "predlog")] == [{"contract": 1}]


def test_the_rows_of_a_refused_batch_are_counted_by_column_and_no_name_of_a_client_is_kept(tmp_path):
    home = home_with_champion(tmp_path)
    bad = [{**ROW, "sent": -1}, {**ROW, "sent": "x", "spent": -1}, {**ROW, "mine": 1}]
    post(home, "/predict_batch", {"customers": [*ROWS, *bad], "as_of": AS_OF})
    (row,) = rows_of(home / "predlog")
    assert row["rows"] == {"sent": 2, "spent": 1, "(other)": 1}


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), rows=st.integers(1, 40))
def test_single_batched_and_shuffled_customers_get_the_same_answer(home, seed, order, rows):
    table = customers(rows, seed)
    asked = json_rows(table)
    expected = dict(zip(table["id"].to_pylist(), SCORER.score_table(table, AS_OF).probability.tolist(), strict=True))
    order.shuffle(asked)

    async def question(client, worker):
        batch = await client.post("/predict_batch", json={"customers": asked, "as_of": AS_OF})
        singles = [await client.post("/predict", json={**row, "as_of": AS_OF}) for row in asked[:5]]
        return batch.json()["predictions"], [single.json() for single in singles]

    together, alone = ask(home, question)
    assert [one["customer_id"] for one in together] == [row["id"] for row in asked]
    for one in [*together, *alone]:
        assert one["churn_probability"] == pytest.approx(expected[one["customer_id"]], abs=1e-9)
    own = ("prediction_id", "scored_at", "churn_probability")
    for one, other in zip(alone, together, strict=False):
        assert {k: v for k, v in one.items() if k not in own} == {k: v for k, v in other.items() if k not in own}
