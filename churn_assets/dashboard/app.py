"""The dashboard as an ASGI application: pages, their JSON, sign-in, actions, and what holds for every response.

Nothing is fetched from elsewhere and no script but the dashboard's own files runs: the content security policy says so
to the browser. A page is read in a thread; a mistake of a page is its own, and says so in one line.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from churn_assets.access.keyring import Keyring, header_token, is_local_name
from churn_assets.dashboard.actions import handle_alert, record_contact
from churn_assets.dashboard.metrics import DashboardMetrics
from churn_assets.dashboard.moves import act, read_ab, read_confirmation, start_ab
from churn_assets.dashboard.pages.calls import SUFFIXES, export
from churn_assets.dashboard.pages.models.model import REPORT
from churn_assets.dashboard.pages.monitoring.page import evidently_page
from churn_assets.dashboard.pages.registry import PAGES, Page
from churn_assets.dashboard.pages.try_customer import try_customer
from churn_assets.dashboard.session import FEEDBACK, RELEASE, VIEW, Sessions, Viewer, is_own_site
from churn_assets.dashboard.sources import Sources
from churn_assets.dashboard.static_files import static_files, static_names
from churn_assets.errors import ChurnError, HomeBusy, KeysUnreadable, RollbackRefused, TransitionRefused, one_line
from churn_assets.html.templating import render
from churn_assets.monitoring.windows import to_json
from churn_assets.promotion.status import report_folder
from churn_assets.release.counts import counts_folder
from churn_assets.reporting.release.collect import PAGE
from churn_assets.storage.files import read_file

LOGGER = "churn.dashboard"
MOST_BYTES = 64 * 1024  # of a form
AT_ONCE = 4  # pages that are read at the same time; each may hold a connection to the log
_FOR_EVER = "public, max-age=31536000, immutable"
_REPORT_POLICY = "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_EVIDENTLY_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:"
)
_SHEETS = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_VERSION, _POLICY = re.compile(r"[0-9a-f]{16}"), re.compile(r"r\d{6,}")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Frame:
    """What surrounds a page: where it lies, who looks, the addresses of the static files."""

    title: str
    path: str
    viewer: Viewer | None
    keys: bool
    menu: tuple[tuple[str, str], ...]
    static: Mapping[str, str]


class Dashboard:
    """The application of one home; `app` is what a server runs."""

    def __init__(self, sources: Sources, keyring: Keyring | None = None) -> None:
        self.sources = sources
        self.sessions = Sessions(keyring or Keyring(sources.settings.home))
        self.secure = bool(sources.dashboard.tls_cert)
        self.cookie = f"churn_dashboard_{sources.dashboard.port}"  # ports of one host share their cookies
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._logger = logging.getLogger(LOGGER)
        self.metrics = DashboardMetrics(self.sessions.count)
        routed = Starlette(routes=self._routes(), exception_handlers=self._handlers())
        self.app: ASGIApp = self.metrics.watch(_Guarded(routed))

    def _routes(self) -> list[Route]:
        pages = [route for page in PAGES for route in self._page_routes(page)]
        return [
            Route("/static/{name}", _static),
            Route("/livez", lambda request: PlainTextResponse("ok\n")),
            Route("/metrics", self._metrics),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/models/{version}/report", self._model_report),
            Route("/monitoring/{window}/evidently", self._evidently),
            *(Route(f"/calls.{suffix}", partial(self._export, suffix=suffix)) for suffix in SUFFIXES),
            Route("/contacts", self._contact, methods=["POST"]),
            Route("/alerts/{number:int}", self._alert, methods=["POST"]),
            Route("/try", self._try, methods=["POST"]),
            *pages,
            Route("/ab", self._confirm_ab, methods=["GET"]),
            Route("/ab", self._ab, methods=["POST"]),
            Route("/releases/{policy}/report", self._release_report),
            Route("/models/{version}/{action}", self._confirm, methods=["GET"]),
            Route("/models/{version}/{action}", self._act, methods=["POST"]),
        ]

    def _handlers(self) -> Mapping[Any, Any]:
        return {HTTPException: self._failed, ChurnError: self._failed, Exception: self._broken}

    def _page_routes(self, page: Page) -> list[Route]:
        async def as_json(request: Request) -> Response:
            self.require(request, page.scope)
            content = to_json(await self._read(page, request))
            return Response(msgspec.json.encode(content), media_type="application/json")

        async def as_html(request: Request) -> Response:
            viewer = self.require(request, page.scope)
            value = await self._read(page, request)
            text = await self.in_thread(lambda: self.show(request, page, viewer, value))
            return self.answer(request, text)

        return [Route(page.json_path, as_json), Route(page.path, as_html)]

    async def _read(self, page: Page, request: Request) -> Any:
        parameters = {**request.query_params, **request.path_params}
        return await self.in_thread(lambda: page.read(self.sources, parameters))

    async def in_thread(self, work: Any) -> Any:
        """What `work` returns, computed in a thread; a few at a time."""
        async with self._turns:
            return await run_in_threadpool(work)

    def show(self, request: Request, page: Page, viewer: Viewer, value: Any) -> str:
        """The HTML of a page."""
        frame = self.frame(request, page.title, viewer)
        return render(f"dashboard/templates/{page.template}.html.j2", frame=frame, page=value, charts=page.draw(value))

    def frame(self, request: Request, title: str, viewer: Viewer | None) -> Frame:
        """The surroundings of a page for this viewer."""
        menu = tuple((page.menu, page.path) for page in PAGES if page.menu)
        return Frame(title, request.url.path, viewer, self.sessions.required, menu, static_names())

    def answer(self, request: Request, text: str, status: int = 200) -> HTMLResponse:
        """A page; a browser without a session gets one, which holds the token of its forms."""
        response = HTMLResponse(text, status)
        if not self._cookie(request) and not self.sessions.required:
            self._set_cookie(response, request.state.cookie)
        return response

    # -- who asks ----------------------------------------------------------------------------------------

    def require(self, request: Request, scope: str) -> Viewer:
        """The viewer of a request, who has the scope. Raises HTTPException; 303 leads to the sign-in."""
        viewer = self._viewer(request)
        if viewer is None:
            if request.url.path.endswith((".json", "/metrics")) or header_token(request.headers):
                raise HTTPException(401, "the request has no valid API key, expected one; make it: churn keys create")
            target = request.url.path if request.method == "GET" else "/"
            raise HTTPException(303, headers={"location": f"/sign-in?next={quote(target)}"})
        if not viewer.allows(scope):
            scopes = ", ".join(viewer.key.scopes) if viewer.key else ""
            raise HTTPException(
                403, f"your key has the scopes {scopes}, expected {scope}; sign in with a key that has it"
            )
        return viewer

    async def form(self, request: Request, scope: str) -> tuple[Viewer, dict[str, str]]:
        """The viewer and the fields of a form that a page of this dashboard sent. Raises HTTPException."""
        viewer = self.require(request, scope)
        fields = await read_form(request)
        if viewer.form_token:
            self.check_form(request, fields, viewer.form_token)
        return viewer, fields

    def check_form(self, request: Request, fields: Mapping[str, str], token: str) -> None:
        """Raise HTTPException unless the form is of a page that this session was shown."""
        if not is_own_site(request.headers) or not compare_digest(fields.get("form_token", ""), token):
            raise HTTPException(
                403, "the form is not of this session, expected one from this page; load the page again and repeat"
            )

    def _viewer(self, request: Request) -> Viewer | None:
        try:
            self.sessions.keyring.refresh()
        except KeysUnreadable as error:  # the keys of before count for a while
            self._logger.error("%s", error)
        if not self.sessions.required and not self._is_for_us(request):
            raise HTTPException(
                400,
                "the request names a host that is not this machine, expected localhost or 127.0.0.1: a home without "
                "keys is shown here only; make a key: churn keys create NAME --scope view",
            )
        request.state.cookie = self._cookie(request) or self.sessions.new_cookie()
        return self.sessions.identify(request.state.cookie, header_token(request.headers))

    def _is_for_us(self, request: Request) -> bool:
        return self.sources.dashboard.insecure or is_local_name(request.headers.get("host", ""))

    def _cookie(self, request: Request) -> str:
        return request.cookies.get(self.cookie, "")

    def _set_cookie(self, response: Response, value: str) -> None:
        response.set_cookie(self.cookie, value, path="/", secure=self.secure, httponly=True, samesite="strict")

    async def _sign_in(self, request: Request) -> Response:
        viewer, target = self._viewer(request), _own_path(request.query_params.get("next", "/"))
        if not self.sessions.required or (viewer is not None and request.method == "GET"):
            return RedirectResponse(target, 303)
        cookie = request.state.cookie
        problem = ""
        if request.method == "POST":
            fields = await read_form(request)
            self.check_form(request, fields, self.sessions.form_token(cookie))
            begun = self.sessions.begin(fields.get("key", "").strip())
            if begun is not None:
                self.sessions.end(cookie)
                welcome = RedirectResponse(_own_path(fields.get("next", "/")), 303)
                self._set_cookie(welcome, begun)
                return welcome
            problem = "this is no valid key, expected one of this home that is not revoked or expired; ask for one"
        frame = self.frame(request, "Sign in", None)
        token = self.sessions.form_token(cookie)
        text = render(
            "dashboard/templates/sign_in.html.j2", frame=frame, target=target, form_token=token, problem=problem
        )
        response = HTMLResponse(text, 401 if problem else 200)
        self._set_cookie(response, cookie)
        return response

    async def _sign_out(self, request: Request) -> Response:
        viewer, fields = self._viewer(request), await read_form(request)
        if viewer is not None:
            self.check_form(request, fields, viewer.form_token)
        self.sessions.end(self._cookie(request))
        response = RedirectResponse("/", 303)
        response.delete_cookie(self.cookie, path="/")
        return response

    # -- what a person changes -----------------------------------------------------------------------------

    async def _confirm(self, request: Request) -> Response:
        viewer, names = self.require(request, RELEASE), request.path_params
        page = await self.in_thread(lambda: read_confirmation(self.sources, names["action"], names["version"]))
        frame = self.frame(request, page.title, viewer)
        return self.answer(request, render("dashboard/templates/confirm.html.j2", frame=frame, page=page))

    async def _act(self, request: Request) -> Response:
        viewer, fields = await self.form(request, RELEASE)
        names = request.path_params
        result = await self.in_thread(lambda: act(self.sources, names["action"], names["version"], fields, viewer))
        self._logger.info("%s %s by %s", names["action"], names["version"], viewer.name or fields.get("by", ""))
        return self._done(request, viewer, result, f"/models/{result.version}")

    async def _confirm_ab(self, request: Request) -> Response:
        viewer, parameters = self.require(request, RELEASE), dict(request.query_params)
        page = await self.in_thread(lambda: read_ab(self.sources, parameters))
        frame = self.frame(request, "Start an A/B", viewer)
        return self.answer(request, render("dashboard/templates/ab.html.j2", frame=frame, page=page))

    async def _ab(self, request: Request) -> Response:
        viewer, fields = await self.form(request, RELEASE)
        result = await self.in_thread(lambda: start_ab(self.sources, fields, viewer))
        self._logger.info("ab by %s", viewer.name or fields.get("by", ""))
        return self._done(request, viewer, result, "/models")

    def _done(self, request: Request, viewer: Viewer, result: Any, back: str) -> Response:
        frame = self.frame(request, "Done", viewer)
        return HTMLResponse(render("dashboard/templates/done.html.j2", frame=frame, page=result, back=back))

    async def _contact(self, request: Request) -> Response:
        viewer, fields = await self.form(request, FEEDBACK)
        result = await self.in_thread(lambda: record_contact(self.sources, fields, viewer))
        return self._done(
            request, viewer, result, _own_path(fields.get("back", f"/customer?id={quote(result.version)}"))
        )

    async def _alert(self, request: Request) -> Response:
        viewer, fields = await self.form(request, RELEASE)
        number = request.path_params["number"]
        result = await self.in_thread(lambda: handle_alert(self.sources, number, fields, viewer))
        return self._done(request, viewer, result, "/alerts")

    async def _try(self, request: Request) -> Response:
        """The service checks the rights of the key."""
        viewer, fields = await self.form(request, VIEW)
        value = await self.in_thread(lambda: try_customer(self.sources, fields, viewer.token))
        page = next(page for page in PAGES if page.path == "/try")
        return self.answer(request, await self.in_thread(lambda: self.show(request, page, viewer, value)))

    async def _export(self, request: Request, suffix: str) -> Response:
        self.require(request, VIEW)
        parameters = dict(request.query_params)
        content = await self.in_thread(lambda: export(self.sources, parameters, suffix))
        name = f'attachment; filename="call_list.{suffix}"'
        return Response(content, media_type=_SHEETS[suffix], headers={"content-disposition": name})

    async def _metrics(self, request: Request) -> Response:
        self.require(request, VIEW)
        text, kind = self.metrics.exposition()
        return Response(text, headers={"content-type": kind})

    async def _model_report(self, request: Request) -> Response:
        """The report of a model as it was written: a page of its own, without scripts, in a sandbox."""
        self.require(request, VIEW)
        version = request.path_params["version"]
        path = report_folder(self.sources.settings, version) / REPORT
        if not _VERSION.fullmatch(version) or not path.is_file():
            raise HTTPException(404, f"there is no report of model {version[:40]!r}, expected one that /models names")
        return await self._in_sandbox(path)

    async def _release_report(self, request: Request) -> Response:
        """The report of a release, as that of a model."""
        self.require(request, VIEW)
        policy = request.path_params["policy"]
        path = counts_folder(self.sources.settings.home, policy) / PAGE
        if not _POLICY.fullmatch(policy) or not path.is_file():
            raise HTTPException(404, f"there is no report of policy {policy[:40]!r}, expected one that /models names")
        return await self._in_sandbox(path)

    async def _in_sandbox(self, path: Path) -> Response:
        content = await self.in_thread(lambda: read_file(path))
        return Response(content, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY})

    async def _evidently(self, request: Request) -> Response:
        """Evidently's page of a window: its scripts run in a sandbox without this dashboard's address or cookie."""
        self.require(request, VIEW)
        path = await self.in_thread(lambda: evidently_page(self.sources, request.path_params["window"]))
        content = await self.in_thread(lambda: read_file(path))
        return Response(content, media_type="text/html", headers={"content-security-policy": _EVIDENTLY_POLICY})

    # -- what went wrong ---------------------------------------------------------------------------------

    async def _failed(self, request: Request, error: Exception) -> Response:
        conflict = isinstance(error, TransitionRefused | RollbackRefused | HomeBusy)
        status = error.status_code if isinstance(error, HTTPException) else 409 if conflict else 503
        if isinstance(error, HTTPException) and status == 303:
            return Response(status_code=303, headers=error.headers)
        message = error.detail if isinstance(error, HTTPException) else str(error)
        return await self._error_page(request, status, message)

    async def _broken(self, request: Request, error: Exception) -> Response:
        self._logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return await self._error_page(
            request, 500, f"the page failed by a mistake of the dashboard ({one_line(error)}); its log has more"
        )

    async def _error_page(self, request: Request, status: int, message: str) -> Response:
        if request.url.path.endswith(".json"):
            return Response(msgspec.json.encode({"error": message}), status, media_type="application/json")
        viewer = None
        if hasattr(request.state, "cookie"):
            viewer = self.sessions.identify(request.state.cookie, header_token(request.headers))
        frame = self.frame(request, _TITLES.get(status, "This did not work"), viewer)
        return HTMLResponse(render("dashboard/templates/error.html.j2", frame=frame, message=message), status)


_TITLES = {
    403: "Not allowed",
    404: "There is no such page",
    409: "Somebody was faster, or it is not possible now",
    500: "The page failed",
    503: "This cannot be read now",
}


class _Guarded:
    """The headers of every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                more = {**_HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in more.items() if name.encode() not in own),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


async def _static(request: Request) -> Response:
    entry = static_files().get(request.path_params["name"])
    if entry is None:
        raise HTTPException(404, "there is no such file, expected one that a page names")
    kind, content = entry
    return Response(content, headers={"content-type": kind, "cache-control": _FOR_EVER})


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form in a body of at most `MOST_BYTES`; of fields of one name the last. Raises HTTPException."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "the body is no form, expected application/x-www-form-urlencoded")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"the form is too long, expected at most {MOST_BYTES:,} bytes; shorten it")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=500))
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read, expected UTF-8 with at most 500 fields") from error


def _own_path(target: str) -> str:
    """A path of this dashboard: no other site, whatever a link says."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() else "/"
