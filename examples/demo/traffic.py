"""Customers of the demo: drawn from the generator, predicted over HTTP, their outcomes reported later."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.data.validation.validate import validate
from churn_assets.synthetic.generate import generate_batches, snapshot_of
from churn_assets.synthetic.scenario import play, read_scenario
from examples.demo.stage import DemoFailed

_CHUNK = 100
_PAUSE_S = 0.05
_IDLE_S = 1.0  # the server closes a connection that is silent for some seconds: open another in time
_TIMEOUT_S = 60.0  # of one request, on a machine with other work


@dataclass(frozen=True)
class Customers:
    """Rows as a client sends them, without the label, and who of them churned."""

    rows: list[dict[str, object]]
    churned: list[bool]
    as_of: dt.date

    def split(self, count: int) -> tuple[Customers, Customers]:
        """The first `count` of them, and the others."""
        return (
            Customers(self.rows[:count], self.churned[:count], self.as_of),
            Customers(self.rows[count:], self.churned[count:], self.as_of),
        )


def draw(
    contract: Contract, count: int, seed: int, drifts: Sequence[str] = (), faults: Sequence[str] = ()
) -> Customers:
    """`count` generated customers that no model was trained on, their ids by seed.

    `drifts` and `faults` are options of `churn generate`.
    """
    import pyarrow as pa

    day = snapshot_of(contract)
    scenario = read_scenario(contract, drifts, faults)
    drawn = max(count, contract.quality.min_rows)
    parts = [h.customers for h in play(contract, generate_batches(contract, drawn, seed), drawn, seed, day, scenario)]
    table = validate(contract, pa.concat_tables(parts)).customers.slice(0, count)
    churned = [bool(label) for label in table["churned"].to_pylist()]
    rows = [
        {name: cell.isoformat() if isinstance(cell, dt.date) else cell for name, cell in row.items()}
        for row in table.drop_columns(["churned"]).to_pylist()
    ]
    for row in rows:
        row[contract.key.name] = f"{seed}-{row[contract.key.name]}"
    return Customers(rows, churned, day)


class Client:
    """Sends requests to the service and counts those that fail. For one thread.

    A request on a connection that the server has just closed is sent once more on a new one.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        self._used_at = time.monotonic()
        self.requests = self.failed = 0
        self.failure = ""
        self.versions: Counter[str] = Counter()

    def post(self, path: str, body: object) -> Any:
        """The answer, or None if it is not a 200; `failure` then says why."""
        self.requests += 1
        if time.monotonic() - self._used_at > _IDLE_S:
            self._connection.close()
        reused = self._connection.sock is not None
        try:
            try:
                status, answer = self._send(path, body)
            except ConnectionError:
                self._connection.close()
                if not reused:
                    raise
                status, answer = self._send(path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            return self._fail(f"POST {path}: {type(error).__name__}: {error}")
        self._used_at = time.monotonic()
        return answer if status == 200 else self._fail(f"POST {path}: {status}: {answer}")

    def close(self) -> None:
        """Close the connection; a later request opens another."""
        self._connection.close()

    def predict(self, customers: Customers) -> Iterator[int]:
        """Ask about all of them, a hundred at a time; yields how many were answered so far."""
        for start in range(0, len(customers.rows), _CHUNK):
            body = {"customers": customers.rows[start : start + _CHUNK], "as_of": customers.as_of.isoformat()}
            answer = self.post("/predict_batch", body)
            if answer is not None:
                self.versions.update(prediction["model_version"] for prediction in answer["predictions"])
            yield min(start + _CHUNK, len(customers.rows))

    def report(self, contract: Contract, customers: Customers) -> Iterator[int]:
        """Report outcomes: customers who left did so within the horizon, the others were there at its end."""
        matured = customers.as_of + dt.timedelta(days=contract.label.horizon_days)
        within = customers.as_of + dt.timedelta(days=1)
        reports = [
            {
                "customer_id": row[contract.key.name],
                "churned": left,
                "observed_at": f"{within if left else matured + dt.timedelta(days=1)}T00:00:00Z",
            }
            for row, left in zip(customers.rows, customers.churned, strict=True)
        ]
        for start in range(0, len(reports), _CHUNK):
            if self.post("/feedback", reports[start : start + _CHUNK]) is None:
                raise DemoFailed(f"the service did not take the outcomes, expected 200: {self.failure}; read its log")
            yield min(start + _CHUNK, len(reports))

    def _send(self, path: str, body: object) -> tuple[int, Any]:
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def _fail(self, failure: str) -> None:
        self.failed += 1
        self.failure = failure


class SteadyClient:
    """One customer after another for as long as the demo runs: the traffic while a model is replaced.

    The customers bear no id of the other traffic, and there are few: windows count customers, not requests.
    """

    def __init__(self, port: int, customers: Customers) -> None:
        self.client = Client(port)
        self._customers = customers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="steady-client", daemon=True)

    def __enter__(self) -> SteadyClient:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2 * _TIMEOUT_S)
        self.client.close()

    def _ask(self) -> None:
        while not self._stop.is_set():
            for row in self._customers.rows:
                answer = self.client.post("/predict", {**row, "as_of": self._customers.as_of.isoformat()})
                if answer is not None:
                    self.client.versions[answer["model_version"]] += 1
                if self._stop.wait(_PAUSE_S):
                    return
