"""Files written batch by batch that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from churn_assets.errors import SettingsError
from churn_assets.storage.files import PendingFile

SUFFIXES = (".parquet", ".csv")


class TableFile:
    """A Parquet or CSV file (by suffix) that grows under a temporary name.

    `publish` gives it its name, after it is on disk; leaving the context without it removes what was
    written. Raises SettingsError for another suffix.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SettingsError(
                f"{path.name} ends in '{path.suffix}', expected one of: {', '.join(SUFFIXES)}; rename it"
            )
        self.path = path
        self.rows = 0
        self._pending: PendingFile | None = None
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Append a table; the first one sets the schema."""
        if self._writer is None:
            try:
                self._pending = PendingFile(self.path)
                self._writer = self._open(self._pending.temporary, table.schema)
            except OSError as error:
                raise SettingsError(
                    f"{self.path} cannot be written ({error.strerror or error}); name another output"
                ) from error
        self._writer.write_table(table)
        self.rows += table.num_rows

    def publish(self) -> Path | None:
        """Close the file and give it its name; None, and no file of that name, if nothing was written."""
        if self._pending is None:
            self.path.unlink(missing_ok=True)  # one from an earlier run would tell of other rows
            return None
        self._writer.close()
        self._pending.commit()
        self._pending = None
        return self.path

    def _open(self, path: Path, schema: pa.Schema) -> Any:
        if self.path.suffix.lower() == ".csv":
            from pyarrow import csv

            return csv.CSVWriter(path, schema)
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> TableFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending is None:
            return
        if self._writer is not None:
            self._writer.close()
        self._pending.discard()
