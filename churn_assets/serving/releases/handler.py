"""`GET` and `POST /release`, `POST /retrain`: checked, recorded in the audit log, then done by the same code as the
commands, in a thread. A move that the rules refuse is a 409, with the rule's own message."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from churn_assets.access.audit import record_call
from churn_assets.errors import (
    BundleError,
    ChurnError,
    HomeBusy,
    LedgerCorrupt,
    LedgerUnavailable,
    NoChampion,
    PointerCorrupt,
    PolicyCorrupt,
    ReleaseError,
    Violation,
    describe_value,
)
from churn_assets.promotion.records import PolicyMove
from churn_assets.promotion.releases import AbArm, Releases, is_reserved
from churn_assets.serving.http import Refused, conflict, invalid, json_response, parse_json, read_body, unavailable
from churn_assets.serving.releases import messages
from churn_assets.serving.releases.status import describe_release, move_facts, policy_facts
from churn_assets.serving.worker import Worker

THREADS = 2  # of one worker, for these calls alone; each may wait 20 s for whoever moves the champion
AT_ONCE = 4  # calls of one worker, those that wait for a thread too
_DAMAGED = (LedgerCorrupt, PointerCorrupt, PolicyCorrupt)  # of the home, not of the request
_PLACE = re.compile(r"^(?P<text>.*?)(?: - at (?:`key` in )?`\$\.?(?P<place>[^`]*)`)?$", re.S)
_NAMED = re.compile(r"(?:field|value) [`'](?P<name>[^`']*)[`']")

T = TypeVar("T")


class ReleaseHandlers:
    """The routes of one worker. Each raises `Refused` for a request that it refuses."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._settings = worker, worker.home_settings
        self._running = 0
        # Of its own: who waits here for a lock would take the threads in which the worker finds a new policy.
        self._threads = ThreadPoolExecutor(THREADS, "release")

    async def release(self, request: Request) -> Response:
        """How the release stands, or a move of it."""
        if request.method != "POST":
            return await self._answer(lambda: describe_release(Releases.of(self._settings), self._settings.home))
        move: messages.ReleaseMove = await self._read(request, messages.ReleaseMove)
        by = _name(request.state.facts.key_id, move.by)
        if isinstance(move, messages.AbMove) and sum(arm.weight for arm in move.arms.values()) >= 1.0 - 1e-9:
            total = sum(arm.weight for arm in move.arms.values())
            raise conflict([Violation(0, "arms", f"weights that sum to {total:g}", "weights that sum to less than 1")])
        return await self._answer(lambda: self._move(move, by))

    async def retrain(self, request: Request) -> Response:
        """Open a request to retrain."""
        asked: messages.RetrainRequest = await self._read(request, messages.RetrainRequest)
        by = _name(request.state.facts.key_id, asked.by)
        return await self._answer(lambda: self._retrain(asked, by))

    def _move(self, move: messages.ReleaseMove, by: str) -> messages.MoveResponse:
        self._check_versions(move)
        facts = {name: value for name, value in msgspec.to_builtins(move).items() if value is not None}
        kind = facts.pop("move")
        record_call(self._settings.home, f"release {kind}", datetime.now(UTC), **(facts | {"by": by}))
        made = make_move(Releases.of(self._settings), move, by)
        return messages.MoveResponse(move_facts(made), policy_facts(made.after))

    def _check_versions(self, move: messages.ReleaseMove) -> None:
        """Raise Refused for a version that this home does not have."""
        if isinstance(move, messages.RollbackMove):
            return
        versions = [arm.version for arm in move.arms.values()] if isinstance(move, messages.AbMove) else [move.version]
        for version in versions:
            if not (self._settings.bundles_dir / version).is_dir():
                text = f"there is no version {version} in this home, expected one of its bundles; see churn status"
                raise Refused(404, "version", text)

    def _retrain(self, asked: messages.RetrainRequest, by: str) -> messages.RetrainResponse:
        # Whoever decides reads what monitoring reports, and the service imports nothing of it: the import is that of
        # alerting's module, as for the watch of the loop, and is made in this thread when the first request comes.
        from churn_assets.alerting.decisions import request_retraining

        now = datetime.now(UTC)
        record_call(self._settings.home, "retrain", now, by=by, why=asked.why)
        record, _ = request_retraining(self._settings, by, asked.why, now)
        kind, message = record.decision.kind, record.decision.message
        if record.request is None:
            raise Refused(409, "conflict", f"{kind.replace('_', ' ')}: {message}")
        return messages.RetrainResponse(record.request, kind, message)

    async def _read(self, request: Request, kind: Any) -> Any:
        settings = self._worker.settings
        body = await read_body(request.scope, request.receive, settings.body_bytes, settings.timeout_s)
        value = parse_json(body)
        if type(value) is not dict:
            raise invalid([Violation(0, "", describe_value(value), "a JSON object")])
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise invalid([_violation(str(error), value)]) from None

    async def _answer(self, call: Callable[[], object]) -> Response:
        """The answer of `call`, in a thread of these routes; it goes on if nobody waits any more. Raises Refused."""
        if self._running >= AT_ONCE:
            raise unavailable(
                "busy", f"{AT_ONCE} calls for releases run already, expected fewer; ask again in a second"
            )
        self._running += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._refusing, call)
        work.add_done_callback(self._ended)
        return json_response(await asyncio.shield(work))

    def _ended(self, work: asyncio.Future[object]) -> None:
        self._running -= 1
        if not work.cancelled():
            work.exception()  # answered already, or nobody waits for it any more

    def _refusing(self, call: Callable[[], T]) -> T:
        """`call`, whose errors become refusals."""
        try:
            return call()
        except (ChurnError, OSError) as error:
            raise self._refusal(error) from None

    def _refusal(self, error: ChurnError | OSError) -> Refused:
        text = " ".join(str(error).split())
        for folder, name in (
            (self._settings.home, "the home"),
            (self._settings.root, "the project"),
        ):  # clients read it
            text = text.replace(f"{folder}{os.sep}", "")
            text = re.sub(rf"{re.escape(str(folder))}(?![\w.-])", name, text) if folder != folder.parent else text
        match error:
            case NoChampion():
                return unavailable("no_model", text, 5)
            case HomeBusy():
                return unavailable("busy", re.sub(r"\bprocess \d+", "another process", text), 5)
            case LedgerUnavailable() | OSError():
                return unavailable("disk", text, 5)
            case ReleaseError() | BundleError() if not isinstance(error, _DAMAGED):
                return Refused(409, "conflict", text)
        return unavailable("home", text, 60)


def make_move(releases: Releases, move: messages.ReleaseMove, by: str) -> PolicyMove:
    """Make a move; as the method of `Releases` of its name."""
    match move:
        case messages.ShadowMove():
            return releases.shadow(move.version, by, move.why, move.expected)
        case messages.CanaryMove():
            return releases.canary(move.version, by, move.why, move.expected, move.weight)
        case messages.AbMove():
            arms = {name: AbArm(arm.version, arm.weight) for name, arm in move.arms.items()}
            return releases.ab(arms, by, move.why, move.expected)
        case messages.PromoteMove():
            return releases.promote(move.version, by, move.why, move.expected)
    return releases.rollback(by, move.why, move.expected)


def _name(key_id: str | None, by: str | None) -> str:
    """Who decides, for the history: the key, or in a home without keys the name that was given. Raises Refused."""
    if key_id is not None:
        return f"key {key_id}" if by is None else f"{by} (key {key_id})"
    if by is None or is_reserved(by):
        shown = "no such field" if by is None else describe_value(by)
        raise conflict([Violation(0, "by", shown, "the name of a person, as this home has no API keys")])
    return by


def _violation(message: str, value: dict[str, object]) -> Violation:
    """msgspec's message about a body as one of ours: the field is the outermost that it names."""
    parts = _PLACE.match(message)
    text, place = (parts["text"], parts["place"] or "") if parts else (message, "")
    named = _NAMED.search(text)
    column = re.split(r"[.\[]", place)[0] or (named["name"] if named and "field" in text else "")
    column = column or ("move" if "Invalid value" in text else "")
    shown = describe_value(value[column]) if column in value else "no such field"
    return Violation(0, column, shown, f"a body as /docs describes it: {text[:1].lower()}{text[1:]}"[:300])
