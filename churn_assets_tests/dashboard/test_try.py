"""The form asks the real service; a service that is stopped, or refuses, is said."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.serving.client import served, wait_for
from churn_assets_tests.test_home_0_1 import CHAMPION


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_form_is_that_of_the_contract_filled_with_usual_values(visitor, made):
    fields = {entry["name"]: entry for entry in visitor.json("/try.json")["fields"]}
    names = list(fields)
    assert (names[0], names[-1]) == ("custid", "as_of")
    assert fields["favday"]["options"]
    assert float(fields["avgorder"]["value"]) > 0
    sample = {entry["name"]: entry["value"] for entry in visitor.json("/try.json?sample=high")["fields"]}
    listed = visitor.json("/calls.json?band=high")
    customer = visitor.json(f"/customer.json?id={sample['custid']}")
    assert (customer["risk_band"], listed["matched"] > 0) == ("high", True)
    form = visitor.get("/try?sample=low").form("/try")
    assert form["custid"] != sample["custid"]


def test_a_service_that_is_stopped_is_said(made):
    visitor = visit(made, service_url=f"http://127.0.0.1:{free_port()}")
    response = visitor.post("/try", visitor.get("/try").form("/try"), 200)
    assert "does not answer" in response.text
    assert "churn serve" in response.text


def test_the_service_answers_the_form(settings, tmp_path):
    with served(tmp_path, settings.home) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        visitor = visit(settings, service_url=url)
        form = {**visitor.get("/try?sample=high").form("/try"), "favday": "Monday", "paperless": "true"}
        form |= {"refill": "false", "doorstep": "false", "city": "DEL"}
        text = visitor.post("/try", form, 200).text
        assert CHAMPION in text
        assert "data value=" in text
        asked = {name: value for name, value in form.items() if name not in ("form_token", "by")}
        numbers = {"esent": int, "eopenrate": float, "eclickrate": float, "avgorder": float, "ordfreq": float}
        asked |= {name: kind(float(asked[name])) for name, kind in numbers.items()}
        asked |= {name: asked[name] == "true" for name in ("paperless", "refill", "doorstep")}
        answer = httpx.post(f"{url}/predict", json=asked).json()
        assert f'<data value="{answer["churn_probability"]!r}">' in text
        refused = visitor.post("/try", {**form, "avgorder": "much"}, 200).text
        assert "avgorder: 'much'" in refused.replace("&#39;", "'")
    lines = b"".join(path.read_bytes() for path in settings.predlog_dir.glob("*")).splitlines()
    rows = [json.loads(line) for line in lines if b'"prediction"' in line and b'"test":true' in line]
    assert len(rows) == 1, "the trial is marked as one, and the refused one is none"


@pytest.mark.parametrize("text", ["", "<b>x</b>"])
def test_what_was_typed_comes_back_as_text(made, text):
    visitor = visit(made, service_url=f"http://127.0.0.1:{free_port()}")
    form = {**visitor.get("/try").form("/try"), "custid": text}
    response = visitor.post("/try", form, 200)
    assert "<b>x</b>" not in response.text
