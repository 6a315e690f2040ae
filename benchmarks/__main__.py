"""`make bench`: run every script and keep its last lines, with the command, in RESULTS.md.

`python -m benchmarks NAME ...` runs some of them. Results of the others stay as they are.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = (
    *("main_job", "split_seeds", "features", "batch_scoring", "memory", "one_row", "few_rows", "audit", "serving"),
    *("keys", "explanations", "release_shadow", "ingest", "monitoring", "dashboard", "monitoring_simulation"),
    *("gate_simulation", "loop_faults"),
)


def main() -> None:
    chosen = sys.argv[1:] or [name for name in SCRIPTS if (FOLDER / f"{name}.py").is_file()]
    source = os.environ.get("CHURN_SOURCE")
    head = [
        "# Results",
        "",
        f"`make bench` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, source: {Path(source).name if source else 'generated customers'}.",
        "Both sides of a ratio ran in turns in one process or one run; the machine is shared and noisy.",
    ]
    file = FOLDER / "RESULTS.md"
    sections = sections_of(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in chosen:
        command = f"python -m benchmarks.{name}"
        print(f"$ {command}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            cwd=FOLDER.parent,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            stdout=subprocess.PIPE,
            text=True,
        )
        print(done.stdout, flush=True)
        said = done.stdout.strip() or f"(ended with {done.returncode} and said nothing)"
        sections[name] = "\n".join(["```text", f"$ {command}", said, "```"])
        file.write_text(page(head, sections), encoding="utf-8")


def sections_of(text: str) -> dict[str, str]:
    """What stands below each heading of RESULTS.md."""
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {name.strip(): body.strip() for name, _, body in parts}


def page(head: Sequence[str], sections: Mapping[str, str]) -> str:
    """RESULTS.md: the scripts of `make bench` in their order, then what else was measured."""
    ordered = sorted(sections, key=lambda name: SCRIPTS.index(name) if name in SCRIPTS else len(SCRIPTS))
    return "\n".join(head) + "".join(f"\n\n## {name}\n\n{sections[name]}" for name in ordered) + "\n"


if __name__ == "__main__":
    main()
