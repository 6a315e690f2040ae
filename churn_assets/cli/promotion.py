"""`churn retrain | approve | reject | rollback | history`: the decisions of a person."""

from __future__ import annotations

from typing import Annotated

import typer

from churn_assets.cli.terminal.console import (
    FAILURE,
    ContractOption,
    HomeOption,
    err,
    out,
    print_json,
    say,
    settings_of,
)
from churn_assets.settings import Settings


def _not_blank(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise typer.BadParameter("expected a text that is not blank; it goes into the history")
    return text


By = Annotated[str, typer.Option("--by", callback=_not_blank, help="Who decides; it goes into the history.")]
Why = Annotated[str, typer.Option("--why", callback=_not_blank, help="Why; it goes into the history.")]
Version = Annotated[str, typer.Argument(help="The challenger's version, as churn status shows it.")]

app = typer.Typer()
holdout_app = typer.Typer(help="The frozen customers that the gate compares models on.", no_args_is_help=True)


@holdout_app.callback()
def _group() -> None:
    """Keeps `renew` a command of its own: Typer makes an only command the group itself."""


@holdout_app.command(epilog='Example: [bold]churn holdout renew --by ana --why "customers of 2019 are gone"[/bold]')
def renew(by: By, why: Why, contract: ContractOption = None, home: HomeOption = None) -> None:
    """Freeze recent customers with final labels in place of those frozen with the first champion.

    Refused while a challenger or a retraining is under way, the data is broken, or labels are too few. Past verdicts
    stay as they are; later ones are made on the new customers.
    """
    from churn_assets.contract.load import load_contract
    from churn_assets.monitoring.performance.realized import usable_labels
    from churn_assets.promotion.records import Person
    from churn_assets.promotion.service import PromotionService

    settings = settings_of(home, contract)
    loaded = load_contract(settings.contract_path)
    labelled, _ = usable_labels(settings, loaded)
    holdout = PromotionService.of(settings).renew_holdout(loaded, labelled, Person(by), why)
    churned = int(sum(holdout.rows["churned"].to_pylist()))
    say(
        f"{holdout.rows.num_rows:,} customers with recent final labels are frozen, {churned:,} of them churned; no "
        "model of this home learns from them. The gate compares on them from now on; past verdicts stay as they are."
    )


window_app = typer.Typer(help="Decide about a window of the prediction log.", no_args_is_help=True)


@window_app.callback()
def window() -> None:
    """Decide about a window of the prediction log."""


@window_app.command(epilog='Example: [bold]churn window accept 3 --by Ana --why "the offer of May, checked"[/bold]')
def accept(
    number: Annotated[int, typer.Argument(help="The window, as the report on the data quality numbers it.")],
    by: By,
    why: Why,
    home: HomeOption = None,
) -> None:
    """Let a window that is reported as broken count as ok: its drift and its labels count from the next monitor on."""
    import datetime as dt

    from churn_assets.access.audit import record_call
    from churn_assets.monitoring.windows import Acceptance, accept_window
    from churn_assets.promotion.pointer import require_champion

    settings, now = settings_of(home), dt.datetime.now(dt.UTC)
    fingerprint = require_champion(settings.home).fingerprint
    accept_window(
        settings,
        fingerprint,
        number,
        Acceptance(by, why, now.isoformat(timespec="seconds")),
        lambda: record_call(settings.home, "window accept", now, window=number, by=by, why=why),
    )
    say(f"Window {number} counts as ok from the next monitor on, its labels too. The finding stays in its report.")


@app.command(epilog='Example: [bold]churn retrain --why "the spring offer changed who leaves"[/bold]')
def retrain(
    why: Why,
    by: Annotated[str, typer.Option("--by", help="Who asks.")] = "",
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Ask for a retraining now, whatever the cooldown says; broken data or one under way still stop it.

    Ends with 1 if nothing was asked for, and says why.
    """
    from datetime import UTC, datetime

    from churn_assets.alerting.decisions import request_retraining

    settings = settings_of(home, contract)
    record, reports = request_retraining(settings, by, why, datetime.now(UTC))
    say(f"{record.decision.kind.replace('_', ' ')}: {record.decision.message}")
    if record.request is None:
        raise typer.Exit(FAILURE)
    say(
        f"request {record.request} is open. A running daemon (churn ui) takes it up within {settings.sensor_s} s. "
        "Without one: dagster job execute -m churn_assets.definitions -j retrain "
        f'--tags \'{{"churn/request": "{record.request}"}}\''
    )
    made_at = reports.performance.made_at if reports.performance else None
    labels = f"the labels of {made_at}" if made_at else "the table alone: there are no labels yet"
    monitor = "dagster job execute -m churn_assets.definitions -j monitor"
    say(f"It is trained on {labels}; for newer ones, first: {monitor}")


@app.command(epilog='Example: [bold]churn approve 0123456789abcdef --by ana --why "read it"[/bold]')
def approve(version: Version, by: By, why: Why, home: HomeOption = None) -> None:
    """Approve a challenger that has passed the gate; the gate runs once more, then it is promoted."""
    from churn_assets.promotion.records import Person
    from churn_assets.promotion.service import PromotionService

    settings = settings_of(home)
    PromotionService.of(settings).approve(version, Person(by), why)
    _close_alert(settings, version, f"It was approved by {by}: {why}")
    say(
        f"challenger {version} is approved by {by}. A running daemon (churn ui) promotes it, "
        f"by a canary where the contract says so, within {settings.sensor_s} s, if it passes the gate again."
    )


@app.command(epilog='Example: [bold]churn reject 0123456789abcdef --by ana --why "worse on new"[/bold]')
def reject(version: Version, by: By, why: Why, home: HomeOption = None) -> None:
    """Reject a challenger; the time until the next retraining doubles."""
    from churn_assets.promotion.records import Person
    from churn_assets.promotion.service import PromotionService

    settings = settings_of(home)
    PromotionService.of(settings).reject(version, Person(by), why)
    _close_alert(settings, version, f"It was rejected by {by}: {why}")
    say(f"challenger {version} is rejected by {by}; the champion stays.")


def _close_alert(settings: Settings, version: str, message: str) -> None:
    """As `end_waiting`, whose problem is printed."""
    import os
    from datetime import UTC, datetime

    from churn_assets.alerting.decisions import end_waiting

    if problem := end_waiting(settings, os.environ, version, message, datetime.now(UTC)):
        say(problem, err)


@app.command(epilog='Example: [bold]churn rollback --by ana --why "complaints since noon"[/bold]')
def rollback(
    by: By,
    why: Why,
    to: Annotated[str | None, typer.Option("--to", help="A former champion. Default: the one before this.")] = None,
    home: HomeOption = None,
) -> None:
    """Go back to an earlier champion, at once; running services follow within a second. It ends a release that runs.

    Without --to it undoes one promotion: it is refused if somebody has just gone back.
    To end the release and keep the champion: churn release rollback.
    """
    from churn_assets.promotion.service import PromotionService

    settings = settings_of(home)
    move = PromotionService.of(settings).rollback(to, by=by, why=why)
    before = f" (was {move.before})" if move.before else ""
    say(f"champion {move.to.version}{before}, since {move.to.since_at:%Y-%m-%d %H:%M:%S} UTC.")
    publish(settings)


def publish(settings: Settings) -> None:
    """What is for people follows a new champion, which answers already."""
    if not settings.reports_dir.is_dir():
        return
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.promotion.status import SCORE_AGAIN, list_version
    from churn_assets.reporting.model.publish import publish_champion

    listed = list_version(settings)
    publish_champion(settings)
    if listed not in (None, require_champion(settings.home).version):
        say(f"The call list is of model {listed}; score the customers with the champion: {SCORE_AGAIN}")


@app.command(epilog="Example: [bold]churn history --json | jq .events[/bold]")
def history(
    as_json: Annotated[bool, typer.Option("--json", help="Moves, approvals, decisions and verdicts, as JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Who moved the champion or a release, approved or rejected what, when and why; the oldest first."""
    from churn_assets.promotion.ledger import Ledger
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.promotion.rollout.status import guardrail_lines
    from churn_assets.promotion.status import read_events

    settings = settings_of(home)
    events = read_events(settings)
    if as_json:
        ledger = Ledger(settings.ledger_path)
        decisions = [record.to_json() for record in reversed(ledger.decisions(1000))]
        verdicts = [
            {"version": c.version, "status": c.status, "verdict": c.verdict.to_json() if c.verdict else None}
            for c in ledger.challengers()
        ]
        print_json({"events": [event.to_json() for event in events], "decisions": decisions, "verdicts": verdicts})
        return
    if not events:
        champion = read_champion(settings.home)
        if champion is None:
            out.print("No model has been promoted in this home yet. Make one: churn run")
        else:
            say(f"champion {champion.version} since {champion.since_at:%Y-%m-%d %H:%M:%S}, no move since.")
    for event in events:
        say(f"{event.at:%Y-%m-%d %H:%M:%S}  {event.what}  {event.version}  by {event.by}: {event.why}")
        for line in guardrail_lines(event.numbers):
            say(line)
