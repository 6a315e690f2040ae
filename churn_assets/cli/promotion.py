"""`churn retrain | approve | reject | rollback | history`: what a person says to the loop."""

from __future__ import annotations

from typing import Annotated

import typer

from churn_assets.cli.console import FAILURE, ContractOption, HomeOption, err, out, plain, settings_of
from churn_assets.settings import Settings


def _not_blank(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise typer.BadParameter("expected some words, it goes into the history")
    return text


By = Annotated[str, typer.Option("--by", callback=_not_blank, help="Who says so; it goes into the history.")]
Why = Annotated[str, typer.Option("--why", callback=_not_blank, help="Why; it goes into the history.")]
Version = Annotated[str, typer.Argument(help="The challenger's version, as churn status shows it.")]


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

    from churn_assets.contract.load import load_contract
    from churn_assets.promotion.champion import recover
    from churn_assets.promotion.retraining import Asked
    from churn_assets.promotion.retraining_inputs import decide_now, read_reports

    settings, now = settings_of(home, contract), datetime.now(UTC)
    recover(settings)
    limits = load_contract(settings.contract_path).monitoring
    asked = Asked("hand", f"{now:%Y%m%dT%H%M%S%f}", by, why)
    reports = read_reports(settings)
    kept = decide_now(settings, limits, reports, asked, now)
    out.print(plain(f"{kept.decision.kind.replace('_', ' ')}: {kept.decision.words}"), soft_wrap=True)
    if kept.request is None:
        raise typer.Exit(FAILURE)
    out.print(
        plain(
            f"request {kept.request} is open. A running daemon (churn ui) takes it up within {settings.sensor_s} s. "
            "Without one: dagster job execute -m churn_assets.definitions -j retrain "
            f'--tags \'{{"churn/request": "{kept.request}"}}\''
        ),
        soft_wrap=True,
    )
    seen = reports.performance.get("made_at")
    labels = f"labels that monitor saw at {seen}" if seen else "the table alone: monitor has seen no labels yet"
    more = "dagster job execute -m churn_assets.definitions -j monitor"
    out.print(plain(f"It learns from {labels}; for newer ones, first: {more}"), soft_wrap=True)


def approve(version: Version, by: By, why: Why, home: HomeOption = None) -> None:
    """Say yes to a challenger that has passed the gate; the gate looks once more, then it is promoted."""
    from churn_assets.promotion.champion import recover, sound_hash
    from churn_assets.promotion.ledger.ledger import Ledger

    settings = settings_of(home)
    recover(settings)
    ledger = Ledger(settings.ledger_path)
    found = ledger.challenger(version)
    ledger.approve(version, by, why, sound_hash(settings.home / found.bundle))
    _waits_no_more(settings, version, f"It was approved by {by}: {why}")
    out.print(
        plain(
            f"challenger {version} is approved by {by}. A running daemon (churn ui) promotes it within "
            f"{settings.sensor_s} s, if the gate still finds it no worse."
        ),
        soft_wrap=True,
    )


def reject(version: Version, by: By, why: Why, home: HomeOption = None) -> None:
    """Say no to a challenger; the time until the next retraining doubles."""
    from churn_assets.promotion.champion import recover
    from churn_assets.promotion.ledger.ledger import Ledger

    settings = settings_of(home)
    recover(settings)
    Ledger(settings.ledger_path).reject(version, by, why)
    _waits_no_more(settings, version, f"It was rejected by {by}: {why}")
    out.print(plain(f"challenger {version} is rejected by {by}; the champion stays."), soft_wrap=True)


def _waits_no_more(settings: Settings, version: str, words: str) -> None:
    """End the alert that somebody is waited for; what a person said holds, whether it can be told or not."""
    import os
    from datetime import UTC, datetime

    from churn_assets.alerting.alerts import recover_alert
    from churn_assets.alerting.destinations import AlertSettings
    from churn_assets.alerting.rules import waiting_key
    from churn_assets.errors import SettingsError

    try:
        where = AlertSettings.from_environ(os.environ, settings.home)
    except SettingsError as error:
        err.print(plain(str(error)), soft_wrap=True)
        where = AlertSettings(settings.home)
    recover_alert(where, waiting_key(version), words, datetime.now(UTC))


def rollback(
    by: By,
    why: Why,
    to: Annotated[str | None, typer.Option("--to", help="A version. Default: the champion before this one.")] = None,
    home: HomeOption = None,
) -> None:
    """Go back to an earlier champion, at once; running services follow within a second."""
    from churn_assets.promotion import champion as moves

    settings = settings_of(home)
    move = moves.rollback(settings, to, by=by, why=why)
    came = f" (was {move.before})" if move.before else ""
    out.print(plain(f"champion {move.to.version}{came}, since {move.to.since_at:%Y-%m-%d %H:%M:%S} UTC."))


def history(
    as_json: Annotated[bool, typer.Option("--json", help="Moves, approvals, decisions and verdicts, as JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Who moved the champion, approved or rejected what, when and why; the oldest first."""
    from churn_assets.promotion.history import timeline, to_json
    from churn_assets.promotion.ledger.ledger import Ledger
    from churn_assets.promotion.pointer import read_champion

    settings = settings_of(home)
    events = timeline(settings)
    if as_json:
        import json

        told = [
            {"at": k.decided_at.isoformat(), "kind": k.decision.kind, "words": k.decision.words, "request": k.request}
            for k in reversed(Ledger(settings.ledger_path).decisions(1000))
        ]
        ledger = Ledger(settings.ledger_path)
        verdicts = [{"version": c.version, "status": c.status, "verdict": c.verdict} for c in ledger.challengers()]
        found = {"events": [to_json(event) for event in events], "decisions": told, "verdicts": verdicts}
        typer.echo(json.dumps(found, indent=2))
        return
    if not events:
        champion = read_champion(settings.home)
        if champion is None:
            out.print("No model has been promoted in this home yet. Make one: churn run")
        else:
            out.print(plain(f"champion {champion.version} since {champion.since_at:%Y-%m-%d %H:%M:%S}, no move since."))
    for event in events:
        line = f"{event.at:%Y-%m-%d %H:%M:%S}  {event.what}  {event.version}  by {event.by}: {event.why}"
        out.print(plain(line), soft_wrap=True)


def add_release_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command(epilog='Example: [bold]churn retrain --why "the spring offer changed who leaves"[/bold]')(retrain)
    app.command(epilog='Example: [bold]churn approve 0123456789abcdef --by ana --why "read it"[/bold]')(approve)
    app.command(epilog='Example: [bold]churn reject 0123456789abcdef --by ana --why "worse on new"[/bold]')(reject)
    app.command(epilog='Example: [bold]churn rollback --by ana --why "complaints since noon"[/bold]')(rollback)
    app.command(epilog="Example: [bold]churn history --json | jq .events[/bold]")(history)
