"""What /counterfactual and /anchor answer, how fast, and what they cost /predict.

    python -m benchmarks.explanations [customers] [rounds]

With the champion of CHURN_HOME (else one trained on 6,000 generated customers) and customers of its table whom the
bundle does not keep. Counterfactuals for so many who count as churning are scored again by `Scorer.score_rows`. Rules
for as many customers are counted on fresh ones: 100,000 generated with another seed, or of a real table all whom the
bundle does not keep. Columns are changeable as in contracts/store.toml. Then a service is asked 200 times a second, in
turns without explanations and with a client that has one computed a quarter of the time; the ratio is that of the 99th
percentiles.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.customers import AS_OF, CONTRACT, typed
from benchmarks.serving import OURS, ROW, Variant, home_with_champion, running
from benchmarks.two_checkouts import champion_bundle, free_port
from churn_assets.contract.model import Column, Kind
from churn_assets.features.compile import as_of_days
from churn_assets.features.encode import Columns, encode_table
from churn_assets.scoring.bundle import load_bundle, read_card, read_provenance, read_reference
from churn_assets.scoring.explanations.anchor import PRECISION, Anchor, AnchorSearch, Condition
from churn_assets.scoring.explanations.counterfactual import Counterfactuals, CounterfactualSearch
from churn_assets.scoring.explanations.customer import Customer
from churn_assets.scoring.explanations.reference import Reference
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings

FRESH, SEED = 100_000, 977
PREDICT_CLIENTS, PER_CLIENT = 4, 50.0  # requests a second of each
SHARE = 0.25  # of the time that an explanation is computed
ROUND_S = 5.0


def marked(scorer: Scorer) -> Scorer:
    """The scorer with the changeable columns of contracts/store.toml."""
    marks = {column.name: column.changeable for column in CONTRACT.columns}
    columns = tuple(dataclasses.replace(c, changeable=marks.get(c.name, "")) for c in scorer.contract.columns)
    return dataclasses.replace(scorer, contract=dataclasses.replace(scorer.contract, columns=columns))


def unseen(scorer: Scorer, bundle: Path) -> pa.Table:
    """The customers of the champion's table, in another order, whom the bundle does not keep."""
    table = pq.read_table(Settings.from_environ(os.environ).home / "assets" / "validated_customers.parquet")
    key = scorer.contract.key.name
    key = key if key in table.column_names else "customer_id"
    kept = read_reference(bundle)
    kept_key = key if key in kept.column_names else scorer.contract.key.name
    rest = table.filter(pc.invert(pc.is_in(table[key], kept[kept_key].combine_chunks())))
    return rest.take(np.random.default_rng(SEED).permutation(rest.num_rows))


def json_rows(table: pa.Table, scorer: Scorer) -> list[dict[str, Any]]:
    names = [column.name for column in scorer.contract.scoring_columns]
    return [
        {name: cell.isoformat() if hasattr(cell, "isoformat") else cell for name, cell in row.items()}
        for row in table.select(names).to_pylist()
    ]


def percentiles(seconds: Sequence[float]) -> str:
    middle, high = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return f"p50 {middle:.1f} ms, p99 {high:.1f} ms"


def counterfactuals(scorer: Scorer, reference: Reference, rows: list[dict[str, Any]], day: str, most: int) -> str:
    customers = CustomerScorer(scorer)
    search, seconds, columns, flipped, asked = CounterfactualSearch(customers, reference), [], [], 0, 0
    for row in rows:
        customer = Customer.read(customers, row, day, float(as_of_days(day)))
        if not customer.score.churn:
            continue
        asked += 1
        start = time.perf_counter()
        answer: Counterfactuals = search.search(customer, [])
        seconds.append(time.perf_counter() - start)
        for option in answer.counterfactuals[:1]:
            changed = {**row, **{change.column: change.after for change in option.changes}}
            flipped += float(scorer.score_rows([changed], day).probability[0]) < scorer.thresholds.value
            columns.append(len(option.changes))
        if asked == most:
            break
    lengths = ", ".join(f"{np.sum(np.array(columns) == n)} with {n}" for n in sorted(set(columns)))
    return f"counterfactuals: {flipped} of {asked} under the threshold ({lengths} columns), {percentiles(seconds)}"


def fulfilled(scorer: Scorer, condition: Condition, columns: Columns) -> np.ndarray:
    column: Column = scorer.contract.column(condition.column)
    values, value = columns[column.name], condition.value
    if condition.operator == "is missing":
        return values < 0 if column.kind is Kind.CATEGORY else np.isnan(values)
    number: float = column.choices.index(str(value)) if column.kind is Kind.CATEGORY else 0.0
    if column.kind is Kind.DATE:
        number = as_of_days(str(value))
    elif column.kind is not Kind.CATEGORY:
        number = float(value)  # type: ignore[arg-type]  # a number or a boolean
    return {"=": values == number, "<=": values <= number, ">=": values >= number}[condition.operator]


def anchors(scorer: Scorer, reference: Reference, rows: list[dict[str, Any]], day: str, fresh: pa.Table) -> str:
    customers = CustomerScorer(scorer)
    search, seconds, rules = AnchorSearch(customers, reference), [], []
    columns = encode_table(scorer.contract, fresh)
    churn = scorer.score_table(fresh, day).probability >= scorer.thresholds.value
    shown = held = precise = 0
    for row in rows:
        customer = Customer.read(customers, row, day, float(as_of_days(day)))
        start = time.perf_counter()
        rule: Anchor = search.search(customer, [])
        seconds.append(time.perf_counter() - start)
        covered = np.ones(fresh.num_rows, dtype=bool)
        for condition in rule.conditions:
            covered &= fulfilled(scorer, condition, columns)
        precision = float(np.mean(churn[covered] == rule.churn)) if covered.any() else 0.0
        shown += rule.status == "holds"
        held += rule.status == "holds" and precision >= rule.precision_low
        precise += rule.status == "holds" and precision >= PRECISION
        rules.append(len(rule.conditions))
    return (
        f"rules: {shown} of {len(rows)} with a bound of at least {PRECISION}; on {fresh.num_rows:,} fresh customers "
        f"{held} keep their bound, {precise} have {PRECISION}; conditions: median {statistics.median(rules):g}, "
        f"at most {max(rules)}; {percentiles(seconds)}"
    )


async def _predict(client: httpx.AsyncClient, until: float, taken: list[float]) -> None:
    while (start := time.perf_counter()) < until:
        response = await client.post("/predict", json=ROW)
        taken.append(time.perf_counter() - start)
        if response.status_code != 200:
            raise SystemExit(f"the answer is {response.status_code}, expected 200: {response.text}")
        await asyncio.sleep(max(0.0, start + 1.0 / PER_CLIENT - time.perf_counter()))


async def _explain(client: httpx.AsyncClient, until: float, answered: list[float]) -> None:
    number = 0
    while (start := time.perf_counter()) < until:
        path = ("/explain", "/counterfactual", "/anchor")[number % 3]
        if (await client.post(path, json=ROW, timeout=30)).status_code == 200:
            answered.append(time.perf_counter() - start)
        number += 1
        await asyncio.sleep((time.perf_counter() - start) * (1.0 - SHARE) / SHARE)


async def _round(url: str, seconds: float, with_explanations: bool) -> tuple[list[float], list[float]]:
    taken: list[float] = []
    answered: list[float] = []
    async with httpx.AsyncClient(base_url=url) as client:
        until = time.perf_counter() + seconds
        asked = [_predict(client, until, taken) for _ in range(PREDICT_CLIENTS)]
        await asyncio.gather(*asked, *([_explain(client, until, answered)] if with_explanations else []))
    return taken, answered


def beside_predict(bundle: Path, rounds: int, scratch: Path) -> str:
    """p99 of /predict with and without explanations, round by round."""
    port, ratios, explained = free_port(), [], 0
    command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
    environ = {"CHURN_HOME": str(scratch / "served"), "CHURN_BUNDLE": str(bundle)}
    alone: list[float] = []
    together: list[float] = []
    with running(Variant("explained", command, environ), port, scratch):
        url = f"http://127.0.0.1:{port}"
        asyncio.run(_round(url, 3.0, True))  # the process for explanations has started
        for number in range(rounds):
            high = {}
            for is_explained in (False, True) if number % 2 else (True, False):
                taken, answered = asyncio.run(_round(url, ROUND_S, is_explained))
                high[is_explained] = float(np.percentile(taken, 99))
                (together if is_explained else alone).extend(taken)
                explained += len(answered)
            ratios.append(high[True] / high[False])
    low, middle, top = np.percentile(ratios, [25, 50, 75])
    whole = [float(np.percentile(seconds, 99)) * 1e3 for seconds in (alone, together)]
    return (
        f"/predict, {PREDICT_CLIENTS * PER_CLIENT:g} requests/s: p99 {whole[0]:.2f} ms alone, {whole[1]:.2f} ms beside "
        f"{explained:,} explanations ({SHARE:.0%} of the time); ratio by round: median {middle:.2f}, quartiles "
        f"{low:.2f} and {top:.2f} in {rounds} rounds"
    )


def main(customers: int = 200, rounds: int = 12) -> str:
    with tempfile.TemporaryDirectory() as folder:
        home_with_champion(Path(folder))
        bundle = champion_bundle()
        scorer = marked(load_bundle(bundle))
        is_generated = read_provenance(bundle).generated is True
        rest = unseen(scorer, bundle)
        day = read_card(bundle).as_of or str(AS_OF)
        rows, reference = json_rows(rest.slice(0, 20 * customers), scorer), Reference.read(bundle, scorer)
        fresh = typed(FRESH, SEED) if is_generated else rest
        lines = [
            f"champion {scorer.model.kind} on {'generated' if is_generated else 'real'} customers",
            counterfactuals(scorer, reference, rows, day, customers),
            anchors(scorer, reference, rows[:customers], day, fresh),
        ]
        if rounds:
            lines.append(beside_predict(bundle, rounds, Path(folder)))
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
