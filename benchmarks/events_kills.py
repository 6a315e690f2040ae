"""The relay of events under load, killed at random moments and inside transactions: is each acknowledged id there once?

python -m benchmarks.events_kills [kills] [--folder FOLDER] [--seed N] [--seconds LIMIT] [--broker PATH]

Kills come in rounds of ten on a new home and a new tansu broker, which deploy/tools/install installs. Half of them hit
at a random moment within two seconds of the relay's start, half within 20 ms after messages arrived in the topic.
What a reader of committed messages gets is worked out from the broker's markers, see
churn_assets_tests.events.transactions. Finished rounds are lines of FOLDER/rounds.jsonl and are not played again. Exits
with 1 if an id is missing or twice.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from churn_assets_tests.deploy.tools import PYTHON
from churn_assets_tests.events.kills import Broker, play_relay_kills, tansu_binary

KILLS = 10  # of a round
LONGEST_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events_kills")
    parser.add_argument("kills", nargs="?", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("data/var/events_kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further round after so long")
    parser.add_argument("--broker", help="the executable of tansu; default: that of deploy/tools")
    options = parser.parse_args()
    folder, begun = options.folder.absolute(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "rounds.jsonl"
    rounds = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    played = {done["seed"] for done in rounds}
    for seed in range(options.seed, options.seed + max(1, options.kills // KILLS)):
        if seed in played:
            continue
        if time.monotonic() - begun > options.seconds:
            break
        rounds.append(_play(folder / "round", options.broker or tansu_binary(str(PYTHON)), seed))
        with kept.open("a") as file:
            file.write(json.dumps(rounds[-1]) + "\n")
    return _report(rounds)


def _play(folder: Path, binary: str, seed: int) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home").mkdir(parents=True)
    broker = Broker(binary, folder)
    broker.start()
    try:
        outcome = play_relay_kills(folder, broker, KILLS, seed, LONGEST_S)
    finally:
        broker.kill()
    result = {
        "seed": seed,
        "kills": KILLS,
        "acknowledged": outcome.acknowledged,
        "missing": len(outcome.missing),
        "repeated": len(outcome.repeated),
        "aborted": outcome.aborted,
        "aborted_transactions": outcome.aborted_transactions,
        "undecided": outcome.undecided,
    }
    print(json.dumps(result), flush=True)
    return result


def _report(rounds: list[dict[str, Any]]) -> int:
    def total(name: str) -> int:
        return sum(done[name] for done in rounds)

    print(
        f"events: {total('kills')} kills of the relay under load, {total('acknowledged'):,} acknowledged ids: "
        f"{total('missing')} missing, {total('repeated')} twice for a reader of committed messages; "
        f"{total('aborted'):,} messages were aborted by {total('aborted_transactions')} markers, "
        f"{total('undecided')} left in open transactions"
    )
    return 1 if total("missing") + total("repeated") + total("undecided") else 0


if __name__ == "__main__":
    sys.exit(main())
