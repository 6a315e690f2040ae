"""Reading the log while it is written: every whole line of every segment, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from churn_assets.errors import LogUnreadable
from churn_assets.predlog.segment import OPEN, READY

_ID_FIELDS = {"prediction": "prediction_id", "feedback": "feedback_id"}


@dataclass
class Found:
    """What was met while reading: segments, lines by kind, torn tails and lines that are no JSON object."""

    segments: int = 0
    size: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    torn: int = 0
    broken: int = 0

    @property
    def rows(self) -> int:
        """Lines that could be read."""
        return self.kinds.total()


@dataclass(frozen=True)
class Verdict:
    """Which of the wanted ids are not in the log exactly once."""

    wanted: int
    missing: tuple[str, ...]
    repeated: tuple[str, ...]
    found: Found

    @property
    def kept(self) -> bool:
        """Whether each id is in the log exactly once."""
        return not self.missing and not self.repeated

    def __str__(self) -> str:
        """One line: how many ids, and how many of them are not there once."""
        once = self.wanted - len(self.missing) - len(self.repeated)
        said = f"{once:,} of {self.wanted:,} ids are in the log exactly once"
        if self.missing:
            said += f"; {len(self.missing):,} are missing"
        if self.repeated:
            said += f"; {len(self.repeated):,} are there more than once"
        if self.found.torn or self.found.broken:
            said += f" ({self.found.torn} torn tails, {self.found.broken} broken lines, none of them acknowledged)"
        return said


def segment_names(folder: Path) -> list[str]:
    """Names of the segments, open ones among them, oldest first; a name is told once."""
    try:
        return sorted({path.stem for path in folder.iterdir() if path.suffix in (OPEN, READY)})
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LogUnreadable(f"{folder}: cannot be listed ({error.strerror}); name a folder you may read") from error


def read_rows(folder: Path, found: Found | None = None) -> Iterator[dict[str, Any]]:
    """Every row of the log, segment by segment; `found` counts what was met.

    A last line without its newline was never acknowledged: it is passed over and counted. Raises
    LogUnreadable if a segment cannot be read.
    """
    found = found if found is not None else Found()
    for name in segment_names(folder):
        yield from _segment_rows(folder / name, found)


def verify(folder: Path, ids: Iterable[str]) -> Verdict:
    """Whether each prediction or feedback id is in the log exactly once."""
    times = dict.fromkeys(ids, 0)
    found = Found()
    for row in read_rows(folder, found):
        own = row.get(_ID_FIELDS.get(str(row.get("kind")), ""))
        if own in times:
            times[own] += 1
    missing = tuple(name for name, count in times.items() if count == 0)
    repeated = tuple(name for name, count in times.items() if count > 1)
    return Verdict(len(times), missing, repeated, found)


def read_ids(path: Path) -> list[str]:
    """The ids of a file, one a line; empty lines are passed over. Raises LogUnreadable."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise LogUnreadable(f"{path}: cannot be read ({words}), expected a text file with one id a line") from error


def tail(folder: Path, rows: int) -> list[dict[str, Any]]:
    """The newest rows, oldest of them first; reads newest segments until it has enough."""
    newest: list[dict[str, Any]] = []
    for name in reversed(segment_names(folder)):
        newest = [*_segment_rows(folder / name, Found()), *newest]
        if len(newest) >= rows:
            break
    return newest[len(newest) - min(rows, len(newest)) :]


def count(folder: Path) -> Found:
    """Segments, bytes and rows by kind."""
    found = Found()
    for _ in read_rows(folder, found):
        pass
    return found


def _segment_rows(stem: Path, found: Found) -> Iterator[dict[str, Any]]:
    lines = _lines(stem)
    found.segments += 1
    for line in lines:
        found.size += len(line)
        if not line.endswith(b"\n"):
            found.torn += 1
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            found.broken += 1
            continue
        found.kinds[str(row.get("kind"))] += 1
        yield row


def _lines(stem: Path) -> Iterator[bytes]:
    # The name changes once, from open to ready: who misses the first finds the second.
    for suffix in (OPEN, READY, READY):
        try:
            file = stem.with_name(stem.name + suffix).open("rb")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LogUnreadable(f"{stem}{suffix}: cannot be read ({error.strerror}); mend its permissions") from error
        return _each_line(file)
    return iter(())  # taken away after it was listed


def _each_line(file: Any) -> Iterator[bytes]:
    with file:
        yield from file
