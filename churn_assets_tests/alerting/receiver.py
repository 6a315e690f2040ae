"""A local receiver of alerts: real HTTP, told by the path how to behave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from churn_assets.alerting.destinations import AlertSettings


class Receiver:
    """What came in, as (path, title, message, type). `/bad...` answers 500, `/hang...` never."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.got: list[tuple[str, str, str, str]] = []
        self.bad = False
        self.environ: dict[str, str] = {}  # of every home whose settings this gives
        self.release = threading.Event()

    def url(self, path: str = "token") -> str:
        """An apprise URL of this receiver, with a password in it."""
        return f"json://someone:hunter2@127.0.0.1:{self.port}/{path}"

    def titles(self, path: str = "token") -> list[str]:
        """What was taken on a path, without the prefix that all have."""
        return [title.removeprefix("churn: ") for at, title, _, _ in self.got if at == f"/{path}"]

    def settings(self, home: Path, *paths: str, **environ: str) -> AlertSettings:
        """Alert settings of a home whose destinations are these paths."""
        urls = " ".join(self.url(path) for path in paths or ("token",))
        return AlertSettings.from_environ({"CHURN_ALERT_URLS": urls, **self.environ, **environ}, home)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = urlsplit(self.path).path
            if path.startswith("/hang"):
                receiver.release.wait(30)
            elif receiver.bad or path.startswith("/bad"):
                self.send_response(500)
                self.end_headers()
            else:
                receiver.got.append((path, sent["title"], sent["message"], sent["type"]))
                self.send_response(200)
                self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
