"""Questions to the running service over HTTP, with the key of who asks."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from churn_assets.errors import one_line

TIMEOUT_S = 10.0
MOST_BYTES = 2**20


@dataclass(frozen=True)
class ServiceReply:
    """The answer to one question: its JSON (None if there is none), the milliseconds it took, and what is wrong, ""
    for an answer."""

    body: Any
    ms: float
    problem: str = ""


class _Direct(urllib.request.HTTPRedirectHandler):
    """The key goes to the service alone."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Direct)


def ask_service(url: str, path: str, question: Mapping[str, object], token: str) -> ServiceReply:
    """POST JSON to the service, as a trial that monitoring leaves out. Raises nothing: a service that does not answer
    is a `problem`."""
    headers = {"content-type": "application/json", "x-churn-test": "1", **({"x-api-key": token} if token else {})}
    request = urllib.request.Request(f"{url}{path}", json.dumps(question).encode(), headers)
    start = time.perf_counter()

    def took() -> float:
        return 1000.0 * (time.perf_counter() - start)

    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            return ServiceReply(json.loads(response.read(MOST_BYTES)), took())
    except urllib.error.HTTPError as error:
        with error:
            return ServiceReply(None, took(), _refusal(error))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        text = (
            f"the service at {url} does not answer ({one_line(reason, 160)}), expected it to run; start it: churn serve"
        )
        return ServiceReply(None, took(), text)


def _refusal(error: urllib.error.HTTPError) -> str:
    """What the service says, with each violation."""
    try:
        body = json.loads(error.read(MOST_BYTES))
        details = [f"{v['column']}: {v['found']}, expected {v['expected']}" for v in body.get("detail", [])]
        return "; ".join([str(body["error"]), *details])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"the service answers with status {error.code}"
