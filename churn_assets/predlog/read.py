"""Reading the log while it is written: every whole line of every segment, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from churn_assets.errors import LogUnreadable
from churn_assets.predlog.segment import DONE, OPEN, READY
from churn_assets.predlog.sources import archives, open_segment

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
        return sorted({path.stem for path in folder.iterdir() if path.suffix in (OPEN, READY, DONE)})
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LogUnreadable(f"{folder}: cannot be listed ({error.strerror}); name a folder you may read") from error


def read_rows(folder: Path, found: Found | None = None, archive: Path | None = None) -> Iterator[dict[str, Any]]:
    """Every row of the log, archived segments first; `found` counts what was met.

    `archive` is the folder of archives, if those count too. A last line without its newline was never
    acknowledged: it is passed over and counted. Raises LogUnreadable if a segment or an archive cannot be read.
    """
    found = found if found is not None else Found()
    names = segment_names(folder)
    seen: set[str] = set()
    for one in archives(archive) if archive else ():
        seen.update(one.names)
        found.segments += len(one.names)
        yield from _rows((line for _, line in one.lines()), found)
    gone = []
    for name in names:
        if name in seen:
            continue
        file = open_segment(folder, name)
        if file is None:
            gone.append(name)
            continue
        found.segments += 1
        yield from _rows(_each_line(file), found)
    # What was archived after the archives were listed.
    for one in archives(archive) if archive and gone else ():
        late = frozenset(gone) & set(one.names)
        found.segments += len(late)
        if late:
            yield from _rows((line for _, line in one.lines(late)), found)


def read_segments(folder: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of these segments, as far as they are still there. Raises LogUnreadable."""
    for name in names:
        file = open_segment(folder, name)
        if file is not None:
            yield from _rows(_each_line(file), Found())


def verify(folder: Path, ids: Iterable[str], archive: Path | None = None) -> Verdict:
    """Whether each prediction or feedback id is in the log exactly once."""
    times = dict.fromkeys(ids, 0)
    found = Found()
    for row in read_rows(folder, found, archive):
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


def tail(folder: Path, rows: int, archive: Path | None = None) -> list[dict[str, Any]]:
    """The newest rows, oldest of them first; reads newest segments until it has enough, archives last."""
    newest: list[dict[str, Any]] = []
    kept = archives(archive) if archive else []
    seen = {name for one in kept for name in one.names}
    for name in reversed(segment_names(folder)):
        file = None if name in seen else open_segment(folder, name)
        if file is not None:
            newest = [*_rows(_each_line(file), Found()), *newest]
        if len(newest) >= rows:
            break
    for one in reversed(kept):
        if len(newest) >= rows:
            break
        newest = [*_rows((line for _, line in one.lines()), Found()), *newest]
    return newest[len(newest) - min(rows, len(newest)) :]


def count(folder: Path, archive: Path | None = None) -> Found:
    """Segments, bytes and rows by kind."""
    found = Found()
    for _ in read_rows(folder, found, archive):
        pass
    return found


def _rows(lines: Iterable[bytes], found: Found) -> Iterator[dict[str, Any]]:
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


def _each_line(file: Any) -> Iterator[bytes]:
    with file:
        yield from file
