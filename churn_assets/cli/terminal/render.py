"""Summaries and tables in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from churn_assets.cli.terminal.console import escape, out, say
from churn_assets.contract.model import Contract
from churn_assets.evaluation.metrics import shortage_in
from churn_assets.promotion.status import Status, read_asset, read_registration, read_validation
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.alerting.alerts import Entry
    from churn_assets.drafting.draft import Draft
    from churn_assets.leakage.audit import Audit
    from churn_assets.leakage.ladder import Figure
    from churn_assets.training.export import ChosenModel

HEADLINES = ("pr_auc", "roc_auc", "ece", "log_loss", "f1")


def show_run(settings: Settings) -> None:
    """The result of `churn run`: rows, candidates, champion, and the summary of `reporting.run_summary`."""
    from churn_assets.promotion.registration import Registration
    from churn_assets.reporting.run_summary import read_run_summary
    from churn_assets.training.export import ChosenModel

    chosen = read_asset(settings, "chosen_model", ChosenModel)
    registered = read_registration(settings)
    validation = read_validation(settings)
    out.print()
    if validation:
        repairs = [f"{repair.rows:,} ({repair.name})" for repair in validation.repairs if repair.rows]
        say(
            f"{validation.rows_in:,} rows in; repaired: {', '.join(repairs) or 'none'}; "
            f"{validation.rows_rejected:,} rejected; snapshot {validation.as_of.isoformat()}"
        )
    made = read_asset(settings, "registered_model", Registration)
    outdated = made is not None and registered is None  # another model has become champion since
    if chosen and not outdated:
        out.print(_comparison(chosen))
        say(f"Chosen: {chosen.name}, version {chosen.version}. {chosen.reason}.")
    if registered:
        where = registered.registry or f"not in MLflow: {registered.missing}"
        say(f"It is the {registered.alias} ({where}): {registered.reason}.")
    out.print()
    for line in read_run_summary(settings).lines:
        say(line)


def show_status(status: Status) -> None:
    """The champion in a few lines."""
    card = status.card
    if status.champion is None or card is None:
        out.print("No model yet in this home." + " Make one: churn run" * (not status.refusal))
        _ledger_lines(status)
        _show_paths(status.paths)
        return
    out.print(escape(f"champion {status.champion.version}: {card.chosen}, contract '{card.contract}'"))
    say(f"trained on {card.source}, as of {card.as_of}")
    if card.recent:
        say(f"of {card.recent.rows:,} recent labels: {card.recent.reason}")
    table = Table("", "random split, test", "out of time, test")
    for name in HEADLINES:
        table.add_row(name, *(_with_interval(card.metrics, part, name) for part in ("test", "oot")))
    out.print(table)
    for part, whom in (("test", "the test customers of the random split"), ("oot", "the newest customers")):
        if few := shortage_in(card.metrics, part):
            say(f"no figures of {whom}: {few}")
    if card.no_signal:
        out.print("[yellow]This model is no better than random: nobody is to be contacted because of it.[/yellow]")
    for sentence in status.left_out:
        say(sentence)
    _ledger_lines(status)
    for note in status.notes:
        say(note)
    _show_paths(status.paths)


def _ledger_lines(status: Status) -> None:
    if status.refusal:
        say(f"The newest model was not registered: {status.refusal}")
    for line in status.ledger.lines:
        say(line)


def show_alerts(entries: Sequence[Entry]) -> None:
    """Each alert in a few lines: title, since when, how often, and the destinations that did not receive it."""
    if not any(entry.closed_at is None for entry in entries):
        out.print("no open alerts")
    for entry in entries:
        until = f" to {entry.closed_at:%Y-%m-%d %H:%M}" if entry.closed_at else ""
        mark = "[dim]over[/dim] " if entry.closed_at else "[red]alert[/red]"
        repeats = f", raised {entry.times:,} times" if entry.times > 1 else ""
        out.print(
            f"{mark} {escape(entry.title)} [dim]({entry.opened_at:%Y-%m-%d %H:%M}{until} UTC{repeats})[/dim]",
            soft_wrap=True,
        )
        for line in [*entry.message.splitlines(), *entry.ending.splitlines()]:
            say(f"  {line}")
        if entry.acknowledged_by:
            say(f"  acknowledged by {entry.acknowledged_by}")
        if entry.muted_until is not None:
            say(f"  muted by {entry.muted_by} until {entry.muted_until:%Y-%m-%d %H:%M} UTC")
        for name, why in entry.undelivered.items():
            out.print(f"  [yellow]not taken by {escape(name)}: {escape(why)}[/yellow]", soft_wrap=True)


def show_contract(contract: Contract) -> None:
    """A contract as tables."""
    out.print(escape(f"{contract.title} ('{contract.name}', fingerprint {contract.fingerprint[:12]})"))
    columns = Table("column", "kind", "role", "allowed", "about", title="Columns")
    for column in contract.columns:
        bounds = f"{'' if column.low is None else column.low} .. {'' if column.high is None else column.high}"
        allowed = ", ".join(column.choices) or (bounds if bounds != " .. " else "")
        about = column.doc + (" [yellow]suspect[/yellow]" if column.suspect else "")
        columns.add_row(column.name, column.kind, column.role, allowed + (" or null" * column.nullable), about)
    features = Table("feature", "expression", "about", title="Features")
    for feature in contract.features:
        features.add_row(feature.name, escape(feature.expression), feature.doc)
    rules = Table("rule", "expression", "a row that breaks it is", title="Rules")
    for rule in contract.rules:
        rules.add_row(rule.name, escape(rule.expression), "rejected" if rule.severity == "reject" else "counted")
    value = contract.value
    for table in (columns, features, rules):
        out.print(table)
    worth = f"{value.value} ({value.customer_value:g} where that is missing)" if value.value else value.customer_value
    rate = f"{value.save_rate:.0%}"
    if value.save_rates is not None:
        by = ", ".join(f"{segment} {share:.0%}" for segment, share in value.save_rates.by)
        rate = f"by column {value.save_rates.column}{' ' * bool(by)}{by}, else {rate}"
    control = f"; control group: {value.control_share:.0%} of the customers" if value.control_share else ""
    say(
        f"A kept customer is worth {worth}; an offer costs {value.offer_cost:g} and saves {rate}; contacts per list: "
        f"{value.capacity or 'no limit'}{control}."
    )


def show_draft(draft: Draft, source: str, path: Path) -> None:
    """What a drafted contract holds, and the next commands."""
    contract = draft.contract
    part = "" if draft.rows == draft.sampled else f"a sample of {draft.sampled:,} of "
    say(f"Drafted {path} from {part}{draft.rows:,} rows: contract '{contract.name}'.")
    made = len(contract.feature_columns) + sum(feature.model for feature in contract.features)
    say(
        f"id '{contract.key.name}', label '{contract.label.column}' ({contract.label.churned_when} = churned), "
        f"cohort {contract.time.cohort or 'none'}, {made} features; "
        f"{draft.report.rows_rejected:,} of {draft.report.rows_in:,} rows would be rejected"
    )
    for heading, names in (("left out", draft.left_out), ("suspect", draft.suspects)):
        if names:
            say(f"{heading}, with the reason: {', '.join(names)}")
    use = "" if draft.obstacle else "; it can be used as it is"
    say(f"{draft.questions} questions stand in it as lines that begin with # QUESTION{use}.")
    if draft.obstacle:
        say(f"`churn run` stops with this table: {draft.obstacle}.")
    out.print("\nNext:")
    contract_path = shlex.quote(str(path))
    say(f"  churn contract show {contract_path}")
    say(
        f"  churn run --contract {contract_path} --source {'A_LARGER_TABLE' if draft.obstacle else shlex.quote(source)}"
    )


def show_audit(audit: Audit) -> None:
    """PR-AUC under weaker assumptions and of single columns, columns over a limit, and a summary."""
    splits = ["random", *(["out_of_time"] if audit.rungs[0].out_of_time else [])]
    title = f"PR-AUC on test rows of {audit.source} ({audit.rows:,} customers, {audit.churners:,} churned)"
    rungs = Table("", *(split.replace("_", " ") for split in splits), title=escape(title))
    first = audit.rungs[0].figures
    base = [f"{first[split].base_rate:.3f}" if split in first else "" for split in splits]
    for rung in audit.ladder:
        rungs.add_row(escape(rung.label), *(_figure(audit, rung.figures, split) for split in splits))
    by_strength = sorted(audit.columns.items(), key=lambda item: -item[1].single_column_pr_auc_lift)
    for name, column in by_strength[:8]:
        if column.alone:
            rungs.add_row(escape(f"{name} alone"), *(_figure(audit, column.alone, split) for split in splits))
    for band in audit.bands:
        rungs.add_row(escape(f"aged {band.label}"), str(band.figure) if band.figure else "too few customers")
    rungs.add_row("a random list", *base)
    out.print(rungs)
    say(f"Refitted at each rung: {audit.recipe}.")
    for finding in audit.findings:
        out_of_model = any(finding.column == column.column for column in audit.left_out)
        mark = "[green]attested[/green]" if finding.attested else "[red]not attested[/red]"
        mark += " [dim](left out)[/dim]" * out_of_model
        out.print(f"{mark} {escape(finding.column)} {escape(finding.description)}", soft_wrap=True)
    out.print()
    for sentence in audit.sentences:
        say(sentence)


def _figure(audit: Audit, figures: Mapping[str, Figure], split: str) -> str:
    return str(figures[split]) if split in figures else audit.shortage if split == "random" else ""


def show_budget(settings: Settings, amount: float, capacity: bool) -> None:
    """The best list for a budget, from the champion and the call list of this home."""
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.promotion.status import SCORE_AGAIN
    from churn_assets.scoring.budget import plan_call_list
    from churn_assets.scoring.bundle import contract_in_use, read_card
    from churn_assets.scoring.list_money import amount as money
    from churn_assets.scoring.list_money import describe_discount

    bundle = require_champion(settings.home).path(settings.home)
    plan, value = plan_call_list(bundle, settings.assets_dir / "risk_list.parquet", amount, capacity=capacity)
    contract, card = contract_in_use(bundle, settings.contract_path), read_card(bundle)
    if card.no_signal:
        out.print("Contact nobody: the model is no better than random.")
        return
    ends = {
        "budget": "the budget is spent",
        "capacity": f"the contract's capacity is {value.capacity or 0:,} contacts",
        "value": "a further contact would cost more than it is expected to bring",
        "customers": "there are no more customers",
    }
    outside = " outside the control group" * bool(value.control_share)
    say(f"Contact the first {plan.contacts:,} of {plan.customers:,} on the list{outside}: {ends[plan.limit]}.")
    table = Table("", "", title=f"A budget of {plan.budget:,.0f}")
    for name, text in (
        ("cost", f"{plan.cost:,.0f}"),
        ("churners expected among them", f"{plan.expected_churners:,.1f}"),
        ("of whom saved", f"{plan.expected_saved:,.1f}"),
        ("expected profit", money(plan.net_value)),
        ("95 % of outcomes", f"{money(plan.low)} to {money(plan.high)}"),
    ):
        table.add_row(name, text)
    out.print(table)
    assumed = (
        "Save rate and value are those of each customer"
        if value.by_customer
        else f"Of contacted churners {value.save_rate:.0%} stay, each worth {value.customer_value:,.0f}"
    )
    discount = describe_discount(card.profit.discount) if card.profit else ""
    sentences = [
        f"{assumed} (the contract's [value]); the interval is chance and calibration, not a wrong save rate.",
        discount,
    ]
    if contract is not None and contract.value != value:
        sentences.append(
            f"The list was made by another [value] than that of {contract.where} now; make it again: {SCORE_AGAIN}"
        )
    say(" ".join(filter(None, sentences)))


def _comparison(chosen: ChosenModel) -> Table:
    table = Table("candidate", "validation", "test", "out of time", "operations a row", title="PR-AUC, churn positive")
    for row in chosen.comparison:
        name = f"[bold]{row.candidate}[/bold]" if row.candidate == chosen.name else row.candidate
        figures = (row.validation_pr_auc, row.test_pr_auc, row.oot_test_pr_auc)
        few = ["too few" * bool(shortage_in(chosen.metrics, part)) for part in ("validation", "test", "oot")]
        cells = (why if f is None else f"{f:.4f}" for f, why in zip(figures, few, strict=True))
        table.add_row(name, *cells, f"{row.cost:,.0f}")
    return table


def _with_interval(metrics: dict[str, float], part: str, name: str) -> str:
    """A figure of the card, '' if there is none; an interval that cannot vary is not shown."""
    value, low, high = (metrics.get(f"{part}_{name}{end}") for end in ("", "_low", "_high"))
    if value is None or shortage_in(metrics, part):
        return ""
    return f"{value:.4f}" + (
        f"  {low:.4f} .. {high:.4f}" if low is not None and high is not None and low < high else ""
    )


def _show_paths(paths: dict[str, str]) -> None:
    titles = {"profile": "data profile", "call_list": "call list", "rejected": "rejected rows"}
    for name, path in paths.items():
        if name in (*titles, "report", "bundle"):
            say(f"{titles.get(name, name)}: {path}")
