"""The report of a release as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from churn_assets.html import charts
from churn_assets.html.templating import render
from churn_assets.release.analysis import ArmAnalysis, PairAnalysis, ReleaseAnalysis, describe
from churn_assets.release.counts import SCORE_BINS
from churn_assets.release.guardrails import GuardrailReport
from churn_assets.release.outcomes import MaturedMetrics
from churn_assets.release.policy import CHAMPION, Policy

TEMPLATE = "reporting/templates/release_report.html.j2"
_STYLES = ("a", "b", "c", "d", "e", "f")


def render_release(
    policy: Policy, analysis: ReleaseAnalysis, guardrails: GuardrailReport | None, state: str, made_at: datetime
) -> str:
    """The page; `policy` is the newest of the release, `state` says how its guardrails stand or how it ended."""
    matured = _matured(analysis)
    return render(
        TEMPLATE,
        title=f"Release {policy.id}: {analysis.kind}",
        policy=policy,
        analysis=analysis,
        guardrails=guardrails,
        state=state,
        made_at=f"{made_at:%Y-%m-%d %H:%M} UTC",
        summary=describe(analysis),
        scores=_scores(analysis.arms),
        differences=None if analysis.pairs is None else difference_chart(analysis.pairs),
        matured=matured,
        pr_auc=_intervals("PR-AUC on final labels", matured, "pr_auc"),
        log_loss=_intervals("Log-loss on final labels", matured, "log_loss"),
    )


def _scores(arms: Sequence[ArmAnalysis]) -> charts.Chart | None:
    """The champion's scores up, those of the arm with the most rows beside it down."""
    champion = next((arm for arm in arms if arm.arm == CHAMPION), None)
    others = sorted((arm for arm in arms if arm.arm != CHAMPION), key=lambda arm: -arm.rows)
    if champion is None or not others:
        return None
    edges = [place / SCORE_BINS for place in range(SCORE_BINS + 1)]
    up, down = (
        (arm.arm, style, [count / max(1, arm.rows) for count in arm.scores])
        for arm, style in ((champion, "kept"), (others[0], "churned"))
    )
    return charts.mirrored("Scores by arm", charts.Axis("score", 0.0, 1.0), edges, up, down)


def difference_chart(pairs: PairAnalysis) -> charts.Chart:
    """Rows by the difference of their scores, the middle of each bin."""
    points = [((low + high) / 2, float(count)) for (low, high), count in zip(
        pairwise(pairs.edges), pairs.counts, strict=True
    )]  # fmt: skip
    line = charts.Line("rows", points, band=[(at, 0.0, count) for at, count in points])
    x = charts.Axis("challenger minus champion", pairs.edges[0], pairs.edges[-1])
    y = charts.Axis("rows", 0.0, 1.05 * max(pairs.counts), charts.compact)
    return charts.lines("Score differences", x, y, [line], marks=(0.0,))


def _matured(analysis: ReleaseAnalysis) -> list[tuple[str, MaturedMetrics]]:
    """Figures on final labels by a name: each arm that answered, then both models of the pairs."""
    rows = [(arm.arm, arm.matured) for arm in analysis.arms if arm.matured is not None]
    if analysis.pairs is not None and analysis.pairs.matured is not None:
        rows = [row for row in rows if row[0] != CHAMPION or analysis.kind != "shadow"]
        both = analysis.pairs.matured
        rows += [("champion, same rows", both.champion), ("challenger, same rows", both.challenger)]
    return rows


def _intervals(title: str, matured: Sequence[tuple[str, MaturedMetrics]], name: str) -> charts.Chart | None:
    figures = [(label, figure) for label, each in matured if (figure := getattr(each, name)) is not None]
    if not figures:
        return None
    low, high = min(figure.low for _, figure in figures), max(figure.high for _, figure in figures)
    room = max(0.02, 0.1 * (high - low))
    rows = [
        (label, [charts.Mark(figure.value, figure.low, figure.high, _STYLES[place % len(_STYLES)])])
        for place, (label, figure) in enumerate(figures)
    ]
    return charts.intervals(title, rows, charts.Axis("", max(0.0, low - room), high + room))
