"""A shadow started over HTTP: its live figures, and that a replay of the log gives the rows of the shadow."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

from churn_assets.contract.load import load_contract
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.release.analysis import analyse_pairs, read_pairs
from churn_assets.release.what_if import Part, read_contracts, what_if
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.calibration import Platt
from churn_assets.scoring.online import CustomerScorer
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows, scorer_of
from churn_assets_tests.serving.client import ask
from churn_assets_tests.serving.releases.homes import make_home

ROWS = 60


def similar_bundle(home: Path) -> str:
    """The version of a model that scores a little lower than the champion: no guardrail is crossed by it."""
    scorer = dataclasses.replace(scorer_of("boosted"), calibration=Platt(0.9, -0.11))
    golden, reference = customers(40, seed=8), customers(50, seed=9)
    return write_bundle(
        home / "bundles", scorer, card={}, golden=golden, as_of=AS_OF, reference=reference, provenance={}
    ).name


def test_the_rows_of_a_shadow_are_those_of_a_replay_bit_for_bit(tmp_path):
    home = make_home(tmp_path / "home")
    version, rows = similar_bundle(home.path), json_rows(customers(ROWS, seed=12))

    async def question(client, worker):
        body = {"move": "shadow", "version": version, "why": "look at it", "by": "ana"}
        policy_id = (await client.post("/release", json=body)).json()["policy"]["id"]
        async with asyncio.timeout(30):
            while not worker.shadow.is_scoring:
                await asyncio.sleep(0.05)
            for row in rows:
                assert (await client.post("/predict", json={**row, "as_of": AS_OF})).status_code == 200
            shown: dict[str, Any] = {"pairs": None}
            while shown["pairs"] is None or shown["pairs"]["rows"] < ROWS:
                await asyncio.sleep(0.1)  # counts are written about once a second
                shown = (await client.get("/release")).json()
        return policy_id, shown

    policy_id, shown = ask(home.path, question)
    assert shown["pairs"]["dropped"] == 0
    arms = {arm["name"]: arm for arm in shown["arms"]}
    assert [arms[name]["rows"] for name in ("champion", "challenger")] == [ROWS, ROWS]
    settings = home.settings
    ingest(settings, load_contract(settings.contract_path), now=lambda: dt.datetime.now(dt.UTC))
    challenger = CustomerScorer(load_bundle(settings.bundles_dir / version))
    with open_published(settings) as connection:
        logged = read_pairs(connection, [policy_id])
        replayed = what_if(connection, challenger, read_contracts(settings), Part((policy_id,))).pairs
    assert logged.ids.to_pylist() == replayed.ids.to_pylist()
    assert len(logged) == ROWS
    for name in ("champion", "challenger", "champion_calls", "challenger_calls"):
        assert getattr(logged, name).tobytes() == getattr(replayed, name).tobytes(), name
    analysis = analyse_pairs(logged)
    assert abs(shown["pairs"]["mean_difference"] - analysis.mean_difference) < 1e-9
    assert shown["pairs"]["flips"] == analysis.flips_to_call + analysis.flips_to_keep
