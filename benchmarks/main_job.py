"""CPU and wall seconds of `churn run` in a fresh home, installation left out, by step.

Beside it, in turns: the same plain functions called from one script, without Dagster, MLflow and
BentoML. The ratio is what the platform costs on top of the work.

    CHURN_SOURCE=data/raw/store.xlsx python -m benchmarks.main_job [repeats]
"""

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

BARE = """
import os, sys
from pathlib import Path
from churn_assets.contract.load import load_contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.readers.read import resolve_source
from churn_assets.data.validation.validate import validate
from churn_assets.scoring.bundle import load_bundle
from churn_assets.settings import Settings
from churn_assets.synthetic import register_generated_source
from churn_assets.scoring.card import Provenance
from churn_assets.training.candidate import NAMES, train_candidate
from churn_assets.training.select import choose_model
from churn_assets.training.feature_table import as_of_of, feature_table
from churn_assets.training.export import write_choice
from churn_assets.training.split import split_table

register_generated_source()
settings = Settings.from_environ(os.environ)
contract = load_contract(settings.contract_path)
source = resolve_source(settings, contract)
raw, _ = apply_repairs(read_table(source.source, contract), contract)
customers = validate(contract, raw, source=source.description).customers
splits = split_table(contract, customers)
features = feature_table(contract, customers, splits)
candidates = [train_candidate(name, contract, features, splits) for name in NAMES]
choice = choose_model(contract, candidates, features, splits)
bundle = write_choice(contract, choice, candidates, customers, settings.bundles_dir, Provenance())
load_bundle(bundle).score_table(customers, as_of_of(customers))
"""


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    churn = [str(Path(sys.executable).parent / "churn"), "run"]
    bare = [sys.executable, "-c", BARE]
    ours, theirs = [], []
    steps: dict[str, list[float]] = {}
    for repeat in range(repeats):
        for command in (churn, bare) if repeat % 2 else (bare, churn):
            *figures, said = measured(command)
            (ours if command is churn else theirs).append(tuple(figures))
            for step, seconds in re.findall(r"^made +(\w+) ([0-9.]+) s", said, re.MULTILINE):
                steps.setdefault(step, []).append(float(seconds))
    ratios = sorted(one[0] / two[0] for one, two in zip(ours, theirs, strict=True))
    print(
        f"churn run: {middle(ours, 0):.1f} CPU s, {middle(ours, 1):.1f} s wall, peak {middle(ours, 2):,.0f} MiB; "
        f"the same functions in one script {middle(theirs, 0):.1f} CPU s, {middle(theirs, 1):.1f} s wall; "
        f"CPU ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} in {repeats} repeats)"
    )
    longest = sorted(((statistics.median(s), step) for step, s in steps.items()), reverse=True)
    print("where they go, s a step: " + ", ".join(f"{step} {s:.1f}" for s, step in longest if s >= 0.3))


def measured(command: Sequence[str]) -> tuple[float, float, float, str]:
    """CPU seconds of the process and its children, wall seconds, largest peak so far in MiB, what it said."""
    with tempfile.TemporaryDirectory() as home:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env={**os.environ, "CHURN_HOME": home}, capture_output=True, text=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} ended with {done.returncode}: {done.stderr[-500:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, after.ru_maxrss / 1024, done.stderr


def middle(found: Sequence[tuple[float, float, float]], which: int) -> float:
    return statistics.median(one[which] for one in found)


if __name__ == "__main__":
    main()
