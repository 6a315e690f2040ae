"""The dashboard's own metrics: each request counted by the pattern of its path."""

from __future__ import annotations

from churn_assets.dashboard.metrics import MEANINGS
from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.dashboard.test_sign_in import make_key, sign_in
from churn_assets_tests.exporter.scraped import Scrape
from churn_assets_tests.test_home_0_1 import CHAMPION


def read_metrics(visitor, **options) -> Scrape:
    response = visitor.client.get("/metrics", **options)
    assert response.status_code == 200, response.text
    return Scrape.of(response.text)


def test_a_request_is_counted_by_its_route_and_status(made):
    visitor = visit(made)
    visitor.get("/")
    visitor.get(f"/models/{CHAMPION}")
    for path in ("/nothing", "/nothing/else", "/models/0123456789abcdef"):
        visitor.get(path, 404)
    scraped = read_metrics(visitor)
    counts = {(dict(k)["route"], dict(k)["code"]): v for (name, k), v in scraped.items() if name.endswith("ests_total")}
    assert counts == {
        ("/", "200"): 1, ("/models/{version}", "200"): 1, ("/models/{version}", "404"): 1, ("other", "404"): 2,
    }  # fmt: skip
    assert scraped.value("churn_dashboard_request_seconds_count", route="/") == 1
    known = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in scraped.names}
    assert {name for name in known if not name.endswith("_created")} == {*MEANINGS}


def test_with_keys_the_metrics_need_one_and_sessions_are_counted(settings):
    _, token = make_key(settings)
    visitor = visit(settings)
    assert visitor.client.get("/metrics").status_code == 401
    assert read_metrics(visitor, headers={"x-api-key": token}).value("churn_dashboard_sessions") == 0
    sign_in(visitor, token)
    assert read_metrics(visitor).value("churn_dashboard_sessions") == 1
