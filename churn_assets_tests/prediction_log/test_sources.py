"""Sources of feedback: what contradicts the scores does not count until a person says so, and decisions are kept."""

from __future__ import annotations

import datetime as dt

import duckdb
import numpy as np
import pytest

from churn_assets.errors import SourceRefused
from churn_assets.prediction_log.feedback import import_reports
from churn_assets.prediction_log.records import Feedback
from churn_assets.prediction_log.sources import (
    EVER,
    FOR_EVER,
    QUARANTINE,
    decide,
    implausible_reports,
    parse_period,
    quarantined_sources,
    record,
    waiting_sources,
)
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.prediction_log.home import AT, STORE, ask, feedback, prediction, settings, tables, write

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
LATER = "2026-11-21T12:00:00+00:00"


def population(size: int, seed: int = 1):
    """Scores with a mean of 20 %, and outcomes that follow them."""
    draw = np.random.default_rng(seed)
    score = draw.beta(0.5, 2.0, size)
    return score, draw.random(size) < score


def odds(share, times):
    return times * share / (1 - share + times * share)


@pytest.mark.parametrize(
    ("outcomes", "reported", "reason"),
    [
        (lambda score, churned, draw: churned, 1.0, None),
        (lambda score, churned, draw: draw.random(len(score)) < odds(score, 2.5), 1.0, None),  # drift
        (lambda score, churned, draw: draw.random(len(score)) < odds(score, 0.5), 1.0, None),
        (lambda score, churned, draw: draw.random(len(score)) < 0.2, 1.0, None),  # the model says nothing any more
        (lambda score, churned, draw: ~churned, 1.0, "reported as churned"),
        (lambda score, churned, draw: ~churned, 0.04, "reverse"),
        (lambda score, churned, draw: np.zeros(len(score), bool), 1.0, "churned, the scores expect"),
        (lambda score, churned, draw: np.ones(len(score), bool), 1.0, "reported as churned"),
        (lambda score, churned, draw: np.ones(len(score), bool), 0.2, None),  # a system that reports churners only
        (lambda score, churned, draw: ~churned, 0.015, None),  # too few to say
    ],
)
def test_what_contradicts_the_scores_is_not_plausible(outcomes, reported, reason):
    score, churned = population(3000)
    labels = outcomes(score, churned, np.random.default_rng(2))
    part = np.arange(len(score)) < reported * len(score)
    answer = implausible_reports(labels[part], score[part], len(score), float(score.mean()))
    assert answer is None if reason is None else reason in str(answer)


def test_true_outcomes_are_plausible_in_every_draw():
    for seed in range(300):
        score, churned = population(50 + 10 * seed, seed)
        assert implausible_reports(churned, score, len(score), float(score.mean())) is None, seed


def home_with_reports(tmp_path, flipped: bool, source: str | None = "anonymous", size: int = 400, **changed):
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    score, churned = population(size)
    scored = [prediction(f"p{i}", customer_id=f"c{i}", score=float(s)) for i, s in enumerate(score)]
    reports = [
        feedback(f"f{i}", prediction_id=None, customer_id=f"c{i}", churned=bool(c ^ flipped), received_at=LATER)
        for i, c in enumerate(churned)
    ]
    reports = [
        type(r)(**{f: getattr(r, f) for f in r.__struct_fields__} | {"source": source} | changed) for r in reports
    ]
    write(of, "a", *scored, *reports)
    return of


COUNTED = "SELECT count(*) FROM outcomes"


def test_flipped_labels_over_the_network_do_not_count_until_they_are_accepted(tmp_path):
    of = home_with_reports(tmp_path, flipped=True)
    assert ingest(of, STORE).quarantined_sources == ["anonymous"]
    assert ask(of, COUNTED) == [(0,)]
    assert ask(of, "SELECT count(*) FROM feedback") == [(400,)]
    assert "reported as churned" in quarantined_sources(of)["anonymous"]

    write(of, "b", feedback("late", customer_id="c1", prediction_id=None, received_at=LATER, source="anonymous"))
    assert ingest(of, STORE).quarantined_sources == []  # it is decided already
    assert ask(of, COUNTED) == [(0,)]

    assert record(of, decide("anonymous", True, (EVER, FOR_EVER), "Ana", "checked", NOW)) == 401
    assert ingest(of, STORE).quarantined_sources == []
    assert ask(of, COUNTED) == [(401,)]
    assert quarantined_sources(of) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"flipped": False},
        {"flipped": True, "source": "import", "request_id": "import"},
        {"flipped": True, "source": "billing", "request_id": "import"},
        {"flipped": True, "size": 40},
    ],
)
def test_plausible_imported_and_few_reports_count(tmp_path, options):
    of = home_with_reports(tmp_path, **options)
    assert ingest(of, STORE).quarantined_sources == []
    assert ask(of, COUNTED) == [(options.get("size", 400),)]


def test_a_rebuilt_warehouse_has_the_same_decisions(tmp_path):
    of = home_with_reports(tmp_path, flipped=True)
    ingest(of, STORE)
    record(of, decide("anonymous", True, (EVER, NOW), "Ana", "checked", NOW))
    ingest(of, STORE)
    before = tables(of)
    ingest(of, STORE, rebuild=True)
    assert {name: rows for name, rows in tables(of).items() if name != "segments"} == {
        name: rows for name, rows in before.items() if name != "segments"
    }
    assert ask(of, "SELECT who, accepted FROM source_decisions ORDER BY seq") == [(QUARANTINE, False), ("Ana", True)]


def test_a_withdrawal_is_of_a_source_and_a_period(tmp_path):
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    rows = [
        feedback(f"{source}{day}", received_at=f"2026-01-{day}T00:00:00+00:00", source=source)
        for source in ("crm", "billing")
        for day in (10, 11, 12)
    ]
    write(of, "a", *(type(r)(**{f: getattr(r, f) for f in r.__struct_fields__}) for r in rows))
    ingest(of, STORE)
    period = dt.datetime(2026, 1, 11, tzinfo=dt.UTC), dt.datetime(2026, 1, 12, tzinfo=dt.UTC)
    record(of, decide("crm", False, period, "Ana", "wrong export", NOW))
    ingest(of, STORE)
    assert ask(of, "SELECT feedback_id FROM outcomes ORDER BY 1") == [
        ("billing10",), ("billing11",), ("billing12",), ("crm10",), ("crm12",)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "period", "who", "why", "message"),
    [
        ("crn", (EVER, FOR_EVER), "Ana", "x", "nothing ingested was reported by 'crn', expected one of: crm"),
        ("crm", (EVER, FOR_EVER), " ", "x", "--by is ' ', expected 1 to 200 printable characters"),
        ("crm", (EVER, FOR_EVER), "Ana", "a\x1bb", "--why is 'a\\\\x1bb'"),
        ("crm", (NOW, NOW), "Ana", "x", "expected --since before --until"),
    ],
)
def test_a_decision_that_cannot_be_taken_is_one_line_and_no_row(tmp_path, source, period, who, why, message):
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    write(of, "a", feedback("f", source="crm"))
    ingest(of, STORE)
    with pytest.raises(SourceRefused, match=message.replace("(", r"\(")) as caught:
        record(of, decide(source, False, period, who, why, NOW))
    assert "\n" not in str(caught.value)
    assert ingest(of, STORE).segments == 0


def test_trials_shadow_scores_and_unacknowledged_rows_are_marked(tmp_path):
    from churn_assets.prediction_log.records import Unacknowledged

    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    rows = [prediction("a"), prediction("b", test=True), prediction("c", shadow=True), prediction("d", source="key1")]
    write(of, "a", *rows, Unacknowledged(AT, ["d", "f"]))
    ingest(of, STORE)
    assert ask(of, "SELECT prediction_id, source, uncertain FROM answers ORDER BY 1") == [
        ("a", None, False),
        ("d", "key1", True),
    ]
    assert ask(of, "SELECT count(*) FROM predictions WHERE test OR shadow") == [(2,)]


def test_lines_of_an_older_version_are_read(tmp_path):
    """A line without the fields of this version, as 0.2 wrote it."""
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    line = write(of, "a", prediction("a"), feedback("f")).read_bytes()
    assert b"source" not in line
    assert b"shadow" not in line
    assert ingest(of, STORE).quarantined == 0
    assert ask(of, "SELECT test, shadow, source FROM predictions") == [(False, False, None)]


def reports_of(name: str, source: str, received_at: str, count: int = 1):
    return [
        feedback(f"{name}{n}", prediction_id=None, customer_id=f"c{n}", source=source, received_at=received_at)
        for n in range(count)
    ]


def test_a_withdrawal_without_an_end_is_of_what_was_received_until_then(tmp_path):
    """Else an export that was wrong once would silence every later one."""
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    write(of, "a", *reports_of("old", "billing", LATER))
    ingest(of, STORE)
    record(of, decide("billing", False, parse_period(None, None, NOW), "Ana", "wrong export", NOW))
    write(of, "b", *reports_of("new", "billing", "2026-11-23T00:00:00+00:00"))
    ingest(of, STORE)
    assert ask(of, "SELECT feedback_id FROM outcomes") == [("new0",)]


def test_what_a_quarantined_source_reports_after_a_withdrawal_waits_for_a_person_again(tmp_path):
    of = home_with_reports(tmp_path, flipped=True)
    ingest(of, STORE)
    record(of, decide("anonymous", False, parse_period(None, None, NOW), "Ana", "an attack", NOW))
    ingest(of, STORE)
    assert quarantined_sources(of) == {}
    write(of, "later", *reports_of("later", "anonymous", "2026-11-23T00:00:00+00:00"))
    ingest(of, STORE)
    assert ask(of, COUNTED) == [(0,)]
    assert quarantined_sources(of).keys() == {"anonymous"}


def test_feedback_that_a_killed_ingest_did_not_judge_is_judged_by_the_next(tmp_path):
    of = home_with_reports(tmp_path, flipped=True)
    ingest(of, STORE)
    with duckdb.connect(str(of.warehouse_dir / "log.duckdb")) as connection:  # as a kill after the segment's commit
        connection.execute("DELETE FROM source_decisions")
        connection.execute("UPDATE judged SET seq = 0")
    assert ingest(of, STORE).quarantined_sources == ["anonymous"]
    assert ask(of, COUNTED) == [(0,)]


@pytest.mark.parametrize("source", ["", " ", "a\x1bb", "x" * 201, "anonymous"])
def test_an_import_has_a_name_that_can_be_told_from_a_source_without_a_key(tmp_path, source):
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    report = {"customer_id": "c", "churned": True, "observed_at": "2026-01-20"}
    with pytest.raises(SourceRefused, match="--source is"):
        import_reports(of, [report], NOW, source)
    assert not of.predlog_dir.exists()


def test_what_was_withdrawn_counts_when_another_source_reports_it(tmp_path):
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="1")
    report = {"customer_id": "c", "churned": True, "observed_at": "2026-01-20"}
    assert import_reports(of, [report], NOW, "draft").added == 1
    ingest(of, STORE)
    record(of, decide("draft", False, (EVER, FOR_EVER), "Ana", "not final", NOW))
    assert import_reports(of, [report], NOW, "final").added == 1
    assert import_reports(of, [report], NOW, "final").added == 0
    ingest(of, STORE)
    assert ask(of, "SELECT source FROM outcomes") == [("final",)]


@pytest.mark.parametrize(("since", "until"), [("soon", None), (None, "2026-13-01")])
def test_a_period_that_is_none_is_one_line(since, until):
    with pytest.raises(SourceRefused, match="expected days such as 2026-01-20; correct them"):
        parse_period(since, until, NOW)


def outcomes_by(source: str, ids: range, churners: int = 3, **changed) -> list[Feedback]:
    return [
        feedback(
            f"{source}-{i}",
            prediction_id=None,
            customer_id=f"c{i}",
            source=source,
            churned=i % 10 < churners,
            **changed,
        )
        for i in ids
    ]


LABELLED = """SELECT count(DISTINCT coalesce(f.customer_id, p.customer_id)) FROM outcomes f
LEFT JOIN predictions p ON p.prediction_id = f.prediction_id"""


@pytest.mark.parametrize(("share", "low", "high"), [("0", 0, 0), ("0.1", 20, 65), ("0.5", 165, 235), ("1", 400, 400)])
def test_sources_that_nobody_has_accepted_label_a_share_of_the_customers_all_together(tmp_path, share, low, high):
    of, ids = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE=share), range(400)
    named = [feedback(f"p-{i}", prediction_id=f"p{i}", source="bi", churned=i % 10 < 3) for i in ids]
    scored = [prediction(f"p{i}", customer_id=f"c{i}", score=0.3) for i in ids]
    write(of, "a", *scored, *outcomes_by("crm", ids), *named)
    ingest(of, STORE)
    [(labelled,)] = ask(of, LABELLED)
    assert low <= labelled <= high
    assert ask(of, "SELECT source, count(*) FROM outcomes GROUP BY 1 ORDER BY 1") == [
        (source, labelled) for source in ("bi", "crm") if labelled
    ], "the same customers, by whichever id"
    waiting = 400 - labelled
    assert waiting_sources(of) == ({"bi": waiting, "crm": waiting} if waiting else {})

    write(of, "b", *outcomes_by("files", ids, request_id="import"), *outcomes_by("anonymous", ids, request_id="import"))
    record(of, decide("crm", True, (EVER, FOR_EVER), "Ana", "our CRM", NOW))
    ingest(of, STORE)
    counts = dict(ask(of, "SELECT source, count(*) FROM outcomes GROUP BY 1"))
    assert (counts["crm"], counts["files"]) == (400, 400)
    assert counts.get("bi", 0) == counts.get("anonymous", 0) == labelled
    record(of, decide("bi", False, (EVER, FOR_EVER), "Ana", "not ours", NOW))
    ingest(of, STORE)
    assert "bi" not in waiting_sources(of)


def test_an_implausible_source_is_stopped_though_only_a_share_of_it_counts(tmp_path):
    of = settings(tmp_path / "home", CHURN_FEEDBACK_SHARE="0")
    write(
        of,
        "a",
        *(prediction(f"p{i}", customer_id=f"c{i}", score=0.1) for i in range(80)),
        *outcomes_by("x", range(80), churners=10),
    )
    assert ingest(of, STORE).quarantined_sources == ["x"]
    assert waiting_sources(of) == {}
