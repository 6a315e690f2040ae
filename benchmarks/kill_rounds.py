"""Power failures of a real loop: kill -9 of the daemon and all runs at a random moment of a stage, restart, right end.

python -m benchmarks.kill_rounds [rounds] [--folder FOLDER] [--seed N] [--seconds LIMIT] [--short]

A home of 3,000 generated customers is trained once, and played once without a kill: what it comes to is what every
round must come to. Stage and moment of a round are drawn from its number. Finished rounds are lines of
FOLDER/rounds.jsonl and are not played again, so that the benchmark may be stopped at any time and goes on. Exits with 1
if a round ended otherwise. A round of a minute or two is mostly the training of the challenger; with `--short` the
champion with another calibration is registered instead, and all else is as it was: the request, its run in queue and
pool, registration, gate and promotion.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from churn_assets.contract.load import load_contract
from churn_assets_tests.defs.kill_rounds import ROOT, STAGES, LoopHome, fill_log, make_root, play_round, play_whole
from examples.demo.traffic import draw

ROWS, WINDOW = 3000, 2000
SOURCE = {"CHURN_SOURCE": f"generated://store?rows={ROWS}&seed=7"}
LIMIT_S = 900.0
WHOLE, SHORT = "churn_assets.definitions", "churn_assets_tests.defs.round_definitions"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_rounds")
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("data/var/kill_rounds"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further round after so long")
    parser.add_argument("--short", action="store_true", help="do not train the challenger")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    template, begun = _template(folder, SHORT if options.short else WHOLE), time.monotonic()
    reference = _reference(folder, template)
    kept = folder / "rounds.jsonl"
    rounds = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    for number in range(options.rounds):
        if time.monotonic() - begun > options.seconds:
            break
        if any((done["round"], done["seed"]) == (number, options.seed) for done in rounds):
            continue
        rounds.append(_play(folder, template, reference, number, options.seed))
        with kept.open("a") as file:
            file.write(json.dumps(rounds[-1]) + "\n")
    return _report(rounds)


def _template(folder: Path, module: str) -> Path:
    """The trained home with a log to ingest, made once."""
    template, root = folder / "template", folder / "root"
    if not (template / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        make_root(root, (ROOT / "contracts" / "store.toml").read_text(encoding="utf-8"), WINDOW, module)
        home = LoopHome(root, template, SOURCE)
        command = [sys.executable, "-m", "churn_assets.cli", "run"]
        subprocess.run(command, env=dict(home.environ), check=True, stdout=subprocess.DEVNULL)
        fill_log(home.settings, draw(load_contract(home.settings.contract_path), WINDOW, seed=101))
        (template / "complete").touch()
    return template


def _reference(folder: Path, template: Path) -> dict[str, Any]:
    """Where the loop comes to without a kill, and how long each stage is under way."""
    path = folder / "reference.json"
    if not path.is_file():
        end, spans = play_whole(LoopHome(folder / "root", _copy(template, folder / "home"), SOURCE), LIMIT_S)
        path.write_text(json.dumps({"end": asdict(end), "spans": spans}))
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


def _play(folder: Path, template: Path, reference: dict[str, Any], number: int, seed: int) -> dict[str, Any]:
    rng = random.Random(f"{seed}-{number}")
    stage = STAGES[number % len(STAGES)]
    after_s = rng.uniform(0.0, 1.2 * reference["spans"][stage])
    home = LoopHome(folder / "root", _copy(template, folder / "home"), SOURCE)
    result: dict[str, Any] = {"round": number, "seed": seed, "stage": stage, "after_s": round(after_s, 2)}
    begun, problem = time.monotonic(), ""
    try:
        played = play_round(home, stage, after_s, LIMIT_S)
        result |= {"killed": played.killed, "status": played.status, "recovery_s": round(played.recovery_s, 1)}
        stored = json.loads(json.dumps(asdict(played.end)))
        problem = "" if stored == reference["end"] else f"it came to {stored}, expected {reference['end']}"
    except (AssertionError, TimeoutError, RuntimeError) as error:
        problem = f"{type(error).__name__}: {error}"
        shutil.copytree(home.home, folder / f"failed-{seed}-{number}", dirs_exist_ok=True)
    finally:
        home.close()
    result |= {"seconds": round(time.monotonic() - begun, 1), "problem": problem}
    print(json.dumps(result), flush=True)
    return result


def _copy(template: Path, home: Path) -> Path:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)
    return home


def _report(rounds: list[dict[str, Any]]) -> int:
    problems = [done for done in rounds if done["problem"]]
    stages = Counter(done["stage"] for done in rounds)
    recovery = sorted(done["recovery_s"] for done in rounds if "recovery_s" in done) or [0.0]
    print(
        f"kill rounds: {len(rounds)} rounds on {ROWS:,} customers ({dict(stages)}), "
        f"{sum(done.get('killed', 0) for done in rounds)} processes killed, {len(problems)} ended otherwise; from the "
        f"restart to the end {recovery[len(recovery) // 2]:g} s (median), at most {recovery[-1]:g} s"
    )
    for done in problems:
        print(
            f"round {done['round']}, seed {done['seed']}, {done['stage']} after {done['after_s']} s: {done['problem']}"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
