"""Where assets are kept: one file or folder an asset below one home, readable without this package.

Tables are Parquet, small values JSON, models folders that save and load themselves. Nothing is pickled.
"""

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import dagster as dg
import msgspec
import pyarrow as pa

from churn_assets.errors import AssetMissing, AssetStale
from churn_assets.storage.csv_cells import neutral_table
from churn_assets.storage.files import replace_folder, replacing, write_json


@runtime_checkable
class Saved(Protocol):
    """A value that writes itself into a folder; its class has `load(folder)`."""

    def save(self, folder: Path, /) -> Any:
        """Write everything below `folder`, which exists and is empty."""


class HomeIOManager(dg.ConfigurableIOManager):
    """Keeps each asset under `folder/<asset>`, as .parquet, .json or a folder.

    `contract` is the fingerprint of the contract in use: what was made under another one is not handed out.
    """

    folder: str
    contract: str

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write `obj` beside its place, then move it there: a reader sees the old value or the new one."""
        if obj is None:
            return
        name = context.asset_key.to_user_string()
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = write(folder, name, obj)
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path))})

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the value back, as the type that the asset's parameter asks for."""
        name = context.asset_key.to_user_string()
        value = read(Path(self.folder), name, context.dagster_type.typing_type)
        made_under = _contract_of(value)
        if made_under not in (None, self.contract):
            raise AssetStale(
                f"'{name}' was made under contract {made_under[:12]}, the one in use is {self.contract[:12]}; "
                "make it again: churn run"
            )
        return value


def write(folder: Path, name: str, value: Any) -> Path:
    """Keep `value` as `folder/name`; TypeError for a value that is no table, JSON or Saved."""
    match value:
        case pa.Table():
            path = folder / f"{name}.parquet"
            import pyarrow.parquet as pq

            with replacing(path) as temporary:
                pq.write_table(value, temporary, compression="zstd")
            return path
        case dict() | list() | msgspec.Struct():
            return write_json(folder / f"{name}.json", msgspec.to_builtins(value))
        case Saved():
            return replace_folder(folder / name, value.save)
    raise TypeError(
        f"asset '{name}' is a {type(value).__name__}, expected a table, JSON or something that saves itself"
    )


def read(folder: Path, name: str, wanted: Any) -> Any:
    """The value kept as `folder/name`, of type `wanted`; AssetMissing if it was never made, AssetStale if it was made
    by another version."""
    table, small, deep = folder / f"{name}.parquet", folder / f"{name}.json", folder / name
    if hasattr(wanted, "load") and deep.is_dir():
        return wanted.load(deep)
    if wanted is not dict and table.is_file():
        import pyarrow.parquet as pq

        return pq.read_table(table)
    if small.is_file():
        value = json.loads(small.read_text())
        if not (isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)):
            return value
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            raise AssetStale(f"{small} is of another version ({error}); make it again: materialize {name}") from error
    raise AssetMissing(f"there is no '{name}' in {folder}; make it: churn run, or materialize {name}")


def exists(folder: Path, name: str) -> bool:
    """Whether something is kept as `folder/name`, in any form."""
    return any((folder / f"{name}{suffix}").exists() for suffix in (".parquet", ".json", ""))


def write_table(table: pa.Table, path: Path) -> Path:
    """A table for people without Parquet, as CSV; written beside its place, then moved there."""
    from pyarrow import csv

    with replacing(path) as temporary:
        csv.write_csv(neutral_table(table), temporary)
    return path


def _contract_of(value: Any) -> str | None:
    """The fingerprint that a table or a small value says it was made under; None if it does not say."""
    if isinstance(value, pa.Table):
        return (value.schema.metadata or {}).get(b"churn_contract", b"").decode() or None
    made_under = value.get("fingerprint") if isinstance(value, dict) else getattr(value, "fingerprint", None)
    return made_under or None
