"""Peak resident memory of scoring a Parquet file of 10 million rows, beside one of 1 million.

The file is generated in one process and scored in another, whose peak is the operating system's figure.

    python -m benchmarks.memory [rows] [smaller rows]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.customers import raw_batches

_MEBIBYTE = 1024 if sys.platform != "darwin" else 1024 * 1024  # ru_maxrss counts KiB, on macOS bytes


def write(path: Path, rows: int) -> Path:
    """A Parquet file of generated customers, written in batches."""
    import pyarrow.parquet as pq

    batches = raw_batches(rows, seed=7)
    first = next(batches)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
    return path


def score(source: Path, bundle: Path, out: Path) -> str:
    """Score a file in this process; `seconds peak_mebibytes rows`."""
    from churn_assets.scoring.batch import score_file
    from churn_assets.scoring.bundle import load_bundle

    scorer = load_bundle(bundle)
    start = time.perf_counter()
    summary = score_file(scorer, source, out)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBIBYTE
    return f"{seconds:.1f} {peak:.0f} {summary.rows_scored}"


def main(rows: int = 10_000_000, smaller: int = 1_000_000) -> str:
    from benchmarks.batch_scoring import make_scorer
    from benchmarks.customers import AS_OF, typed
    from churn_assets.scoring.bundle import write_bundle

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        sample = typed(64, seed=3)
        bundle = write_bundle(
            folder / "bundles", make_scorer()[0], card={}, golden=sample, as_of=AS_OF, reference=sample, provenance={}
        )
        told = []
        for count in (smaller, rows):
            source = write(folder / f"{count}.parquet", count)
            command = [sys.executable, "-m", "benchmarks.memory", "score", str(source), str(bundle)]
            done = subprocess.run([*command, str(folder / "out.parquet")], capture_output=True, text=True, check=True)
            seconds, peak, scored = done.stdout.split()
            told.append((int(scored), float(seconds), int(peak)))
            source.unlink()
    (few, _, low), (many, seconds, high) = told
    each = (high - low) * 2**20 / (many - few)
    return (
        f"memory, scoring a Parquet file: {high:,} MiB peak at {many:,} rows ({many / seconds:,.0f} rows/s), "
        f"{low:,} MiB at {few:,}, ratio {high / low:.2f}; {each:.0f} bytes a further row"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["score"]:
        print(score(*map(Path, sys.argv[2:])))
    else:
        print(main(*map(int, sys.argv[1:])))
