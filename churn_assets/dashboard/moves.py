"""What a person decides about models: approve, reject, start and end a release, promote, roll back. Each is the
function behind the command.

The person first sees what is so now and what will be, and gives a reason. The form carries the champion and the policy
that were shown, so that of two people who act at once the second one sees what the first has done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from churn_assets.alerting.decisions import end_waiting
from churn_assets.dashboard.actions import ActionResult, person_of, reason_of
from churn_assets.dashboard.pages.models.model import ModelPage, read_model
from churn_assets.dashboard.pages.models.versions import Known, Model, describe_model
from churn_assets.dashboard.session import Viewer
from churn_assets.dashboard.sources import Sources
from churn_assets.errors import TransitionRefused
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.promotion.rollout.status import describe_policy
from churn_assets.promotion.service import PromotionService
from churn_assets.promotion.status import SCORE_AGAIN, list_version
from churn_assets.release.policy import ANSWERING, CHALLENGER, CHAMPION, Policy, read_policy

TITLES = {
    "approve": "Approve",
    "reject": "Reject",
    "roll-back": "Roll back to",
    "shadow": "Start a shadow of",
    "canary": "Start a canary of",
    "promote": "Promote",
    "end": "End the release of",
}


@dataclass(frozen=True)
class Share:
    """An arm: which version answers which share of the customers, 0 for a shadow."""

    arm: str
    version: str
    weight: float


@dataclass(frozen=True)
class Confirmation:
    """What is so now and what an action will change: who answers whom, and the role of the model. The form carries the
    version of the `champion` and the id of the `policy` in force; `outcomes` are sentences."""

    action: str
    title: str
    model: Model
    champion: str
    policy: str
    before: tuple[Share, ...]
    after: tuple[Share, ...]
    role_after: str
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A version that an A/B may have, with what the form says of it: the name of its arm, and its share in per cent,
    "" for one that is not to answer."""

    model: Model
    name: str
    share: str


@dataclass(frozen=True)
class AbConfirmation:
    """The A/B that a form describes; `after` is empty, with the `problem`, while it describes none."""

    candidates: tuple[Candidate, ...]
    champion: str
    policy: str
    before: tuple[Share, ...]
    after: tuple[Share, ...]
    problem: str


def read_confirmation(sources: Sources, action: str, version: str) -> Confirmation:
    """What the page before an action shows. Raises HTTPException for an unknown version or action, TransitionRefused
    for one that is not possible now."""
    page = _possible(sources, action, version)
    policy = _in_force(sources, page.champion)
    before = _answering(policy, page.champion)
    return Confirmation(
        action=action,
        title=f"{TITLES[action]} {version}",
        model=page.model,
        champion=page.champion,
        policy=policy.id if policy else "",
        before=before,
        after=_after(sources, action, page, policy, before),
        role_after=_role_after(action, page, policy),
        outcomes=_outcomes(sources, action, page),
    )


def act(sources: Sources, action: str, version: str, fields: Mapping[str, str], viewer: Viewer) -> ActionResult:
    """Do it. Raises HTTPException for a form without a name or reason, TransitionRefused if it is not possible any
    more, and what `PromotionService` and `Releases` raise."""
    by, why = person_of(fields, viewer), reason_of(fields)
    _check_champion(sources, fields.get("champion", ""))
    _possible(sources, action, version)
    service, settings, now = PromotionService.of(sources.settings), sources.settings, sources.clock()
    if action in ("shadow", "canary", "promote", "end"):
        return _release(sources, action, version, by, why, fields.get("policy", "") or CHAMPION)
    if action == "roll-back":
        return _roll_back(sources, service, version, by, why)
    if action == "approve":
        service.approve(version, Person(by), why)
        done = f"{version} is approved by {by}."
        next_step = (
            f"A running daemon (churn ui) promotes it, by a canary where the contract says "
            f"so, within {settings.sensor_s} s, if it passes the gate again."
        )
    else:
        service.reject(version, Person(by), why)
        done = f"{version} is rejected by {by}."
        next_step = "The champion stays; the time until the next retraining doubles."
    problem = end_waiting(settings, sources.environ, version, f"{done} {why}", now)
    return ActionResult(version, tuple(filter(None, (done, next_step, problem))))


def read_ab(sources: Sources, fields: Mapping[str, str]) -> AbConfirmation:
    """The A/B that the fields describe: `share_VERSION` in per cent, `name_VERSION`. Raises TransitionRefused if none
    can begin now."""
    known = Known.of(sources, list[str]())
    versions = [version for version in known.versions() if "ab" in known.actions(version)]
    if not versions:
        running = f"a {known.release} of {', '.join(known.running)} runs" if known.release else "no version may answer"
        raise TransitionRefused(
            f"an A/B is not possible now: {running}, expected no release, and a version that has passed the gate and "
            "is approved, or was champion"
        )
    policy = _in_force(sources, known.champion)
    candidates = tuple(
        Candidate(
            describe_model(sources, known, version),
            fields.get(f"name_{version}", f"arm-{version[:4]}"),
            fields.get(f"share_{version}", ""),
        )
        for version in versions
    )
    try:
        arms, problem = _arms_of(candidates), ""
    except ValueError as error:
        arms, problem = {}, str(error)
    after = tuple(Share(name, arm.version, arm.weight) for name, arm in arms.items())
    rest = 1.0 - sum(share.weight for share in after)
    if arms and rest <= 0.0:
        after, problem = (), f"the shares sum to {1.0 - rest:.0%}, expected less: the champion answers the rest"
    return AbConfirmation(
        candidates=candidates,
        champion=known.champion,
        policy=policy.id if policy else "",
        before=_answering(policy, known.champion),
        after=(*after, Share(CHAMPION, known.champion, rest)) if after else (),
        problem=problem,
    )


def start_ab(sources: Sources, fields: Mapping[str, str], viewer: Viewer) -> ActionResult:
    """Start the A/B that the fields describe. Raises as `act`."""
    by, why = person_of(fields, viewer), reason_of(fields)
    _check_champion(sources, fields.get("champion", ""))
    page = read_ab(sources, fields)
    if not page.after:
        raise HTTPException(422, page.problem or "the form names no arm, expected one with a share; go back")
    arms = {share.arm: AbArm(share.version, share.weight) for share in page.after if share.arm != CHAMPION}
    move = Releases.of(sources.settings).ab(arms, by, why, fields.get("policy", "") or CHAMPION)
    return _released(next(iter(arms.values())).version, move.after, by)


def _arms_of(candidates: Sequence[Candidate]) -> dict[str, AbArm]:
    """The arms that have a share. Raises ValueError for a share that is none, and for two of one name."""
    arms: dict[str, AbArm] = {}
    for candidate in candidates:
        text, name = candidate.share.strip().removesuffix("%").strip(), candidate.name.strip()
        if not text:
            continue
        try:
            weight = float(text) / 100.0
        except ValueError:
            weight = 0.0
        if not 0.0 < weight < 1.0:
            raise ValueError(
                f"the share of {candidate.model.version} is {text[:20]!r}, expected over 0 and under 100 %"
            )
        if not name or name in arms:
            raise ValueError(f"the arm of {candidate.model.version} is {name[:40]!r}, expected a name of its own")
        arms[name] = AbArm(candidate.model.version, weight)
    return arms


def _possible(sources: Sources, action: str, version: str) -> ModelPage:
    if action not in TITLES:
        raise HTTPException(404, f"there is no action {action[:20]!r}, expected one of: {', '.join(TITLES)}")
    page = read_model(sources, {"version": version})
    if action not in page.actions:
        possible = ", ".join(page.actions) or "none"
        state = f"model {version} is {page.model.role}, and to {action.replace('-', ' ')} it is not possible now"
        last = next((f"{event.what} by {event.by}: {event.why}" for event in page.history), "it has no history")
        raise TransitionRefused(f"{state} ({page.message or last}); expected one of: {possible}")
    return page


def _check_champion(sources: Sources, shown: str) -> None:
    """Raise TransitionRefused if another model has become champion since the page was shown."""
    champion = read_champion(sources.settings.home)
    if champion is not None and champion.version != shown:
        raise TransitionRefused(
            f"{champion.by} has made {champion.version} champion at {champion.since_at:%Y-%m-%d %H:%M:%S} UTC "
            f"({champion.reason}), expected {shown or 'no champion'}, as the page showed; look again, then decide"
        )


def _in_force(sources: Sources, champion: str) -> Policy | None:
    """The policy in force. Raises PolicyCorrupt."""
    policy = read_policy(sources.settings.home)
    return policy if policy is not None and policy.champion.version == champion else None


def _answering(policy: Policy | None, champion: str) -> tuple[Share, ...]:
    if policy is None:
        return (Share(CHAMPION, champion, 1.0),) if champion else ()
    return tuple(Share(arm.name, arm.version, arm.weight) for arm in policy.arms)


def _after(
    sources: Sources, action: str, page: ModelPage, policy: Policy | None, before: tuple[Share, ...]
) -> tuple[Share, ...]:
    version, alone = page.model.version, (Share(CHAMPION, page.champion, 1.0),)
    match action:
        case "roll-back" | "promote":
            return (Share(CHAMPION, version, 1.0),)
        case "end":
            return alone
        case "reject":
            return alone if any(share.version == version for share in before) else before
        case "shadow":
            return (Share(CHALLENGER, version, 0.0), *alone)
        case "canary":
            weight = sources.contract().release.canary_weights[0]
            return Share(CHALLENGER, version, weight), Share(CHAMPION, page.champion, 1.0 - weight)
    return before


def _role_after(action: str, page: ModelPage, policy: Policy | None) -> str:
    role = page.model.role
    thrown_out = policy is not None and policy.kind in ANSWERING and role != "former champion"
    after = {"approve": "approved", "reject": "rejected", "roll-back": "champion", "promote": "champion"}
    return after.get(action, "rejected" if action == "end" and thrown_out else role)


def _outcomes(sources: Sources, action: str, page: ModelPage) -> tuple[str, ...]:
    match action:
        case "approve":
            return (
                f"{page.model.version} is held against the champion by the gate once more, and becomes champion if it "
                "passes.",
                f"Until then {page.champion or 'no model'} answers.",
            )
        case "reject":
            return (
                f"{page.champion or 'No model'} goes on answering; {page.model.version} is not considered again.",
                "The time until the next retraining doubles.",
            )
        case "shadow":
            return (
                f"{page.champion} goes on answering every customer; {page.model.version} scores the same rows, and "
                "nobody gets its answers.",
            )
        case "canary":
            shares = ", ".join(f"{weight:.0%}" for weight in sources.contract().release.canary_weights)
            return (
                f"{page.model.version} answers a share of the customers that grows in steps ({shares}); "
                f"{page.champion} answers the others.",
                "If a guardrail is crossed, the service ends the canary by itself.",
            )
        case "promote":
            return (f"{page.model.version} answers every customer, {page.champion} no longer.",)
        case "end":
            return (f"{page.champion} answers every customer; challengers that answered are rejected with it.",)
    return (
        f"{page.model.version} answers every customer, {page.champion} no longer; services follow within a second.",
    )


def _release(sources: Sources, action: str, version: str, by: str, why: str, expected: str) -> ActionResult:
    releases = Releases.of(sources.settings)
    match action:
        case "shadow":
            move = releases.shadow(version, by, why, expected)
        case "canary":
            move = releases.canary(version, by, why, expected)
        case "promote":
            move = releases.promote(version, by, why, expected)
        case _:
            move = releases.rollback(by, why, expected)
    if action == "promote":
        return _published(sources, _released(version, move.after, by))
    return _released(version, move.after, by)


def _released(version: str, policy: Policy, by: str) -> ActionResult:
    done = f"Policy {policy.id} is in force: {describe_policy(policy)}, by {by}."
    return ActionResult(version, (done, "Services follow within a second."))


def _roll_back(sources: Sources, service: PromotionService, version: str, by: str, why: str) -> ActionResult:
    move = service.rollback(version, by=by, why=why)
    done = f"{move.to.version} is champion (was {move.before or 'none'}), by {by}."
    return _published(sources, ActionResult(version, (done,)))


def _published(sources: Sources, result: ActionResult) -> ActionResult:
    """Put the reports of the new champion where people look, and say whose the call list is: the champion answers
    already."""
    settings = sources.settings
    if not settings.reports_dir.is_dir():
        return result
    from churn_assets.reporting.model.publish import publish_champion

    listed, champion = list_version(settings), read_champion(settings.home)
    publish_champion(settings)
    if champion is None or listed in (None, champion.version):
        return result
    listing = f"The call list is of model {listed}; score the customers with the champion: {SCORE_AGAIN}"
    return ActionResult(result.version, (*result.messages, listing))
