"""Broken pipelines and real drifts as data, each a transformation of windows, judged by the checks of a window.

A fault changes columns of a share of the rows; a drift draws other customers or moves everybody in order. Two windows
of each scenario go through the real functions: the profile in DuckDB, the checks of columns, and those of columns
together. `cost` is what a fault takes from the PR-AUC of boosted trees fitted on the reference; a fault counts if it is
over .02. Evidently's DataDriftPreset sees the same first windows; it has one answer, drift, for faults and drifts.

Constants were set on `real`, `store` and `telecom` with seeds 0 to 5, and a rule was added after seeds 30 and 31 of
`real`; the drifts that were seen by then are marked (`--seen`). The figures that count are of other seeds and drifts.

    python -m benchmarks.scenarios [real|store|telecom] [--seeds 40-41] [--quiet-windows 500] [--seen] [--evidently]
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract, Kind, Role
from churn_assets.data.customers import CHURNED
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.monitoring.data_quality import check_columns
from churn_assets.monitoring.faults.checks import check_together
from churn_assets.monitoring.findings import Finding
from churn_assets.monitoring.profile import PREFIX, Profile, Reference, compute_profile, reference_of
from churn_assets.synthetic.generate import generate

REFERENCE, WINDOW, WINDOWS = 10_000, 2_000, 2
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
COSTLY = 0.02
NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})
Floats = np.ndarray
Columns = dict[str, Any]


@dataclass(frozen=True)
class Home:
    """A population of one contract: `reference` rows, `rest` of which windows are drawn, and columns to change."""

    contract: Contract
    reference: pa.Table
    rest: pa.Table
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    as_of: str


@dataclass(frozen=True)
class Fault:
    """`change(columns, name, rows, home, random)` breaks the column `name` in the positions `rows`."""

    name: str
    change: Callable[[Columns, str, Floats, Home, np.random.Generator], None]
    shares: tuple[float, ...] = SHARES
    of: str = "numbers"


@dataclass(frozen=True)
class Drift:
    """Customers drawn by `weight`, or everybody changed by `change`; `seen` while constants were set."""

    name: str
    weight: Callable[[pa.Table, Home], Floats] | None = None
    change: Callable[[Columns, Home], None] | None = None
    seen: bool = False


# -- faults --------------------------------------------------------------------------------------------


def put(value: Callable[[Floats], float]) -> Callable[..., None]:
    """Every broken row gets one value, computed from the reference's."""

    def change(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
        columns[name][rows] = value(finite(home.reference, name))

    return change


def times(factor: float) -> Callable[..., None]:
    def change(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
        columns[name][rows] *= factor

    return change


def permuted(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
    columns[name][rows] = columns[name][random.permutation(rows)]


def swapped(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
    other = home.numbers[(home.numbers.index(name) + 1) % len(home.numbers)]
    columns[name][rows], columns[other][rows] = columns[other][rows].copy(), columns[name][rows].copy()


def tails(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
    high = np.nanquantile(columns[name], 0.98)
    columns[name][columns[name] > high] *= 10.0


def stale(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
    """The last value before a stop of fifty rows goes on, as in a feed that is filled forward."""
    rows = np.sort(rows)
    columns[name][rows] = columns[name][rows[np.arange(len(rows)) // 50 * 50]]


def wrong_join(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
    """Half of the columns, this one among them, are another customer's."""
    names = [*home.numbers, *home.categories]
    place = names.index(name)
    others = random.permutation(rows)
    for own in (names[(place + step) % len(names)] for step in range(len(names) // 2)):
        columns[own][rows] = columns[own][others]


def shifted(columns: Columns, name: str, rows: Floats, home: Home, random: np.random.Generator) -> None:
    choices = home.contract.by_name[name].choices
    following = dict(zip(choices, (*choices[1:], choices[0]), strict=True))
    columns[name][rows] = [following.get(level, level) for level in columns[name][rows]]


FAULTS = (
    Fault("zero", put(lambda values: 0.0)),
    Fault("default", put(lambda values: float(np.median(values)))),
    Fault("sentinel", put(lambda values: 999_999.0)),
    Fault("highest", put(lambda values: float(values.max()))),
    Fault("missing", put(lambda values: float("nan"))),
    *(Fault(f"scaled x{factor:.4g}", times(factor)) for factor in (10.0, 0.1, 1000.0, 1 / 60, 1.6093)),
    Fault("permuted", permuted),
    Fault("swapped", swapped),
    Fault("tails x10", tails, shares=(1.0,)),
    Fault("stale", stale),
    Fault("wrong join", wrong_join),
    Fault("shifted levels", shifted, of="categories"),
)


# -- drifts --------------------------------------------------------------------------------------------


def rank(table: pa.Table, name: str) -> Floats:
    values = np.nan_to_num(floats(table, name))
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / len(values)


def more_of(place: int) -> Callable[[pa.Table, Home], Floats]:
    return lambda table, home: 0.2 + rank(table, home.numbers[place % len(home.numbers)])


def fewer_of(place: int) -> Callable[[pa.Table, Home], Floats]:
    return lambda table, home: 1.2 - rank(table, home.numbers[place % len(home.numbers)])


def level_of(place: int, most: bool) -> Callable[[pa.Table, Home], Floats]:
    def weight(table: pa.Table, home: Home) -> Floats:
        levels = np.asarray(table[home.categories[place % len(home.categories)]].to_pylist(), dtype=object).astype(str)
        names, counts = np.unique(levels, return_counts=True)
        return np.where(levels == names[np.argmax(counts) if most else np.argmin(counts)], 3.0, 1.0)

    return weight


def low_and_high(table: pa.Table, home: Home) -> Floats:
    """Customers who have much of one number and little of another, four times as often."""
    first, second = (rank(table, name) for name in (home.numbers[1], home.numbers[2]))
    return np.where((first > 0.6) & (second < 0.4), 4.0, 1.0)


def of_two(table: pa.Table, home: Home) -> Floats:
    return 0.1 + rank(table, home.numbers[0]) * rank(table, home.numbers[-1])


def early_leavers(table: pa.Table, home: Home) -> Floats:
    churned = table[CHURNED].to_numpy() == 1
    return np.where(churned & (rank(table, home.numbers[0]) < 0.3), 0.3, 1.0)


def opposite(table: pa.Table, home: Home) -> Floats:
    return 0.1 + rank(table, home.numbers[0]) * (1.0 - rank(table, home.numbers[-1]))


def fewer_of_level(table: pa.Table, home: Home) -> Floats:
    return 3.5 - level_of(0, most=True)(table, home)


def fewer_in_the_middle(table: pa.Table, home: Home) -> Floats:
    return 0.3 + 2.0 * np.abs(rank(table, home.numbers[1]) - 0.5)


def more_with_the_least(table: pa.Table, home: Home) -> Floats:
    values = floats(table, home.numbers[-1])
    return np.where(values == np.nanmin(values), 2.5, 1.0)


def grow(place: int, factor: float, whole: bool = False) -> Callable[[Columns, Home], None]:
    def change(columns: Columns, home: Home) -> None:
        values = columns[home.numbers[place % len(home.numbers)]]
        values[:] = np.floor(values * factor) if whole else values * factor

    return change


def offset(columns: Columns, home: Home) -> None:
    values = columns[home.numbers[1]]
    values[:] = np.maximum(values - 0.15 * np.nanstd(values), 0.0)


DRIFTS = (
    Drift("more of a frequent level", level_of(0, most=True), seen=True),
    Drift("more of the first number", more_of(0), seen=True),
    Drift("less of the first number", fewer_of(0), seen=True),
    Drift("more of the second number", more_of(1), seen=True),
    Drift("less of the second number", fewer_of(1), seen=True),
    Drift("more of the last number", more_of(-1), seen=True),
    Drift("more churners", lambda table, home: np.where(table[CHURNED].to_numpy() == 1, 3.0, 1.0), seen=True),
    Drift("a quarter more of the third number", change=grow(2, 1.25), seen=True),
    Drift("more of a rare level", level_of(-1, most=False), seen=True),
    Drift("much of one, little of another", low_and_high, seen=True),
    Drift("more of two numbers together", of_two, seen=True),
    Drift("fewer early leavers", early_leavers, seen=True),
    Drift("an eighth more of the last number", change=grow(-1, 1.12), seen=True),
    Drift("a fifth less of the first number", change=grow(0, 0.8, whole=True), seen=True),
    Drift("less of the second number for all", change=offset, seen=True),
    Drift("a third more of the third number", change=grow(2, 1.33), seen=True),
    Drift("more of the first, less of the last number", opposite),
    Drift("fewer of a frequent level", fewer_of_level),
    Drift("much more of the third number", lambda table, home: 0.05 + rank(table, home.numbers[2]) ** 3),
    Drift("fewer in the middle of the second number", fewer_in_the_middle),
    Drift("more with the least of the last number", more_with_the_least),
    Drift("fewer churners", lambda table, home: np.where(table[CHURNED].to_numpy() == 1, 0.4, 1.0)),
    Drift("a sixth more of the first number", change=grow(0, 1.17, whole=True)),
    Drift("a tenth less of the second number", change=grow(1, 0.9)),
)


# -- homes and windows ---------------------------------------------------------------------------------


def floats(table: pa.Table, name: str) -> Floats:
    return np.array(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def finite(table: pa.Table, name: str) -> Floats:
    values = floats(table, name)
    return values[np.isfinite(values)]


def make_home(kind: str, seed: int, source: Path | None) -> Home:
    """The real table in another order, or generated customers of a contract."""
    contract = load_contract(Path(f"contracts/{'telecom' if kind == 'telecom' else 'store'}.toml"))
    if kind == "real":
        if source is None:
            raise SystemExit("error: no table; expected the store's customers; name it with CHURN_SOURCE or --source")
        raw = read_table(source, contract)
    else:
        raw = generate(contract, rows=30_000, seed=seed)
    table = validate(contract, apply_repairs(raw, contract)[0]).customers
    as_of = (table.schema.metadata or {})[b"churn_as_of"].decode()
    table = table.take(np.random.default_rng(seed).permutation(table.num_rows))
    features = [c for c in contract.logged_columns if c.role is Role.FEATURE]
    return Home(
        contract,
        table.slice(0, REFERENCE),
        table.slice(REFERENCE),
        tuple(c.name for c in features if c.kind in NUMBERS),
        tuple(c.name for c in features if c.kind is Kind.CATEGORY),
        as_of,
    )


def columns_of(table: pa.Table, home: Home) -> Columns:
    """Numbers and categories as arrays that a scenario may change."""
    columns: Columns = {name: floats(table, name) for name in home.numbers}
    for name in home.categories:
        columns[name] = np.asarray(table[name].to_pylist(), dtype=object)
    return columns


def with_columns(table: pa.Table, columns: Columns) -> pa.Table:
    for name, values in columns.items():
        cells = pa.array(values, from_pandas=True)
        table = table.set_column(table.column_names.index(name), name, cells)
    return table


def matrix(table: pa.Table, home: Home) -> Floats:
    """What the model that measures costs reads: every logged column as a number, dates as ages."""
    parts = []
    for column in home.contract.logged_columns:
        cells = table[column.name]
        if column.kind is Kind.CATEGORY:
            codes = {level: code for code, level in enumerate(column.choices)}
            parts.append(np.array([codes.get(level, -1) for level in cells.to_pylist()], dtype=np.float64))
        elif column.kind is Kind.DATE:
            days = np.array(
                pc.cast(pc.cast(cells, pa.date32()), pa.int32()).to_numpy(zero_copy_only=False), dtype=float
            )
            parts.append(days)
        elif column.kind in (*NUMBERS, Kind.BOOLEAN):
            parts.append(floats(table, column.name))
    return np.column_stack(parts)


class Judge:
    """The checks of a window, as `_check_window` makes them, on tables in memory."""

    def __init__(self, home: Home) -> None:
        self.home, self.seconds, self.windows = home, 0.0, 0
        churned = home.reference[CHURNED].to_numpy()
        self.model = HistGradientBoostingClassifier(random_state=0).fit(matrix(home.reference, home), churned)
        score = self.model.predict_proba(matrix(home.reference, home))[:, 1]
        table = home.reference.append_column("churn_probability", pa.array(score))
        self.reference: Reference = reference_of(table, home.contract, 0.5, "v")

    def pr_auc(self, window: pa.Table) -> float:
        score = self.model.predict_proba(matrix(window, self.home))[:, 1]
        return float(average_precision_score(window[CHURNED].to_numpy(), score))

    def profile(self, window: pa.Table) -> Profile:
        renamed = window.rename_columns([PREFIX + name for name in window.column_names])
        key, day = f'CAST("{PREFIX}{self.home.contract.key.name}" AS VARCHAR)', f"DATE '{self.home.as_of}'"
        relation = f"(SELECT {key} AS who, 0.5 AS score, false AS decision, {day} AS as_of, * FROM r)"
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1")
            connection.register("r", renamed)
            return compute_profile(
                connection, relation, self.home.contract, prefix=PREFIX, bounds=self.reference.bounds
            )

    def __call__(self, window: pa.Table) -> list[Finding]:
        """The findings that block."""
        began = time.process_time()
        profile, limits = self.profile(window), self.home.contract.monitoring
        findings = list(check_columns(profile, self.reference, self.home.contract, limits))
        findings = check_together(profile, self.reference, self.home.contract, limits, findings)
        self.seconds, self.windows = self.seconds + time.process_time() - began, self.windows + 1
        return [finding for finding in findings if finding.blocks]


def draw(home: Home, random: np.random.Generator, weight: Floats | None = None) -> pa.Table:
    chance = None if weight is None else weight / weight.sum()
    return home.rest.take(random.choice(home.rest.num_rows, WINDOW, replace=False, p=chance))


# -- Evidently -----------------------------------------------------------------------------------------


def evidently_drift(home: Home, window: pa.Table) -> bool:
    """Whether the preset reports any column as drifted. It ends with an error for a column without values, which counts
    as reported."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    flags = [c.name for c in home.contract.feature_columns if c.kind is Kind.BOOLEAN and c.name in window.column_names]
    levels = [*home.categories, *flags]
    if any(not len(finite(window, name)) for name in home.numbers):
        return True
    definition = DataDefinition(
        numerical_columns=list(home.numbers), categorical_columns=levels, text_columns=[], datetime_columns=[]
    )
    sides = []
    for table in (window, home.reference):
        frame = table.select([*home.numbers, *levels]).to_pandas()
        frame[levels] = frame[levels].astype(str)
        frame[list(home.numbers)] = frame[list(home.numbers)].astype(float)
        sides.append(Dataset.from_pandas(frame, definition))
    metrics = Report([DataDriftPreset()]).run(*sides).dict()["metrics"]
    return bool(metrics[0]["value"]["count"])


# -- the suite -----------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Costly faults with whether they were called broken; drifts and quiet windows that were."""

    faults: list[tuple[str, str, float, bool]]
    drifts: Counter[str]
    drifts_made: Counter[str]
    evidently: dict[str, list[bool]]
    alarms: list[str]
    quiet: int = 0


def run_faults(home: Home, judge: Judge, tally: Tally, random: np.random.Generator, evidently: bool) -> None:
    for fault in FAULTS:
        for name in getattr(home, fault.of):
            if name in home.contract.monitoring.silent:  # the contract says that nothing of it blocks
                continue
            for share in fault.shares:
                windows, costs = [], []
                for _ in range(WINDOWS):
                    whole = draw(home, random)
                    columns = columns_of(whole, home)
                    rows = random.permutation(WINDOW)[: int(share * WINDOW)]
                    fault.change(columns, name, rows, home, random)
                    broken = with_columns(whole, columns)
                    windows.append(broken)
                    costs.append(judge.pr_auc(whole) - judge.pr_auc(broken))
                cost = float(np.mean(costs))
                if cost > COSTLY:
                    told = any(judge(window) for window in windows)
                    tally.faults.append((fault.name, f"{name} {share:.0%}", cost, told))
                    if evidently:
                        tally.evidently["fault"].append(evidently_drift(home, windows[0]))


def run_drifts(
    home: Home, judge: Judge, tally: Tally, random: np.random.Generator, seen: bool, evidently: bool
) -> None:
    for drift in (drift for drift in DRIFTS if drift.seen is seen):
        weight = drift.weight(home.rest, home) if drift.weight else None
        for number in range(WINDOWS):
            window = draw(home, random, weight)
            if drift.change:
                columns = columns_of(window, home)
                drift.change(columns, home)
                window = with_columns(window, columns)
            findings = judge(window)
            tally.drifts_made[drift.name] += 1
            tally.drifts[drift.name] += bool(findings)
            if findings:
                print(f"  drift '{drift.name}' is called broken: {findings[0].message}", flush=True)
            if evidently and not number:
                tally.evidently["drift"].append(evidently_drift(home, window))


def report(kind: str, tally: Tally, judges: list[Judge]) -> None:
    told: Mapping[str, list[bool]] = defaultdict(list)
    for name, _, _, hit in tally.faults:
        told[name].append(hit)
    hits = sum(hit for *_, hit in tally.faults)
    share = hits / max(1, len(tally.faults))
    print(f"{kind}: {hits} of {len(tally.faults)} faults that cost over {COSTLY} are called broken ({share:.0%})")
    print("  by fault:", ", ".join(f"{name} {sum(own)}/{len(own)}" for name, own in told.items()))
    for name, where, cost, hit in sorted(tally.faults, key=lambda row: -row[2]):
        if not hit:
            print(f"  missed: {name}, {where}, cost {cost:.3f}")
    drifts = ", ".join(f"{name} {tally.drifts[name]}/{made}" for name, made in tally.drifts_made.items())
    print(f"  windows of real drifts called broken: {sum(tally.drifts.values())} of {sum(tally.drifts_made.values())}")
    print(f"    {drifts}")
    print(f"  quiet windows called broken: {len(tally.alarms)} of {tally.quiet}", *tally.alarms, sep="\n    ")
    for name, answers in tally.evidently.items():
        print(f"  DataDriftPreset reports drift in {sum(answers)} of {len(answers)} windows: {name}")
    seconds, windows = sum(judge.seconds for judge in judges), sum(judge.windows for judge in judges)
    print(f"  CPU of all checks: {seconds / max(1, windows):.2f} s a window, {windows:,} windows", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", nargs="*", choices=("real", "store", "telecom", []), help="default: all three")
    parser.add_argument("--source", type=Path, default=os.environ.get("CHURN_SOURCE"))
    parser.add_argument("--seeds", default="40-41")
    parser.add_argument("--quiet-windows", type=int, default=500, help="of each home")
    parser.add_argument("--seen", action="store_true", help="the drifts that were seen while constants were set")
    parser.add_argument("--evidently", action="store_true")
    options = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")  # of Evidently
    low, high = map(int, options.seeds.split("-"))
    for kind in options.homes or ("real", "store", "telecom"):
        tally, judges = Tally([], Counter(), Counter(), defaultdict(list), []), []
        for seed in range(low, high + 1):
            random = np.random.default_rng(seed)
            home = make_home(kind, seed, Path(options.source) if options.source else None)
            judge = Judge(home)
            judges.append(judge)
            run_faults(home, judge, tally, random, options.evidently)
            run_drifts(home, judge, tally, random, options.seen, options.evidently)
            for number in range(options.quiet_windows // (high - low + 1)):
                window = draw(home, random)
                tally.quiet += 1
                tally.alarms += [finding.message for finding in judge(window)[:1]]
                if options.evidently and number < 10:
                    tally.evidently["quiet"].append(evidently_drift(home, window))
        report(kind, tally, judges)


if __name__ == "__main__":
    main()
