"""Keys at the door of the service: who is let in, who is not, and where it does not start without one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from churn_assets.access.keyring import Keyring
from churn_assets.access.keys import KeyStore
from churn_assets.promotion.pointer import require_champion
from churn_assets.serving.authorization import scopes_of
from churn_assets.serving.routes import Handlers, routes
from churn_assets.serving.schemas import EXPLANATIONS, OPEN_ROUTES, READ_SCOPES, RELEASE, RETRAIN, ROUTE_SCOPES
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.serving.client import (
    AS_OF,
    ASKED,
    ROOT,
    ROW,
    SERVICE,
    ask,
    assert_refusal,
    home_with_champion,
    served,
    wait_for,
)


def new_key(home: Path, *scopes: str, lifetime: timedelta | None = None) -> str:
    return KeyStore(home).create("test", scopes, lifetime, datetime.now(UTC))[1]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def asked_with(home: Path, headers: Any, method: str = "GET", path: str = "/model", **settings) -> httpx.Response:
    return ask(home, lambda client, worker: client.request(method, path, headers=headers), **settings)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A home with a champion and a key of each scope that routes of a customer or of the page need."""
    home = home_with_champion(tmp_path_factory.mktemp("closed"))
    return home, {scope: new_key(home, scope) for scope in ("predict", "explain", "view", "release", "admin")}


def test_every_route_has_a_scope_or_is_open(home):
    async def question(client, worker):
        return {route.path for route in routes(Handlers(worker))}

    assert ask(home, question) == {*ROUTE_SCOPES, *OPEN_ROUTES}
    assert not ROUTE_SCOPES.keys() & set(OPEN_ROUTES)


def test_without_a_key_only_the_probes_answer(closed):
    home, _ = closed

    async def question(client, worker):
        paths = [*ROUTE_SCOPES, "/none", "/static_content/swagger-ui.css", "/assets/x"]
        refused = {(m, path): await client.request(m, path) for path in paths for m in ("GET", "POST", "PUT", "HEAD")}
        return refused, [await client.get(path) for path in OPEN_ROUTES], (await client.post("/livez")).status_code

    refused, answered, method = ask(home, question)
    for (verb, path), response in refused.items():
        assert response.headers.get_list("www-authenticate")[0] == 'Bearer realm="churn"', (verb, path)
        if verb == "HEAD":
            assert (response.status_code, response.content) == (401, b"")
        else:
            assert "the request has no API key, expected a valid one" in assert_refusal(response, 401)["error"]
        browsed = 'Basic realm="churn"' in response.headers.get_list("www-authenticate")
        assert browsed == (path in ("/", "/docs", "/redoc"))
    assert [response.status_code for response in answered] == [200] * len(OPEN_ROUTES)
    assert method == 405


@pytest.mark.parametrize("path", sorted(ROUTE_SCOPES))
def test_a_key_opens_the_routes_of_its_scope(closed, path):
    home, tokens = closed
    scope = ROUTE_SCOPES[path]
    body = {"/predict": ASKED, "/predict_batch": {"customers": [ASKED]}, "/feedback": {}}.get(path)
    body = ASKED if path in EXPLANATIONS else body
    body = {RELEASE: {"move": "rollback", "why": "a test"}, RETRAIN: {"why": "a test"}}.get(path, body)
    body = {"inputs": []} if path.endswith("/infer") else body
    method = "GET" if body is None else "POST"
    path = path.format(model="churn", version=require_champion(home).version)

    async def question(client, worker):
        return {
            name: await client.request(method, path, json=body, headers=bearer(token)) for name, token in tokens.items()
        }

    for name, response in ask(home, question).items():
        if name in (scope, "admin"):
            # A model of the tests has no reasons, and says so.
            statuses = {"/explain": (503,), RELEASE: (409,), RETRAIN: (200, 409)}.get(path, (200, 409, 422))
            assert response.status_code in statuses, response.text
        else:
            assert f"has the scopes {name}, expected {scope}" in assert_refusal(response, 403)["error"]
            challenge = f'Bearer realm="churn", error="insufficient_scope", scope="{scope}"'
            assert response.headers["www-authenticate"] == challenge


def test_who_may_view_sees_the_release_and_moves_nothing(closed):
    home, tokens = closed
    body = {"move": "rollback", "why": "a test"}

    async def question(client, worker):
        return {
            (method, name): (await client.request(method, RELEASE, headers=bearer(token), json=body)).status_code
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
            for name, token in tokens.items()
        }

    statuses = ask(home, question)
    allowed = {"GET": ("view", "release", "admin"), "HEAD": ("view", "release", "admin")}
    for (method, name), status in statuses.items():
        let_in = name in allowed.get(method, ("release", "admin"))
        assert (status != 403) == let_in, (method, name, status)
    assert READ_SCOPES == {RELEASE: "view"}


def test_a_key_that_lacks_the_scope_gets_in_by_no_other_spelling_of_the_path(closed):
    home, tokens = closed
    spellings = (
        "/metrics%0A",
        "/metrics/",
        "//metrics",
        "/./metrics",
        "/metrics%00",
        "/METRICS",
        "/predict/../metrics",
    )
    for path in spellings:
        assert asked_with(home, bearer(tokens["predict"]), path=path).status_code in (403, 404), path


def test_the_token_is_read_from_three_headers(closed):
    home, tokens = closed
    token = tokens["view"]
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    for headers in (
        bearer(token),
        {"authorization": f"bearer   {token} "},
        {"x-api-key": token},
        {"authorization": f"Basic {basic}"},
        {"authorization": "Basic Zm9yOnRoZSBwcm94eQ==", "x-api-key": token},
    ):
        assert asked_with(home, headers).status_code == 200, headers


WRONG = {
    "nothing after it": b"Bearer",
    "no scheme": b"TOKEN",
    "another word": b"Bearer let me in",
    "no secret": b"Bearer churn_0123456789ab_",
    "not UTF-8": b"Bearer churn_\xff\xfe\xfd3456789ab_\xe9",
    "not base64": b"Basic !!!!!",
    "no password": b"Basic YQ==",
    "very long": b"Bearer churn_" + b"a" * 50_000,
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_what_is_no_token_is_refused_and_not_repeated(closed, value):
    home, tokens = closed
    response = asked_with(home, {"authorization": value.replace(b"TOKEN", tokens["view"].encode())})
    assert assert_refusal(response, 401)["error"].startswith("the API key is unknown, expected a valid one in ")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_an_expired_and_a_revoked_key_are_refused_and_a_revoked_last_one_opens_nothing(tmp_path):
    home = home_with_champion(tmp_path)
    short, revoked = new_key(home, "admin", lifetime=timedelta(seconds=0.2)), new_key(home, "admin")
    KeyStore(home).revoke(revoked.split("_")[1], datetime.now(UTC))
    time.sleep(0.2)  # the key's lifetime
    assert "the API key is expired" in assert_refusal(asked_with(home, bearer(short)), 401)["error"]
    assert "the API key is revoked" in assert_refusal(asked_with(home, bearer(revoked)), 401)["error"]
    assert "the request has no API key" in assert_refusal(asked_with(home, {}), 401)["error"]


def test_refusals_are_counted_and_the_document_lists_them(closed):
    home, tokens = closed

    async def question(client, worker):
        await client.get("/model")
        await client.post("/predict", headers=bearer(tokens["view"]), json=ASKED)
        text = (await client.get("/metrics", headers=bearer(tokens["view"]))).text
        return text, (await client.get("/docs.json", headers=bearer(tokens["view"]))).json()

    text, document = ask(home, question)
    assert 'churn_request_rejected_total{cause="key"} 1.0' in text
    assert 'churn_request_rejected_total{cause="scope"} 1.0' in text
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert (path in OPEN_ROUTES) == ("security" not in operation)
            if path not in OPEN_ROUTES:
                scopes = scopes_of(path, method.upper())
                assert operation["security"] == [{}, *({"key": [scope]} for scope in scopes)]
                assert {"401", "403"} <= operation["responses"].keys()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_no_log_has_the_secret_and_the_log_of_requests_has_the_id(closed, capfd):
    home, tokens = closed
    token = tokens["view"]
    asked_with(home, bearer(token), access_log=True, level="DEBUG")
    asked_with(home, bearer(token[:-2]), access_log=True, level="DEBUG")
    shown = capfd.readouterr().err
    good, bad = (entry for entry in map(json.loads, shown.splitlines()) if entry["event"] == "request")
    assert (good["key"], bad["key"], bad["status"]) == (token.split("_")[1], None, 401)
    assert token[20:-2] not in shown


def test_keys_that_stay_unreadable_are_503_until_they_can_be_read(tmp_path):
    """None of them is known to be revoked or not; routes that need no key answer."""
    home = home_with_champion(tmp_path / "home")
    token = new_key(home, "view")
    keys = home / "keys.db"
    intact = keys.read_bytes()
    seconds = [0.0]

    async def question(client, worker):
        worker.keys = Keyring(home, steady=lambda: seconds[0])
        worker._check_keys()
        answers = []
        for content in (b"no database" * 200, intact):
            keys.write_bytes(content)
            seconds[0] += 61
            worker._check_keys()
            answers.append(await client.get("/model", headers=bearer(token)))
            answers.append(await client.get("/readyz"))
        return answers

    refused, ready, answered, _ = ask(home, question)
    assert "the keys of this home cannot be read" in assert_refusal(refused, 503)["error"]
    assert refused.headers["retry-after"] == "5"
    assert (ready.status_code, answered.status_code) == (200, 200)


def test_keys_that_become_unreadable_are_logged_once_and_stay_valid(tmp_path, capfd):
    home = home_with_champion(tmp_path)
    token = new_key(home, "view")

    async def question(client, worker):
        KeyStore(home).path.write_bytes(b"no database" * 200)
        for _ in range(3):
            worker._check_keys()
        return [(await client.get("/model", headers=headers)).status_code for headers in (bearer(token), {})]

    assert ask(home, question) == [200, 401]
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (event,) = (event for event in events if event["event"] == "keys unreadable")
    assert "keys.db: cannot be read (file is not a database)" in event["reason"]


# -- the real server ---------------------------------------------------------------------------------


def statuses(url: str, headers: dict[str, str], times: int = 6) -> set[int]:
    """Of some requests, a connection each, so that both workers get some."""
    return {httpx.get(f"{url}/model", headers=headers, timeout=5).status_code for _ in range(times)}


def seconds_until(url: str, headers: dict[str, str], status: int) -> float:
    """Seconds from now to the last answer of another status, after which all gave this one for half a second."""
    start = last = time.monotonic()
    while time.monotonic() - last < 0.5:
        if httpx.get(f"{url}/model", headers=headers, timeout=5).status_code != status:
            last = time.monotonic()
        assert time.monotonic() - start < 20
    return last - start


def test_a_running_service_closes_with_the_first_key_and_refuses_a_revoked_one_within_a_second(tmp_path):
    home = home_with_champion(tmp_path / "home")
    environ = {"CHURN_ACCESS_LOG": "1", "CHURN_LOG_LEVEL": "DEBUG", "CHURN_POLL_S": "60"}
    with served(tmp_path, home, workers=2, environ=environ) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        assert statuses(url, {}) == {200}, "on loopback, without a key"
        token = new_key(home, "predict", "view")
        assert seconds_until(url, {}, 401) <= 1.0
        assert statuses(url, bearer(token)) == {200}
        assert httpx.post(f"{url}/predict", json=ASKED, headers={"x-api-key": token}).status_code == 200
        assert httpx.post(f"{url}/predict", json=ASKED).status_code == 401
        swagger = f"{url}/static_content/swagger-ui.css"
        assert [httpx.get(swagger, headers=h).status_code for h in (bearer(token), {})] == [200, 401]
        KeyStore(home).revoke(token.split("_")[1], datetime.now(UTC))
        assert seconds_until(url, bearer(token), 401) <= 1.0
        assert httpx.get(f"{url}/livez").status_code == 200
    log = (tmp_path / "log").read_text()
    assert token.split("_")[1] in log
    assert token[20:] not in log


def test_on_every_address_the_service_starts_with_a_key_and_asks_for_it(tmp_path):
    home = home_with_champion(tmp_path / "home")
    token = new_key(home, "view")
    with served(tmp_path, home, environ={"CHURN_HOST": "0.0.0.0"}) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        assert (statuses(url, {}, 1), statuses(url, bearer(token), 1)) == ({401}, {200})


def test_on_every_address_insecure_means_open_with_a_warning_until_there_is_a_key(tmp_path):
    home = home_with_champion(tmp_path / "home")
    with served(tmp_path, home, environ={"CHURN_HOST": "0.0.0.0", "CHURN_INSECURE": "1"}) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        assert statuses(url, {}, 1) == {200}
        new_key(home, "view")
        assert seconds_until(url, {}, 401) <= 1.0
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    (warning,) = (event for event in events if "CHURN_INSECURE" in event["event"])
    assert (warning["level"], warning["host"]) == ("WARNING", "0.0.0.0")


BENTOML = [sys.executable, "-m", "bentoml", "serve", SERVICE]
CHURN = [sys.executable, "-c", "from churn_assets.cli.main import main; main()", "serve"]


def start(command: list[str], home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "BENTOML_"))}
    clean |= {"CHURN_HOME": str(home), "BENTOML_HOME": str(home / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    return subprocess.run(
        command, env={**clean, **environ}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        ([*BENTOML, "--host", "0.0.0.0"], {}),
        ([*BENTOML, "--host=::"], {}),
        (BENTOML, {"BENTOML_HOST": "0.0.0.0"}),
        (BENTOML, {"CHURN_HOST": "0.0.0.0"}),
        ([*CHURN, "--host", "0.0.0.0"], {}),
    ],
)
def test_without_a_key_the_service_does_not_start_on_another_address(tmp_path, command, environ):
    done = start(command, tmp_path, **environ)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert line.startswith("error: the service would listen on ")
    assert "CHURN_INSECURE=1" in line
    assert not (tmp_path / "keys.db").exists()


def test_unreadable_keys_are_one_line_at_the_start(tmp_path):
    (tmp_path / "keys.db").write_bytes(b"no database" * 200)
    done = start(BENTOML, tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "keys.db: cannot be read (file is not a database)" in done.stderr


def test_started_by_bentomls_api_on_every_address_it_answers_nobody_until_there_is_a_key(tmp_path):
    """The check before the start cannot see that address; the workers see the socket."""
    home = home_with_champion(tmp_path / "home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"import bentoml\nbentoml.serve({SERVICE!r}, host='0.0.0.0', port={port}, blocking=True)"
    environ = {**os.environ, "CHURN_HOME": str(home), "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/readyz", process, tmp_path / "log")
            assert statuses(url, {}, 1) == {401}
            token = new_key(home, "view")
            assert seconds_until(url, bearer(token), 200) <= 1.0
        finally:
            process.terminate()
            process.wait(20)
    assert "requests refused: no API key" in (tmp_path / "log").read_text()


def test_the_log_says_who_asked_and_what_was_a_trial(tmp_path):
    home = home_with_champion(tmp_path / "home")
    report = {"customer_id": "c", "churned": False, "observed_at": "2026-01-20"}

    async def question(client, worker):
        headers = [{}, {"x-churn-test": "1"}]
        if worker.keys.required:
            headers = [bearer(token) | h for h in headers]
        for each in headers:
            assert (await client.post("/predict", json=ASKED, headers=each)).status_code == 200
            assert (
                await client.post("/predict_batch", json={"customers": [ROW], "as_of": AS_OF}, headers=each)
            ).status_code == 200
            assert (await client.post("/feedback", json=report, headers=each)).status_code == 200

    def logged() -> list[tuple[str, object, object]]:
        return [(row["kind"], row.get("source"), row.get("test")) for row in rows_of(home / "predlog")]

    ask(home, question)
    trial = [("prediction", None, True)] * 2
    assert logged() == [
        *[("prediction", None, None)] * 2,
        ("feedback", "anonymous", None),
        *trial,
        ("feedback", "anonymous", None),
    ]
    token = new_key(home, "predict", "feedback")
    ask(home, question)
    key_id = token.split("_")[1]
    assert {source for _, source, _ in logged()[6:]} == {key_id}
    assert [test for kind, _, test in logged()[6:] if kind == "prediction"] == [None, None, True, True]


@pytest.mark.parametrize(("path", "scopes", "status"), [("/metrics", ("predict",), 403), ("/model", (), 401)])
def test_a_key_that_is_not_let_in_is_named_in_the_access_log(tmp_path, capsys, path, scopes, status):
    home = home_with_champion(tmp_path / "home")
    store, now = KeyStore(home), datetime.now(UTC)
    key, token = store.create("test", scopes or ("view",), None, now)
    if not scopes:
        store.revoke(key.id, now)
    assert asked_with(home, bearer(token), path=path, access_log=True).status_code == status
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"request"' in line]
    assert [(entry["status"], entry["key"]) for entry in entries] == [(status, key.id)]
    assert token not in str(entries)


def test_a_home_without_keys_opens_again_once_its_folder_can_be_read(tmp_path):
    home = home_with_champion(tmp_path / "home")

    async def question(client, worker):
        keys = home / "keys.db"
        keys.symlink_to(keys)  # its status cannot be read
        await wait_for_status(client, 401)
        keys.unlink()
        await wait_for_status(client, 200)

    async def wait_for_status(client, status):
        async with asyncio.timeout(10):
            while (await client.get("/model")).status_code != status:
                await asyncio.sleep(0.05)

    ask(home, question)


def test_a_home_without_room_for_the_folders_of_bentoml_is_one_line_at_the_start(tmp_path):
    (tmp_path / "bentoml").write_bytes(b"")
    done = start(CHURN, tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "which cannot be written (" in done.stderr
