"""Visits of a dashboard in this process: pages with their numbers, the JSON of each, forms."""

from __future__ import annotations

import asyncio
import atexit
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx

from churn_assets.dashboard.app import Dashboard
from churn_assets.dashboard.sources import Sources
from churn_assets.settings import DashboardSettings, Settings

NOW = dt.datetime(2026, 11, 26, 12, 0, tzinfo=dt.UTC)  # the day on which the home of the tests has answered
FETCHED = {"src", "href", "action", "formaction", "poster", "srcset", "hx-get", "hx-post", "data-source"}


_RUNNER = asyncio.Runner()  # of every request: an event loop for each would cost more than the request
atexit.register(_RUNNER.close)


class InProcess(httpx.BaseTransport):
    """Requests to an ASGI application in this process."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=True)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            response = await self._transport.handle_async_request(request)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        return _RUNNER.run(ask())


@dataclass
class Content(HTMLParser):
    """What a page says: its texts, the numbers in `data` elements, its addresses, forms, and what it may not have."""

    texts: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    rows: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "data":
            self.numbers.append(float(values["value"]))
        if tag == "form":
            self.forms.append({"action": values.get("action", ""), "method": values.get("method", "get")})
        if tag in ("input", "select", "textarea") and self.forms and "name" in values:
            self.forms[-1][values["name"]] = values.get("value", "")
        self.rows += tag == "tr"
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in FETCHED & values.keys()]
        self.forbidden += [tag] if tag == "style" or (tag == "script" and "src" not in values) else []
        self.forbidden += [name for name in values if name == "style" or name.startswith(("on", "hx-on"))]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def form(self, action: str) -> dict[str, str]:
        """The fields of the form with this action."""
        (found,) = [form for form in self.forms if form["action"] == action]
        return {name: value for name, value in found.items() if name not in ("action", "method")}


@dataclass(frozen=True)
class Visitor:
    """A browser without JavaScript, and the application that it visits."""

    dashboard: Dashboard
    client: httpx.Client

    def get(self, path: str, status: int = 200, **options: Any) -> Content:
        response = self.client.get(path, **options)
        assert response.status_code == status, response.text
        return read(response)

    def json(self, path: str) -> Any:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, fields: Mapping[str, str], status: int = 303, **options: Any) -> httpx.Response:
        response = self.client.post(path, data=dict(fields), **options)
        assert response.status_code == status, response.text
        return response


def visit(
    settings: Settings, now: dt.datetime = NOW, address: str = "http://localhost:3001", **options: Any
) -> Visitor:
    dashboard = Dashboard(Sources(settings, DashboardSettings(settings.home, **options), {}, lambda: now))
    return Visitor(dashboard, httpx.Client(transport=InProcess(dashboard.app), base_url=address))


def read(response: httpx.Response) -> Content:
    content = Content()
    content.feed(response.text)
    content.close()
    return content


def numbers_in(value: Any) -> Iterator[float]:
    """Every number of a JSON value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float):
        yield float(value)
