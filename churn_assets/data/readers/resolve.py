"""Which table this run is about, and how to say so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from churn_assets.contract.model import Contract
from churn_assets.data.readers.location import (
    GENERATED,
    GENERATED_ROWS,
    GENERATED_SEED,
    SUFFIXES,
    generated_size,
    locate,
)
from churn_assets.data.readers.read import check_columns, read_names
from churn_assets.errors import SourceError
from churn_assets.settings import Settings


@dataclass(frozen=True)
class SourceRef:
    """A source for `read_table` / `iter_batches`, and what it is in words.

    `skipped` says of each file in data/raw/ that was looked at and passed over why.
    """

    source: str
    words: str
    generated: bool = False
    skipped: tuple[str, ...] = ()


def resolve_source(settings: Settings, contract: Contract) -> SourceRef:
    """CHURN_SOURCE if set, else the first file in data/raw/ with the contract's columns, else
    generated customers.

    A relative CHURN_SOURCE is relative to the project root. Raises SourceNotFound or
    SourceUnreadable if what CHURN_SOURCE names is not there or cannot be told.
    """
    if settings.source:
        return _named(settings.root, settings.source, contract)
    skipped = []
    for path in _candidates(settings.raw_dir):
        try:
            check_columns(read_names(path, contract), contract, path.name)
        except SourceError as error:
            skipped.append(str(error))
            continue
        return SourceRef(str(path), f"{path.name} (found in data/raw/)", skipped=tuple(skipped))
    return _generated(contract, GENERATED_ROWS, GENERATED_SEED, tuple(skipped))


def _named(root: Path, text: str, contract: Contract) -> SourceRef:
    scheme, mark, rest = text.partition("://")
    prefix, file = (f"{scheme}://", rest) if mark else ("", text)
    if prefix != f"{GENERATED}://":
        text = prefix + str(root / Path(file).expanduser())
    location = locate(text, contract)
    if location.format == GENERATED:
        return _generated(contract, *generated_size(location))
    return SourceRef(text, f"{location.name} (named by CHURN_SOURCE)")


def _generated(contract: Contract, rows: int, seed: int, skipped: tuple[str, ...] = ()) -> SourceRef:
    words = f"generated customers, not real ones: {rows:,} rows made for contract '{contract.name}', seed {seed}"
    source = f"{GENERATED}://{contract.name}?rows={rows}&seed={seed}"
    return SourceRef(source, words, generated=True, skipped=skipped)


def is_generated(source: str) -> bool:
    """Whether a table whose source is described as `source` holds generated customers."""
    return source.startswith("generated customers")


def _candidates(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
