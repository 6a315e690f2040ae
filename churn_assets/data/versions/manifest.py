"""The file of a version: what its table is made of, and when and how it was kept.

Its name is the version, a digest of the table; what it says of rows may be written anew without another version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from churn_assets.data.versions.cells import Codes
from churn_assets.data.versions.rows import RowSequence
from churn_assets.errors import KeptTableCorrupt, one_line
from churn_assets.storage.files import read_file, replacing

FORMAT = 1
MODE = 0o640  # as segments of the log: a kept table is as sensitive as its source
ADVICE = "restore the folder from a copy, or remove it: the next run keeps its tables anew"
_SUFFIX = ".json.zst"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the table `table` ('raw', 'validated' or 'splits').

    `version` is the beginning of `sha256`, the digest of the table; `key` its id column, "" if it has none. `source`
    describes where it was read, `made_from` is the version it was made from, `run` the Dagster run that kept it.
    Instants are UTC: first and last kept. `stored_bytes` is what keeping it added to the disk.

    `schema` is Arrow's, serialized. Columns whose cells repeat are in `repeated`, an Arrow stream with a row for each
    run and the number of its rows last; `body` are the numbers of the other columns, whose rows are in `packs` (name,
    rows). `runs` is a `RowSequence`, source 0 being the rows of the version `base`, source n those of pack n - 1.
    `depth` counts the bases one behind the other.
    """

    format: int = FORMAT
    version: str
    sha256: str
    table: str
    rows: int
    key: str = ""
    source: str = ""
    made_from: str | None = None
    run: str = ""
    kept_at: str
    used_at: str
    stored_bytes: int = 0
    schema: bytes
    repeated: bytes
    repeated_columns: list[int]
    body: list[int]
    packs: list[tuple[str, int]]
    runs: list[int]
    base: str | None = None
    depth: int = 0

    def arrow_schema(self) -> pa.Schema:
        """The schema of the table, with its metadata."""
        return pa.ipc.read_schema(pa.BufferReader(self.schema))

    def layout(self) -> tuple[tuple[str, str], ...]:
        """Names and types of the columns whose rows are in packs: versions of one layout share rows."""
        schema = self.arrow_schema()
        return tuple((schema.field(n).name, str(schema.field(n).type)) for n in self.body)


@dataclass(frozen=True)
class RowAddress:
    """Where the rows of a version are: for each row the number of its pack in `packs` (name, rows), and its row there;
    both arrays have the shape (rows,)."""

    packs: tuple[tuple[str, int], ...]
    pack: Codes
    row: Codes

    def used(self) -> Mapping[str, Codes]:
        """The rows in use of each pack, ascending, each once."""
        return {name: np.unique(self.row[self.pack == number]) for number, (name, _) in enumerate(self.packs)}


def write_manifest(folder: Path, manifest: Manifest) -> int:
    """Write the file of a version, on disk when this returns; its size in bytes."""
    content = encoded(manifest)
    with replacing(folder / f"{manifest.version}{_SUFFIX}", MODE) as temporary:
        temporary.write_bytes(content)
    return len(content)


def encoded(manifest: Manifest) -> bytes:
    """The bytes of the file: JSON, compressed by zstd."""
    return bytes(pa.Codec("zstd", compression_level=12).compress(msgspec.json.encode(manifest), asbytes=True))


def manifest_path(folder: Path, version: str) -> Path:
    """Where the file of a version is, or would be."""
    return folder / f"{version}{_SUFFIX}"


def manifest_size(folder: Path, version: str) -> int:
    """Bytes of the file of a version."""
    return manifest_path(folder, version).stat().st_size


def read_manifests(folder: Path) -> dict[str, Manifest]:
    """Every version in a folder, that which was kept last at the end. Raises KeptTableCorrupt."""
    paths = sorted(path for path in folder.glob(f"*{_SUFFIX}") if not path.name.startswith("."))
    manifests = [read_manifest(path) for path in paths]
    return {manifest.version: manifest for manifest in sorted(manifests, key=lambda m: (m.used_at, m.version))}


def read_manifest(path: Path) -> Manifest:
    """One file of a version. Raises KeptTableCorrupt."""
    try:
        with pa.CompressedInputStream(pa.BufferReader(read_file(path)), "zstd") as stream:
            manifest = msgspec.json.decode(stream.read(), type=Manifest)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise KeptTableCorrupt(
            f"{path}: cannot be read ({one_line(error, 120)}), expected a version of a table; {ADVICE}"
        ) from None
    if manifest.format != FORMAT or path.name != f"{manifest.version}{_SUFFIX}":
        raise KeptTableCorrupt(
            f"{path}: is version {manifest.version[:40]} in format {manifest.format}, expected its own name and format "
            f"{FORMAT}; {ADVICE}"
        )
    return manifest


def address_of(manifest: Manifest, versions: Mapping[str, Manifest]) -> RowAddress:
    """Where the rows of a version are, through its bases. Raises KeptTableCorrupt if a base is missing."""
    chain = [manifest]
    while (base := chain[-1].base) is not None:
        if base not in versions or len(chain) > len(versions):
            raise KeptTableCorrupt(f"version {manifest.version} needs version {base}, which is missing; {ADVICE}")
        chain.append(versions[base])
    address = RowAddress((), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    for link in reversed(chain):
        address = _followed_by(address, link)
    return address


def _followed_by(base: RowAddress, manifest: Manifest) -> RowAddress:
    """The address of a version whose base has the address `base`."""
    packs = list(base.packs)
    numbers = []
    for name, rows in manifest.packs:
        if (name, rows) not in packs:
            packs.append((name, rows))
        numbers.append(packs.index((name, rows)))
    try:
        sequence = RowSequence.from_runs(manifest.runs)
        expected = manifest.rows if manifest.body else 0
        if len(sequence.row) != expected:
            raise ValueError(f"has runs of {len(sequence.row):,} rows, expected {expected:,}")
        from_base = sequence.source == 0
        pack = np.array([-1, *numbers], dtype=np.int64)[sequence.source]
        row = sequence.row.copy()
        pack[from_base], row[from_base] = base.pack[row[from_base]], base.row[row[from_base]]
    except (ValueError, IndexError) as error:
        raise KeptTableCorrupt(f"version {manifest.version} {one_line(error, 120)}; {ADVICE}") from None
    return RowAddress(tuple(packs), pack, row)


def sequence_of(address: RowAddress) -> tuple[list[tuple[str, int]], RowSequence]:
    """An address as packs in use and a sequence that needs no base."""
    used = np.unique(address.pack)
    numbers = np.zeros(len(address.packs) + 1, dtype=np.int64)
    numbers[used] = np.arange(1, len(used) + 1)
    return [address.packs[number] for number in used.tolist()], RowSequence(numbers[address.pack], address.row)


def global_rows(address: RowAddress, packs: Sequence[tuple[str, int]]) -> Codes:
    """The number of each row in a concatenation of `packs`, shape (rows,)."""
    offsets = dict(
        zip((name for name, _ in packs), np.cumsum([0, *(rows for _, rows in packs)]).tolist(), strict=False)
    )
    starts = np.array([offsets[name] for name, _ in address.packs] or [0], dtype=np.int64)
    return starts[address.pack] + address.row if len(address.row) else address.row
