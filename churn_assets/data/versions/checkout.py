"""A kept table written as a file again, and the file by which DVC knows it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.data.versions.cells import dense
from churn_assets.data.versions.manifest import MODE
from churn_assets.errors import SettingsError, one_line
from churn_assets.storage.files import open_file, replacing, write_text

FORMATS = (".parquet", ".csv")


@dataclass(frozen=True)
class WrittenTable:
    """A file; `exact`: every cell and type can be read back from it. A CSV has texts, and cannot tell an empty text
    from a missing one."""

    path: Path
    exact: bool


def write_table_file(table: pa.Table, path: Path) -> WrittenTable:
    """Write a kept table as Parquet, with its types and metadata, or as CSV, with its cells as they are: what begins
    with '=' is not made harmless for a spreadsheet. Raises SettingsError for another suffix or type."""
    if path.suffix.lower() not in FORMATS:
        raise SettingsError(f"{path.name}: expected a name that ends in {' or '.join(FORMATS)}; choose one of them")
    try:
        with replacing(path, MODE) as temporary:
            if path.suffix.lower() == ".parquet":
                import pyarrow.parquet as pq

                pq.write_table(table, temporary, compression="zstd")
                return WrittenTable(path, True)
            from pyarrow import csv

            plain = pa.table([dense(column) for column in table.columns], names=table.column_names)
            csv.write_csv(plain, temporary)
            return WrittenTable(path, all(_is_exact_text(column) for column in plain.columns))
    except pa.ArrowException as error:
        raise SettingsError(
            f"{path.name}: cannot hold this table ({one_line(error, 120)}), expected columns that the format has; "
            "write the other one"
        ) from None


def write_dvc_file(path: Path) -> Path:
    """Write `<path>.dvc`, by which DVC 3 knows the file: its MD5, size and name. The data itself comes into DVC's cache
    with `dvc commit`."""
    with open_file(path) as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    name = json.dumps(path.name, ensure_ascii=False)  # a quoted text of JSON is one of YAML
    lines = ("outs:", f"- md5: {md5}", f"  size: {path.stat().st_size}", "  hash: md5", f"  path: {name}")
    return write_text(path.with_name(f"{path.name}.dvc"), "\n".join(lines) + "\n")


def _is_exact_text(column: pa.ChunkedArray) -> bool:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    return not pc.any(pc.equal(column, "")).as_py()
