"""`churn release`: let a model in, watch it, throw it out, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from churn_assets.cli.promotion import Why, publish
from churn_assets.cli.release_compare import EPILOG, compare
from churn_assets.cli.terminal.console import HomeOption, print_json, say, settings_of
from churn_assets.errors import TransitionRefused

if TYPE_CHECKING:
    from churn_assets.promotion.records import PolicyMove
    from churn_assets.promotion.releases import AbArm, Releases

release_app = typer.Typer(
    help="Let a model in: in shadow, step by step, or against others; docs/rollout.md.", no_args_is_help=True
)

release_app.command(epilog=EPILOG)(compare)


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

    A version that has answered is rejected with it. If somebody has just ended the release, nothing is done.
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
