"""Limits of connections over real sockets: each way to hold one ends in time, and the others are answered meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import time

import httpx
import psutil
import pytest

from churn_assets.serving.server.connections import HEAD_BYTES, LONG_HEAD, MAX_HEADERS, MAX_PIPELINED
from churn_assets_tests.hostile.sockets import address_of, connect, read_until_closed, released_s, stop_s, unread
from churn_assets_tests.serving.client import ASKED, home_with_champion, served, wait_for

HEAD_S, IDLE_S, SEND_S, BODY_S, CONNECTIONS = 1.5, 3.0, 2.0, 1.0, 40
LIMITS = {
    "CHURN_HEAD_S": HEAD_S, "CHURN_IDLE_S": IDLE_S, "CHURN_SEND_S": SEND_S, "CHURN_TIMEOUT_S": BODY_S / 0.8,
    "CHURN_CONNECTIONS": CONNECTIONS, "CHURN_BATCH_BYTES": 2**20, "CHURN_HELD_BYTES": 2**21,
}  # fmt: skip
ENVIRON = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in LIMITS.items()}
LATE_S = 2.0  # of a limit that is looked at twice a second, on a busy machine
JSON = b"Content-Type: application/json\r\n"
BODY = json.dumps(ASKED).encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited")
    with served(folder, home_with_champion(folder / "home"), environ=ENVIRON) as (url, process):
        wait_for(f"{url}/readyz", process, folder / "log")
        yield address_of(url), psutil.Process(process.pid).children()[0]
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture
def address(service):
    return service[0]


def ask_raw(address, sent: bytes) -> tuple[int, str]:
    """Status and error of the last answer to bytes after which the service closes."""
    with connect(address) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(sent)
        answers = re.split(rb"HTTP/1.1 (?=\d{3} )", read_until_closed(line))
    head, _, body = answers[-1].partition(b"\r\n\r\n")
    return int(head[:3] or 0), json.loads(body).get("error", "") if body.startswith(b"{") else ""


def request(head: bytes = b"", body: bytes = BODY, path: bytes = b"/predict") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n%b\r\n%b" % (path, JSON, len(body), head, body)


def predict_s(address) -> float:
    """Seconds of a prediction on a new connection."""
    start = time.monotonic()
    response = httpx.post(f"http://{address[0]}:{address[1]}/predict", json=ASKED, timeout=10)
    assert response.status_code == 200, response.text
    return time.monotonic() - start


CLOSE = b"Connection: close\r\n"
LONG = {
    "one long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (HEAD_BYTES + 1) + b"\r\n\r\n",
    "a long header that never ends": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 5_000_000,
    "a long path": b"GET /" + b"y" * (HEAD_BYTES + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * MAX_HEADERS + b"\r\n",
    "long trailers": b"POST /predict HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: "
    % JSON
    + b"y" * 5_000_000,
    "a long extension of a chunk": b"POST /predict HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n1;" % JSON
    + b"y" * 5_000_000,
}


@pytest.mark.parametrize("sent", LONG.values(), ids=LONG)
def test_a_head_that_is_too_long_is_refused_as_it_arrives(address, sent):
    assert ask_raw(address, sent) == (431, LONG_HEAD.error)
    assert predict_s(address) < 1


def test_a_head_within_the_limit_is_read(address):
    headers = b"".join(b"X-%d: %b\r\n" % (i, b"y" * 600) for i in range(MAX_HEADERS - 5))
    assert ask_raw(address, request(headers + CLOSE))[0] == 200


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"", IDLE_S, 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", HEAD_S, 408),
        (request()[:-5], BODY_S, 408),
        (request().replace(b"application/json", b"text/plain")[:-5], BODY_S + 0.25, 415),
    ],
    ids=["nothing is sent", "a head that does not end", "a body that does not end", "a body that is not read"],
)
def test_what_takes_too_long_is_closed(address, sent, seconds, status):
    with connect(address, sent) as line:
        start = time.monotonic()
        received = read_until_closed(line)
        waited = time.monotonic() - start
    assert seconds * 0.9 - 0.5 <= waited <= seconds + LATE_S
    assert received.startswith(b"HTTP/1.1 %d" % status) if status else received == b""
    if status == 408:
        assert b"expected it sooner" in received


def test_bytes_that_drip_do_not_prolong_a_head(address):
    with connect(address, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", timeout=0.2) as line:
        start, received = time.monotonic(), b""
        while not received and time.monotonic() - start < HEAD_S + 2 * LATE_S:
            line.sendall(b"y")
            with contextlib.suppress(TimeoutError):
                received = line.recv(4096)
    assert received.startswith(b"HTTP/1.1 408")


def test_who_does_not_read_is_dropped(service):
    address, worker = service
    with unread(address) as line:
        released_s(worker, line, SEND_S + 3 * LATE_S)
    assert predict_s(address) < 1


def test_a_client_that_asks_far_ahead_is_answered_and_then_closed(address):
    with connect(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3000) as line:
        received = read_until_closed(line)
    answers = received.count(b"HTTP/1.1 200")
    assert MAX_PIPELINED <= answers <= MAX_PIPELINED + 1
    assert len(re.findall(rb"HTTP/1.1 \d", received)) == answers


def test_answers_before_bytes_that_are_not_http_are_given(address):
    with connect(address, request(path=b"/feedback", body=b"[]") + request() + b"\x00\x00\r\n\r\n") as line:
        received = read_until_closed(line)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) in ([b"422", b"200"], [b"422", b"200", b"400"])


def test_bodies_hold_no_more_than_they_may_and_a_small_one_is_always_taken(address):
    large = b" " * (2**20 - 1)
    lines = [connect(address, request(path=b"/predict_batch", body=large + b"{")[:-1]) for _ in range(3)]
    try:
        assert predict_s(address) < 1
        answers = [line.recv(4096) for line in lines]
    finally:
        for line in lines:
            line.close()
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
    assert len(refused) >= 1
    assert b"retry-after: 1\r\n" in refused[0]
    assert b"bodies and answers hold all memory" in refused[0]


def read_alive(line):
    """One answer of /livez, whose body is a line end: head and body may come one after the other."""
    received = b""
    while not received.endswith(b"\r\n\r\n\n"):
        more = line.recv(4096)
        assert more, "the connection was closed"
        received += more
    return received


def test_at_the_cap_the_connection_without_a_request_for_longest_makes_room(address):
    first = connect(address)
    lines = [connect(address) for _ in range(CONNECTIONS - 1)]
    try:
        time.sleep(0.2)  # so that all are accepted
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_alive(first).startswith(b"HTTP/1.1 200")
        assert predict_s(address) < 1
        lines[0].settimeout(1)
        assert read_until_closed(lines[0]) == b""
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_alive(first).startswith(b"HTTP/1.1 200"), "it had a request since"
    finally:
        for line in (first, *lines):
            line.close()


AMBIGUOUS = {
    "no host": (b"GET /livez HTTP/1.1\r\n%b\r\n" % CLOSE, 400),
    "two hosts": (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: x\r\n%b\r\n" % CLOSE, 400),
    "no host in HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 200),
    "two lengths": (request(b"Content-Length: 3\r\n"), 400),
    "length and chunks": (request(b"Transfer-Encoding: chunked\r\n"), 400),
    "a coding beside chunks": (
        request(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: gzip, chunked"),
        400,
    ),
    "a blank after the length": (request(CLOSE).replace(b"Length: %d" % len(BODY), b"Length: %d " % len(BODY)), 200),
    "a protocol that is not spoken": (
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        200,
    ),
    "an obsolete line folding": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n%b\r\n" % CLOSE, 400),
    "a blank before the colon": (b"GET /livez HTTP/1.1\r\nHost : x\r\n%b\r\n" % CLOSE, 400),
}


@pytest.mark.parametrize(("sent", "status"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_request_that_two_programs_may_read_differently_is_refused(address, sent, status):
    assert ask_raw(address, sent)[0] == status


def test_trailers_are_ignored(address):
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\n%b%bTransfer-Encoding: chunked\r\n\r\n" % (JSON, CLOSE)
    sent = chunked + b"%x\r\n%b\r\n0\r\nX-Request-Id: from-a-trailer\r\nHost: y\r\n\r\n" % (len(BODY), BODY)
    with connect(address, sent) as line:
        received = read_until_closed(line)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"from-a-trailer" not in received


def test_of_two_keys_of_one_name_the_last_counts(address):
    body = BODY[:-1] + b', "sent": -1}'
    assert "found -1" in ask_raw(address, request(CLOSE, body))[1]
    assert ask_raw(address, request(CLOSE, b'{"sent": -1, ' + BODY[1:]))[0] == 200


def test_a_sigterm_ends_the_service_whatever_its_clients_do(tmp_path):
    with served(tmp_path, home_with_champion(tmp_path / "home"), workers=2) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        address = address_of(url)
        lines = [unread(address) for _ in range(4)]
        lines += [connect(address, request()[:-5]), connect(address, b"GET / HTTP/1.1\r\nX: "), connect(address)]
        assert stop_s(process) < 15
        for line in lines:
            line.close()
    assert "Traceback" not in (tmp_path / "log").read_text()
