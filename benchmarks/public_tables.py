"""`churn contract init` and `churn run` on each table of a folder, as a new user gives them: no edit, an empty folder.

    python -m benchmarks.public_tables FOLDER_OF_TABLES [--tables telco,hotel] [--keep FOLDER]

A row a table: exit codes, CPU and wall seconds of both commands together, PR-AUC on random test customers and on the
newest ones, columns that the model does not read because of the audit, calls and the profit expected of them.
`--keep` keeps the homes and what both commands print. Labels are those of `benchmarks.tables`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.tables import TABLES
from churn_assets.reporting.run_summary import Calls
from churn_assets.scoring.card import no_better_than_random

LIMIT_S = 90.0
HEAD = (
    f"{'table':<16}{'exit':>5}{'CPU s':>7}{'wall s':>8}{'PR-AUC':>8}{'newest':>8}{'calls':>7}{'profit':>11}"
    "  model; columns left out by the audit"
)


@dataclass(frozen=True)
class Measured:
    """How one command ended and what it cost, with the processes that it started."""

    code: int
    cpu_s: float
    wall_s: float


def measured(arguments: Sequence[str], folder: Path) -> Measured:
    """Run `churn` in `folder`; what it prints goes to a file there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "OMP_"))}
    environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / f"{arguments[0]}.txt").open("w") as printed:
        command = [sys.executable, "-m", "churn_assets.cli", *arguments]
        done = subprocess.run(command, cwd=folder, env=environ, stdout=printed, stderr=subprocess.STDOUT)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(done.returncode, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def measure(name: str, tables: Path, folder: Path) -> tuple[str, bool]:
    """The row of a table, and whether both commands succeeded within the limit."""
    file, label, churned = TABLES[name]
    source, contract = str((tables / file).resolve()), "contracts/mine.toml"
    commands = [measured(["contract", "init", source, "--label", label, "--churned", churned], folder)]
    commands.append(measured(["run", "--contract", contract, "--source", source], folder))
    codes = "".join(str(command.code) for command in commands)
    cpu, wall = sum(command.cpu_s for command in commands), sum(command.wall_s for command in commands)
    row = f"{name:<16}{codes:>5}{cpu:7.1f}{wall:8.1f}"
    if codes != "00":
        return f"{row}  {last_line(folder)}", False
    return row + result(folder), cpu <= LIMIT_S


def result(folder: Path) -> str:
    """The figures of the home's model and list."""
    assets = folder / "data" / "var" / "assets"
    chosen, audit = (json.loads((assets / f"{name}.json").read_text()) for name in ("chosen_model", "leakage_audit"))
    figures = [chosen["metrics"].get(f"{split}_pr_auc") for split in ("test", "oot")]
    shown = "".join("       -" if figure is None else f"{figure:8.4f}" for figure in figures)
    calls = Calls.of(pq.read_table(assets / "risk_list.parquet"))
    out = ", ".join(column["column"] for column in audit.get("left_out", [])) or "none"
    signal = " (no better than random)" if no_better_than_random(chosen["metrics"]) else ""
    return f"{shown}{calls.contacts:7,}{calls.expected_profit:11,.0f}  {chosen['name']}{signal}; {out}"


def last_line(folder: Path) -> str:
    """What the last command printed at its end."""
    printed = max(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime)
    return printed.read_text().strip().rpartition("\n")[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    print(HEAD, flush=True)
    over = []
    with ExitStack() as stack:
        kept = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in given.tables.split(","):
            folder = kept / name
            folder.mkdir(parents=True)
            row, well = measure(name, given.folder, folder)
            over += [] if well else [name]
            print(row, flush=True)
    print(f"failed or over {LIMIT_S:.0f} CPU s: {', '.join(over) or 'none'}")
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
