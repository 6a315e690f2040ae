"""A given file is judged as a window of the log would be."""

from __future__ import annotations

import warnings

import pyarrow as pa
import pyarrow.csv
import pytest

from churn_assets.monitoring.profile import read_monitored_model
from churn_assets.monitoring.table_report import EXIT_CODES, report_table
from churn_assets_tests.monitoring.logs import contract_of, make_home, scored, set_column
from churn_assets_tests.scoring.tiny import scorer_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of click, in what typer imports
    from churn_assets.cli.terminal import console, monitored

CONTRACT = contract_of()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return read_monitored_model(make_home(tmp_path_factory.mktemp("home")), CONTRACT)


@pytest.fixture
def judge(tmp_path, model):
    def report(change=lambda table: table, rows=600, seed=11):
        file = tmp_path / "customers.csv"
        pyarrow.csv.write_csv(change(scored(rows, seed)[0]), file)
        return report_table(scorer_of(), model, file)

    return report


def test_a_whole_file_is_ok(judge):
    report = judge()
    assert (report.verdict, report.findings, report.rejected) == ("ok", (), {})
    assert (report.rows, report.customers) == (600, 600)
    assert report.drift.multivariate.roc_auc is not None
    assert report.drift.kernel.p_value > 0.01


def test_a_broken_column_is_named(judge):
    report = judge(set_column("sent", lambda v: v * 0))
    assert report.verdict == "broken"
    assert [(f.column, f.check) for f in report.findings] == [("sent", "constant")]


def test_customers_who_differ_are_drift(judge):
    report = judge(set_column("sent", lambda v: [int(1.25 * x) for x in v]))
    assert report.verdict == "drift"
    assert report.drift.drifted == ("sent",)


def test_rejected_rows_are_counted_by_cause(judge):
    report = judge(set_column("sent", lambda v: [-1] * 100 + list(v[100:])))
    assert report.customers == 500
    assert sum(report.rejected.values()) == 100
    (finding,) = [f for f in report.findings if f.check == "refused"]
    assert finding.blocks
    assert finding.cause in report.rejected
    assert "100 of 600 rows (16.7%) are rejected for sent: " in finding.message
    assert report.verdict == "broken"


def test_few_customers_are_not_judged(judge):
    assert judge(rows=120).verdict == "insufficient"


def test_a_customer_counts_once(judge):
    assert judge(lambda table: pa.concat_tables([table, table.slice(0, 50)])).customers == 600


def test_the_report_fits_a_screen(judge):
    report = judge(set_column("sent", lambda v: v * 0))
    with console.out.capture() as captured:
        monitored.show_table_report(report)
    text = captured.get()
    assert "broken: the data is broken, by 1 finding" in text
    assert "broken constant: 'sent' is 0 for everybody" in text
    assert len(text.splitlines()) < 24


def test_every_verdict_has_an_exit_code_and_only_ok_is_zero():
    assert {verdict for verdict, code in EXIT_CODES.items() if code == 0} == {"ok"}
    assert {1, 3, 4} == set(EXIT_CODES.values()) - {0}
