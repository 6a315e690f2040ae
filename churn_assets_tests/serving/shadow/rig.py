"""A home with two models and a policy that shadows, a worker's shadow on it, and rows as the worker logs them."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.warehouse.read import read_lines
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy, PolicyArm
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.online import CustomerScorer
from churn_assets.serving.shadow.client import Shadow
from churn_assets.settings import ServingSettings
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows
from churn_assets_tests.serving.client import make_bundle, promote

AT = dt.datetime(2026, 11, 27, 8, 0, tzinfo=dt.UTC)
DECODE = msgspec.json.Decoder(Prediction).decode


def arm_of(home: Path, name: str, bundle: Path, weight: float) -> PolicyArm:
    return PolicyArm(name, bundle.name, str(bundle.relative_to(home)), bundle_hash(bundle), weight)


def shadow_policy(home: Path, champion: Path, challenger: Path, policy_id: str = "r000001") -> Policy:
    arms = (arm_of(home, CHALLENGER, challenger, 0.0), arm_of(home, CHAMPION, champion, 1.0))
    return Policy(policy_id, "shadow", arms, "5a17", "ana", "try it", AT)


def home_with_shadow(home: Path) -> Policy:
    """A home whose champion is boosted and whose challenger is logistic; the policy is not written."""
    champion, challenger = make_bundle(home, "boosted"), make_bundle(home, "logistic")
    promote(home, champion)
    return shadow_policy(home, champion, challenger)


def scorer_of_arm(home: Path, policy: Policy, name: str) -> CustomerScorer:
    arm = next(arm for arm in policy.arms if arm.name == name)
    return CustomerScorer(load_bundle(home / arm.bundle))


def answered(home: Path, policy: Policy, rows: int, seed: int = 1, /, **changed: Any) -> list[Prediction]:
    """Rows as the champion answers them under the policy."""
    champion = scorer_of_arm(home, policy, CHAMPION)
    scorer, records = champion.scorer, []
    for number, row in enumerate(json_rows(customers(rows, seed))):
        customer_id = row.pop("id")
        score = champion.score(row, 16090.0)
        fields: dict[str, Any] = {
            "prediction_id": f"p{seed}-{number}", "request_id": "request", "customer_id": customer_id, "as_of": AS_OF,
            "scored_at": AT.isoformat(), "score": score.probability, "margin": score.margin, "decision": score.churn,
            "threshold": scorer.thresholds.value, "risk_band": score.risk_band, "model_version": scorer.version,
            "contract": scorer.contract.name, "fingerprint": scorer.contract.fingerprint, "arm": CHAMPION,
            "policy": policy.id, "status": "ok", "latency_us": 90.0, "warnings": [w.column for w in score.warnings],
            "features": row,
        }  # fmt: skip
        records.append(Prediction(**(fields | changed)))
    return records


def lines_of(records: list[Prediction]) -> bytes:
    return b"".join(map(encode_line, records))


class CountingMetrics:
    """What a worker's metrics are told."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.loads: list[tuple[str, float, int]] = []

    def shadowed(self, status: str, rows: int) -> None:
        self.rows[status] += rows

    def shadow_loaded(self, version: str, seconds: float, memory: int) -> None:
        self.loads.append((version, seconds, memory))


class Rig:
    """A worker's shadow, the policy it is told, and what it reports."""

    def __init__(self, home: Path, policy: Policy | None, **settings: Any) -> None:
        self.home, self.policy, self.metrics = home, policy, CountingMetrics()
        self.reported: list[str] = []
        of = ServingSettings(home=home, **settings)
        self.shadow = Shadow(of, lambda: self.policy, self.metrics, self.reported.append, judges=True)

    def rows(self) -> dict[str, Prediction]:
        """The rows of the log that shadows wrote, by their id; each is there once."""
        rows = [DECODE(line.json) for line in read_lines(self.home / "predlog")]
        shadows = {row.prediction_id: row for row in rows if row.shadow}
        assert len(shadows) == sum(row.shadow for row in rows)
        return shadows

    async def until(self, holds: Callable[[], object], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.02)

    async def started(self) -> int:
        """The pid of the process, once it scores."""
        await self.until(lambda: self.shadow.is_scoring)
        assert self.shadow.pid is not None
        return self.shadow.pid


@asynccontextmanager
async def rig(home: Path, policy: Policy | None, **settings: Any) -> AsyncIterator[Rig]:
    """A shadow that runs until the block ends."""
    own = Rig(home, policy, **settings)
    task = asyncio.create_task(own.shadow.run())
    try:
        yield own
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await own.shadow.close()
