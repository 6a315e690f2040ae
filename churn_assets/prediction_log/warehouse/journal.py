"""The order in which segments were ingested, in a file of its own: what a warehouse is rebuilt by.

One JSON object a line, a row of the table `segments`. It is written after the commit, and lags by a kill
at most; the next ingest brings it up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from churn_assets.prediction_log.segment import last_line_end
from churn_assets.storage.files import sync_directory

FILE = "segments.jsonl"
COLUMNS = (
    "name", "number", "first_seq", "last_seq", "rows", "predictions", "feedback", "rejections", "quarantined", "torn",
    "bytes", "ingested_at", "expired",
)  # fmt: skip


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Every segment that was ever ingested, in that order; what follows a damaged line is not believed."""
    found: list[dict[str, Any]] = []
    try:
        lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or set(row) != set(COLUMNS) or row["number"] != len(found) + 1:
            break
        found.append(row)
    return found


def bring_up(folder: Path, connection: Any) -> None:
    """Append the segments that the table has and the journal has not."""
    path = folder / FILE
    known = last_number(folder)
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM segments WHERE number > ? ORDER BY number", [known]
    ).fetchall()
    _append(path, rows)


def _append(path: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    told = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    text = "".join(json.dumps({**row, "ingested_at": row["ingested_at"].isoformat()}) + "\n" for row in told)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.ftruncate(handle, last_line_end(handle))
        os.write(handle, text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_directory(path.parent)


def last_number(folder: Path) -> int:
    """The number of the last segment told of, 0 for none."""
    try:
        with (folder / FILE).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        try:
            if line.endswith(b"\n"):
                return int(json.loads(line)["number"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0
