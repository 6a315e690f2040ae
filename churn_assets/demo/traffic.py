"""Customers of the demo: drawn by the generator, asked about over HTTP, and their outcomes told later."""

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
from churn_assets.errors import DemoFailed
from churn_assets.synthetic.generate import generate_batches, snapshot_of
from churn_assets.synthetic.scenario import play, read_scenario

_CHUNK = 100
_PAUSE_S = 0.05
_IDLE_S = 2.0  # the server closes a connection that is silent for longer; a client that knows opens another


@dataclass(frozen=True)
class Customers:
    """Rows as a client sends them, without the label, and who of them churned."""

    rows: list[dict[str, object]]
    churned: list[bool]
    as_of: dt.date

    def first(self, count: int) -> Customers:
        """The first `count` of them."""
        return Customers(self.rows[:count], self.churned[:count], self.as_of)


def draw(
    contract: Contract, count: int, seed: int, drifts: Sequence[str] = (), faults: Sequence[str] = ()
) -> Customers:
    """`count` generated customers that nobody was trained on, their ids by seed; `drifts` and `faults` are knobs
    of `churn generate`."""
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
    """Asks the service; every failure is counted. Safe from one thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._used_at = time.monotonic()
        self.asked = self.failed = 0
        self.versions: Counter[str] = Counter()

    def post(self, path: str, body: object) -> Any:
        """The answer, or None if it is not a 200."""
        self.asked += 1
        if time.monotonic() - self._used_at > _IDLE_S:
            self._connection.close()
        try:
            self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            said = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            self.failed += 1
            return None
        self._used_at = time.monotonic()
        if response.status != 200:
            self.failed += 1
            return None
        return said

    def predict(self, customers: Customers) -> Iterator[int]:
        """Ask about all of them, a hundred at a time; yields how many were answered so far."""
        for start in range(0, len(customers.rows), _CHUNK):
            body = {"customers": customers.rows[start : start + _CHUNK], "as_of": customers.as_of.isoformat()}
            said = self.post("/predict_batch", body)
            if said is not None:
                self.versions.update(answer["model_version"] for answer in said["predictions"])
            yield min(start + _CHUNK, len(customers.rows))

    def report(self, contract: Contract, customers: Customers) -> Iterator[int]:
        """Tell what became of them: those who left did so in time, the others were there when it was over."""
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
                raise DemoFailed("the service did not take the outcomes, expected 200; read its log")
            yield min(start + _CHUNK, len(reports))


class Steady:
    """One customer after another for as long as the demo runs: whoever is there while a model is replaced.

    They bear no id of the other traffic, and there are few: windows count customers, not requests.
    """

    def __init__(self, port: int, customers: Customers) -> None:
        self.client = Client(port)
        self._customers = customers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="steady-client", daemon=True)
        self.slowest_s = 0.0

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(15)

    def _ask(self) -> None:
        while not self._stop.is_set():
            for row in self._customers.rows:
                begun = time.monotonic()
                said = self.client.post("/predict", {**row, "as_of": self._customers.as_of.isoformat()})
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
                if said is not None:
                    self.client.versions[said["model_version"]] += 1
                if self._stop.wait(_PAUSE_S):
                    return
