"""The OpenAPI document says what the service refuses, as far as JSON Schema can."""

from __future__ import annotations

import datetime as dt
import re

from hypothesis import given
from hypothesis import strategies as st

from churn_assets.serving.schemas import date_bounds, openapi
from churn_assets.settings import ServingSettings
from churn_assets_tests.serving.client import post
from churn_assets_tests.strategies import ROOT, STORE


def matches(bounds: dict, day: dt.date) -> bool:
    patterns = [part["pattern"] for part in bounds.get("allOf", [bounds] if bounds else [])]
    return all(re.search(pattern, str(day)) for pattern in patterns)


@given(low=st.none() | st.dates(), high=st.none() | st.dates(), day=st.dates(), data=st.data())
def test_a_pattern_holds_for_the_days_between_its_bounds(low, high, day, data):
    near = [
        bound + dt.timedelta(days=1) * step
        for bound in (low, high)
        if bound
        for step in (-1, 0, 1)
        if 1 < bound.year < 9999
    ]
    for each in (day, *near):
        within = (low is None or low <= each) and (high is None or each <= high)
        assert matches(date_bounds(low, high), each) == within, each


def test_dates_of_a_contract_have_their_bounds():
    document = openapi(STORE, ServingSettings(home=ROOT))
    created = document["components"]["schemas"]["Customer"]["properties"]["created"]
    assert (created["type"], created["format"]) == ("string", "date")
    assert matches(created, dt.date(2000, 1, 1))
    assert not matches(created, dt.date(1999, 12, 31))


def holds(report: dict, schema: dict) -> bool:
    """Whether one of the alternatives of `anyOf` holds: its fields are there, with a type that it names."""
    names = {str: "string", int: "integer", type(None): "null"}
    return any(
        all(
            name in report and names[type(report[name])] in rule["properties"][name]["type"]
            for name in rule["required"]
        )
        for rule in schema["anyOf"]
    )


def test_a_report_names_a_prediction_or_a_customer(home):
    schema = openapi(STORE, ServingSettings(home=home))["components"]["schemas"]["FeedbackReport"]
    outcome = {"churned": True, "observed_at": "2014-04-20"}
    ids = [{}, {"prediction_id": "p"}, {"customer_id": 7}, {"prediction_id": None, "customer_id": "c"}]
    ids += [{"prediction_id": None}, {"prediction_id": None, "customer_id": None}]
    for each in ids:
        report = {**outcome, **each}
        assert (post(home, "/feedback", report).status_code == 200) == holds(report, schema), report
