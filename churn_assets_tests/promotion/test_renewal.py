"""Newer customers in place of the frozen ones: who may do it, when, and what becomes of verdicts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.holdout import Renewal, read_holdout
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Decision, Person
from churn_assets.promotion.status import read_events
from churn_assets_tests.promotion.test_service import (
    CONTRACT,
    LENIENT,
    NOW,
    bundle,
    clean,
    enter,
    home_with,
    place,
    promote,
    service,
)


def rolling(count: int, **over: object) -> pa.Table:
    """`labelled_predictions` of so many customers who are set apart."""
    rows = clean(count, seed=77)
    columns: dict[str, object] = {
        "seq": list(range(count)),
        "prediction_id": [f"p{i}" for i in range(count)],
        "customer_id": [f"new{i}" for i in range(count)],
        "as_of": pa.array([NOW.replace(tzinfo=None)] * count, pa.timestamp("us")),
        "fingerprint": [CONTRACT.fingerprint] * count,
        "label_state": ["final"] * count,
        "part": ["gate"] * count,
        "contacted": [False] * count,
        "churned": rows["churned"].cast(pa.bool_()),
        **over,
    }
    return pa.table(columns | {f"x_{c.name}": rows[c.name] for c in CONTRACT.logged_columns})


def test_a_person_renews_the_holdout_and_the_next_verdict_is_on_the_new_customers(tmp_path):
    settings, _, new = home_with(tmp_path)
    assert promote(settings, LENIENT, new).status == "promoted"
    holdout = service(settings).renew_holdout(CONTRACT, rolling(600), Person("Ada"), "those of 2019 are gone")
    assert read_holdout(settings.holdout_dir, CONTRACT) == holdout
    assert (holdout.rows.num_rows, holdout.version) == (600, new)
    assert holdout.renewal == Renewal("Ada", "those of 2019 are gone")
    (kept,) = settings.holdout_dir.glob("*.replaced")
    assert pq.read_table(kept).num_rows == 900
    event = read_events(settings)[-1]
    assert (event.what, event.by, event.why) == ("holdout renewed", "Ada", "those of 2019 are gone (600 customers)")
    third = bundle(tmp_path, "logistic")
    assert enter(settings, third).alias == "challenger"
    verdict = promote(settings, LENIENT, third.name).verdict
    assert verdict is not None
    rows = next(check for check in verdict.checks if check.check == "holdout_rows")
    assert rows.message.startswith("the frozen holdout has 600 customers")
    with pytest.raises(TransitionRefused, match="these customers are frozen already"):
        service(settings).renew_holdout(CONTRACT, rolling(600), Person("Ada"), "once more")


def test_the_holdout_is_not_renewed_under_a_challenger_or_with_few_labels_or_before_a_champion(tmp_path):
    empty = place(tmp_path / "empty")
    with pytest.raises(TransitionRefused, match="has no frozen holdout, expected one"):
        service(empty).renew_holdout(CONTRACT, rolling(600), Person("Ada"), "why")
    settings, _, new = home_with(tmp_path / "home")
    with pytest.raises(TransitionRefused, match=f"challenger {new} is not decided on, expected none"):
        service(settings).renew_holdout(CONTRACT, rolling(600), Person("Ada"), "why")
    promote(settings, LENIENT, new)
    for labels in (None, rolling(499), rolling(600, churned=[False] * 600), rolling(600, part=["train"] * 600)):
        with pytest.raises(TransitionRefused, match="expected at least 500"):
            service(settings).renew_holdout(CONTRACT, labels, Person("Ada"), "why")
    Ledger(settings.ledger_path).decide(lambda _: Decision("retrain", "by hand", "hand", "h1", new), NOW)
    with pytest.raises(TransitionRefused, match="is under way, expected none"):
        service(settings).renew_holdout(CONTRACT, rolling(600), Person("Ada"), "why")
