"""`churn release compare`: what the log and final labels show of a release, and what another model would have said."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from churn_assets.cli.terminal.console import FAILURE, ContractOption, HomeOption, print_json, say, settings_of

if TYPE_CHECKING:
    from churn_assets.release.what_if import WhatIf
    from churn_assets.settings import Settings

EPILOG = "Example: [bold]churn release compare --version 0123456789abcdef --replay --json[/bold]"
_DAYS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def compare(
    policy: Annotated[str | None, typer.Option(help="The release of this policy. Default: the last release.")] = None,
    version: Annotated[str | None, typer.Option(help="The last release that let this version in.")] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Score the log's answers with --version, whether it was let in or not.")
    ] = False,
    since: Annotated[
        dt.datetime | None, typer.Option(formats=_DAYS, help="With --replay: answers from this instant on, UTC.")
    ] = None,
    until: Annotated[
        dt.datetime | None, typer.Option(formats=_DAYS, help="With --replay: answers before this instant, UTC.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Compare the arms of a release, or another model with the answers that were given, from the ingested log.

    Ends with 1 if there is nothing to compare.
    """
    if replay and not version:
        raise typer.BadParameter("--replay scores with a version, expected --version as well")
    if not replay and (since or until):
        raise typer.BadParameter("--since and --until are for --replay, expected that as well")
    settings = settings_of(home, contract)
    if version and replay:
        _what_if(settings, version, policy, since, until, as_json)
        return
    from churn_assets.contract.load import load_contract
    from churn_assets.monitoring.performance.realized import usable_labels
    from churn_assets.release.analysis import describe
    from churn_assets.reporting.release.collect import collect_release

    labelled, _ = usable_labels(settings, load_contract(settings.contract_path))
    report = collect_release(settings, labelled, dt.datetime.now(dt.UTC), policy, version)
    if report is None:
        say(f"there is no release{_named(policy, version)} in this home; start one: churn release shadow VERSION")
        raise typer.Exit(FAILURE)
    if as_json:
        print_json(report.to_json())
        return
    analysis = report.analysis
    say(f"{analysis.kind} of {', '.join(analysis.challengers)} beside {analysis.champion}, policies "
        f"{', '.join(analysis.policies)}")  # fmt: skip
    for line in describe(analysis):
        say(line)
    if report.guardrails is not None:
        say(f"guardrails: {report.guardrails.message}")


def _named(policy: str | None, version: str | None) -> str:
    return "".join([f" of policy {policy}" if policy else "", f" of version {version}" if version else ""])


def _what_if(
    settings: Settings,
    version: str,
    policy: str | None,
    since: dt.datetime | None,
    until: dt.datetime | None,
    as_json: bool,
) -> None:
    from churn_assets.prediction_log.warehouse.connection import open_published
    from churn_assets.release.analysis import analyse_pairs, describe_pairs
    from churn_assets.release.what_if import Part, read_contracts, what_if
    from churn_assets.scoring.bundle import load_bundle
    from churn_assets.scoring.online import CustomerScorer

    customers = CustomerScorer(load_bundle(settings.bundles_dir / version))
    part = Part((policy,) if policy else None, since, until)
    with open_published(settings) as connection:
        replayed = what_if(connection, customers, read_contracts(settings), part)
    analysis = analyse_pairs(replayed.pairs) if len(replayed.pairs) else None
    if as_json:
        print_json({"version": 1, "model_version": version, **_counts(replayed), "pairs": analysis and vars(analysis)})
    else:
        say(f"if {version} had answered, beside the answers that were given:")
        for line in describe_pairs(analysis) if analysis else ():
            say(line)
        for name, count in _counts(replayed).items():
            if count and name != "rows":
                say(f"{count:,} rows {_OTHERS[name]}")
    if analysis is None:
        say("no answer of this part of the log could be scored; see churn log stats")
        raise typer.Exit(FAILURE)


_OTHERS = {
    "refused": "break its contract: it would have refused them",
    "failed": "have no finite score",
    "unknown": "were answered under a contract that the log does not have any more",
}


def _counts(replayed: WhatIf) -> dict[str, Any]:
    others = {name: getattr(replayed, name) for name in _OTHERS}
    return {"rows": len(replayed.pairs), **others}
