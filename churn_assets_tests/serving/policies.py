"""Routing policies of a home with the tiny contract, and challengers that fail in a way of their own."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc

from churn_assets.contract.limits import Guardrails
from churn_assets.contract.load import parse_contract
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy, PolicyArm, PolicyKind, Step, write_policy
from churn_assets.scoring.bundle import write_bundle
from churn_assets.serving.worker import Worker
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, scorer_of

SALT = "5a17"
ANYTHING = Guardrails(1.0, 1e9, 1.0, 1.0, 1.0, 1.0, 1.0, 1e9)  # the tiny models differ; nothing is rolled back
MOST_SENT = 20  # of the narrow challenger's contract


def policy_of(home: Path, number: int, kind: PolicyKind, arms: Mapping[str, tuple[Path, float]]) -> Policy:
    """A policy of these arms: bundle and weight by name. A canary is held for years: the service moves nothing."""
    entries = tuple(
        PolicyArm(name, bundle.name, bundle.relative_to(home).as_posix(), bundle_hash(bundle), weight)
        for name, (bundle, weight) in arms.items()
    )
    now = dt.datetime.now(dt.UTC)
    policy = Policy(f"r{number:06d}", kind, entries, SALT, "a test", "to route", now, limits=ANYTHING)
    if kind != "canary":
        return policy
    steps = (Step(arms[CHALLENGER][1], 1e7, 10**9),)
    return dataclasses.replace(policy, steps=steps, step_since=now)


def write_canary(home: Path, number: int, champion: Path, challenger: Path, weight: float) -> Policy:
    """Put a canary in the home."""
    arms = {CHALLENGER: (challenger, weight), CHAMPION: (champion, 1.0 - weight)}
    policy = policy_of(home, number, "canary", arms)
    write_policy(home, policy)
    return policy


def narrow_bundle(home: Path, key: str = "id", kind: str = "logistic") -> Path:
    """A bundle whose contract allows fewer mails (`MOST_SENT`), and may name another key."""
    text = TEXT.replace("high = 1000\n", f"high = {MOST_SENT}\n").replace('name = "id"', f'name = "{key}"')
    golden = customers(80, seed=8)
    golden = golden.filter(pc.less_equal(golden["sent"], MOST_SENT)).rename_columns({"id": key})
    scorer = dataclasses.replace(scorer_of(kind), contract=parse_contract(text, "narrow.toml"))
    return write_bundle(
        home / "bundles",
        scorer,
        card={"metrics": {"test_pr_auc": 0.9}, "as_of": AS_OF},
        golden=golden,
        as_of=AS_OF,
        reference=golden,
        provenance={"made_at": "2026-11-21T00:00:00+00:00"},
    )


async def in_force(worker: Worker, policy_id: str) -> None:
    """Wait until the worker answers by that policy."""
    async with asyncio.timeout(30):
        while worker.watcher.router is None or worker.watcher.router.champion.policy != policy_id:
            await asyncio.sleep(0.01)
