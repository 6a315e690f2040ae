"""The call list: order, filters and money are those of its file and of `churn budget`; contacts go to the log."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.prediction_log.warehouse.read import tail
from churn_assets.scoring.budget import plan_call_list
from churn_assets_tests.dashboard.browser import NOW, read, visit
from churn_assets_tests.test_home_0_1 import CHAMPION, FIRST

EVIL = "=HYPERLINK(<b>1)"


@pytest.fixture(scope="module")
def listed(made):
    return pq.read_table(made.assets_dir / "risk_list.parquet").to_pylist()


def test_the_list_is_that_of_the_file_in_its_order(visitor, listed):
    page = visitor.json("/calls.json")
    assert (page["customers"], page["matched"], page["version"]) == (len(listed), len(listed), FIRST)
    for row, stored in zip(page["rows"], listed, strict=False):
        for name in ("rank", "customer_id", "churn_probability", "risk_band", "expected_value"):
            assert row[name] == stored[name]
    assert f"of model {FIRST}, and champion {CHAMPION} answers now" in visitor.get("/calls").text
    second = visitor.json("/calls.json?part=2")["rows"]
    assert second[0]["customer_id"] == listed[len(page["rows"])]["customer_id"]


def test_the_filters_keep_the_customers_that_fit(visitor, made, listed):
    customers = pq.read_table(made.assets_dir / "validated_customers.parquet").to_pylist()
    days = {row["custid"]: row["favday"] for row in customers if row["row_source"] == "table"}
    for query, fits in {
        "band=high": lambda row: row["risk_band"] == "high",
        "column=favday&level=Monday": lambda row: days[row["customer_id"]] == "Monday",
        "reason=no+order": lambda row: any("no order" in (row[f"reason_{n}"] or "") for n in (1, 2, 3)),
        "band=low&column=favday&level=Friday": lambda row: (
            row["risk_band"] == "low" and days[row["customer_id"]] == "Friday"
        ),
    }.items():
        page, kept = visitor.json(f"/calls.json?{query}"), [row["customer_id"] for row in listed if fits(row)]
        assert 0 < page["matched"] == len(kept) < len(listed), query
        assert [row["customer_id"] for row in page["rows"]] == kept[: len(page["rows"])]


def test_capacity_and_budget_give_the_money_of_the_command(visitor, made):
    for budget in (0.0, 250.0, 5000.0):
        plan, value = plan_call_list(made.bundles_dir / FIRST, made.assets_dir / "risk_list.parquet", budget)
        shown = visitor.json(f"/calls.json?budget={budget}")["plan"]
        assert (shown["contacts"], shown["limit"]) == (plan.contacts, plan.limit)
        assert shown["net_value"] == pytest.approx(plan.net_value)
        assert (shown["low"], shown["high"]) == pytest.approx((plan.low, plan.high))
    few = visitor.json("/calls.json?capacity=7&planned=1")
    assert (few["plan"]["contacts"], few["plan"]["cost"], few["matched"]) == (7, 7 * value.offer_cost, 7)
    assert few["plan"]["limit"] == "capacity"


def test_the_insights_lead_to_their_customers(visitor):
    page = visitor.json("/calls.json")
    assert len(page["insights"]) == 4
    for insight in page["insights"]:
        assert visitor.json(f"/calls.json?{insight['query']}")["matched"] > 0
    band = page["segments"][0]
    assert sum(segment["customers"] for segment in page["segments"]) == page["customers"]
    assert visitor.json(f"/calls.json?band={band['segment']}")["matched"] == band["customers"]


@pytest.mark.parametrize("query", ["band=purple", "column=esent", "capacity=-1", "capacity=nan", "budget=x", "part=x"])
def test_a_choice_that_cannot_be_is_said(visitor, query):
    assert "expected" in visitor.get(f"/calls?{query}", 400).text


def with_evil_id(settings):
    """Give the first customer of the list an id that a spreadsheet would run, and markup."""
    path = settings.assets_dir / "risk_list.parquet"
    table = pq.read_table(path)
    ids = [EVIL, *table["customer_id"].to_pylist()[1:]]
    place = table.schema.get_field_index("customer_id")
    pq.write_table(table.set_column(place, "customer_id", pa.array(ids)), path)
    return visit(settings)


def test_an_export_has_the_planned_customers_and_no_formula(settings):
    visitor = with_evil_id(settings)
    response = visitor.client.get("/calls.csv?planned=1&capacity=20")
    rows = list(csv.reader(io.StringIO(response.content.decode("utf-8-sig"))))
    assert len(rows) == 21
    assert rows[1][1] == f"'{EVIL}"
    assert "attachment" in response.headers["content-disposition"]
    book = openpyxl.load_workbook(io.BytesIO(visitor.client.get("/calls.xlsx?planned=1&capacity=20").content))
    cell = book["Calls"]["B2"]
    assert (cell.value, cell.data_type) == (f"'{EVIL}", "s")
    assert book["Calls"].max_row == 21


def test_an_id_with_markup_comes_out_as_text(settings):
    visitor = with_evil_id(settings)
    for path in ("/calls", f"/customer?id={EVIL}"):
        text = visitor.client.get(path).text
        assert "<b>1" not in text
        assert "&lt;b&gt;1" in text
    assert visitor.json("/calls.json")["rows"][0]["customer_id"] == EVIL


def test_a_customer_has_the_row_the_scores_and_the_outcomes(visitor, listed):
    page = visitor.json(f"/customer.json?id={listed[0]['customer_id']}")
    assert (page["rank"], page["churn_probability"]) == (1, listed[0]["churn_probability"])
    assert {cell["column"] for cell in page["cells"]} >= {"esent", "favday"}
    known = visitor.json("/customer.json?id=102-C00000000")
    assert known["rank"] is None
    assert [outcome["churned"] for outcome in known["outcomes"]] == [False]
    assert known["scores"]
    assert "there is no customer 'nobody'" in visitor.get("/customer?id=nobody", 404).text
    visitor.get("/customer", 404)


def form_of(visitor, path, mark):
    """The form that records contacts, with a name and the value of a button."""
    return {**visitor.get(path).form("/contacts"), "by": "Ana", "mark": mark}


@pytest.mark.parametrize("event", ["contacted", "offered", "saved"])
def test_a_contact_goes_to_the_log_once_and_is_shown_at_once(settings, listed, event):
    visitor, customer = visit(settings), listed[0]["customer_id"]
    assert visitor.json("/calls.json")["first"][0]["customer_id"] == customer
    form = form_of(visitor, "/calls?band=high", f"{event} {customer}")
    done = visitor.post("/contacts", form, 200)
    assert f"was {event} was recorded, by Ana" in done.text
    assert next(address for address in read(done).addresses if address.startswith("/calls?")).endswith(
        "band=high&capacity=1000&part=1"
    )
    assert "had been recorded already" in visitor.post("/contacts", form, 200).text
    contact = json.loads(tail(settings.predlog_dir, 1)[0].json)
    at = NOW.replace(second=0, microsecond=0)
    assert (contact["kind"], contact["customer_id"], contact["event"], contact["who"]) == (
        "contact", customer, event, "Ana"
    )  # fmt: skip
    assert dt.datetime.fromisoformat(contact["contacted_at"]) == at
    marks = visitor.json(f"/customer.json?id={customer}")["marks"]
    assert [(mark["event"], mark["who"]) for mark in marks] == [(event, "Ana")]
    page = visitor.json("/calls.json")
    assert page["rows"][0]["marks"] == marks
    assert customer not in {row["customer_id"] for row in page["first"]}


def test_the_first_are_the_best_of_the_plan_with_a_button_for_each_event(settings, listed):
    visitor = visit(settings)
    first = visitor.json("/calls.json?capacity=4")["first"]
    assert [row["customer_id"] for row in first] == [row["customer_id"] for row in listed[:4]]
    assert len(visitor.json("/calls.json")["first"]) == 10
    text = visitor.client.get("/calls?capacity=4").text
    for event in ("contacted", "offered", "saved"):
        assert text.count(f'value="{event} {first[0]["customer_id"]}"') == 2, "among the first, and in the list"


@pytest.mark.parametrize("changed", [{"mark": "control {}"}, {"mark": "contacted "}, {"mark": ""}, {"by": " "}])
def test_a_contact_that_does_not_say_who_or_what_is_refused(settings, listed, changed):
    visitor, customer = visit(settings), listed[0]["customer_id"]
    before = tail(settings.predlog_dir, 1)
    form = form_of(visitor, f"/customer?id={customer}", f"contacted {customer}")
    visitor.post("/contacts", {**form, **{name: text.format(customer) for name, text in changed.items()}}, 422)
    assert tail(settings.predlog_dir, 1) == before


def test_the_answer_of_a_contact_leads_to_no_other_site(settings, listed):
    visitor, customer = visit(settings), listed[0]["customer_id"]
    form = form_of(visitor, f"/customer?id={customer}", f"contacted {customer}")
    assert "evil" not in visitor.post("/contacts", {**form, "back": "https://evil.example"}, 200).text


def test_a_contact_needs_the_scope_feedback(settings, listed):
    now = dt.datetime.now(dt.UTC)
    _, viewer = KeyStore(settings.home).create("ben", ("view",), None, now)
    key, caller = KeyStore(settings.home).create("ana", ("view", "feedback"), None, now)
    client, fields = visit(settings).client, {"mark": f"offered {listed[0]['customer_id']}"}
    assert client.post("/contacts", data=fields, headers={"X-API-Key": viewer}).status_code == 403
    assert 'name="mark"' not in client.get("/calls", headers={"X-API-Key": viewer}).text
    assert client.post("/contacts", data=fields, headers={"X-API-Key": caller}).status_code == 200
    assert json.loads(tail(settings.predlog_dir, 1)[0].json)["who"] == f"ana (key {key.id})"


def test_a_damaged_list_is_named(settings):
    (settings.assets_dir / "risk_list.parquet").write_bytes(b"PAR1")
    assert "risk_list.parquet: cannot be read" in visit(settings).get("/calls").text
