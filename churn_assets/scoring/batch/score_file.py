"""Scoring a file of any size: every row is scored, or rejected with its reasons, in bounded memory."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Severity
from churn_assets.errors import SettingsError
from churn_assets.scoring.batch.passes import Part, Passes, as_days
from churn_assets.scoring.batch.writers import TableFile
from churn_assets.scoring.call_list import call_order, ranked, with_reasons
from churn_assets.scoring.explain.reasons import Explainer
from churn_assets.scoring.scorer import BAND_NAMES, Scorer

BATCH_ROWS = 65_536
_CUSTOMER = "customer"
CALLS_WITHOUT_CAPACITY = 1000  # the length of the call list where the contract sets no capacity

Progress = Callable[[int, int | None], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchSummary:
    """What became of a file's rows, and where it is written; as a string, words for people.

    `rejected` and `calls` are None if there are none; `as_of` is None where each row has its own.
    `reasons`, `warnings` and `repairs` count rows, rows and cells; `bands` counts scored customers.
    """

    source: str
    out: Path
    rejected: Path | None
    calls: Path | None
    rows: int
    rows_scored: int
    rows_rejected: int
    as_of: dt.date | None
    as_of_words: str
    model_version: str
    reasons: dict[str, int]
    warnings: dict[str, int]
    repairs: dict[str, int]
    bands: dict[str, int]

    def __str__(self) -> str:
        when = f"{self.as_of} ({self.as_of_words})" if self.as_of else self.as_of_words
        lines = [
            f"{self.source}: {self.rows:,} rows, {self.rows_scored:,} scored, {self.rows_rejected:,} rejected",
            f"as of: {when}; model: {self.model_version or 'not in a bundle'}",
            f"risk bands: {_counts(self.bands)}",
        ]
        for words, counts in (
            ("repaired cells", self.repairs),
            ("reasons of rejection", self.reasons),
            ("warnings", self.warnings),
        ):
            lines += [f"{words}: {_counts(counts)}"] if any(counts.values()) else []
        for words, path in (("scores", self.out), ("whom to call", self.calls), ("rejected rows", self.rejected)):
            lines += [f"{words}: {path}"] if path else []
        return "\n".join(lines)


def score_file(
    scorer: Scorer,
    source: str | Path,
    out: Path,
    as_of: dt.date | str | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    threads: int | None = None,
    reasons: bool = False,
    progress: Progress | None = None,
    each: Callable[[Part], None] | None = None,
) -> BatchSummary:
    """Score every row of `source` (anything `data.read` reads) into `out` (.parquet or .csv).

    `out` has the valid rows in the file's order, with their source row; beside it are
    `<name>.rejected.parquet` (raw cells and reasons) and `<name>.calls<suffix>` (the contacts worth most,
    as many as the contract's capacity). All appear when everything is written, `out` last. An `as_of`
    given here wins over the contract's. `threads` is by default the number of processors; with `reasons`
    the calls say why; `progress(rows done, rows in all or None)` is called after each batch, and `each` is
    given it, in order. Raises what
    reading raises, SettingsError for an `out` or `as_of` that cannot be, and BundleMismatch for reasons
    of a bundle that cannot give any.
    """
    beside = out.with_name(f"{out.stem}.rejected.parquet"), out.with_name(f"{out.stem}.calls{out.suffix}")
    _check_places(source, out, *beside)
    workers = threads or _processors()
    explainer = Explainer(scorer) if reasons else None
    with TableFile(out) as scored, TableFile(beside[0]) as rejected, TableFile(beside[1]) as calls:
        passes = Passes(scorer, source, batch_rows, _date(as_of))
        tally = _Tally(scorer, keep_customers=reasons)
        with ThreadPoolExecutor(workers) as pool:
            for part in _in_order(pool, passes.score, passes.batches(), ahead=workers + 1):
                scored.write(part.scored)
                if part.checked.rejected.num_rows:
                    rejected.write(part.checked.rejected)
                tally.add(part)
                if each is not None:
                    each(part)
                if progress is not None:
                    progress(tally.rows, passes.rows)
        if tally.best.num_rows:
            calls.write(tally.call_list(explainer))
        return BatchSummary(
            source=passes.name,
            rejected=rejected.publish(),
            calls=calls.publish(),
            out=scored.publish() or out,
            rows=tally.rows,
            rows_scored=scored.rows,
            rows_rejected=rejected.rows,
            as_of=passes.snapshot,
            as_of_words=passes.as_of_words,
            model_version=scorer.version,
            reasons=dict(tally.reasons),
            warnings=dict(tally.warnings),
            repairs=dict(tally.repairs),
            bands=dict(tally.bands),
        )


class _Tally:
    """Sums over the batches, and the contacts worth most so far."""

    def __init__(self, scorer: Scorer, keep_customers: bool = False) -> None:
        self._value, self._keep_customers = scorer.contract.value, keep_customers
        capacity = scorer.contract.value.capacity
        self._keep = CALLS_WITHOUT_CAPACITY if capacity is None else capacity
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.bands: Counter[str] = Counter(dict.fromkeys(BAND_NAMES, 0))
        self.best = pa.table({})

    def add(self, part: Part) -> None:
        """Count a batch in."""
        self.rows += part.checked.report.rows_in
        self.repairs.update(part.repairs)
        for cause in part.checked.report.causes:
            counts = self.warnings if cause.severity is Severity.WARN else self.reasons
            counts[cause.reason] += cause.rows
        for band in pc.value_counts(part.scored["risk_band"]).to_pylist():
            self.bands[band["values"]] += band["counts"]
        scored = part.scored
        if self._keep_customers:  # the columns that reasons are made of, only for those on the list so far
            rows = part.checked.customers.to_struct_array()
            scored = scored.append_column(_CUSTOMER, rows)
        self._call(scored)

    def call_list(self, explainer: Explainer | None) -> pa.Table:
        """The contacts in their final order, with reasons if there is an explainer."""
        listed = ranked(self.best, self._value)
        if explainer is None:
            return listed
        customers = pa.Table.from_struct_array(self.best[_CUSTOMER].combine_chunks())
        return with_reasons(listed, explainer.explain_table(customers, as_days(listed["as_of"].combine_chunks())))

    def _call(self, scored: pa.Table) -> None:
        if self.best.num_rows == self._keep > 0:  # most batches have few that are worth more than the last
            least = pc.min(self.best["expected_value"])
            scored = scored.filter(pc.greater_equal(scored["expected_value"], least))
        pays = scored.filter(pc.greater(scored["expected_value"], 0.0))
        both = pa.concat_tables([self.best, pays]) if self.best.num_rows else pays
        self.best = both.take(call_order(both).slice(0, self._keep))


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Results in the items' order, with at most `ahead` items begun and not yet taken."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _check_places(source: str | Path, *places: Path) -> None:
    read = Path(str(source)).expanduser().resolve()
    for place in places:
        if place.expanduser().resolve() == read:
            raise SettingsError(f"{place} is the file to be scored, and would be written; name another output")
        if place.is_dir():
            raise SettingsError(f"{place} is a folder, expected a file that ends in .parquet or .csv; name one")


def _date(as_of: dt.date | str | None) -> dt.date | None:
    if not isinstance(as_of, str):
        return as_of
    try:
        return dt.date.fromisoformat(as_of)
    except ValueError:
        raise SettingsError(f"as_of is '{as_of}', expected a day such as 2014-01-20; write it so") from None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
