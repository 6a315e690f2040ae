"""The tables of a home, each version once: a row that is in several versions is on the disk once.

    tables/versions/<version>.json.zst    one file a version: see `manifest`
    tables/packs/<digest>.parquet         rows, each pack with those that were new when a version was kept

A version is a digest of its table, so the same table is the same version, and reading it compares the digest. Columns
are compressed within a pack; the sequence of rows is apart, and as runs relative to the version most like it. So what
an inserted, appended or changed row costs does not depend on where it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from churn_assets.data.versions.cells import Codes, codes_of, dense, dense_type, run_starts, table_digest
from churn_assets.data.versions.manifest import (
    ADVICE,
    MODE,
    Manifest,
    RowAddress,
    address_of,
    encoded,
    global_rows,
    manifest_path,
    manifest_size,
    read_manifest,
    read_manifests,
    sequence_of,
    write_manifest,
)
from churn_assets.data.versions.rows import RowSequence, match_rows
from churn_assets.errors import KeptTableCorrupt, TableNotKept, one_line
from churn_assets.storage.files import open_file, replacing
from churn_assets.storage.lock import file_lock

DIGITS = 16  # of a version
_COMPARED = 5  # versions, the newest, whose rows a new one is compared with
_DEEPEST = 32  # bases one behind the other, before a version is written without one
_LONG_RUN = 256  # rows: a column with runs of so many, on average, is kept as runs
_SHORT_RUN = 4  # the same, if it was kept as runs before
_FEW_ROWS = 2000  # of a pack, below which dictionaries of its columns cost more than they save
_LEAST_USED = 0.5  # of a pack's rows; with fewer in use it is written anew
_LOCK_S = 120.0


@dataclass(frozen=True)
class Kept:
    """What keeping a table did: its version, and the bytes that it added to the disk, 0 if it was kept before."""

    version: str
    stored_bytes: int


class TableStore:
    """The kept tables below `folder`, `Settings.tables_dir`. Processes of one home may keep and remove at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions_dir, self.packs_dir = folder / "versions", folder / "packs"

    # -- reading ------------------------------------------------------------------------------------------

    def versions(self) -> dict[str, Manifest]:
        """Every version by its name, that which was kept last at the end. Raises KeptTableCorrupt."""
        return read_manifests(self.versions_dir)

    def find(self, text: str) -> Manifest:
        """The version whose name begins with `text`, or the newest of the table of this name. Raises TableNotKept if
        there is none, or several."""
        versions = self.versions()
        named = [manifest for manifest in versions.values() if manifest.table == text]
        if named:
            return named[-1]
        begun = [manifest for manifest in versions.values() if text and manifest.version.startswith(text)]
        if len(begun) == 1:
            return begun[0]
        problem = "is not kept" if not begun else f"is the beginning of {len(begun)} versions"
        tables = ", ".join(dict.fromkeys(manifest.table for manifest in versions.values())) or "none is kept yet"
        raise TableNotKept(
            f"version {text[:40]} {problem} in {self.folder}, expected one of `churn data log`, or the newest of a "
            f"table: {tables}; name another"
        )

    def read(self, manifest: Manifest) -> pa.Table:
        """The table of a version, exactly as it was kept. Raises KeptTableCorrupt if a file is missing or damaged."""
        try:
            table = self._assembled(manifest, address_of(manifest, self.versions()))
        except KeptTableCorrupt:
            present = self.versions().get(manifest.version)
            if present is None or present == manifest:
                raise
            table = self._assembled(present, address_of(present, self.versions()))  # its packs were just replaced
        if table_digest(table) != manifest.sha256:
            raise KeptTableCorrupt(
                f"version {manifest.version} in {self.folder} has other cells than were kept; {ADVICE}"
            )
        return table

    def stored_bytes(self) -> int:
        """Bytes of all files."""
        files = (path for path in self.folder.glob("*/*") if path.is_file())
        return sum(path.stat().st_size for path in files)

    # -- keeping ------------------------------------------------------------------------------------------

    def keep(
        self,
        name: str,
        table: pa.Table,
        *,
        key: str = "",
        source: str = "",
        made_from: str | None = None,
        run: str = "",
        now: datetime | None = None,
    ) -> Kept:
        """Keep `table` as a version of the table `name`, on disk when this returns.

        The table is read back and compared before it counts. Raises TableNotKept for a type that Parquet cannot hold,
        KeptTableCorrupt where versions of before are damaged.
        """
        at = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
        try:
            sha256, schema = table_digest(table), table.schema.serialize().to_pybytes()
            new = Manifest(
                version=sha256[:DIGITS],
                sha256=sha256,
                table=name,
                rows=table.num_rows,
                key=key,
                source=source,
                made_from=made_from,
                run=run,
                kept_at=at,
                used_at=at,
                schema=schema,
                repeated=b"",
                repeated_columns=[],
                body=[],
                packs=[],
                runs=[],
            )
            with self._locked():
                return self._keep(new, table)
        except pa.ArrowException as error:
            raise _not_held(one_line(error, 120)) from None

    def _keep(self, new: Manifest, table: pa.Table) -> Kept:
        """Write the version `new` of which rows and columns are not known yet, or note that it is kept again."""
        path = manifest_path(self.versions_dir, new.version)
        if path.is_file():
            known = read_manifest(path)
            origin = new.made_from or known.made_from
            write_manifest(self.versions_dir, msgspec.structs.replace(known, used_at=new.used_at, made_from=origin))
            return Kept(new.version, 0)
        versions = self.versions()
        manifest, added = self._with_rows(_divided(new, table, versions.values()), table, versions)
        added += len(encoded(manifest))
        manifest = msgspec.structs.replace(manifest, stored_bytes=added)
        self._check(manifest, table, versions)
        write_manifest(self.versions_dir, manifest)
        return Kept(new.version, added)

    def _with_rows(self, manifest: Manifest, table: pa.Table, versions: Mapping[str, Manifest]) -> tuple[Manifest, int]:
        """The manifest with its rows, those that are not kept yet written as a pack; the bytes of that pack."""
        body = pa.table(
            [dense(table.column(n)) for n in manifest.body], names=list(map(str, range(len(manifest.body))))
        )
        related = [m for m in versions.values() if m.layout() == manifest.layout()][-_COMPARED:]
        addresses = {m.version: address_of(m, versions) for m in related}
        packs = list(dict.fromkeys(pack for address in addresses.values() for pack in address.packs))
        matched = np.full(table.num_rows, -1, dtype=np.int64)
        if body.num_columns and packs:
            matched = match_rows(self._concatenated([name for name, _ in packs], body.schema), body)
        elif not body.num_columns:
            return msgspec.structs.replace(manifest, runs=[]), 0
        base, position = _most_alike(matched, {v: global_rows(a, packs) for v, a in addresses.items()}, packs)
        if base is not None and versions[base].depth + 1 >= _DEEPEST:
            base, position = None, np.full(table.num_rows, -1, dtype=np.int64)
        added, new = 0, np.flatnonzero(matched < 0)
        ends = np.cumsum([0, *(rows for _, rows in packs)])
        number = np.searchsorted(ends, matched, side="right") - 1
        pack = np.where(matched < 0, len(packs), number)
        row = matched - ends[np.maximum(number, 0)]
        row[new] = np.arange(len(new))
        if len(new):
            name, added = self._write_pack(body.take(pa.array(new)))
            packs = [*packs, (name, len(new))]
        used, sequence = (
            sequence_of(RowAddress(tuple(packs), pack, row)) if base is None else _beside(packs, pack, row, position)
        )
        depth = 0 if base is None else versions[base].depth + 1
        runs = sequence.to_runs()
        return msgspec.structs.replace(manifest, packs=used, runs=runs, base=base, depth=depth), added

    def _write_pack(self, rows: pa.Table) -> tuple[str, int]:
        """Write rows as a pack unless it is there; its name and the bytes written."""
        import pyarrow.parquet as pq

        name = table_digest(rows)[: 2 * DIGITS]
        path = self._pack_path(name)
        if path.is_file():
            return name, 0
        dictionary = rows.num_rows >= _FEW_ROWS
        with replacing(path, MODE) as temporary:
            pq.write_table(
                rows,
                temporary,
                compression="zstd",
                compression_level=9,
                use_dictionary=dictionary,
                write_statistics=False,
                store_schema=False,
            )
        return name, path.stat().st_size

    def _check(self, manifest: Manifest, table: pa.Table, versions: Mapping[str, Manifest]) -> None:
        """Raise TableNotKept unless the version reads back as `table`."""
        try:
            same = table_digest(self._assembled(manifest, address_of(manifest, versions))) == manifest.sha256
        except KeptTableCorrupt as error:
            raise _not_held(one_line(error, 200)) from None
        if not same:
            types = ", ".join(dict.fromkeys(str(field.type) for field in table.schema))
            raise _not_held(f"its cells come back otherwise, types {types[:120]}")

    # -- removing -----------------------------------------------------------------------------------------

    def removal_bytes(self, gone: Collection[str]) -> int:
        """About how many bytes `remove` would free."""
        versions = self.versions()
        used = _used_rows(versions, gone)
        freed = sum(manifest_size(self.versions_dir, version) for version in versions.keys() & set(gone))
        for name, (rows, total) in used.items():
            share = len(rows) / total
            freed += round(self._pack_path(name).stat().st_size * (1.0 - share)) if share < _LEAST_USED else 0
        return freed

    def remove(self, gone: Collection[str], *, every_row: bool = False) -> int:
        """Remove versions, and rows that no other version has; bytes freed.

        A pack of whose rows less than half is in use is written anew, with `every_row` each that has a row out of use.
        Whatever is left when a process is killed in between, the other versions can be read.
        """
        with self._locked():
            versions, before = self.versions(), self.stored_bytes()
            kept = {version: manifest for version, manifest in versions.items() if version not in gone}
            used = _used_rows(versions, gone)
            replaced: dict[str, tuple[tuple[str, int], Codes]] = {}
            for name, (rows, total) in used.items():
                if 0 < len(rows) < (total if every_row else total * _LEAST_USED):
                    replaced[name] = (self._rewrite_pack(name, rows), rows)
            for manifest in kept.values():
                rewritten = _without(manifest, versions, set(gone), replaced)
                if rewritten is not manifest:
                    write_manifest(self.versions_dir, rewritten)
            for version in versions.keys() & set(gone):
                manifest_path(self.versions_dir, version).unlink()
            needed = {new for (new, _), _ in replaced.values()}
            needed |= {name for name, (rows, _) in used.items() if len(rows) and name not in replaced}
            for path in self.packs_dir.glob("*.parquet"):
                if path.stem not in needed and not path.name.startswith("."):
                    path.unlink()
            return before - self.stored_bytes()

    def _rewrite_pack(self, name: str, rows: Codes) -> tuple[str, int]:
        """Write some rows of a pack as another one; its name and rows."""
        import pyarrow.parquet as pq

        with open_file(self._pack_path(name)) as file:
            taken = pq.ParquetFile(file).read().take(pa.array(rows))
        return self._write_pack(taken)[0], len(rows)

    # -- files --------------------------------------------------------------------------------------------

    def _assembled(self, manifest: Manifest, address: RowAddress) -> pa.Table:
        schema = manifest.arrow_schema()
        columns: dict[int, pa.Array | pa.ChunkedArray] = {}
        if manifest.body:
            names = [name for name, _ in address.packs]
            body = pa.schema([(str(n), dense_type(schema.field(at).type)) for n, at in enumerate(manifest.body)])
            rows = self._concatenated(names, body).take(pa.array(global_rows(address, address.packs)))
            columns |= dict(zip(manifest.body, rows.columns, strict=True))
        runs = pa.ipc.open_stream(pa.BufferReader(manifest.repeated)).read_all()
        at = np.repeat(np.arange(runs.num_rows), runs.column(runs.num_columns - 1).to_numpy())
        columns |= {n: runs.column(i).take(pa.array(at)) for i, n in enumerate(manifest.repeated_columns)}
        arrays = [columns[n].cast(field.type) for n, field in enumerate(schema)]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _concatenated(self, packs: Sequence[str], schema: pa.Schema) -> pa.Table:
        """The rows of packs, one pack after another. Raises KeptTableCorrupt."""
        import pyarrow.parquet as pq

        tables = []
        for name in packs:
            path = self._pack_path(name)
            try:
                with open_file(path) as file:
                    tables.append(pq.ParquetFile(file).read().cast(schema))
            except (OSError, ValueError, pa.ArrowException) as error:
                raise KeptTableCorrupt(
                    f"{path}: cannot be read ({one_line(error, 120)}), expected rows of a kept table; {ADVICE}"
                ) from None
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def _pack_path(self, name: str) -> Path:
        return self.packs_dir / f"{name}.parquet"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        def busy(holder: str) -> TableNotKept:
            return TableNotKept(
                f"{self.folder}: {holder} has been keeping or removing tables for {_LOCK_S:.0f} s, expected less than "
                "a minute; wait until it has ended, then try again"
            )

        with file_lock(self.folder / ".lock", _LOCK_S, busy):
            yield


def _divided(manifest: Manifest, table: pa.Table, before: Iterable[Manifest]) -> Manifest:
    """The manifest of `table` with its columns divided, as in the newest version of that table `before` as far as they
    are the same: rows are shared by versions of one layout only."""
    fields = [(field.name, str(field.type)) for field in table.schema]
    own = [m for m in before if m.table == manifest.table]
    same = [m for m in own if [(f.name, str(f.type)) for f in m.arrow_schema()] == fields]
    former = same[-1] if same else None
    body, repeated, begins = [], [], [np.zeros(min(1, table.num_rows), dtype=np.int64)]
    for number, column in enumerate(table.columns):
        starts = run_starts(codes_of([column]))
        limit = table.num_rows // _LONG_RUN + 1
        if former is not None:
            limit = 0 if number in former.body else table.num_rows // _SHORT_RUN + 1
        if len(starts) <= limit and (former is None or number not in former.body):
            repeated.append(number)
            begins.append(starts)
        else:
            body.append(number)
    at = np.unique(np.concatenate(begins))
    lengths = np.diff(np.append(at, table.num_rows))
    arrays = [dense(table.column(n)).take(pa.array(at)) for n in repeated]
    runs = pa.table([*arrays, pa.array(lengths, pa.int64())], names=list(map(str, range(len(arrays) + 1))))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, runs.schema) as writer:
        writer.write_table(runs)
    content = sink.getvalue().to_pybytes()
    return msgspec.structs.replace(manifest, body=body, repeated_columns=repeated, repeated=content)


def _used_rows(versions: Mapping[str, Manifest], gone: Collection[str]) -> dict[str, tuple[Codes, int]]:
    """The rows of each pack that versions other than those `gone` use, each once, and how many rows it has."""
    used: dict[str, list[Codes]] = {}
    sizes: dict[str, int] = {}
    for version, manifest in versions.items():
        address = address_of(manifest, versions)
        for name, rows in address.used().items():
            used.setdefault(name, []).extend([] if version in gone else [rows])
        sizes |= dict(address.packs)
    none = np.empty(0, dtype=np.int64)
    return {name: (np.unique(np.concatenate([none, *rows])), sizes[name]) for name, rows in used.items()}


def _without(
    manifest: Manifest,
    versions: Mapping[str, Manifest],
    gone: Collection[str],
    replaced: Mapping[str, tuple[tuple[str, int], Codes]],
) -> Manifest:
    """The manifest without a base that is gone, and with the packs that replace others; itself if nothing changes."""
    depth, base, packs = manifest.depth, manifest.base, list(manifest.packs)
    sequence = RowSequence.from_runs(manifest.runs)
    if base in gone:
        packs, sequence = sequence_of(address_of(manifest, versions))
        base, depth = None, 0
    elif not any(name in replaced for name, _ in packs):
        return manifest
    row = sequence.row.copy()
    for number, (name, _) in enumerate(packs, 1):
        if name in replaced:
            packs[number - 1], kept = replaced[name]
            own = sequence.source == number
            row[own] = np.searchsorted(kept, row[own])
    runs = RowSequence(sequence.source, row).to_runs()
    return msgspec.structs.replace(manifest, packs=packs, runs=runs, base=base, depth=depth)


def _most_alike(
    matched: Codes, versions: Mapping[str, Codes], packs: Sequence[tuple[str, int]]
) -> tuple[str | None, Codes]:
    """The version with most of the `matched` rows (numbers in a concatenation of `packs`, -1 for none), the newest of
    several, and for each row its place in that version, -1 for none. None where no row is matched."""
    total, best, most = sum(rows for _, rows in packs), None, 0
    place = np.full(len(matched), -1, dtype=np.int64)
    for version, rows in versions.items():
        places = np.full(total + 1, -1, dtype=np.int64)  # the last one for rows without a match
        places[rows] = np.arange(len(rows))
        own = places[matched]
        if (count := int((own >= 0).sum())) >= max(most, 1):
            best, most, place = version, count, own
    return best, place


def _beside(
    packs: Sequence[tuple[str, int]], pack: Codes, row: Codes, position: Codes
) -> tuple[list[tuple[str, int]], RowSequence]:
    """Packs in use, and the sequence of rows that are at `position` in a base, else in their pack."""
    in_base = position >= 0
    used = np.unique(pack[~in_base])
    numbers = np.zeros(len(packs) + 1, dtype=np.int64)
    numbers[used] = np.arange(1, len(used) + 1)
    source = np.where(in_base, 0, numbers[pack])
    return [packs[number] for number in used.tolist()], RowSequence(source, np.where(in_base, position, row))


def _not_held(problem: str) -> TableNotKept:
    return TableNotKept(
        f"the table is not kept ({problem}), expected columns that Parquet holds as they are; convert them in the "
        "source"
    )
