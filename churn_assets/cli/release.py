"""`churn release`: let a model in, watch it, throw it out, compare."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from churn_assets.cli.promotion import Why, publish
from churn_assets.cli.terminal.console import FAILURE, ContractOption, HomeOption, print_json, say, settings_of
from churn_assets.errors import TransitionRefused

if TYPE_CHECKING:
    from churn_assets.promotion.records import PolicyMove
    from churn_assets.promotion.releases import AbArm, Releases
    from churn_assets.release.what_if import WhatIf
    from churn_assets.settings import Settings

_DAYS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
_OTHERS = {
    "refused": "break its contract: it would have refused them",
    "failed": "have no finite score",
    "unknown": "were answered under a contract that the log does not have any more",
}

release_app = typer.Typer(
    help="Let a model in: in shadow, step by step, or against others; docs/rollout.md.", no_args_is_help=True
)


def _person(name: str) -> str:
    from churn_assets.promotion.releases import is_reserved

    if not name.strip() or is_reserved(name):
        raise typer.BadParameter(f"{name[:40]!r} is no person's name, expected who decides; it goes into the history")
    return name


By = Annotated[str, typer.Option("--by", callback=_person, help="Who decides; it goes into the history.")]
Contract = Annotated[
    Path | None,
    typer.Option(
        "--contract",
        help="Contract file. Default: CHURN_CONTRACT if the champion scores its tables, else the champion's own.",
    ),
]
Version = Annotated[str, typer.Argument(help="The version, as churn status shows it.")]
Expect = Annotated[
    str | None,
    typer.Option("--expect", help="The policy that you saw, as churn release status shows it; refused if it changed."),
]


@release_app.command(epilog='Example: [bold]churn release shadow 0123456789abcdef --by ana --why "look first"[/bold]')
def shadow(
    version: Version, by: By, why: Why, expect: Expect = None, contract: Contract = None, home: HomeOption = None
) -> None:
    """Any version scores what the champion answers; nobody gets its answers."""
    _tell(_releases(home, contract).shadow(version, by, why, expect))


@release_app.command(epilog='Example: [bold]churn release canary 0123456789abcdef --by ana --why "it agrees"[/bold]')
def canary(
    version: Version,
    by: By,
    why: Why,
    weight: Annotated[
        float | None,
        typer.Option(help="Share to start with, under 1; the contract's larger steps follow. Default: its first step."),
    ] = None,
    expect: Expect = None,
    contract: Contract = None,
    home: HomeOption = None,
) -> None:
    """A version answers a growing share of the customers, and becomes champion after the last step."""
    _tell(_releases(home, contract).canary(version, by, why, expect, weight))


@release_app.command(epilog='Example: [bold]churn release ab new=0123456789abcdef:0.5 --by ana --why "which"[/bold]')
def ab(
    arms: Annotated[list[str], typer.Argument(metavar="NAME=VERSION:WEIGHT", help="Arms; the champion has the rest.")],
    by: By,
    why: Why,
    expect: Expect = None,
    contract: Contract = None,
    home: HomeOption = None,
) -> None:
    """Named versions answer fixed shares of the customers, the champion the rest."""
    _tell(_releases(home, contract).ab(dict(map(_arm, arms)), by, why, expect))


@release_app.command(epilog='Example: [bold]churn release promote 0123456789abcdef --by ana --why "it won"[/bold]')
def promote(
    version: Version, by: By, why: Why, expect: Expect = None, contract: Contract = None, home: HomeOption = None
) -> None:
    """Make an approved challenger the champion, without the rest of its steps."""
    _tell(_releases(home, contract).promote(version, by, why, expect))
    publish(settings_of(home))


@release_app.command(epilog='Example: [bold]churn release rollback --by ana --why "complaints since noon"[/bold]')
def rollback(by: By, why: Why, expect: Expect = None, home: HomeOption = None) -> None:
    """End the release that runs: the champion answers everybody. Without one, go back to the former champion.

    A version that has answered is rejected with it. If somebody has just ended the release or gone back, it is refused.
    """
    _tell(_releases(home).rollback(by, why, expect))
    publish(settings_of(home))


@release_app.command(epilog="Example: [bold]churn release status --json | jq .policy.kind[/bold]")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False, home: HomeOption = None
) -> None:
    """The release that runs: its arms, what it waits for, its guardrails; and every move there was."""
    from churn_assets.promotion.rollout.status import describe_move, describe_policy, versions_of

    state = _releases(home).status()
    if as_json:
        print_json(state.to_json())
        return
    if state.policy is None:
        say("No model answers in this home yet. Make one: churn run")
    elif not state.is_running:
        say(f"{describe_policy(state.policy)}; policy {state.policy.id}")
    for line in state.lines:
        say(line)
    for move in state.moves:
        ending = "" if move.status == "done" else f", {move.status}"
        summary = f"{describe_move(move)}{ending}  {versions_of(move)}"
        say(f"{move.intended_at:%Y-%m-%d %H:%M:%S}  {move.after.id}  {summary}  by {move.by}: {move.why}")


@release_app.command(epilog="Example: [bold]churn release watch --every 2[/bold]")
def watch(
    every: Annotated[float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    home: HomeOption = None,
) -> None:
    """Look at the guardrails of the release that runs, as the service does where it may write the home. Until it is
    stopped."""
    import time

    from churn_assets.promotion.rollout.watch import ReleaseWatch

    release, previous = ReleaseWatch(settings_of(home)), ""
    while True:
        outcome = release.check()
        if outcome != previous:
            say(outcome)
            previous = outcome
        if once:
            return
        time.sleep(every)


def _releases(home: Path | None, contract: Path | None = None) -> Releases:
    from churn_assets.promotion.releases import Releases

    return Releases.of(settings_of(home, contract), is_named=contract is not None)


def _arm(text: str) -> tuple[str, AbArm]:
    from churn_assets.promotion.releases import AbArm

    name, _, rest = text.partition("=")
    version, _, weight = rest.partition(":")
    try:
        return name, AbArm(version, float(weight))
    except ValueError:
        raise TransitionRefused(
            f"the arm is {text[:80]!r}, expected NAME=VERSION:WEIGHT, such as new=0123456789abcdef:0.5"
        ) from None


def _tell(move: PolicyMove) -> None:
    from churn_assets.promotion.rollout.status import describe_policy

    say(f"{describe_policy(move.after)}; policy {move.after.id}, by {move.by}. Services follow within 2 s.")


@release_app.command(epilog="Example: [bold]churn release compare --version 0123456789abcdef --replay --json[/bold]")
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
    say(report.state)
    for line in report.figures:
        say(line)


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


def _counts(replayed: WhatIf) -> dict[str, Any]:
    others = {name: getattr(replayed, name) for name in _OTHERS}
    return {"rows": len(replayed.pairs), **others}
