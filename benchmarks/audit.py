"""Does the audit find planted leaks, and does it leave honest columns alone?

Found: the planted column is over a limit of the contract's [audit], as it stands. False: any other column
is. Clean tables are looked at whole (the loss of the headline included); in planted ones the loss is
left out, which can only lower the recall.

    python -m benchmarks.audit [--seeds 20] [--rows 5000]
"""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.data.validation.validate import validate
from churn_assets.features.encode import encode_table
from churn_assets.leakage.audit import collect_findings, leakage_findings
from churn_assets.leakage.column_tests import measure_columns
from churn_assets.leakage.ladder import Loss
from churn_assets.synthetic.generate import generate
from churn_assets.synthetic.leaks import FINDABLE, KINDS, plant_leak
from churn_assets.training.feature_table import feature_table, training_data
from churn_assets.training.split import split_table

ROOT = Path(__file__).resolve().parent.parent
STRENGTHS = (0.65, 0.75, 0.85, 0.95)


def accused(contract: Contract, raw: pa.Table, whole: bool) -> set[str]:
    """Columns that the audit of a raw table accuses; `whole`: with the loss when removed."""
    customers = validate(contract, raw).customers
    splits = split_table(contract, customers)
    features = feature_table(contract, customers, splits)
    if whole:
        return {finding.column for finding in leakage_findings(contract, customers, features, splits)}
    data = training_data(contract, features, splits)
    view = data.views["random"]
    rows = np.concatenate([view.split.train, view.split.validation])
    columns = encode_table(contract, customers)
    signals = measure_columns(contract, columns, view.matrix, view.program.specs, data.churned, rows)
    return {finding.column for finding in collect_findings(contract, signals, dict.fromkeys(signals, Loss(0.0, 0.0)))}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--seeds", type=int, default=20)
    reader.add_argument("--rows", type=int, default=5000)
    given = reader.parse_args()
    contracts = [load_contract(ROOT / "contracts" / f"{name}.toml") for name in ("store", "telecom")]
    found: dict[tuple[str, float], list[bool]] = defaultdict(list)
    clean: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    for seed in range(given.seeds):
        for contract in contracts:
            raw = generate(contract, given.rows, seed)
            clean.update(f"{contract.name}.{name}" for name in accused(contract, raw, whole=True))
            for kind in KINDS:
                for strength in STRENGTHS:
                    table, planted, leak = plant_leak(contract, raw, kind, strength, seed)
                    names = accused(planted, table, whole=False)
                    found[kind, strength].append(leak in names)
                    beside.update(f"{contract.name}.{name}" for name in names - {leak})
    tables = given.seeds * len(contracts)
    print(f"{given.seeds} seeds x {len(contracts)} contracts, {given.rows:,} rows; share of planted leaks found")
    print(f"{'kind':22s}" + "".join(f"{f'AUC {strength:.2f}':>10s}" for strength in STRENGTHS))
    for kind in KINDS:
        shares = [float(np.mean(found[kind, strength])) for strength in STRENGTHS]
        mark = "" if kind in FINDABLE else "   (not findable in one snapshot; not in the recall)"
        print(f"{kind:22s}" + "".join(f"{share:10.3f}" for share in shares) + mark)
    every = [hit for (kind, _), hits in found.items() if kind in FINDABLE for hit in hits]
    print(f"recall {np.mean(every):.4f} of {len(every)} leaks")
    print(f"false accusations on {tables} clean tables: {clean.total()} {dict(clean) or ''}")
    planted_tables = sum(map(len, found.values()))
    print(f"false accusations beside a leak, {planted_tables} tables: {beside.total()} {dict(beside) or ''}")


if __name__ == "__main__":
    main()
