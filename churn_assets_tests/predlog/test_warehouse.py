"""The ingest: each row once, what is wrong in quarantine, nothing without words."""

from __future__ import annotations

from churn_assets.predlog.warehouse import ingest
from churn_assets_tests.predlog.home import STORE, ask, feedback, prediction, rejections, settings, write


def test_rows_of_every_kind_arrive_typed_and_in_order(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a-1"), feedback("f-1"), prediction("a-2", customer_id=None, score=1.0))
    write(of, "b", rejections(malformed=2, too_large=1), prediction("b-1"))
    report = ingest(of, STORE)
    assert (report.segments, report.predictions, report.feedback, report.rejections) == (2, 3, 1, 1)
    assert ask(of, "SELECT prediction_id, seq, segment, x_esent, year(x_created) FROM predictions ORDER BY seq") == [
        ("a-1", 1, "a", 3.0, 2014),
        ("a-2", 3, "a", 3.0, 2014),
        ("b-1", 5, "b", 3.0, 2014),
    ]
    assert ask(of, "SELECT cause, requests, seq FROM rejections") == [("malformed", 2, 4), ("too_large", 1, 4)]
    assert ask(of, "SELECT feedback_id, churned, contacted, observed_at::VARCHAR FROM feedback") == [
        ("f-1", True, None, "2026-11-21 10:00:00.5")
    ]
    assert ingest(of, STORE).segments == 0
