"""Reasons on the call list: the columns that raise a score most, in the contract's words."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.wording import topics
from churn_assets.errors import BundleMismatch
from churn_assets.scoring.batch import score_file
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.call_list import REASON_COLUMNS, call_list, with_reasons
from churn_assets.scoring.explain import Explainer, background
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, KINDS, customers, scorer_of, training

PROGRAM, MATRIX, _ = training()
TABLE = customers(80, 9)


def explained(kind="boosted"):
    scorer = scorer_of(kind)
    return dataclasses.replace(scorer, background=background(scorer.model, PROGRAM.specs, MATRIX))


@pytest.mark.parametrize("kind", KINDS)
def test_reasons_raise_the_score_strongest_first_and_each_of_another_column(kind):
    explainer = Explainer(explained(kind))
    assert set(explainer.topics) == {"sent", "spent", "paperless", "city", "created", "lastorder"}
    for reasons in explainer.explain_table(TABLE, AS_OF):
        assert len(reasons) <= 3
        strength = [reason.contribution for reason in reasons]
        assert strength == sorted(strength, reverse=True)
        assert all(c > 0 for c in strength)
        assert len({reason.topic for reason in reasons}) == len(reasons)


def test_a_topic_counts_all_its_features_and_the_whole_adds_up():
    scorer = explained()
    explainer = Explainer(scorer)
    parts = explainer.contributions(MATRIX)
    totals = explainer.by_topic(parts.values)
    names = list(scorer.program.names)
    both = parts.values[:, names.index("sent")] + parts.values[:, names.index("sent_vs_typical")]
    np.testing.assert_allclose(totals[:, explainer.topics.index("sent")], both)
    np.testing.assert_allclose(parts.base + totals.sum(axis=1), scorer.model.margin(MATRIX), atol=1e-5)


def test_no_reason_shows_the_name_of_a_feature_or_a_code():
    names = {*PROGRAM.names, "lastorder"} - {"city", "sent", "spent"}  # these are words of their docs
    for kind in ("logistic", "boosted", "network"):
        for reasons in Explainer(explained(kind)).explain_table(TABLE, AS_OF):
            for reason in reasons:
                assert not any(re.search(rf"\b{name}\b", reason.text) for name in names if "_" in name)
                assert "nan" not in reason.text
                if reason.feature == "city":
                    assert reason.text.startswith(
                        ("city: not known", *(f"city: {c}" for c in CONTRACT.column("city").choices))
                    )


def test_a_reason_shows_the_customers_own_value():
    explainer = Explainer(explained())
    median = f"{round(np.median(MATRIX[:, PROGRAM.names.index('sent')])):,}"
    sent = TABLE["sent"].to_pylist()
    reasons = [(i, r) for i, rs in enumerate(explainer.explain_table(TABLE, AS_OF)) for r in rs if r.feature == "sent"]
    assert reasons
    for row, reason in reasons:
        assert reason.text in (
            f"e-mails sent: {sent[row]:,}; typical {median}",
            f"e-mails sent: {sent[row]:,}, as is typical",
        )


def test_reasons_survive_the_bundle_and_equal_trainings_make_one_version(tmp_path):
    arguments = {"card": {}, "golden": customers(40, 2), "as_of": AS_OF, "reference": TABLE, "provenance": {}}
    first = write_bundle(tmp_path, explained(), **arguments)
    again = write_bundle(tmp_path, explained(), **arguments)
    assert first == again
    loaded = Explainer(load_bundle(first)).explain_table(TABLE, AS_OF)
    assert loaded == Explainer(explained()).explain_table(TABLE, AS_OF)


def test_a_bundle_from_before_reasons_says_so():
    with pytest.raises(BundleMismatch, match=r"has no explain\.json, expected .*: train again"):
        Explainer(scorer_of())


@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_a_scored_file_gives_the_same_reasons_as_the_list(tmp_path, batch_rows):
    scorer = explained()
    pq.write_table(TABLE, tmp_path / "in.parquet")
    summary = score_file(
        scorer, tmp_path / "in.parquet", tmp_path / "o.parquet", AS_OF, batch_rows=batch_rows, reasons=True
    )
    calls = pq.read_table(summary.calls)
    listed = call_list(scorer, TABLE["id"], scorer.score_table(TABLE, AS_OF).probability, AS_OF).slice(
        0, calls.num_rows
    )
    rows = [TABLE["id"].to_pylist().index(name) for name in listed["customer_id"].to_pylist()]
    expected = with_reasons(listed, Explainer(scorer).explain_table(TABLE.take(pa.array(rows)), AS_OF))
    assert (
        calls.select(["customer_id", *REASON_COLUMNS]).to_pylist()
        == expected.select(["customer_id", *REASON_COLUMNS]).to_pylist()
    )
    assert "customer" not in calls.column_names


def test_no_customers_have_no_reasons():
    assert Explainer(explained()).explain_table(TABLE.slice(0, 0), AS_OF) == []


def test_features_of_the_store_count_with_the_columns_they_are_made_of():
    from churn_assets_tests.strategies import CONTRACTS, STORE

    topic_of = topics(STORE)
    assert topic_of["recency_days"] == "lastorder"
    assert {topic_of[n] for n in ("esent", "emails_ratio", "emails_gap", "emails_pace")} == {"esent"}
    assert topic_of["opens"] == topic_of["unopened"] == "eopenrate"
    for contract in CONTRACTS:
        assert set(topics(contract).values()) <= {c.name for c in contract.scoring_columns}
