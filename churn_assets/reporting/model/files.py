"""The report as files of a folder: page, card, and the figures for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.reporting.model.card import render_card
from churn_assets.reporting.model.facts import Sources, collect
from churn_assets.reporting.model.page import render_report
from churn_assets.scoring.bundle import load_bundle, read_card, read_provenance, read_reference
from churn_assets.storage.files import replacing, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from churn_assets.training.candidate import Candidate

PAGE, CARD, METRICS = "model_report.html", "model_card.md", "metrics.json"
IMPORTANCE, REFERENCE = "feature_importance.json", "reference.parquet"
FILES = (PAGE, CARD, METRICS, IMPORTANCE, REFERENCE)


def report_facts(
    bundle: Path,
    customers: pa.Table,
    features: pa.Table,
    splits: pa.Table,
    candidates: Sequence[Candidate],
    audit: Mapping[str, Any] | None = None,
    cross_validation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The facts about the model in `bundle`, which was chosen among `candidates` on these tables."""
    scorer = load_bundle(bundle)
    stored = (customers.schema.metadata or {}).get(b"churn_validation")
    return collect(
        Sources(
            contract=scorer.contract,
            version=scorer.version,
            card=read_card(bundle),
            provenance=read_provenance(bundle),
            calibration=scorer.calibration,
            customers=customers,
            features=features,
            splits=splits,
            candidates=candidates,
            validation=json.loads(stored) if stored else None,
            audit=audit if audit is not None and audit.get("model", scorer.version) == scorer.version else None,
            cross_validation=cross_validation,
        )
    )


def write_report(facts: Mapping[str, Any], bundle: Path, folder: Path) -> dict[str, Path]:
    """Write `FILES` into `folder`, each beside its place and then moved there; returns their paths by name."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    importance = {**facts["importance"], "words_by_feature": facts["words"], "version": facts["model"]["version"]}
    texts = {
        PAGE: render_report(facts),
        CARD: render_card(facts),
        METRICS: as_json(facts),
        IMPORTANCE: as_json({name: found for name, found in importance.items() if name != "dependence"}),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    with replacing(folder / REFERENCE) as temporary:
        pq.write_table(read_reference(bundle), temporary, compression="zstd")
    return {name: folder / name for name in FILES}


def as_json(value: object) -> str:
    """Canonical JSON; ValueError for a number that is not finite, which no reader would understand."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
