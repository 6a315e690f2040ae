"""Reports of models of the home of the tests, which keeps none: their figures on its frozen customers."""

from __future__ import annotations

import msgspec

from churn_assets.contract.load import load_contract
from churn_assets.evaluation.metrics import at_threshold, pr_auc
from churn_assets.promotion.gate.evidence import holdout_evidence
from churn_assets.promotion.holdout import read_holdout
from churn_assets.promotion.status import report_folder
from churn_assets.reporting.model import measure
from churn_assets.reporting.model.facts import Confusion, Range, Segment, Side, as_json
from churn_assets.scoring.bundle import load_bundle, read_card
from churn_assets.settings import Settings


def write_figures(settings: Settings, version: str) -> None:
    """Write `metrics.json` of a version with what the comparison of two models reads, measured as a training does."""
    contract, bundle = load_contract(settings.contract_path), settings.bundles_dir / version
    holdout, card, scorer = read_holdout(settings.holdout_dir, contract), read_card(bundle), load_bundle(bundle)
    assert holdout is not None
    evidence = holdout_evidence(contract, scorer, scorer, holdout.rows)
    scored = measure.Scored.of(evidence.churned, evidence.champion, card.seed)
    threshold = card.thresholds.value
    counts = at_threshold(scored.churned, scored.probability, threshold)
    side = Side(
        rows=len(scored.churned),
        churners=evidence.churners,
        metrics=measure.metrics(scored, threshold, card.metrics, "test"),
        recomputed_pr_auc=pr_auc(scored.churned, scored.probability),
        ece_of_perfect=Range(0.0, 1.0),
        confusion=Confusion(**{name: int(counts[name]) for name in Confusion.__struct_fields__}),
        curves=measure.curves(scored, contract.value),
        scores=measure.score_histogram(scored),
    )
    names = {name: name.partition(": ") for name in evidence.segments}
    segments = [
        Segment(names[name][0], names[name][2], measure.segment(scored, rows))
        for name, rows in evidence.segments.items()
    ]
    folder = report_folder(settings, version)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(as_json({"sides": {"test": side}, "segments": msgspec.to_builtins(segments)}))
