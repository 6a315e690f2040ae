"""The report of the model in a bundle: its facts from the bundle and the tables, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from churn_assets.contract.model import Contract
from churn_assets.data.customers import TableOrigin
from churn_assets.data.validation.report import report_of
from churn_assets.errors import TrainingError
from churn_assets.evaluation.bootstrap import interval
from churn_assets.evaluation.metrics import at_threshold, ece_by_chance, pr_auc, shortage_in
from churn_assets.leakage.audit import Audit
from churn_assets.reporting.model import facts, measure
from churn_assets.reporting.model.facts import SIDES, Limit, Report, as_json
from churn_assets.reporting.model.importance import importance
from churn_assets.reporting.model.learning import learning_curve
from churn_assets.reporting.model.measure import Scored
from churn_assets.reporting.model.page import render_card, render_report
from churn_assets.reporting.model.segments import segments
from churn_assets.reporting.model.worked import worked_customers
from churn_assets.scoring.bundle import load_bundle, read_card, read_provenance, read_reference
from churn_assets.scoring.card import ModelCard
from churn_assets.scoring.prices import Prices, prices
from churn_assets.storage.files import replacing, write_text
from churn_assets.training.cross_validation import CrossValidation
from churn_assets.training.feature_table import TrainingData, as_of_of, training_data
from churn_assets.training.profit import threshold_table
from churn_assets.training.select import chosen_of, tested
from churn_assets.training.split import newest_of

if TYPE_CHECKING:
    import pyarrow as pa

    from churn_assets.training.candidate import Candidate

PAGE, CARD, METRICS = "model_report.html", "model_card.md", "metrics.json"
IMPORTANCE, REFERENCE = "feature_importance.json", "reference.parquet"
FILES = (PAGE, CARD, METRICS, IMPORTANCE, REFERENCE)
MATERIAL_TWINS = 0.02  # of the test customers
MOST_SEGMENTS = 8  # named in a text
NO_BETTER = "Not to choose whom to contact"
NO_SIGNAL = (
    "The model is no better than random: a random list lies within the 95 % interval of its test figures. "
    "Nobody is marked to be contacted, in no list and by no service."
)


def collect_report(
    bundle: Path,
    customers: pa.Table,
    features: pa.Table,
    splits: pa.Table,
    candidates: Sequence[Candidate],
    audit: Audit | None = None,
    cross_validation: CrossValidation | None = None,
) -> Report:
    """The report of the model in `bundle`, which was chosen among `candidates` on these tables.

    `audit` and `cross_validation` are the stored values of those assets, None if the run made none; an audit of
    another model is left out. Test rows are read, nothing is decided by them. Equal inputs give an equal report.
    Raises TrainingError if the chosen model is not among the candidates, AssetStale if they were trained on other
    features.
    """
    scorer = load_bundle(bundle)
    card, provenance, contract = read_card(bundle), read_provenance(bundle), scorer.contract
    data = training_data(contract, features, splits)
    chosen = _chosen(card, candidates, features)
    scored = {
        SIDES[name]: Scored.of(*tested(chosen, name, data, scorer.calibration), seed=card.seed) for name in data.views
    }
    worth = prices(contract, customers, as_of_of(customers))
    own = {SIDES[name]: worth.take(view.split.test) for name, view in data.views.items()}
    view, newest = data.views["random"], newest_of(splits)
    test = view.split.test
    if audit is not None and audit.model not in ("", scorer.version):
        audit = None
    report = Report(
        model=msgspec.convert({**msgspec.to_builtins(card), "version": scorer.version}, facts.ModelFacts),
        data=_data(contract, customers, data, bool(provenance.generated)),
        threshold=facts.ThresholdFacts(card.thresholds.value, card.thresholds.chosen, dict(card.thresholds.values)),
        value=facts.ValueFacts(
            float(worth.customer_value.mean()),
            contract.value.offer_cost,
            float(worth.save_rate.mean()),
            contract.value.capacity,
            contract.value.by_customer,
        ),
        sides={name: _side(side, card, name, contract, own[name]) for name, side in scored.items()},
        segments=segments(contract, customers, data, scored, worth),
        fewest=measure.FEWEST,
        importance=importance(
            chosen.fitted["random"].model,
            view.program.specs,
            view.matrix[view.split.learn],
            view.matrix[test],
            data.churned[test],
            card.seed,
        ),
        feature_docs={
            **{c.name: c.doc.rstrip(".") + (f", in {c.unit}" if c.unit else "") for c in contract.columns},
            **{f.name: f.doc.rstrip(".") or f.expression for f in contract.features},
        },
        comparison=card.comparison,
        calibration=card.calibration,
        candidates=card.candidates,
        suspects=[facts.Suspect(c.name, c.suspect, c.attested) for c in contract.scoring_columns if c.suspect],
        ladder=audit,
        profit=card.profit,
        cross_validation=cross_validation,
        validation=report_of(customers.schema),
        provenance=provenance,
        worked=worked_customers(scorer, customers, test, scored["test"].churned, scored["test"].probability),
        learning=learning_curve(chosen, {c.name: c for c in candidates}, data, scored["test"], card.seed),
        out_of_fold=_out_of_fold(card.metrics),
        newest=None if newest is None else facts.PartFacts(newest[1], newest[0] / newest[1]),
    )
    return msgspec.structs.replace(report, limits=_limits(contract, report, card.metrics))


def write_report(report: Report, bundle: Path, folder: Path) -> dict[str, Path]:
    """Write `FILES` into `folder`, each beside its place and then moved there; returns their paths by name."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value
        for name, value in msgspec.to_builtins(report.importance).items()
        if name not in ("dependence", "summary")
    }
    texts = {
        PAGE: render_report(report),
        CARD: render_card(report),
        METRICS: as_json(report),
        IMPORTANCE: as_json({**weights, "words_by_feature": report.feature_docs, "version": report.model.version}),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    with replacing(folder / REFERENCE) as temporary:
        pq.write_table(read_reference(bundle), temporary, compression="zstd")
    return {name: folder / name for name in FILES}


def _chosen(card: ModelCard, candidates: Sequence[Candidate], features: pa.Table) -> Candidate:
    chosen = chosen_of(card.chosen, card.recent.trained_on if card.recent else "all", candidates, features)
    if chosen is not None:
        return chosen
    names = ", ".join(c.name for c in candidates) or "none"
    raise TrainingError(
        f"the bundle holds '{card.chosen}', expected one of the candidates ({names}); materialise chosen_model again"
    )


def _data(contract: Contract, customers: pa.Table, data: TrainingData, generated: bool) -> facts.DataFacts:
    origin, label = TableOrigin.of(customers), contract.label
    return facts.DataFacts(
        source=origin.source,
        generated=generated,
        as_of=origin.as_of,
        rows=customers.num_rows,
        churners=int(data.churned.sum()),
        churn_rate=float(data.churned.mean()),
        label=facts.LabelFacts(label.column, label.meaning, label.horizon_days),
        cohort=contract.time.cohort,
        parts={
            name: {
                part: facts.PartFacts(len(rows), float(data.churned[rows].mean()))
                for part, rows in vars(view.split).items()
            }
            for name, view in data.views.items()
        },
    )


def _side(side: Scored, card: ModelCard, name: str, contract: Contract, worth: Prices) -> facts.Side:
    threshold = card.thresholds.value
    counts = at_threshold(side.churned, side.probability, threshold)
    few = facts.Side(
        rows=len(side.churned),
        churners=int(side.churned.sum()),
        metrics={},
        recomputed_pr_auc=None,
        ece_of_perfect=facts.Range(*interval(ece_by_chance(side.probability, measure.DRAWS, card.seed))),
        confusion=facts.Confusion(**{name: int(counts[name]) for name in facts.Confusion.__struct_fields__}),
        curves=facts.Curves(float(side.churned.mean()), [], [], [], [], []),
        twin_share=card.metrics.get("test_twin_share", 0.0) if name == "test" else 0.0,
    )
    if few.shortage:
        return few
    return msgspec.structs.replace(
        few,
        metrics=measure.metrics(side, threshold, card.metrics, name),
        recomputed_pr_auc=pr_auc(side.churned, side.probability),
        curves=measure.curves(side, contract.value, worth.gain),
        scores=measure.score_histogram(side),
        thresholds=threshold_table(
            side.churned, side.probability, contract.value, card.thresholds.values, card.seed, worth
        ),
    )


def _out_of_fold(metrics: Mapping[str, float]) -> facts.OutOfFold | None:
    if "validation_pr_auc" not in metrics:
        return None
    rows = round(metrics["validation_rows"])
    estimate = facts.Estimate(*(metrics[f"validation_pr_auc{end}"] for end in ("", "_low", "_high")))
    return facts.OutOfFold(rows, round(metrics["validation_churn_rate"] * rows), estimate)


def _limits(contract: Contract, report: Report, metrics: Mapping[str, float]) -> list[Limit]:
    """What the model must not be used for: what follows from the contract and the figures, the gravest first."""
    label = contract.label
    simulated = "It was trained on generated customers. Every figure here describes a simulation."
    limits = [
        ("Not for any real customer", simulated if report.data.generated else ""),
        (NO_BETTER, NO_SIGNAL if report.model.no_signal else ""),
        _strong_columns(report),
        _new_customers(report),
        (
            "Not to predict when a customer leaves",
            f"The label is '{label.column}': {label.meaning or 'The contract does not say what the label means.'} "
            "The probability is of that label; it has no date.",
        ),
        (
            "Not for decisions about people other than a retention offer",
            "The score says which customers resemble those that left. It has not been examined as a basis for prices, "
            "credit, service levels or ending a relation.",
        ),
        (
            "Not as the effect of an offer",
            "A high risk does not mean that an offer changes it. The contract assumes that an offer saves "
            f"{contract.value.save_rate:.0%} of the churners it reaches; only a test with a control group can "
            "measure that.",
        ),
        ("Not with confidence in small segments", _small_segments(report)),
        *headline_caveats(metrics),
        (
            "Not for another table",
            f"The model reads tables that conform to contract '{contract.name}'; other tables need a contract and a "
            "training of their own. A value outside the training range is scored like the nearest value in it.",
        ),
    ]
    return [Limit(title, text) for title, text in limits if text]


def headline_caveats(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """What makes the headline figure doubtful or flattering: few churners, test customers with a twin."""
    few, twins = shortage_in(metrics, "test"), metrics.get("test_twin_share", 0.0)
    counted = f"There are {few} to test with, so nothing but the out-of-fold figure of training customers is known."
    doubled = (
        f"{twins:.0%} of the test customers equal a training customer in every feature. The model can remember those; "
        "expect less for customers unlike any before."
    )
    return [
        ("Not with a tested accuracy", counted if few else ""),
        ("Not as accurate for customers unlike those in the table", doubled if twins >= MATERIAL_TWINS else ""),
    ]


def _strong_columns(report: Report) -> tuple[str, str]:
    over = [finding.column for finding in report.ladder.read] if report.ladder else []
    names = ", ".join(f"'{column}'" for column in dict.fromkeys(over or [s.column for s in report.suspects]))
    if report.ladder is None:
        text = f"The contract suspects {names}, and this run has no audit of how much the model depends on that."
        return "Not as a forecast free of consequences of churn", text if names else ""
    text = (
        f"Much of the headline depends on {names}. If these values can be recorded after a customer is lost, the model "
        "detects past churn instead of predicting future churn."
    )
    return "Not as a forecast if its strongest columns are consequences of churn", text if over else ""


def _new_customers(report: Report) -> tuple[str, str]:
    if why := facts.untested_newest(report):
        text = f"This report cannot say how well newer customers would be ranked: {why}."
        return "Not for customers newer than the table", text
    if "pr_auc" not in report.sides["test"].metrics:
        return "", ""
    random, newest = (report.sides[side].metrics["pr_auc"] for side in ("test", "oot"))
    text = (
        f"On the newest customers by '{report.data.cohort}' PR-AUC is {newest.value:.2f}, not {random.value:.2f}: "
        "use the out-of-time figures for customers who joined recently."
    )
    return "Not with the headline figure for new customers", text if newest.high < random.low else ""


def _small_segments(report: Report) -> str:
    small = [segment for segment in report.segments if segment.test.rows and not segment.test.enough]
    names = ", ".join(f"{segment.column} {segment.level}" for segment in small[:MOST_SEGMENTS])
    more = f" and {len(small) - MOST_SEGMENTS} more" if len(small) > MOST_SEGMENTS else ""
    text = f"With fewer than {report.fewest} churned or kept test customers it is not known how well the model ranks "
    return f"{text}them: {names}{more}." if small else ""
