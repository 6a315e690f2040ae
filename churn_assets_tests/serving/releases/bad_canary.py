"""A canary on the real service whose challenger begins to refuse its customers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from churn_assets.promotion.releases import Releases
from churn_assets.release.guardrails import read_report
from churn_assets.release.policy import CHALLENGER, share_of
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, verdict
from churn_assets_tests.scoring.tiny import AS_OF
from churn_assets_tests.serving.client import ROW, served
from churn_assets_tests.serving.policies import MOST_SENT, narrow_bundle
from churn_assets_tests.serving.releases.homes import make_home

GOOD, BAD = {**ROW, "sent": MOST_SENT - 1}, {**ROW, "sent": MOST_SENT + 100}  # a row that the challenger refuses
BATCH, BAD_BATCHES = 200, 4  # customers of a request, half of them the challenger's


def until(holds: Callable[[], object], seconds: float, look_s: float = 0.02) -> float:
    """Seconds until it holds."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds
        time.sleep(look_s)
    return time.monotonic() - start


class BadCanary:
    """A home with a canary of one half; its challenger is the champion's model under a contract that allows less."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home = home = make_home(folder / "home")
        self.challenger = version = narrow_bundle(home.path, kind="boosted").name
        digest = bundle_hash(home.settings.bundles_dir / version)
        home.ledger.add_challenger(version, f"bundles/{version}", digest, None, None, AT)
        judged = dataclasses.replace(verdict(version), champion=home.champion)
        home.ledger.record_verdict(version, judged, needs_person=False, at=AT)
        self.policy = Releases.of(home.settings).canary(version, "ana", "it passed", weight=0.5).after
        salt = self.policy.salt
        mine = next(f"c{n}" for n in range(99) if self.policy.choose(share_of(salt, f"c{n}")).name == CHALLENGER)
        self.row_of_challenger = {**GOOD, "id": mine, "as_of": AS_OF}

    @contextmanager
    def served(self, environ: Mapping[str, str] | None = None) -> Iterator[str]:
        """The address of a service of two workers that both have both models, and have counted good rows."""
        own = {"CHURN_CONTRACT": str(self.home.settings.contract_path), **(environ or {})}
        with served(self._folder, self.home.path, workers=2, environ=own) as (url, _), httpx.Client(base_url=url) as c:
            self.client = c
            both = {self.home.champion, self.challenger}
            for number in range(2):
                until(lambda number=number: self.ask(GOOD, number) == both, 20)
            for number in range(2, 8):
                self.ask(GOOD, number)
            until(lambda: read_report(self.home.path, self.policy.id) is not None, 10)
            yield url

    def ask(self, row: Mapping[str, Any], number: int) -> set[str]:
        """The versions that answer the customers of a batch."""
        rows = [{**row, "id": f"{row['sent']} {number} {place}"} for place in range(BATCH)]
        response = self.client.post("/predict_batch", json={"customers": rows, "as_of": AS_OF})
        assert response.status_code == 200, response.text
        return {answer["model_version"] for answer in response.json()["predictions"]}

    def turn_bad(self) -> tuple[float, float]:
        """Ask for customers that the challenger refuses: the instants before the first and the last request, in
        seconds of the wall clock. The champion answers in the challenger's place."""
        sent = []
        for number in range(BAD_BATCHES):
            sent.append(time.time())
            assert self.ask(BAD, number) == {self.home.champion}
        return sent[0], sent[-1]
