"""Realized performance: metrics of scores once it is known who churned, from final labels only and never from few.

Metrics are those of `evaluation.metrics`, one row a customer. The intervals of `measure` are a percentile bootstrap
(Efron & Tibshirani, 1993) over customers regardless of label, because how many of them churned is chance too;
docs/labels.md has how often they hold the true figure. `compare` holds the share of churners fixed, so its draws are
stratified, as the card's are. It weights the labelled rows to the card's share of churners (importance weights of a
prior shift: Saerens et al., Neural Computation 2002), because average precision depends on that share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.errors import ContractError
from churn_assets.evaluation.bootstrap import Figure, interval, samples, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Ranking, ece_by_chance, summary
from churn_assets.monitoring.performance.labels import read_labelled
from churn_assets.monitoring.windows import Window, read_window_quality, read_windows, window_folder
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Status = Literal["ok", "insufficient", "one_class"]

DRAWS = 1000
FEWER_DRAWS = 200
MANY_ROWS = 10_000  # from here on intervals are narrow, and fewer draws place their ends well enough
LEAST_CONTROL = 30  # customers of a control group: fewer cannot stand for all who were contacted
LEAST_OF_A_CLASS = 10  # churned, and kept: of fewer, a bootstrap knows too little to give an interval
MOST_ROWS = 50_000  # of a metric; more would fill the memory with draws and move no digit that is shown
_CALIBRATED_DRAWS = 200
_SEED = 42


# -- outcomes and periods ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Period:
    """A stretch of the log: a window, `from_seq` to `to_seq` inclusive, or a calendar month of `scored_at`.

    `name` is the window's number as four digits, or the month as 2026-01; `closed` is whether no row can join
    it any more. `folder` is where the reports on a closed window are kept.
    """

    name: str
    from_seq: int | None = None
    to_seq: int | None = None
    closed: bool = True
    folder: Path | None = None

    def where(self) -> tuple[str, dict[str, str | int | None]]:
        """An SQL condition on `predictions`, and its parameters."""
        if self.from_seq is None:
            return "strftime(scored_at, '%Y-%m') = $period", {"period": self.name}
        return "seq BETWEEN $from_seq AND $to_seq", {"from_seq": self.from_seq, "to_seq": self.to_seq}


@dataclass(frozen=True)
class Outcomes:
    """Predictions with a final label, in the order of the log; arrays of equal length.

    `who` is a number a customer (a row without a customer is its own), `month` of `scored_at` as 2026-01,
    `settled` the instant (datetime64[us], UTC) at which the label was known and the days were over. `spell` numbers
    stretches of the horizon's length by the day on which a row matures.
    """

    seq: Rows
    who: Rows
    score: npt.NDArray[np.float64]
    churned: npt.NDArray[np.bool_]
    contacted: npt.NDArray[np.bool_]
    control: npt.NDArray[np.bool_]
    version: npt.NDArray[np.object_]
    month: npt.NDArray[np.object_]
    settled: npt.NDArray[np.datetime64]
    spell: Rows

    @classmethod
    def of(cls, labelled: pa.Table, fingerprint: str) -> Outcomes:
        """The final rows of `labels.labelled` that were scored under one contract."""
        import pyarrow.compute as pc

        wanted = pc.and_(pc.equal(labelled["label_state"], "final"), pc.equal(labelled["fingerprint"], fingerprint))
        rows = labelled.filter(wanted).sort_by("seq")
        alone = pc.binary_join_element_wise(" ", rows["prediction_id"], " ")
        names = pc.coalesce(rows["customer_id"], alone).combine_chunks().dictionary_encode()
        first, last = (
            rows[name].to_numpy().astype("datetime64[D]").astype(np.int64) for name in ("as_of", "matures_at")
        )
        return cls(
            seq=rows["seq"].to_numpy().astype(np.int64),
            who=names.indices.to_numpy(zero_copy_only=False).astype(np.int64),
            score=rows["score"].to_numpy().astype(np.float64),
            churned=rows["churned"].to_numpy().astype(np.bool_),
            contacted=pc.fill_null(rows["contacted"], False).to_numpy().astype(np.bool_),
            control=pc.fill_null(rows["control"], False).to_numpy().astype(np.bool_),
            version=rows["model_version"].to_numpy(),
            month=pc.strftime(rows["scored_at"], format="%Y-%m").to_numpy(),
            settled=pc.max_element_wise(rows["matures_at"], rows["received_at"]).to_numpy(),
            spell=last // np.maximum(1, last - first),
        )

    def __len__(self) -> int:
        return len(self.seq)

    def take(self, rows: Rows | npt.NDArray[np.bool_]) -> Outcomes:
        """Some of the rows, by position or mask."""
        return Outcomes(**{name: values[rows] for name, values in vars(self).items()})

    @property
    def events(self) -> int:
        """Labels that are news: a customer has at most one in each stretch of the horizon's length, however often he
        is scored or reported on."""
        return len(np.unique(np.stack([self.who, self.spell]), axis=1).T)

    def last_of_each(self) -> Outcomes:
        """The last row of each customer: a customer who is scored often must not count often."""
        _, at = np.unique(self.who[::-1], return_index=True)
        return self.take(np.sort(len(self) - 1 - at))

    def within(self, period: Period) -> Outcomes:
        """The rows of a period, the last of each customer."""
        if period.from_seq is None or period.to_seq is None:
            return self.take(np.asarray(self.month == period.name, dtype=np.bool_)).last_of_each()
        return self.take((self.seq >= period.from_seq) & (self.seq <= period.to_seq)).last_of_each()

    def of_version(self, version: str) -> Outcomes:
        """The rows that one model scored, the last of each customer."""
        return self.take(np.asarray(self.version == version, dtype=np.bool_)).last_of_each()

    def newest(self, customers: int) -> Outcomes:
        """The last `customers` rows."""
        return self.take(np.arange(max(0, len(self) - customers), len(self)))


def usable_labels(settings: Settings, contract: Contract) -> tuple[pa.Table | None, int]:
    """The rows of the asset `labelled_predictions` that lie in no broken window of a contract, and how many do. (None,
    0) before the asset was made. A window whose data was not checked counts as usable. Rows of another contract of the
    same lineage, before an edit of its limits say, get this one's fingerprint. A column says at which row of the log
    the closed window begins that a row lies in or after; null after the last one. Raises WindowUnreadable."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from churn_assets.training.labelled_rows import WINDOW

    path = settings.assets_dir / "labelled_predictions.parquet"
    if not path.is_file():
        return None, 0
    labelled = read_labelled(path)
    related = [name for name in pc.unique(labelled["fingerprint"]).to_pylist() if _is_related(settings, name, contract)]
    windows = [window for fingerprint in related for window in read_windows(settings, fingerprint)]
    quality = [read_window_quality(window_folder(settings, window)) for window in windows]
    broken = [(w.from_seq, w.to_seq) for w, status in zip(windows, quality, strict=True) if status == "broken"]
    of_contract = pc.is_in(labelled["fingerprint"], pa.array(related, pa.string()))
    place = labelled.schema.get_field_index("fingerprint")
    own = pc.if_else(of_contract, contract.fingerprint, labelled["fingerprint"])
    seq = labelled["seq"].to_numpy()
    keep = outside(seq, broken) | ~of_contract.to_numpy().astype(bool)
    labelled = labelled.append_column(WINDOW, _window_starts(seq, windows))
    return labelled.set_column(place, "fingerprint", own).filter(pa.array(keep)), int(np.sum(~keep))


def _window_starts(seq: Rows, windows: Sequence[Window]) -> pa.Array:
    import pyarrow as pa

    starts = np.array(sorted({0, *(window.from_seq for window in windows)}), dtype=np.int64)
    begun = starts[np.searchsorted(starts, seq, side="right") - 1]
    last = max((window.to_seq for window in windows), default=-1)
    return pa.array(begun, pa.int64(), mask=seq > last)


def _is_related(settings: Settings, fingerprint: str, contract: Contract) -> bool:
    """Whether predictions of this fingerprint were made from the model inputs that the contract has."""
    if fingerprint == contract.fingerprint:
        return True
    kept = settings.warehouse_dir / "contracts" / f"{fingerprint}.toml"  # the ingest keeps every contract it met
    try:
        return load_contract(kept).lineage == contract.lineage
    except ContractError:
        return False


def outside(seq: Rows, spans: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """True (n,) for rows of the log that lie in none of these stretches, both ends included."""
    keep = np.ones(len(seq), dtype=np.bool_)
    for first, last in spans:
        keep &= (seq < first) | (seq > last)
    return keep


# -- metrics -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """Calibration in the large: churned share minus mean score is the `gap`, with its normal 95 % interval."""

    churned_share: float
    mean_score: float
    gap: float
    low: float
    high: float


@dataclass(frozen=True)
class AtCapacity:
    """Precision among the `share` of customers with the highest scores: as many as the contract can contact."""

    share: float
    customers: float
    precision: float
    low: float
    high: float


@dataclass(frozen=True)
class RealizedMetrics:
    """`ece_by_chance` is what the ECE of calibrated scores stays below in 95 % of draws: it is never 0 of few rows."""

    pr_auc: Figure
    roc_auc: Figure
    log_loss: Figure
    brier: Figure
    churned_share: float
    ece: float
    ece_by_chance: float
    calibration: Calibration
    at_capacity: AtCapacity | None


@dataclass(frozen=True)
class RealizedPerformance:
    """Customers with a final label, how many churned and were contacted, and their metrics.

    `metrics` are None unless the status is 'ok', and `message` says why. `older` rows were left out, see MOST_ROWS.
    """

    status: Status
    message: str
    rows: int
    churned: int
    contacted: int
    older: int
    metrics: RealizedMetrics | None = None


@dataclass(frozen=True)
class CardFigure:
    """PR-AUC at a share of churners, with its interval; None where it has none."""

    pr_auc: float
    churned_share: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.pr_auc:.3f}"
        return str(Figure(self.pr_auc, self.low, self.high))


@dataclass(frozen=True)
class CardComparison:
    """PR-AUC of labelled customers against the champion's card.

    The status is 'unknown' without a card to compare with. `dropped` is true only if the whole labelled interval lies
    below the whole interval of the card and the `fall` is at least `limit`. `labelled` is weighted to the churned
    share of the card, `unweighted` is not. The figures are None unless the status is 'ok', and `message` says why.
    """

    status: Literal["ok", "insufficient", "one_class", "unknown"]
    message: str
    rows: int = 0
    churned: int = 0
    dropped: bool = False
    card: CardFigure | None = None
    labelled: CardFigure | None = None
    unweighted: CardFigure | None = None
    fall: float | None = None
    limit: float | None = None


def measure(outcomes: Outcomes, floor: int, capacity_share: float | None = None) -> RealizedPerformance:
    """Every metric of rows (one a customer), or why there is none; equal rows give equal numbers.

    `capacity_share` is the share of rows that can be contacted, None without a capacity. Of more than MOST_ROWS
    rows the newest are measured.
    """
    older, outcomes = max(0, len(outcomes) - MOST_ROWS), outcomes.newest(MOST_ROWS)
    rows, churned, contacted = len(outcomes), int(np.sum(outcomes.churned)), int(np.sum(outcomes.contacted))
    status, message = _conclusive(rows, churned, floor)
    if status != "ok":
        return RealizedPerformance(status, message, rows, churned, contacted, older)
    label, score = outcomes.churned.astype(np.float64), outcomes.score
    weights = _bootstrap_customers(outcomes.churned)
    values = summary(label, score, 1.0, weights)
    names = ("pr_auc", "roc_auc", "log_loss", "brier")
    metrics = RealizedMetrics(
        **{name: Figure(values[name], values[f"{name}_low"], values[f"{name}_high"]) for name in names},
        churned_share=values["churn_rate"],
        ece=values["ece"],
        ece_by_chance=float(np.quantile(ece_by_chance(score, _CALIBRATED_DRAWS, _SEED), 0.95)),
        calibration=calibration_in_the_large(label, score),
        at_capacity=None if capacity_share is None else _at_capacity(label, score, capacity_share, weights),
    )
    pr_auc = metrics.pr_auc
    message = (
        f"PR-AUC {pr_auc.value:.3f} (95 % {pr_auc.low:.3f} to {pr_auc.high:.3f}) of "
        f"{rows:,} customers, {churned:,} of them churned"
    )
    return RealizedPerformance("ok", message, rows, churned, contacted, older, metrics)


def calibration_in_the_large(churned: Floats, score: Floats) -> Calibration:
    """Churned share minus mean score, with its normal 95 % interval over rows; 0 if calibrated."""
    difference = churned - score
    gap, spread = float(np.mean(difference)), 1.96 * float(np.std(difference, ddof=1)) / len(difference) ** 0.5
    return Calibration(float(np.mean(churned)), float(np.mean(score)), gap, gap - spread, gap + spread)


def compare(outcomes: Outcomes, card: Mapping[str, float], drop: float, floor: int) -> CardComparison:
    """PR-AUC of labelled rows against the card's on test rows, both at the card's churned share.

    Sampling alone makes a model drop by `drop` and by both intervals in far less than 2.5 % of reports. Without a
    conclusion nothing dropped.
    """
    outcomes = outcomes.newest(MOST_ROWS)
    rows, churned, contacted = len(outcomes), int(np.sum(outcomes.churned)), int(np.sum(outcomes.contacted))
    status, message = _conclusive(rows, churned, floor)
    if status != "ok":
        return CardComparison(status, message, rows, churned)
    rated, treatment = _untreated(outcomes)
    target = card["test_churn_rate"]
    share = float(np.sum(rated.weight * rated.churned) / np.sum(rated.weight))
    prior_weight = rated.weight * np.where(rated.churned, target / share, (1.0 - target) / (1.0 - share))
    ranking = Ranking(rated.churned, outcomes.score[rated.row])
    draws = stratified_samples(outcomes.churned, _draws(rows), _SEED)
    of_draws = statistics_under(draws, lambda weight: ranking.pr_auc(weight[rated.row] * prior_weight))
    low, high = interval(of_draws[0])
    before = CardFigure(card["test_pr_auc"], target, card["test_pr_auc_low"], card["test_pr_auc_high"])
    now = CardFigure(ranking.pr_auc(prior_weight), target, low, high)
    fall = before.pr_auc - now.pr_auc
    dropped = bool(high < card["test_pr_auc_low"] and fall >= drop)
    verdict = "is lower, within noise or the contract's monitoring.pr_auc_drop" if fall > 0 else "holds"
    message = (
        f"labelled PR-AUC {'has fallen beyond noise' if dropped else verdict}: {now} on {rows:,} customers, "
        f"card {before}; both at the card's {target:.1%} churned, {share:.1%} of the labelled customers did"
    )
    if contacted:
        message += f"; {contacted:,} were contacted: {treatment}"
    unweighted = CardFigure(ranking.pr_auc(rated.weight), share)
    return CardComparison("ok", message, rows, churned, dropped, before, now, unweighted, fall, drop)


@dataclass(frozen=True)
class _Untreated:
    """Outcomes as they would be without contacts: (m,) labels with their weights, each of a `row` of the outcomes."""

    row: Rows
    churned: npt.NDArray[np.bool_]
    weight: Floats


def _untreated(outcomes: Outcomes) -> tuple[_Untreated, str]:
    """The outcomes without the effect of contacts, and how.

    A control group, drawn at random from those who would have been contacted, stands for them (inverse probability
    weights: Horvitz & Thompson, 1952). Without one, a contacted customer who stayed may have been persuaded: he counts
    as churned with the probability that the model gave him. No fall is found where only contacts could be its cause.
    """
    reached, control, every = outcomes.contacted, outcomes.control, np.arange(len(outcomes))
    if int(np.sum(control)) >= LEAST_CONTROL:
        weight = np.where(control, 1.0 + np.sum(reached) / np.sum(control), 1.0)
        row = every[~reached]
        how = f"the {np.sum(control):,} of the control group stand for them"
        return _Untreated(row, outcomes.churned[row], weight[row]), how
    kept = every[reached & ~outcomes.churned]
    chance = outcomes.score[kept]
    weight = np.ones(len(outcomes))
    weight[kept] = 1.0 - chance
    row = np.append(every, kept)
    churned = np.append(outcomes.churned, np.ones(len(kept), dtype=np.bool_))
    how = "who of them stayed counts as churned with the probability of the score, for want of a control group"
    return _Untreated(row, churned, np.append(weight, chance)), how


def _conclusive(rows: int, churned: int, floor: int) -> tuple[Status, str]:
    if rows < floor:
        return "insufficient", f"{rows:,} customers with a final label, expected at least {floor:,}"
    if churned in (0, rows):
        which = "none of them churned" if not churned else "all of them churned"
        return "one_class", f"{rows:,} customers with a final label and {which}: a ranking cannot be measured"
    if min(churned, rows - churned) < LEAST_OF_A_CLASS:
        counts = f"{churned:,} churned and {rows - churned:,} kept"
        return "insufficient", f"{counts}, expected at least {LEAST_OF_A_CLASS} of each"
    return "ok", ""


def _draws(rows: int) -> int:
    return DRAWS if rows <= MANY_ROWS else FEWER_DRAWS


def _bootstrap_customers(churned: npt.NDArray[np.bool_]) -> Floats:
    """Multiplicities of draws of customers (draws, rows); the rare draw without one of the classes is left out."""
    rows = len(churned)
    weights = samples(rows, _draws(rows), _SEED)
    hits = weights @ churned
    return np.asarray(weights[(hits > 0) & (hits < rows)])


def _at_capacity(churned: Floats, score: Floats, share: float, weights: Floats) -> AtCapacity:
    ranking = Ranking(churned, score)

    def precision(weight: Floats) -> float:
        listed = share * float(np.sum(weight))
        total, hits = ranking.counts(weight)
        # Customers of equal score are on the list in proportion.
        return float(np.interp(listed, np.append(0.0, total), np.append(0.0, hits)) / listed)

    low, high = interval(statistics_under(weights, precision)[0])
    return AtCapacity(share, share * len(score), precision(np.ones(len(score))), low, high)
