"""Reasons on the call list: the columns that raise a score most, in the contract's words."""

import dataclasses
import itertools
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.contract.wording import topics
from churn_assets.errors import BundleMismatch
from churn_assets.features.compile import compile_features
from churn_assets.features.encode import encode_table
from churn_assets.scoring.batch import score_file
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.call_list import REASON_COLUMNS, call_list, with_reasons
from churn_assets.scoring.explain import LEAST_LOG_ODDS, LEAST_SHARE, Explainer, background, twin_pairs
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.scoring.scorer import Scorer
from churn_assets.training.export import as_scorer
from churn_assets_tests.data.contracts import small_contract
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, KINDS, TEXT, customers, scorer_of, training
from churn_assets_tests.strategies import STORE

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
        assert all(c >= LEAST_LOG_ODDS for c in strength)
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
        compared = "" if f"{sent[row]:,}" == median else f"; typical {median}"
        assert reason.text == f"e-mails sent: {sent[row]:,}{compared}"


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
    from churn_assets_tests.strategies import CONTRACTS

    topic_of = topics(STORE)
    assert topic_of["recency_days"] == "lastorder"
    assert {topic_of[n] for n in ("esent", "emails_ratio", "emails_gap", "emails_pace")} == {"esent"}
    assert topic_of["opens"] == topic_of["unopened"] == "eopenrate"
    for contract in CONTRACTS:
        assert set(topics(contract).values()) <= {c.name for c in contract.scoring_columns}


MARKED: dict[str, Any] = {"reason_high": "above {value} than {typical}", "reason_low": "below {value} than {typical}"}


def marked(scorer: Scorer) -> Scorer:
    """The scorer with texts for every column and feature that say on which side a value lies."""
    contract = scorer.contract
    columns = [dataclasses.replace(column, **MARKED) for column in contract.columns]
    features = [dataclasses.replace(feature, **MARKED) for feature in contract.features]
    changed = dataclasses.replace(contract, columns=tuple(columns), features=tuple(features))
    return dataclasses.replace(scorer, contract=changed)


def number(text: str) -> float | str:
    """A shown value, as a number where it is one."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


def contradictions(scorer: Scorer, table: pa.Table, as_of: str) -> list[str]:
    """Reasons that do not agree with their rows, and how many there were in all must not be none."""
    explainer, names = Explainer(marked(scorer)), list(scorer.program.names)
    matrix = scorer.features(encode_table(scorer.contract, table), as_of)
    wrong, count = [], 0
    for row, reasons in zip(matrix, explainer.explain_table(table, as_of), strict=True):
        assert len({reason.text for reason in reasons}) == len(reasons)
        for reason in reasons:
            count += 1
            value, spec = float(row[names.index(reason.feature)]), scorer.program.specs[names.index(reason.feature)]
            text = re.sub(r" \(most of the score rests on [^()]+\)$", "", reason.text)
            told = re.fullmatch(r"(above|below) (.+) than (.+)", text)
            plain = re.fullmatch(r".*: (.+?)(?: \D+?)?(?:; (?:typical|most often) (.+?))?(?: \D+)?", text)
            if np.isnan(value):
                wrong += [] if "not known" in text or "no order yet" in text else [text]
            elif told and spec.kind != "category" and not isinstance(number(told[2]), str):
                shown, usual = number(told[2]), number(told[3])
                is_above = value > scorer.background["typical"][reason.feature][0]
                agrees = shown == pytest.approx(value, rel=0.06, abs=0.51 if abs(value) >= 20 else 0.051)
                wrong += [] if agrees and (shown > usual) == is_above == (told[1] == "above") else [text]
            elif told or plain:
                pair = told.groups()[1:] if told else plain.groups()
                wrong += [text] if pair[0] == pair[1] else []
            else:
                wrong.append(text)
    assert count > len(matrix) / 2
    return wrong


@pytest.mark.parametrize("kind", KINDS)
def test_no_reason_contradicts_its_row(kind):
    assert contradictions(explained(kind), customers(150, 21), AS_OF) == []


def test_no_reason_contradicts_its_row_in_the_store(choice, request):
    table = request.getfixturevalue("customers").slice(0, 600)
    assert contradictions(as_scorer(STORE, choice), table, table.schema.metadata[b"churn_as_of"].decode()) == []


def test_less_than_a_tenth_of_what_raises_a_score_is_no_reason():
    explainer = Explainer(explained())
    totals = explainer.by_topic(explainer.contributions(MATRIX).values)
    table = customers(600, seed=42)  # the rows of the matrix
    for row, reasons in zip(totals, explainer.explain_table(table, AS_OF), strict=True):
        raising = row[row > 0.0].sum()
        enough = np.sort(row[row >= max(LEAST_LOG_ODDS, LEAST_SHARE * raising)])[::-1][:3]
        np.testing.assert_allclose([reason.contribution for reason in reasons], enough)


TWINS = small_contract(
    "".join(
        f'[[columns]]\nname = "{name}"\nkind = "number"\n' for name in ("calls", "minutes", "Charge", "bill", "left")
    )
    + """
[[columns]]
name = "plan"
kind = "category"
choices = ["Basic", "Plus", "Max"]
[[columns]]
name = "code"
kind = "integer"
[features]
calls_log = { expression = "log1p(calls)" }
""",
    label="churn",
)


def test_twins_are_one_reason_in_the_words_of_a_column():
    rng = np.random.default_rng(3)
    calls, plan, bill = rng.poisson(9.0, 700), rng.integers(0, 3, 700), rng.gamma(3.0, 20.0, 700)
    numbers = {"calls": calls, "minutes": calls * 10.0, "Charge": np.round(calls * 1.7, 2), "bill": bill}
    numbers |= {"left": rng.normal(size=700), "code": np.array([30, 10, 20])[plan]}
    table = pa.table(
        {"id": [f"c{n}" for n in range(700)], **numbers, "plan": pa.array(np.array(["Basic", "Plus", "Max"])[plan])}
    )
    contract = parse_contract(TWINS)
    columns = encode_table(contract, table)
    program = compile_features(contract).fit(columns, 0.0)
    matrix = program(columns, 0.0)
    pairs = {tuple(sorted((program.names[a], program.names[b]))) for a, b in twin_pairs(program.specs, matrix)}
    same = ("Charge", "calls", "calls_log", "minutes")
    assert pairs == {*itertools.combinations(same, 2), ("code", "plan")}
    basis = PiecewiseEncoding.fit(matrix, program.specs, 8)
    model = LogisticModel(basis, rng.normal(size=basis.width), 0.0)
    scorer = dataclasses.replace(scorer_of(), contract=contract, program=program, model=model, ranges={}, background={})
    explainer = Explainer(dataclasses.replace(scorer, background=background(model, program.specs, matrix)))
    assert set(explainer.topics) == {"calls", "bill", "left", "plan"}
    reasons = [reason for row in explainer.explain_table(table, 0.0) for reason in row]
    assert {reason.topic for reason in reasons} == set(explainer.topics)
    assert "calls_log" not in {reason.feature for reason in reasons}


def test_a_score_that_rests_on_a_suspect_column_says_so():
    scorer = explained()
    text = TEXT.replace('doc = "E-mails sent."', 'doc = "E-mails sent."\nsuspect = "Stops when a customer leaves."')
    suspecting = Explainer(dataclasses.replace(scorer, contract=parse_contract(text)))
    plain = Explainer(scorer).explain_table(TABLE, AS_OF)
    totals = suspecting.by_topic(suspecting.contributions(scorer.features(encode_table(CONTRACT, TABLE), AS_OF)).values)
    said = 0
    for row, before, after in zip(totals, plain, suspecting.explain_table(TABLE, AS_OF), strict=True):
        for old, new in zip(before, after, strict=True):
            most = new.topic == "sent" and bool(new.contribution >= 0.5 * row[row > 0].sum())
            assert new.text == old.text + " (most of the score rests on sent, a suspect column)" * most
            said += most
    assert said


def test_a_feature_that_uses_a_suspect_column_of_another_topic_does_not_count_as_that_column():
    text = TEXT.replace('doc = "against what is typical" }', 'doc = "against what is typical", topic = "city" }')
    text = text.replace('doc = "E-mails sent."', 'doc = "E-mails sent."\nsuspect = "Stops when a customer leaves."')
    explainer = Explainer(dataclasses.replace(explained(), contract=parse_contract(text)))
    reasons = [reason for own in explainer.explain_table(customers(400, 3), AS_OF) for reason in own]
    notes = {(reason.topic, reason.text.partition(" (")[2]) for reason in reasons if "suspect" in reason.text}
    assert notes == {
        ("city", "most of the score rests on this, which is partly made of a suspect column: sent)"),
        ("sent", "most of the score rests on sent, a suspect column)"),
    }


def test_a_value_is_no_reason_on_the_side_that_the_contract_calls_safe():
    falling = tuple(dataclasses.replace(spec, monotone=-1) for spec in PROGRAM.specs)
    scorer = explained()
    explainer = Explainer(dataclasses.replace(scorer, program=dataclasses.replace(scorer.program, specs=falling)))
    typical = scorer.background["typical"]
    matrix = scorer.features(encode_table(CONTRACT, TABLE), AS_OF)
    reasons = list(zip(matrix, explainer.explain_table(TABLE, AS_OF), strict=True))
    assert any(own for _, own in reasons)
    for row, own in reasons:
        for reason in own:
            value = row[PROGRAM.names.index(reason.feature)]
            assert np.isnan(value) or value <= typical[reason.feature][0]
