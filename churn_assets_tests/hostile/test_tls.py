"""With TLS a connection is within the limits from the moment it is accepted, before its handshake too."""

from __future__ import annotations

import ssl
import time
from concurrent.futures import ThreadPoolExecutor, wait

import httpx
import psutil
import pytest

from churn_assets.errors import SettingsError
from churn_assets.serving.server.tls import check_certificate
from churn_assets_tests.hostile.sockets import address_of, connect, is_held, read_until_closed, released_s, unread
from churn_assets_tests.serving.client import ASKED, certificate, home_with_champion, served, wait_for

HEAD_S, SEND_S, CONNECTIONS = 1.5, 2.0, 12
LATE_S = 2.0  # of a limit that is looked at twice a second, on a busy machine


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = certificate(folder)
    environ = {"CHURN_TLS_CERT": cert, "CHURN_TLS_KEY": key, "CHURN_CONNECTIONS": str(CONNECTIONS)}
    environ |= {"CHURN_HEAD_S": str(HEAD_S), "CHURN_SEND_S": str(SEND_S)}
    with served(folder, home_with_champion(folder / "home"), environ=environ) as (url, process):
        wait_for(f"{url}/readyz", process, folder / "log")
        context = ssl.create_default_context(cafile=cert)
        yield url, context, psutil.Process(process.pid).children()[0]
    assert "Traceback" not in (folder / "log").read_text()


@pytest.mark.parametrize("swapped", [False, True], ids=["not PEM", "a key for a certificate"])
def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path, swapped):
    cert, key = certificate(tmp_path)
    if swapped:
        cert, key = key, cert
    else:
        (tmp_path / "key.pem").write_text("x")
    with pytest.raises(
        SettingsError, match=r"expected a certificate and its private key .* in PEM; correct them"
    ) as error:
        check_certificate(cert, key)
    assert len(str(error.value).splitlines()) == 1


def predict_s(url, context) -> float:
    """Seconds of a prediction on a new connection."""
    start = time.monotonic()
    response = httpx.post(f"{url}/predict", json=ASKED, verify=context, timeout=10)
    assert response.status_code == 200, response.text
    return time.monotonic() - start


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "the first bytes of a handshake"])
def test_a_handshake_that_does_not_come_is_closed_in_time(service, sent):
    url, context, _ = service
    before = time.monotonic()
    with connect(address_of(url), sent) as line, ThreadPoolExecutor(1) as thread:
        start = time.monotonic()
        closed = thread.submit(lambda: (read_until_closed(line), time.monotonic()))
        slowest = 0.0  # prediction meanwhile: how late the machine lets the service be
        while not closed.done():
            slowest = max(slowest, predict_s(url, context))
            wait([closed], 0.2)
        received, end = closed.result()
    assert received == b""
    assert end - before >= HEAD_S
    assert end - start <= HEAD_S + LATE_S + 3 * slowest


def test_at_the_cap_the_first_without_a_handshake_makes_room(service):
    url, context, worker = service
    lines = [connect(address_of(url)) for _ in range(CONNECTIONS)]
    try:
        assert predict_s(url, context) < 1
        assert not is_held(worker, lines[0])
        assert is_held(worker, lines[-1])
    finally:
        for line in lines:
            line.close()


def test_who_does_not_read_is_dropped(service):
    url, context, worker = service
    with unread(address_of(url), tls=context) as line:
        released_s(worker, line, SEND_S + 3 * LATE_S)
    assert predict_s(url, context) < 1


def test_what_is_not_tls_is_closed_at_once_and_no_trace_is_logged(service):
    with connect(address_of(service[0]), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", timeout=HEAD_S / 2) as line:
        assert b"200" not in read_until_closed(line)
