"""What the service says and does on a network: rates, headers for browsers, TLS, the audit log."""

from __future__ import annotations

import json
import re
import ssl

import httpx
import pytest

from churn_assets.access.rate_limit import FILE
from churn_assets.errors import SettingsError
from churn_assets.settings import ServingSettings
from churn_assets_tests.serving.client import ASKED, ask, assert_refusal, certificate, home_with_champion, served


def test_a_key_that_asks_too_often_is_told_when_to_ask_again(tmp_path):
    home = home_with_champion(tmp_path / "home")

    async def question(client, worker):
        answers = [await client.post("/predict", json=ASKED) for _ in range(5)]
        return answers, await client.get("/model"), await client.get("/livez")

    answers, other, probe = ask(home, question, rate_per_s=0.5, rate_burst=3)
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert [a.headers["ratelimit"].split(";")[:2] for a in answers[:3]] == [['"key"', f"r={n}"] for n in (2, 1, 0)]
    assert {a.headers["ratelimit-policy"] for a in answers} == {'"key";q=3;w=6'}
    refused = answers[3]
    assert "expected 0.5 a second and 3 at once; ask again in 2 s" in assert_refusal(refused, 429)["error"]
    assert refused.headers["retry-after"] == "2"
    assert other.status_code == 429  # the limit is of the key, not of the route
    assert probe.status_code == 200
    assert "ratelimit" not in probe.headers


def test_requests_that_cannot_be_counted_are_refused_as_such_and_let_in_once_they_can(tmp_path):
    home = home_with_champion(tmp_path / "home")
    (home / FILE).mkdir()

    async def question(client, worker):
        refused = await client.post("/predict", json=ASKED)
        (home / FILE).rmdir()
        return refused, await client.post("/predict", json=ASKED)

    refused, answered = ask(home, question, rate_per_s=10.0, rate_burst=10)
    assert "requests cannot be counted" in assert_refusal(refused, 503)["error"]
    assert answered.status_code == 200


def test_without_a_rate_no_answer_speaks_of_one(home):
    async def question(client, worker):
        return await client.post("/predict", json=ASKED)

    assert "ratelimit" not in ask(home, question).headers


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_a_page_runs_its_own_scripts_only_and_is_in_no_frame(home, path):
    async def question(client, worker):
        return [await client.get(path) for _ in range(2)]

    first, second = ask(home, question)
    nonces = [re.findall(r"'nonce-([^']+)'", page.headers["content-security-policy"]) for page in (first, second)]
    assert nonces[0] != nonces[1]
    inline = re.findall(r"<script(?![^>]*src=)([^>]*)>", first.text)
    assert bool(inline) == (path != "/redoc"), "the reference has no script"
    assert all(f'nonce="{nonces[0][0]}"' in attributes for attributes in inline)
    assert "frame-ancestors 'none'" in first.headers["content-security-policy"]
    assert first.headers["x-frame-options"] == "DENY"
    assert not re.search(r"<(?!a )[^>]*(src|href)=\"(https?:)?//", first.text), "a link is not fetched"


def test_every_answer_forbids_guessing_its_type_and_lets_no_other_origin_read_it(home):
    async def question(client, worker):
        headers = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
        paths = ["/", "/docs", "/redoc", "/docs.json", "/model", "/metrics", "/livez", "/readyz", "/none", "/predict"]
        return [await client.request(method, path, headers=headers) for path in paths for method in ("GET", "OPTIONS")]

    for response in ask(home, question):
        assert response.headers["x-content-type-options"] == "nosniff", response.url
        assert not [name for name in response.headers if name.startswith("access-control")], response.url


def test_a_form_of_another_origin_reports_nothing(home):
    async def question(client, worker):
        body = json.dumps({"customer_id": "c", "churned": True, "observed_at": "2026-01-20"})
        return await client.post("/feedback", content=body, headers={"content-type": "text/plain"})

    assert_refusal(ask(home, question), 415)


def test_with_a_certificate_the_service_speaks_https_only(tmp_path):
    home = home_with_champion(tmp_path / "home")
    cert, key = certificate(tmp_path)
    with served(tmp_path, home, environ={"CHURN_TLS_CERT": cert, "CHURN_TLS_KEY": key}) as (url, _):
        context = ssl.create_default_context(cafile=cert)
        assert httpx.post(f"{url}/predict", json=ASKED, verify=context).status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/model".replace("https:", "http:"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CHURN_TLS_CERT": "none.pem"}, "CHURN_TLS_CERT is 'none.pem', expected a file that can be read"),
        ({"CHURN_TLS_KEY": __file__}, "CHURN_TLS_CERT is not set, expected a file because CHURN_TLS_KEY is set"),
        ({"CHURN_TLS_CERT": __file__}, "CHURN_TLS_KEY is not set, expected a file because CHURN_TLS_CERT is set"),
        ({"CHURN_RATE_PER_S": "-1"}, "CHURN_RATE_PER_S is '-1', expected a number from 0 to"),
        ({"CHURN_RATE_BURST": "0"}, "CHURN_RATE_BURST is '0', expected a whole number from 1"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(variables, message):
    with pytest.raises(SettingsError, match=message):
        ServingSettings.from_environ(variables)
