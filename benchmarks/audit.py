"""Does the audit find planted leaks, and does it leave honest columns alone?

A leak counts as found if its column is over a limit of the contract's [audit], as it stands; any other column over
one is a false accusation. The limits were set on the generated tables: customers of both contracts at several rates
of churn and sizes, and tables of `audit_tables`. The public ones (`--public FOLDER`), to which they were not fitted,
are drafted as they are.

    python -m benchmarks.audit [--seeds 3] [--rows 5000] [--public FOLDER]
"""

import argparse
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import audit_tables as made
from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets.leakage.screening import Finding, screen
from churn_assets.synthetic.generate import generate
from churn_assets.synthetic.leaks import FINDABLE, KINDS, plant_leak
from churn_assets.training.split import split_table

ROOT = Path(__file__).resolve().parent.parent
STRENGTHS = (0.65, 0.75, 0.85, 0.95)
RATES, SIZES = (0.05, 0.5, 0.92), (600, 3000)
PUBLIC = {  # label and churned value of tables that many know; others in the folder are passed over
    "telco": ("Churn", "Yes"),
    "telco_extended": ("Churn Label", "Yes"),
    "maven_telco": ("Customerstatus ", "Churned"),
    "bank_churners": ("Attrition_Flag", "Attrited Customer"),
    "churn_modelling": ("Exited", "1"),
    "hr_attrition": ("Attrition", "Yes"),
    "hotel": ("booking_status", "1"),
    "travel": ("Target", "1"),
    "bigml80": ("Churn", "True"),
    "churn_large": ("Churn", "1"),
}


def findings(contract: Contract, raw: pa.Table) -> tuple[Finding, ...]:
    """The findings of the audit of a raw table, before training."""
    repaired, _ = apply_repairs(raw, contract)
    customers = validate(contract, repaired).customers
    return screen(contract, customers, split_table(contract, customers)).findings


def accused(contract: Contract, raw: pa.Table) -> set[str]:
    """Columns that the audit of a raw table accuses."""
    return {finding.column for finding in findings(contract, raw)}


def at_rate(contract: Contract, raw: pa.Table, rate: float, seed: int) -> pa.Table:
    """Rows of a table, drawn so that `rate` of them are churned."""
    label = np.asarray(raw[contract.label.column].cast(pa.string()).to_pylist()) == contract.label.churned_when
    churned, kept = np.flatnonzero(label), np.flatnonzero(~label)
    rows = int(min(len(churned) / rate, len(kept) / (1.0 - rate)))
    draw = np.random.default_rng(seed)
    drawn = [draw.permutation(churned)[: round(rows * rate)], draw.permutation(kept)[: round(rows * (1.0 - rate))]]
    return raw.take(np.sort(np.concatenate(drawn)))


def honest_tables(seed: int) -> dict[str, tuple[made.Array, made.Cells]]:
    """Tables without a leak that differ from customers of a shop: noise, independence, a single honest column."""
    noise = {
        f"noise, {rate:.0%} churn, {rows:,} rows": made.noise(rate, rows, seed) for rate in RATES for rows in SIZES
    }
    given_label = {
        f"independent given the label, {rows:,} rows": made.independent_given_label(rows, seed) for rows in SIZES
    }
    return {**noise, **given_label, "one honest column": made.one_honest_column(3000, seed)}


def report_generated(seeds: int, rows: int) -> None:
    """Print what is found and what is accused on generated tables."""
    contracts = [load_contract(ROOT / "contracts" / f"{name}.toml") for name in ("store", "telecom")]
    found: dict[tuple[str, float], list[bool]] = defaultdict(list)
    beside: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = defaultdict(Counter)
    pairs: Counter[str] = Counter()
    for seed in range(seeds):
        for contract in contracts:
            raw = generate(contract, rows, seed)
            wrong["customers of both contracts"].update(accused(contract, raw))
            for rate in RATES:
                wrong[f"the same, {rate:.0%} churn"].update(accused(contract, at_rate(contract, raw, rate, seed)))
            for kind in KINDS:
                for strength in STRENGTHS:
                    table, planted, leak = plant_leak(contract, raw, kind, strength, seed)
                    names = accused(planted, table)
                    found[kind, strength].append(leak in names)
                    beside.update(f"{contract.name}.{name}" for name in names - {leak})
        for name, (churned, cells) in honest_tables(seed).items():
            wrong[name].update(finding.column for finding in made.screened(churned, cells, made.REFUSE).findings)
        for name, leak, table_of in (
            ("a start and a duration", "tenure_days", made.start_and_duration),
            ("a rate and a total", "total", made.count_and_rate),
        ):
            churned, cells = table_of(3000, seed)
            pairs[name] += leak in made.screened(churned, cells).left_out
    print(f"{seeds} seeds x {len(contracts)} contracts, {rows:,} rows; share of planted leaks found")
    print(f"{'kind':22s}" + "".join(f"{f'AUC {strength:.2f}':>10s}" for strength in STRENGTHS))
    for kind in KINDS:
        shares = [float(np.mean(found[kind, strength])) for strength in STRENGTHS]
        mark = "" if kind in FINDABLE else "   (not findable in one snapshot; not in the recall)"
        print(f"{kind:22s}" + "".join(f"{share:10.3f}" for share in shares) + mark)
    every = [hit for (kind, _), hits in found.items() if kind in FINDABLE for hit in hits]
    print(f"recall {np.mean(every):.4f} of {len(every)} leaks")
    for name, count in pairs.items():
        print(f"pair, {name}: found in {count} of {seeds}")
    planted_tables = sum(map(len, found.values()))
    print(f"false accusations beside a leak, {planted_tables} tables: {beside.total()} {dict(beside) or ''}")
    for name, columns in wrong.items():
        print(f"false accusations without a leak, {name}: {columns.total()} {dict(columns) or ''}")


def report_public(folder: Path) -> None:
    """Print what is accused on public tables that the limits were not fitted on."""
    for path in sorted(folder.iterdir()):
        if path.stem not in PUBLIC:
            continue
        draft = draft_contract(path, DraftOptions(*PUBLIC[path.stem]))
        raw = read_table(path, draft.contract)
        over = [f"{f.column} ({f.limit} {f.value:.2f})" for f in findings(draft.contract, raw)]
        columns, left_out = len(draft.contract.scoring_columns), len(draft.left_out)
        print(
            f"{path.stem:16s} {raw.num_rows:7,} rows, {columns:3d} columns, {left_out} left out by the draft: ", end=""
        )
        print("; ".join(over) or "no column is accused")


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--seeds", type=int, default=3)
    reader.add_argument("--rows", type=int, default=5000)
    reader.add_argument("--public", type=Path, default=os.environ.get("CHURN_PUBLIC"))
    given = reader.parse_args()
    report_generated(given.seeds, given.rows)
    if given.public:
        report_public(Path(given.public))


if __name__ == "__main__":
    main()
