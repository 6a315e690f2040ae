"""Whether the gate promotes what it should: challengers trained, cross-fitted and judged by the code of a retraining.

A run: a champion is trained on a table, its test customers are frozen; new customers come, of whom so many have a
final label under the scenario's concept; a challenger is trained on both as the job `retrain` does (split, features,
the candidates logistic and boosted with their variants, choice; without the audit of columns), and judged under the
contract's default limits. Beside the verdict stand the challenger's true gain in PR-AUC on other customers of that
concept, and the paired 99 % interval on all recent labels. A concept is a share of the customers whose outcome
follows other columns than before.

`tuned` marks the scenarios that constants of the gate and of the variants were set on; the summary leaves them out.

    CHURN_SOURCE=... python -m benchmarks.gate_power [--seconds 220] [--home real|generated] [--keep FILE]

Each run is one line of JSON in FILE (default gate_power.jsonl); started again it goes on behind them. Without
CHURN_SOURCE the scenarios of the real table are left out. It ends with the summary when all runs are made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.customers import CONTRACT
from churn_assets.data.customers import mark_table
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.evaluation.metrics import pr_auc
from churn_assets.features.encode import encode_table
from churn_assets.promotion.gate.comparison import SURE_QUANTILE
from churn_assets.promotion.gate.evidence import CrossFitted, holdout_evidence, recent_evidence
from churn_assets.promotion.gate.judge import judge_evidence
from churn_assets.scoring.scorer import Scorer
from churn_assets.synthetic.generate import generate
from churn_assets.training.candidate import train_candidate
from churn_assets.training.cross_fitted import PROBABILITY, cross_fitted_scores, unseen_by
from churn_assets.training.export import as_scorer, provenance, write_choice
from churn_assets.training.feature_table import as_of_of, feature_table
from churn_assets.training.labelled_rows import WINDOW, join, labelled_rows
from churn_assets.training.select import choose_model
from churn_assets.training.split import split_table, test_rows

SEEDS = range(5)
LABELS, TRUTH = 2_000, 4_000
GENERATED_ROWS = 3_000
HOMES = ("generated", "real")
GAIN = 0.04
RECIPES = ("logistic", "boosted")


@dataclass(frozen=True)
class Scenario:
    """`share` of new customers churn by `weights` (of columns, standardized by rank; a category's is that of its first
    choice), with the mean that all had before. Of labels `wrong` are turned round. The challenger is trained on
    `table_share` of the table and `label_share` of the labels that are not set apart."""

    name: str
    kind: str  # drift, equal, worse, wrong
    homes: tuple[str, ...] = HOMES
    weights: dict[str, float] = field(default_factory=dict)
    share: float = 0.0
    wrong: float = 0.0
    table_share: float = 1.0
    labels: int = LABELS
    tuned: bool = False


SCENARIOS = (
    Scenario("orders decide", "drift", weights={"avgorder": -3.0, "ordfreq": 1.5}, share=0.7, tuned=True),
    Scenario("clicks decide", "drift", weights={"eclickrate": -3.0, "paperless": 1.5}, share=0.7),
    Scenario("the old leave", "drift", weights={"created": -3.0, "doorstep": 1.5}, share=0.7),
    Scenario("the frequent leave", "drift", weights={"ordfreq": 3.0}, share=0.7),
    Scenario("e-mails turn round", "drift", weights={"esent": 3.0}, share=0.7),
    Scenario("a third: clicks decide", "drift", weights={"eclickrate": -3.0, "paperless": 1.5}, share=0.35),
    Scenario("a third: the old leave", "drift", weights={"created": -3.0, "doorstep": 1.5}, share=0.35),
    Scenario("a fifth: the frequent leave", "drift", weights={"ordfreq": 3.0}, share=0.2),
    Scenario("nothing changes", "equal"),
    Scenario("a tenth of the table", "worse", table_share=0.1, labels=600),
    Scenario("15 % wrong labels", "wrong", wrong=0.15),
)


@dataclass(frozen=True)
class Home:
    """The table a champion was trained on, its scorer and frozen rows, and customers who come later."""

    table: pa.Table
    champion: Scorer
    frozen: pa.Table
    later: pa.Table


def validated(raw: pa.Table) -> pa.Table:
    """A marked table as the asset has it."""
    repaired, _ = apply_repairs(raw, CONTRACT)
    return mark_table(CONTRACT, validate(CONTRACT, repaired, raw=raw, source="benchmark").customers)


@cache
def home(kind: str, seed: int) -> Home:
    """A home of this kind: of the real table, customers drawn at random come later; generated ones are others."""
    need = LABELS + TRUTH
    if kind == "real":
        everyone = real_table()
        order = np.random.default_rng(1000 + seed).permutation(everyone.num_rows)
        table, later = (everyone.take(np.sort(part)) for part in (order[need:], order[:need]))
        later = later.take(np.random.default_rng(seed).permutation(need))
    else:
        table = validated(generate(CONTRACT, rows=GENERATED_ROWS, seed=500 + seed))
        later = validated(generate(CONTRACT, rows=need, seed=900 + seed))
        names = pa.array([f"later{number}" for number in range(later.num_rows)])
        later = later.set_column(0, later.schema.field(0), names.cast(later.schema.field(0).type))
    splits = split_table(CONTRACT, table, method="hash")
    with tempfile.TemporaryDirectory() as folder:
        champion, _, _ = train(table, splits, Path(folder))
    return Home(table, champion, test_rows(table, splits), later)


@cache
def real_table() -> pa.Table:
    return validated(read_table(os.environ["CHURN_SOURCE"], CONTRACT))


def train(customers: pa.Table, splits: pa.Table, folder: Path) -> tuple[Scorer, pa.Table, str]:
    """What the assets from the features to the cross-fitted scores do: the scorer and these scores."""
    features = feature_table(CONTRACT, customers, splits)
    candidates = [train_candidate(name, CONTRACT, features, splits) for name in RECIPES]
    choice = choose_model(CONTRACT, candidates, features, splits)
    bundle = write_choice(CONTRACT, choice, candidates, customers, folder, provenance(customers, None, "", None))
    scorer = as_scorer(CONTRACT, choice)
    scores = cross_fitted_scores(scorer, bundle, customers, features, splits, candidates)
    return scorer, scores, choice.contender.trained_on


def under_concept(customers: pa.Table, scenario: Scenario, seed: int) -> pa.Table:
    """The customers with the outcomes of this concept."""
    churned = customers["churned"].to_numpy().astype(np.int8)
    if not scenario.weights:
        return customers
    rng, rows = np.random.default_rng(7_000 + seed), len(churned)
    columns = encode_table(CONTRACT, customers)
    margin = np.zeros(rows)
    for name, weight in scenario.weights.items():
        margin += weight * _standardized(columns[name], rng)
    margin += np.log(churned.mean() / (1 - churned.mean())) - margin.mean()
    low, high = -10.0, 10.0
    for _ in range(40):  # the share of churners stays: the concept changes, not how many leave
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(margin + middle).mean() < churned.mean() else (low, middle)
    other = rng.random(rows) < _sigmoid(margin + low)
    changed = rng.random(rows) < scenario.share
    return with_churned(customers, np.where(changed, other, churned).astype(np.int8))


def _standardized(values: Any, rng: np.random.Generator) -> Any:
    values = np.asarray(values, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nanmedian(values))
    if len(np.unique(values)) <= 10:
        return (values == values.min()).astype(np.float64)
    rank = np.argsort(np.argsort(values + 1e-9 * rng.random(len(values)))) / len(values)
    return (rank - 0.5) * np.sqrt(12)


def _sigmoid(margin: Any) -> Any:
    return 1 / (1 + np.exp(-margin))


def with_churned(customers: pa.Table, churned: Any) -> pa.Table:
    place = customers.schema.get_field_index("churned")
    return customers.set_column(place, "churned", pa.array(churned, pa.int8()))


def labelled_predictions(customers: pa.Table) -> pa.Table:
    """As the asset of this name has them, all final and of one window."""
    ids = customers[CONTRACT.key.name].cast(pa.string()).to_pylist()
    parts = ["gate" if int(hashlib.sha256(i.encode()).hexdigest()[:8], 16) < 0.3 * 16**8 else "train" for i in ids]
    rows = customers.num_rows
    table = {
        "seq": pa.array(range(rows)),
        "prediction_id": pa.array([f"p{number}" for number in range(rows)]),
        "customer_id": pa.array(ids),
        "as_of": customers["row_as_of"].cast(pa.timestamp("us")),
        "fingerprint": pa.array([CONTRACT.fingerprint] * rows),
        "label_state": pa.array(["final"] * rows),
        "part": pa.array(parts),
        "churned": customers["churned"].cast(pa.bool_()),
        "contacted": pa.array([False] * rows),
        WINDOW: pa.nulls(rows, pa.int64()),
    }
    return pa.table(table | {f"x_{column.name}": customers[column.name] for column in CONTRACT.logged_columns})


def run(scenario: Scenario, kind: str, seed: int) -> dict[str, Any]:
    """One run: the verdict, the true gain, and whether recent labels exclude that both are equal."""
    place, started = home(kind, seed), time.process_time()
    later = under_concept(place.later, scenario, seed)
    recent, truth = later.slice(0, scenario.labels), later.slice(LABELS)
    rng = np.random.default_rng(50 + seed)
    wrong = rng.random(recent.num_rows) < scenario.wrong
    label = recent["churned"].to_numpy().astype(np.int8)
    labelled = labelled_predictions(with_churned(recent, np.where(wrong, 1 - label, label)))
    frozen = frozenset(str(name) for name in place.frozen[CONTRACT.key.name].to_pylist())
    table = place.table
    if scenario.table_share < 1.0:
        is_frozen = pc.is_in(table[CONTRACT.key.name].cast(pa.string()), pa.array(sorted(frozen))).to_numpy()
        table = table.filter(pa.array(is_frozen | (rng.random(table.num_rows) < scenario.table_share)))
    customers = join(CONTRACT, table, labelled_rows(CONTRACT, labelled, frozen))
    splits = split_table(CONTRACT, customers, frozen=frozen, method="hash")
    with tempfile.TemporaryDirectory() as folder:
        challenger, scores, trained_on = train(customers, splits, Path(folder))
    rows = unseen_by(scores, CONTRACT, scores.slice(0, 0), "")
    cross_fitted = CrossFitted(rows, rows[PROBABILITY].to_numpy())
    holdout = holdout_evidence(CONTRACT, place.champion, challenger, place.frozen)
    evidence = recent_evidence(CONTRACT, place.champion, challenger, labelled, cross_fitted)
    verdict = judge_evidence(CONTRACT, "champion", "challenger", holdout, evidence)
    draws = verdict.draws["recent labels"]
    as_of, outcome = as_of_of(truth), truth["churned"].to_numpy()
    reached = [pr_auc(outcome, s.score_table(truth, as_of).probability) for s in (place.champion, challenger)]
    return {
        "scenario": scenario.name,
        "home": kind,
        "seed": seed,
        "promoted": verdict.passed,
        "gain": round(reached[1] - reached[0], 4),
        "champion": round(reached[0], 4),
        "proven": bool(np.quantile(draws, SURE_QUANTILE) > 0.0),
        "trained_on": trained_on,
        "failed": {check.check: check.message for check in verdict.checks if not check.passed},
        "checks": {check.check: None if check.value is None else round(check.value, 4) for check in verdict.checks},
        "cpu_s": round(time.process_time() - started, 1),
    }


def runs(homes: Sequence[str]) -> Iterator[tuple[Scenario, str, int]]:
    """All runs, seed by seed: a home is made once a seed."""
    for kind in homes:
        for seed in SEEDS:
            yield from ((scenario, kind, seed) for scenario in SCENARIOS if kind in scenario.homes)


def summary(made: Sequence[dict[str, Any]]) -> str:
    """The figures, of scenarios that nothing was set on, and each scenario's own line."""
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    lines = []
    for kind in HOMES:
        own = [m for m in made if m["home"] == kind]
        for name, scenario in by_name.items():
            each = [m for m in own if m["scenario"] == name]
            if each:
                gains = ", ".join(f"{m['gain']:+.3f}" for m in each)
                mark = " (constants were set on it)" if scenario.tuned else ""
                promoted, proven = (sum(m[key] for m in each) for key in ("promoted", "proven"))
                lines.append(
                    f"{kind}, {name}{mark}: promoted {promoted} of {len(each)}, proven {proven}; gains {gains}"
                )
        untuned = [m for m in own if not by_name[m["scenario"]].tuned]
        drift = [m for m in untuned if by_name[m["scenario"]].kind == "drift"]
        for title, part in (
            (f"drift with a gain over {GAIN}", [m for m in drift if m["gain"] > GAIN]),
            ("drift that the paired 99 % interval on all recent labels shows", [m for m in drift if m["proven"]]),
            *(
                (kind_, [m for m in untuned if by_name[m["scenario"]].kind == kind_])
                for kind_ in ("equal", "worse", "wrong")
            ),
        ):
            lines.append(f"{kind}: {title}: promoted {sum(m['promoted'] for m in part)} of {len(part)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--home", choices=HOMES)
    parser.add_argument("--seed", type=int, nargs="*", default=[*SEEDS], help="only these")
    parser.add_argument("--tuned", action="store_true", help="only scenarios that constants may be set on")
    parser.add_argument("--keep", type=Path, default=Path("gate_power.jsonl"))
    given, started = parser.parse_args(), time.monotonic()
    homes = [h for h in HOMES if given.home in (None, h) and (h != "real" or os.environ.get("CHURN_SOURCE"))]
    made = [json.loads(line) for line in given.keep.read_text().splitlines()] if given.keep.is_file() else []
    done = {(m["scenario"], m["home"], m["seed"]) for m in made}
    longest = 0.0
    for scenario, kind, seed in runs(homes):
        if (scenario.name, kind, seed) in done or seed not in given.seed or (given.tuned and not scenario.tuned):
            continue
        if time.monotonic() - started + longest > given.seconds:
            print(f"{len(made)} runs made; start it again for the rest")
            return
        begun = time.monotonic()
        made.append(run(scenario, kind, seed))
        longest = max(longest, time.monotonic() - begun)
        with given.keep.open("a") as file:
            file.write(json.dumps(made[-1]) + "\n")
    print(summary(made))


if __name__ == "__main__":
    main()
