"""`make bench`: run every script and keep its last lines, with the command, in RESULTS.md."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = (
    *("main_job", "split_seeds", "features", "batch_scoring", "memory", "one_row", "few_rows", "audit", "serving"),
    *("monitoring", "monitoring_simulation"),
    "ingest",
    "main_job",
    "split_seeds",
    "features",
    "batch_scoring",
    "memory",
    "one_row",
    "few_rows",
    "audit",
    "gate_simulation",
    "serving",
    "serving",
    "loop_faults",
    *("ingest", "monitoring", "monitoring_simulation"),
)


def main() -> None:
    chosen = sys.argv[1:] or [name for name in SCRIPTS if (FOLDER / f"{name}.py").is_file()]
    source = os.environ.get("CHURN_SOURCE")
    lines = [
        "# Results",
        "",
        f"`make bench` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, source: {Path(source).name if source else 'generated customers'}.",
        "Both sides of a ratio ran in turns in one process or one run; the machine is shared and noisy.",
    ]
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
        lines += ["", f"## {name}", "", "```text", f"$ {command}", said, "```"]
    (FOLDER / "RESULTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
