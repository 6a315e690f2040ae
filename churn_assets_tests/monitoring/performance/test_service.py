"""The service's figures, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from churn_assets.monitoring.performance.realized import Period
from churn_assets.monitoring.performance.service import service_report
from churn_assets_tests.monitoring.log import AS_OF, DAY, log


def hundred():
    """Two days: 80 requests of v1 on the first, 20 rows of one request of v2 and 5 batch rows on the second."""
    first = [{"scored_at": AS_OF, "latency_us": 1000.0 * n} for n in range(1, 81)]
    second = [
        {"scored_at": AS_OF + DAY, "model_version": "v2", "request_id": "many", "latency_us": 2500.0} for _ in range(20)
    ]
    batch = [
        {"scored_at": AS_OF + DAY, "model_version": "v2", "arm": "batch", "request_id": "b", "latency_us": None}
        for _ in range(5)
    ]
    second[0]["warnings"] = ["'sent' is 9, in training 0 to 5"]
    refused = [
        {"until_at": AS_OF, "cause": "json", "requests": 15},
        {"until_at": AS_OF, "cause": "busy", "requests": 5},
        {"until_at": AS_OF + 2 * DAY, "cause": "disk", "requests": 4},
    ]
    return log([*first, *second, *batch], rejections=refused)


def test_volume_refusals_and_latency_over_all():
    total = service_report(hundred()).total
    assert (total.predictions, total.requests, total.batch_rows, total.warned) == (105, 81, 5, 1)
    assert (total.refused, total.faults) == (24, 9)
    assert total.refused_rate == pytest.approx(24 / 105)
    assert total.fault_rate == pytest.approx(9 / 105)


def test_by_version_and_arm_newest_first():
    batch, second, first = service_report(hundred()).by_version
    assert (batch.model_version, batch.arm, batch.predictions, batch.p50_ms) == ("v2", "batch", 5, None)
    assert (second.model_version, second.requests, second.p99_ms) == ("v2", 1, 2.5)
    assert (first.first, first.last) == ("2026-01-10", "2026-01-10")
    # 1 to 80 ms, linear between ranks: 1 + 79 q
    assert first.p50_ms == pytest.approx(40.5)
    assert first.p95_ms == pytest.approx(76.05)
    assert first.p99_ms == pytest.approx(79.21)


def test_by_day_with_a_day_of_refusals_only():
    first, second, third = service_report(hundred()).by_day
    assert (first.day, first.predictions, first.refused, first.faults) == ("2026-01-10", 80, 20, 5)
    assert first.refused_rate == pytest.approx(0.2)
    assert (second.predictions, second.requests, second.refused_rate) == (25, 1, 0.0)
    assert (third.day, third.predictions, third.fault_rate, third.p50_ms) == ("2026-01-12", 0, 1.0, None)


def test_by_window_and_by_month():
    found = service_report(hundred(), [Period("0001", 1, 50), Period("2026-01"), Period("2026-02")]).by_period
    assert [(row.period, row.predictions) for row in found] == [("0001", 50), ("2026-01", 105), ("2026-02", 0)]
    assert found[0].p50_ms == pytest.approx(25.5)


def test_causes_are_the_most_frequent_first():
    assert list(service_report(hundred()).causes.items()) == [("json", 15), ("busy", 5), ("disk", 4)]


def test_an_empty_log_has_no_rates():
    found = service_report(log())
    assert found.total.refused_rate is None
    assert (found.by_version, found.by_day, found.causes) == ((), (), {})
