"""Clients that ask without pause and remember which answers were given to them."""

from __future__ import annotations

import http.client
import json
import os
import threading
from urllib.parse import urlsplit


class Load:
    """`clients` threads that POST `body`; every answered id is kept the moment it is read. `refused` are the request
    ids of those that got 503."""

    def __init__(self, url: str, body: object, clients: int = 6, token: str = "") -> None:
        self._where, self._body = urlsplit(url), json.dumps(body).encode()
        self._headers = {"Content-Type": "application/json"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.statuses: dict[int, int] = {}
        self.broken = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def _ask(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self._where.hostname or "", self._where.port, timeout=5)
                request_id = os.urandom(8).hex()
                headers = self._headers | {"X-Request-Id": request_id}
                connection.request("POST", self._where.path, self._body, headers)
                response = connection.getresponse()
                payload = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError):
                self.broken += 1
                if connection is not None:
                    connection.close()
                connection = None
                self._stop.wait(0.02)
                continue
            self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
            if response.status == 200:
                self.acknowledged.append(payload["prediction_id"])
            elif response.status == 503:
                self.refused.append(request_id)
        if connection is not None:
            connection.close()
