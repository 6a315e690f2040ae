"""Two versions beside each other: figures of their cards, curves and segments of their reports, the ladders of their
audits, and both on the frozen customers, which neither was trained on.

Figures of test customers are paired nowhere: each training draws its own. The frozen customers are the same for both,
and compared as the gate does, under the same bootstrap samples.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException

from churn_assets.dashboard.pages.models.model import mark_of
from churn_assets.dashboard.pages.models.versions import METRICS, PARTS, Known, Model, describe_model, figure_of
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.errors import BundleError, ChurnError
from churn_assets.evaluation.bootstrap import Figure, interval
from churn_assets.evaluation.metrics import losses
from churn_assets.html.charts import Axis, Chart, Mark, intervals
from churn_assets.leakage.audit import Rung
from churn_assets.leakage.ladder import Figure as Reached
from churn_assets.promotion.gate.comparison import FEWEST, compare
from churn_assets.promotion.gate.evidence import holdout_evidence
from churn_assets.promotion.holdout import holdout_path, read_holdout
from churn_assets.promotion.status import report_folder
from churn_assets.reporting.model.collect import METRICS as REPORT_FIGURES
from churn_assets.reporting.model.curve_charts import calibration, precision_recall, profit
from churn_assets.reporting.model.facts import Segment, SegmentFigures, Side
from churn_assets.scoring.bundle import load_bundle, read_card, read_ladder, read_provenance
from churn_assets.scoring.card import ModelCard, ProfitPoint

FIRST, SECOND = "a", "b"  # parameters, and the styles of the two in every chart
MOST_SEGMENTS = 40
_OF_REPORT = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("lift_at_10_percent", "lift in the first 10 %"),
    ("ece", "calibration error"),
)
_SPLITS = (("random", "test customers"), ("out_of_time", "newest customers"))


class ReportParts(msgspec.Struct, frozen=True):
    """What the page reads of a model's `metrics.json`."""

    sides: dict[str, Side]
    segments: list[Segment] = []


@dataclass(frozen=True)
class Compared:
    """One of the two; `test` has figures and curves on its test customers, None without a report, `profit` the points
    of its profit curve on them, by its card."""

    model: Model
    threshold: float | None
    rows: int | None
    source: str
    test: Side | None
    profit: tuple[ProfitPoint, ...]
    audit: tuple[str, ...]


@dataclass(frozen=True)
class MetricPair:
    """A metric of both, each on its own customers of one kind, with 95 % intervals."""

    metric: str
    rows: str
    first: Figure | None
    second: Figure | None


@dataclass(frozen=True)
class RungPair:
    """A rung of the audits' ladders: PR-AUC without the columns that it leaves out."""

    label: str
    rows: str
    first: Reached | None
    second: Reached | None


@dataclass(frozen=True)
class SegmentPair:
    """A segment of the test customers of each."""

    column: str
    level: str
    first: SegmentFigures | None
    second: SegmentFigures | None


@dataclass(frozen=True)
class SameCustomers:
    """Both on the frozen customers: differences are second minus first, with paired 95 % intervals."""

    rows: int
    churned: int
    frozen_at: dt.datetime
    first_pr_auc: float
    second_pr_auc: float
    pr_auc: Figure
    first_log_loss: float
    second_log_loss: float
    log_loss: Figure


@dataclass(frozen=True)
class Comparison:
    """The page. `same_table` says whether both were trained and tested on the same table, None where that is not known;
    `not_compared` why there is nothing of the frozen customers, "" if there is. `hidden` segments have too few
    customers for a figure of either model."""

    versions: tuple[str, ...]
    first: Compared | None
    second: Compared | None
    same_table: bool | None
    metrics: tuple[MetricPair, ...]
    same_customers: SameCustomers | None
    not_compared: str
    ladder: tuple[RungPair, ...]
    segments: tuple[SegmentPair, ...]
    hidden: int
    without_report: tuple[str, ...]
    problems: tuple[str, ...]


def read_comparison(sources: Sources, parameters: Mapping[str, str]) -> Comparison:
    """The versions `a` and `b`; without them the champion and the newest other. Raises HTTPException for one that this
    home does not have."""
    problems = list[str]()
    known = Known.of(sources, problems)
    versions = tuple(known.versions())
    first, second = _chosen(known, versions, parameters)
    if not first or not second:
        none = (None, None, None, (), None, "", (), (), 0, ())
        return Comparison(versions, *none, tuple(problems))
    both = first, second
    cards = [attempt(problems, partial(read_card, sources.settings.bundles_dir / version)) for version in both]
    reports = [attempt(problems, partial(_report, sources, version)) for version in both]
    same, why = _on_same_customers(sources, first, second)
    segments = _segments(*(report.segments if report else [] for report in reports))
    shown = [pair for pair in segments if any(each and each.pr_auc for each in (pair.first, pair.second))]
    return Comparison(
        versions=versions,
        first=_compared(sources, known, first, cards[0], reports[0]),
        second=_compared(sources, known, second, cards[1], reports[1]),
        same_table=_same_table(sources, first, second),
        metrics=_metrics(cards, reports),
        same_customers=same,
        not_compared=why,
        ladder=_ladder(*(_rungs(sources, version, problems) for version in both)),
        segments=tuple(shown[:MOST_SEGMENTS]),
        hidden=len(segments) - len(shown[:MOST_SEGMENTS]),
        without_report=tuple(v for v, report in zip(both, reports, strict=True) if report is None),
        problems=tuple(dict.fromkeys(problems)),
    )


def draw_comparison(page: Comparison) -> dict[str, Chart]:
    """PR-AUC, the ladder, and of test customers the curves of both."""
    both = [(each, style) for each, style in ((page.first, FIRST), (page.second, SECOND)) if each is not None]
    legend = [(each.model.version, style) for each, style in both]
    charts = {}
    areas = [
        (pair.rows, [mark_of(pair.first, FIRST), mark_of(pair.second, SECOND)])
        for pair in page.metrics
        if pair.metric == "PR-AUC"
    ]
    if areas:
        charts["pr_auc"] = intervals("PR-AUC with 95 % intervals", areas, Axis("PR-AUC", 0.0, 1.0), legend)
    rungs = [
        (pair.label, [_reached(pair.first, FIRST), _reached(pair.second, SECOND)])
        for pair in page.ladder
        if pair.rows == _SPLITS[0][1]
    ]
    if rungs:
        charts["ladder"] = intervals("PR-AUC by columns left out", rungs, Axis("PR-AUC", 0.0, 1.0), legend)
    curves = [
        (each.test.curves, each.model.version, style) for each, style in both if each.test and each.test.curves.pr
    ]
    if curves:
        charts["precision_recall"], charts["calibration"] = precision_recall(curves), calibration(curves)
    money = [
        ([(p.contacted_share, p.profit, p.low, p.high) for p in each.profit], each.model.version, style)
        for each, style in both
        if each.profit
    ]
    if money:
        charts["profit"] = profit(money)
    return charts


def _chosen(known: Known, versions: Sequence[str], parameters: Mapping[str, str]) -> tuple[str, str]:
    asked = [parameters.get(name, "") for name in (FIRST, SECOND)]
    for version in asked:
        if version and version not in versions:
            raise HTTPException(404, f"there is no model {version[:40]!r} in this home, expected one of /models")
    newest = [challenger.version for challenger in reversed(known.challengers)]
    first = asked[0] or known.champion or next(iter(versions), "")
    others = [version for version in (*newest, *versions) if version != first]
    return first, asked[1] or next(iter(others), "")


def _compared(
    sources: Sources, known: Known, version: str, card: ModelCard | None, report: ReportParts | None
) -> Compared:
    ladder = read_ladder(sources.settings.bundles_dir / version, version)
    return Compared(
        model=describe_model(sources, known, version),
        threshold=card.thresholds.value if card else None,
        rows=card.rows if card else None,
        source=card.source if card else "",
        test=report.sides.get("test") if report else None,
        profit=tuple(card.profit.curve) if card and card.profit else (),
        audit=tuple(ladder.sentences or ()) if ladder else (),
    )


def _report(sources: Sources, version: str) -> ReportParts | None:
    path = report_folder(sources.settings, version) / REPORT_FIGURES
    if not path.is_file():
        return None
    return sources.parsed(path, _parse)


def _parse(path: Path) -> ReportParts:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ReportParts)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{path}: {error}, expected the figures of a model's report; train again") from error


def _same_table(sources: Sources, *versions: str) -> bool | None:
    try:
        tables = [read_provenance(sources.settings.bundles_dir / version).data_sha256 for version in versions]
        seeds = {read_card(sources.settings.bundles_dir / version).seed for version in versions}
    except BundleError:
        return None
    return len(set(tables)) == len(seeds) == 1 if all(isinstance(table, str) for table in tables) else None


def _metrics(cards: Sequence[ModelCard | None], reports: Sequence[ReportParts | None]) -> tuple[MetricPair, ...]:
    rows = [
        (title, name, [figure_of(card, f"{part}_{metric}") for card in cards])
        for metric, title in METRICS
        for part, name in PARTS
    ]
    rows += [(title, PARTS[0][1], [_of_report(report, metric) for report in reports]) for metric, title in _OF_REPORT]
    return tuple(MetricPair(title, name, *pair) for title, name, pair in rows if any(pair))


def _of_report(report: ReportParts | None, metric: str) -> Figure | None:
    estimate = report.sides["test"].metrics.get(metric) if report and "test" in report.sides else None
    return None if estimate is None else Figure(estimate.value, estimate.low, estimate.high)


def _on_same_customers(sources: Sources, *versions: str) -> tuple[SameCustomers | None, str]:
    """Both on the frozen customers, computed once for these customers; and why there is nothing."""
    try:
        contract, folder = sources.contract(), sources.settings.holdout_dir
        path = holdout_path(folder, contract)
        if not path.is_file():
            return None, f"there are no frozen customers at {path}; the first champion of a home freezes its test rows"
        key = ("same customers", contract.fingerprint, *versions)
        same = sources.kept(key, path, lambda: _paired(sources, versions))
    except (ChurnError, OSError) as error:
        return None, " ".join(str(error).split())
    few = f"the frozen customers have fewer than {FEWEST} who churned or as many who stayed, too few to compare on"
    return same, "" if same else few


def _paired(sources: Sources, versions: Sequence[str]) -> SameCustomers | None:
    contract = sources.contract()
    holdout = read_holdout(sources.settings.holdout_dir, contract)
    if holdout is None:
        return None
    first, second = (load_bundle(sources.settings.bundles_dir / version, contract) for version in versions)
    evidence = holdout_evidence(contract, first, second, holdout.rows)
    compared = compare(evidence, seed=0)  # the gate's
    if compared is None:
        return None
    return SameCustomers(
        rows=len(evidence.churned),
        churned=evidence.churners,
        frozen_at=holdout.frozen_at,
        first_pr_auc=compared.champion,
        second_pr_auc=compared.challenger,
        pr_auc=Figure(compared.gain, *compared.interval),
        first_log_loss=float(losses(evidence.churned, evidence.champion).mean()),
        second_log_loss=float(losses(evidence.churned, evidence.challenger).mean()),
        log_loss=Figure(compared.log_loss_point, *interval(compared.log_loss)),
    )


def _rungs(sources: Sources, version: str, problems: list[str]) -> tuple[Rung, ...]:
    ladder = read_ladder(sources.settings.bundles_dir / version, version)
    if ladder is None:
        return ()
    stored = [*([ladder.complete] if ladder.complete else []), *(ladder.rungs or [])]
    return attempt(problems, lambda: msgspec.convert(stored, tuple[Rung, ...])) or ()


def _ladder(first: Sequence[Rung], second: Sequence[Rung]) -> tuple[RungPair, ...]:
    """The rungs of both by the columns that they leave out, fewer first."""
    rungs = [{rung.left_out: rung for rung in own} for own in (first, second)]
    pairs = []
    for left_out in sorted({*rungs[0], *rungs[1]}, key=lambda names: (len(names), names)):
        known = [own.get(left_out) for own in rungs]
        label = next(rung.label for rung in known if rung)
        for split, name in _SPLITS:
            figures = [rung.figures.get(split) if rung else None for rung in known]
            pairs += [RungPair(label, name, *figures)] if any(figures) else []
    return tuple(pairs)


def _segments(first: Sequence[Segment], second: Sequence[Segment]) -> list[SegmentPair]:
    """The segments of both; bands whose bounds differ are segments of their own."""
    known = [{(each.column, each.level): each.test for each in own} for own in (first, second)]
    return [SegmentPair(*name, *(own.get(name) for own in known)) for name in dict.fromkeys([*known[0], *known[1]])]


def _reached(figure: Reached | None, style: str) -> Mark:
    return Mark(None) if figure is None else Mark(figure.pr_auc, figure.low, figure.high, style)
