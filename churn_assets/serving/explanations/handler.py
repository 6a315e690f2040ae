"""POST /explain: a customer to the process for explanations, and its answer back as HTTP. Nothing of it is logged as a
prediction."""

from __future__ import annotations

import logging
import time
from typing import cast

from starlette.responses import Response

from churn_assets.errors import ContractConflict, RowsRejected, Violation, describe_value
from churn_assets.serving.explanations.client import ProcessStarting, TooManyWaiting
from churn_assets.serving.explanations.messages import Answer, Kind, Question
from churn_assets.serving.http import Refused, conflict, invalid, parse_json, unavailable
from churn_assets.serving.predict import AS_OF, RequestContext, read_as_of
from churn_assets.serving.routing.router import Arm
from churn_assets.serving.worker import Worker
from churn_assets.structured_log import log_event


async def answer_explanation(worker: Worker, arm: Arm, path: str, body: bytes, context: RequestContext) -> Response:
    """The answer to one customer. Raises Refused: 422 for a customer that breaks the contract, 409 for one that
    breaks a rule, 503 while too many wait, the process starts, or the model has nothing to explain with."""
    kind, start = cast(Kind, path.removeprefix("/")), time.perf_counter()
    try:
        answer = await _ask(worker, _question(arm, kind, body, context))
        if answer.status in ("rejected", "conflict"):
            raise (RowsRejected if answer.status == "rejected" else ContractConflict)(answer.violations)
    except RowsRejected as error:
        worker.metrics.explained(kind, "rejected")
        raise (conflict if isinstance(error, ContractConflict) else invalid)(error.violations) from None
    if answer.status == "unavailable":
        raise unavailable("no_model", answer.text, 60)
    if answer.status == "failed":
        raise _failed(worker, context, answer.text)
    worker.metrics.explained(kind, "ok")
    worker.metrics.explanation_latency(time.perf_counter() - start)
    return Response(answer.body, media_type="application/json")


def _question(arm: Arm, kind: Kind, body: bytes, context: RequestContext) -> Question:
    """Raises Refused for what is no JSON, RowsRejected for what is no customer or has no day."""
    customer = parse_json(body)
    if type(customer) is not dict:
        raise RowsRejected([Violation(0, "", describe_value(customer), "one customer, as a JSON object")])
    day = read_as_of(customer.get(AS_OF), context)
    warnings = [] if day.warning is None else [day.warning]
    return Question(kind, str(arm.model.path), body, day.text, day.days, warnings)


async def _ask(worker: Worker, question: Question) -> Answer:
    """The answer of the process, or a refusal that says why there is none."""
    try:
        return await worker.explanations.ask(question)
    except TooManyWaiting:
        waiting = worker.settings.explain_queue
        text = f"{waiting} explanations wait already (CHURN_EXPLAIN_QUEUE), expected fewer; ask again in a second"
    except ProcessStarting:
        text = "the process for explanations is starting, expected it to be ready; ask again in a second"
    except TimeoutError:
        seconds = worker.settings.timeout_s
        text = f"the explanation took more than {seconds:g} seconds, expected less; ask again when fewer are asked"
    except (EOFError, OSError) as error:
        log_event(worker.logger, logging.ERROR, "process for explanations lost", reason=str(error))
        text = "the process for explanations has ended, expected it to answer; it starts again, ask again in a second"
    raise unavailable("busy", text)


def _failed(worker: Worker, context: RequestContext, reason: str) -> Refused:
    log_event(worker.logger, logging.ERROR, "explanation failed", request_id=context.request_id, reason=reason)
    text = f"the explanation failed by a mistake of the service; report it with its id {context.request_id}"
    return Refused(500, "internal", text)
