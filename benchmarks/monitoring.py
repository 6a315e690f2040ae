"""Our decision statistics on a window, beside Evidently's DataDriftPreset on the same rows, in own processes.

Both begin at the published DuckDB log and a reference of 10,000 rows, and end with a result for every column:
ours by the aggregates and the sample of `monitoring.windows.profile`, theirs by the preset on the whole window as a
data frame. They run in turns; what importing Evidently costs is counted apart.

    python -m benchmarks.monitoring [repeats] [rows,...]
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_MEBIBYTE = 1024 if sys.platform != "darwin" else 1024 * 1024
REFERENCE = 10_000


def write_log(path: Path, rows: int) -> None:
    """A log of `rows` customers, scored once each, with a score that follows one column."""
    import duckdb

    from benchmarks.customers import CONTRACT, typed
    from churn_assets.prediction_log.schema import migrate

    with duckdb.connect(str(path)) as connection:
        migrate(connection, CONTRACT)
        for start in range(0, rows, 100_000):
            table = typed(min(100_000, rows - start), seed=100 + start)
            connection.register("new", table)
            columns = ", ".join(f'"{c.name}" AS "x_{c.name}"' for c in CONTRACT.scoring_columns)
            connection.execute(
                f"""INSERT INTO predictions BY NAME
                    SELECT {start} + row_number() OVER () AS seq, 'p' || seq AS prediction_id, 'r' AS request_id,
                           'c' || seq AS customer_id, TIMESTAMP '2026-01-01' AS as_of,
                           TIMESTAMP '2026-01-01' + to_milliseconds(seq) AS scored_at,
                           1 / (1 + exp((esent - 20) / 8)) AS score, score > 0.5 AS decision, 0.5 AS threshold,
                           'low' AS risk_band, 'v' AS model_version, 'store' AS contract,
                           '{CONTRACT.fingerprint}' AS fingerprint, 'champion' AS arm, 'champion' AS policy,
                           'ok' AS status, [] AS warnings, 's' AS segment, {columns} FROM new"""
            )
            connection.unregister("new")


def ours(log: Path, rows: int) -> dict[str, float]:
    """Seconds of CPU and of the clock from the log to a verdict, and how many columns were tested."""
    import duckdb
    import scipy.stats  # noqa: F401  # imports are counted on neither side

    from benchmarks.customers import CONTRACT
    from churn_assets.monitoring.drift.univariate import TESTED_KINDS, detect_drift
    from churn_assets.monitoring.windows.monitored_model import MonitoredModel, profile_window
    from churn_assets.monitoring.windows.windows import Window

    reference = _reference()
    kinds = {c.name: c.kind for c in CONTRACT.feature_columns if c.kind in TESTED_KINDS}
    model = MonitoredModel("v", CONTRACT.fingerprint, CONTRACT, CONTRACT.monitoring, reference)
    window = Window(1, CONTRACT.fingerprint, 1, rows, rows, rows, 0, "", "", "customers")
    with duckdb.connect(str(log), read_only=True) as connection:
        connection.execute("SET threads = 1")
        start = _now()
        profile = profile_window(connection, model, window)
        results = detect_drift(reference.profile.values_of(kinds), profile.values_of(kinds), CONTRACT.monitoring)
        return _since(start) | {"columns": sum(result.status != "unknown" for result in results)}


def theirs(log: Path, rows: int) -> dict[str, float]:
    """The same with the preset, on every row."""
    os.environ["DO_NOT_TRACK"] = "1"
    import warnings

    import duckdb

    warnings.simplefilter("ignore")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    from benchmarks.customers import CONTRACT
    from churn_assets.contract.model import Kind

    names = [c.name for c in CONTRACT.feature_columns]
    levels = [c.name for c in CONTRACT.feature_columns if c.kind in (Kind.CATEGORY, Kind.BOOLEAN)]
    before = _reference().profile.sample.select([*names, "score"]).to_pandas()
    definition = DataDefinition(
        numerical_columns=[*(n for n in names if n not in levels), "score"],
        categorical_columns=levels,
        text_columns=[],
        datetime_columns=[],
    )
    with duckdb.connect(str(log), read_only=True) as connection:
        connection.execute("SET threads = 1")
        start = _now()
        flags = {c.name for c in CONTRACT.feature_columns if c.kind is Kind.BOOLEAN}
        cells = {name: f'CAST("x_{name}" AS DOUBLE)' if name in flags else f'"x_{name}"' for name in names}
        columns = ", ".join(f'{cell} AS "{name}"' for name, cell in cells.items())
        frame = connection.execute(f"SELECT {columns}, score FROM predictions").df()
        frame[levels] = frame[levels].astype(str)
        before[levels] = before[levels].astype(str)
        sides = [Dataset.from_pandas(side, definition) for side in (frame, before)]
        found = Report([DataDriftPreset()]).run(*sides).dict()
        return _since(start) | {"columns": len(found["metrics"]) - 1}


def _reference() -> Any:
    import numpy as np
    import pyarrow as pa

    from benchmarks.customers import CONTRACT, typed
    from churn_assets.monitoring.windows.monitored_model import reference_of

    table = typed(REFERENCE, seed=1)
    score = 1 / (1 + np.exp((table["esent"].to_numpy() - 20) / 8))
    return reference_of(table.append_column("churn_probability", pa.array(score)), CONTRACT, 0.5, "v")


def _now() -> tuple[float, float, float]:
    return time.process_time(), time.perf_counter(), _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBIBYTE


def _since(start: tuple[float, float, float]) -> dict[str, float]:
    return {"cpu_s": time.process_time() - start[0], "wall_s": time.perf_counter() - start[1], "peak": _peak()}


def measure(side: str, log: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.monitoring", side, str(log), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main(repeats: int = 3, sizes: str = "10000,100000,1000000") -> str:
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in map(int, sizes.split(",")):
            log = Path(folder) / f"{rows}.duckdb"
            write_log(log, rows)
            told: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
            for repeat in range(repeats):
                for side in ("ours", "theirs") if repeat % 2 else ("theirs", "ours"):
                    told[side].append(measure(side, log, rows))
            log.unlink()
            lines.append(_line(rows, told["ours"], told["theirs"]))
    return "\n".join(lines)


def _line(rows: int, mine: list[dict[str, float]], other: list[dict[str, float]]) -> str:
    ratios = sorted(b["cpu_s"] / a["cpu_s"] for a, b in zip(mine, other, strict=True))
    keys, sides = ("cpu_s", "peak", "columns"), (mine, other)
    middle = {key: [statistics.median(one[key] for one in side) for side in sides] for key in keys}
    (cpu, their_cpu), (peak, their_peak), (columns, their_columns) = (middle[key] for key in keys)
    spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f} in {len(ratios)} repeats)"
    return (
        f"monitoring, {rows:,} rows: {cpu:.2f} s of CPU and {peak:,.0f} MiB peak for {columns:.0f} columns, "
        f"DataDriftPreset {their_cpu:.2f} s and {their_peak:,.0f} MiB for {their_columns:.0f}, ratio {spread}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["theirs"]):
        print(json.dumps({"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        print(main(*map(int, sys.argv[1:2]), *sys.argv[2:3]))
