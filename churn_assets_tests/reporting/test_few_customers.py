"""A figure of fewer than 10 churned or kept customers is shown in no place; what stands there says why."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest

from benchmarks.audit_tables import TODAY, contract_of, table_of
from churn_assets.data.validation.validate import validate
from churn_assets.evaluation.metrics import shortage
from churn_assets.leakage.audit import Audit, audit
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.status import Status
from churn_assets.reporting.model.collect import collect_report
from churn_assets.reporting.model.facts import Report, as_json
from churn_assets.reporting.model.page import render_card, render_report
from churn_assets.reporting.run_summary import summarize
from churn_assets.scoring.bundle import read_card, read_provenance
from churn_assets.scoring.card import ModelCard, judged_part, no_better_than_random
from churn_assets.serving.pages import index_page
from churn_assets.serving.routing.models import load_served_model
from churn_assets.training.candidate import train_candidate
from churn_assets.training.export import provenance, write_choice
from churn_assets.training.feature_table import feature_table
from churn_assets.training.select import choose_model
from churn_assets.training.split import split_table

ROWS, CHURNED, NEWEST = 700, 40, 2  # of the newest 105 customers
FEW, FEW_NEWEST = "not enough churned customers (6)", "not enough churned customers (2)"
FIGURES = ("pr_auc", "roc_auc", "log_loss", "brier", "ece", "precision", "recall", "f1")


@dataclass(frozen=True)
class Trained:
    """A model of a table with 6 churned test customers, in `bundle`."""

    bundle: Path
    card: ModelCard
    audit: Audit
    report: Report


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    rng = np.random.default_rng(5)
    age = np.arange(ROWS)[::-1]  # days; the last 105 customers are the newest
    churned = np.zeros(ROWS, dtype=bool)
    churned[rng.choice(ROWS - 105, CHURNED - NEWEST, replace=False)] = True
    churned[-NEWEST:] = True
    cells = {
        "joined": np.datetime64(TODAY, "D") - age.astype("timedelta64[D]"),
        "spend": rng.normal(50, 10, ROWS) - 14 * churned,
        "calls": rng.poisson(3.0, ROWS) * 1.0,
    }
    contract = contract_of(cells, '[time]\ncohort = "joined"')
    customers = validate(contract, table_of(churned, cells)).customers
    splits = split_table(contract, customers)
    features = feature_table(contract, customers, splits)
    candidates = [train_candidate("logistic", contract, features, splits)]
    choice = choose_model(contract, candidates, features, splits)
    folder = tmp_path_factory.mktemp("few") / "bundles"
    bundle = write_choice(contract, choice, candidates, customers, folder, provenance(customers, None, "run", None))
    card = read_card(bundle)
    ladder = audit(contract, customers, features, splits, choice.name, {}, card.metrics)
    report = collect_report(bundle, customers, features, splits, candidates, ladder)
    return Trained(bundle, card, ladder, report)


def terminal() -> ModuleType:
    """The command line's output; typer itself uses what click has deprecated."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return importlib.import_module("churn_assets.cli.terminal.render")


def shown_by_status(trained: Trained, capsys: pytest.CaptureFixture[str]) -> str:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    champion = Champion("v", "bundles/v", "f", None, since, "somebody", "first")
    terminal().show_status(Status(champion, trained.card, read_provenance(trained.bundle), {}))
    return " ".join(capsys.readouterr().out.split())


def shown_by_audit(trained: Trained, capsys: pytest.CaptureFixture[str]) -> str:
    terminal().show_audit(trained.audit)
    return " ".join(capsys.readouterr().out.split())


PLACES: dict[str, Callable[[Trained, pytest.CaptureFixture[str]], str]] = {
    "end of the run": lambda t, _: "\n".join(summarize(t.report, None, None, {}).lines),
    "report": lambda t, _: render_report(t.report),
    "model card": lambda t, _: render_card(t.report),
    "ladder": lambda t, _: " ".join(t.audit.sentences),
    "churn audit": shown_by_audit,
    "churn status": shown_by_status,
    "the service's page": lambda t, _: index_page(load_served_model(t.bundle), "", "nonce"),
}


@pytest.mark.parametrize("place", PLACES)
def test_places_say_that_there_are_too_few(trained, capsys, place):
    text = PLACES[place](trained, capsys)
    assert FEW in text
    assert not re.search(r"(test|drawn at random)[^.]{0,40}PR-AUC (is )?[01]\.\d", text)


@pytest.mark.parametrize("place", ["end of the run", "report", "ladder", "churn status"])
def test_places_say_that_too_few_of_the_newest_churned(trained, capsys, place):
    assert FEW_NEWEST in PLACES[place](trained, capsys)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("part", ["test", "oot"])
def test_card_and_metrics_have_no_figure_of_too_few(trained, part, figure):
    assert not [name for name in trained.card.metrics if name.startswith(f"{part}_{figure}")]
    assert trained.card.metrics[f"{part}_rows"] == 105
    side = msgspec.json.decode(as_json(trained.report))["sides"]["test"]
    assert (side["metrics"], side["recomputed_pr_auc"], side["curves"]["pr"], side["thresholds"]) == ({}, None, [], [])


def test_what_was_measured_on_others_is_kept(trained):
    """The model is judged by its out-of-fold figures; rungs, comparison and profit are null."""
    metrics = trained.card.metrics
    assert judged_part(metrics) == "validation"
    assert no_better_than_random(metrics) == (metrics["validation_pr_auc_low"] <= metrics["validation_churn_rate"])
    assert "out of fold, on the 595 training customers, 34 churned, PR-AUC is 0." in PLACES["end of the run"](
        trained, None
    )
    assert {rung.random for rung in trained.audit.rungs} == {None}
    assert {row.test_pr_auc for row in trained.card.comparison} == {None}
    profit = trained.card.profit
    assert profit is not None
    assert (profit.chosen, profit.best, profit.curve, profit.list_sizes) == (None, None, [], [])
    assert profit.call_list is not None
    assert trained.report.learning is None


@pytest.mark.parametrize(
    ("churned", "rows", "text"),
    [
        (9, 100, "not enough churned customers (9)"),
        (91, 100, "not enough kept customers (9)"),
        (10, 20, ""),
        (0, 0, "not enough churned customers (0)"),
    ],
)
def test_ten_of_each_class_give_a_figure(churned, rows, text):
    assert shortage(churned, rows) == text
