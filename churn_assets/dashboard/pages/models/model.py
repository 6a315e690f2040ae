"""One model: what it is, its figures beside the champion's, the gate's verdict line by line, what a person may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException

from churn_assets.dashboard.pages.models.versions import METRICS, PARTS, Known, Model, describe_model, figure_of
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.evaluation.bootstrap import Figure
from churn_assets.html.charts import Axis, Chart, Mark, intervals
from churn_assets.promotion.records import Check
from churn_assets.promotion.status import Event, read_events, report_folder
from churn_assets.scoring.bundle import read_card, read_ladder, read_provenance
from churn_assets.scoring.card import ModelCard

REPORT = "model_report.html"


@dataclass(frozen=True)
class MetricRow:
    """A metric of this model and of the champion on the same kind of rows, with their 95 % intervals."""

    metric: str
    rows: str
    own: Figure | None
    champion: Figure | None


@dataclass(frozen=True)
class ModelPage:
    """One version in full. `actions` are those that are possible now, `audit` sentences of the leakage audit; `report`
    says whether there is one to read."""

    model: Model
    champion: str
    reason: str
    source: str
    rows: int | None
    generated: bool
    threshold: float | None
    metrics: tuple[MetricRow, ...]
    verdict: str
    against: str
    checks: tuple[Check, ...]
    message: str
    audit: tuple[str, ...]
    actions: tuple[str, ...]
    report: bool
    history: tuple[Event, ...]
    problems: tuple[str, ...]


def read_model(sources: Sources, parameters: Mapping[str, str]) -> ModelPage:
    """One version. Raises HTTPException for one that this home does not have."""
    version, problems = parameters["version"], list[str]()
    known = Known.of(sources, problems)
    if version not in known.versions():
        raise HTTPException(404, f"there is no model {version[:40]!r} in this home, expected one of /models")
    bundle, challenger = sources.settings.bundles_dir / version, known.newest(version)
    card = attempt(problems, lambda: read_card(bundle))
    provenance = attempt(problems, lambda: read_provenance(bundle))
    other = None
    if known.champion not in ("", version):
        other = attempt(problems, lambda: read_card(sources.settings.bundles_dir / known.champion))
    events = attempt(problems, lambda: read_events(sources.settings)) or []
    verdict = challenger.verdict if challenger else None
    return ModelPage(
        model=describe_model(sources, known, version),
        champion=known.champion,
        reason=card.reason if card else "",
        source=card.source if card else "",
        rows=card.rows if card else None,
        generated=bool(provenance and provenance.generated),
        threshold=card.thresholds.value if card else None,
        metrics=_metric_rows(card, other),
        verdict="" if verdict is None else verdict.reason,
        against="" if verdict is None else verdict.champion,
        checks=() if verdict is None else verdict.checks,
        message=challenger.message if challenger else "",
        audit=_audit(bundle, version),
        actions=known.actions(version),
        report=(report_folder(sources.settings, version) / REPORT).is_file(),
        history=tuple(event for event in reversed(events) if version in event.version),
        problems=tuple(dict.fromkeys(problems)),
    )


def draw_model(page: ModelPage) -> dict[str, Chart]:
    """PR-AUC of model and champion with their intervals."""
    rows = [
        (row.rows, [mark_of(row.own, "a"), mark_of(row.champion, "b")])
        for row in page.metrics
        if row.metric == "PR-AUC"
    ]
    if not rows:
        return {}
    legend = [("this model", "a"), *([("champion", "b")] if page.champion != page.model.version else [])]
    return {"pr_auc": intervals("PR-AUC with 95 % intervals", rows, Axis("PR-AUC", 0.0, 1.0), legend)}


def mark_of(figure: Figure | None, style: str) -> Mark:
    """A figure as a chart draws it."""
    return Mark(None) if figure is None else Mark(figure.value, figure.low, figure.high, style)


def _metric_rows(card: ModelCard | None, champion: ModelCard | None) -> tuple[MetricRow, ...]:
    rows = []
    for metric, title in METRICS if card else ():
        for part, name in PARTS:
            own, other = figure_of(card, f"{part}_{metric}"), figure_of(champion, f"{part}_{metric}")
            if own is not None or other is not None:
                rows.append(MetricRow(title, name, own, other))
    return tuple(rows)


def _audit(bundle: Path, version: str) -> tuple[str, ...]:
    """What the leakage audit says about the model, in sentences."""
    ladder = read_ladder(bundle, version)
    return () if ladder is None else (*(ladder.sentences or ()), *(ladder.left_out_sentences or ()))
