"""The copy of the warehouse that people and tools read: replaced whole, never locked by the ingest."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from churn_assets.errors import NothingIngested, WarehouseCorrupt, WarehouseLocked
from churn_assets.predlog.segment import sync_folder
from churn_assets.settings import Settings

FILE, PUBLISHED = "log.duckdb", "published.duckdb"


@contextlib.contextmanager
def open_published(settings: Settings) -> Iterator[Any]:
    """A read-only DuckDB connection to the log as it was ingested last; its time zone is UTC.

    The ingest replaces the file under its name: who has it open goes on with what they opened. Raises
    NothingIngested, WarehouseCorrupt, WarehouseLocked (somebody has the copy open for writing).
    """
    path = settings.warehouse_dir / PUBLISHED
    if not path.is_file():
        raise NothingIngested(
            f"nothing has been ingested in {settings.home}, expected {PUBLISHED}; "
            "`churn log ingest` makes it once there are predictions"
        )
    import duckdb

    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        words = " ".join(str(error).split())[:200]
        if (holder := holder_of(str(error))) is not None:
            raise WarehouseLocked(
                f"{path} is open for writing in {holder}, expected readers only; close it there and open it read-only "
                "(`duckdb -readonly`)"
            ) from error
        advice = "make it again: `churn log ingest --rebuild`"
        raise WarehouseCorrupt(f"{path} cannot be opened ({words}); {advice}") from error
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def holder_of(error: str) -> str | None:
    """Who has the database open, by DuckDB's words; None if they are about something else than its lock."""
    if "lock" not in error or "Could not set" not in error:
        return None
    found = re.search(r"PID (\d+)", error)
    return f"process {found[1]}" if found else "another process"


def publish(folder: Path) -> bool:
    """Copy the warehouse beside and give the copy its name, if it is older; whether that was needed.

    Nobody may be writing the warehouse meanwhile.
    """
    source, target = folder / FILE, folder / PUBLISHED
    if not source.exists() or (target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns):
        return False
    temporary = target.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    shutil.copyfile(source, temporary)
    temporary.chmod(0o444)  # who opened it for writing would keep every reader out
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(target)
    sync_folder(folder)
    return True
