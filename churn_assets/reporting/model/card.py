"""The model card in Markdown, in the order of Mitchell et al., "Model Cards for Model Reporting" (2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from churn_assets.reporting.model.curves import SIDES
from churn_assets.reporting.model.performance import METRICS

Facts = Mapping[str, Any]

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "|*_`[]#"})


def render_card(facts: Facts) -> str:
    """The card of `facts.collect`; what a run has not made is said in its place."""
    model, data = facts["model"], facts["data"]
    parts = [f"# {_text(model['title'])}: model card", *_banner(facts), _ladder(facts)]
    parts += [
        "## Model",
        f"{_text(model['chosen'])}, version `{model['version']}`, contract '{_text(model['contract'])}' "
        f"(`{model['fingerprint'][:12]}`). {_sentence(model['reason'])} "
        f"Calibration: {_text(facts['calibration']['kind'])}.",
        "## Intended use",
        "Ranking customers of this contract for a retention offer, by calibrated probability and expected value.",
        "## What it must not be used for",
        "\n".join(f"- **{_text(limit['title'])}.** {_text(limit['words'])}" for limit in facts["limits"]),
        "## Data",
        f"{_text(data['source'])}, as of {data['as_of']}: {data['rows']:,} customers, "
        f"{data['churn_rate']:.1%} churned. "
        f"Label '{_text(data['label']['column'])}': {_text(data['label']['meaning'])}",
        _validation(facts["validation"]),
        "## Figures on test customers",
        f"With 95 % bootstrap intervals; threshold {facts['threshold']['value']:.3f}, set for "
        f"{facts['threshold']['by']} on validation customers.",
        _metrics(facts),
        "## Segments",
        f"Fewer than {facts['fewest']} churned or kept test customers are too few to say.",
        _segments(facts),
        "## What drives the score",
        _text(facts["importance"]["words"]),
        _drivers(facts),
        "## Candidates",
        _candidates(facts),
        "## Origin",
        _origin(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _banner(facts: Facts) -> list[str]:
    if not facts["data"]["generated"]:
        return []
    return ["> **These customers are generated, not real.** Every figure here describes a simulation."]


def _ladder(facts: Facts) -> str:
    audit = facts["ladder"]
    if audit is None:
        rungs = [["everything", *(_estimate(facts["sides"][s]["metrics"]["pr_auc"], ".3f") for s, *_ in _there(facts))]]
        told = "Not computed in this run: the rungs without suspect columns, single columns and bands of age."
    else:
        splits = [{"test": "random", "oot": "out_of_time"}[side] for side, *_ in _there(facts)]
        rungs = [[_text(r["words"]), *(_rung(r.get(split)) for split in splits)] for r in audit["rungs"]]
        told = " ".join(_text(words) for words in audit["sentences"])
    head = ["PR-AUC", *(words for _, words, _ in _there(facts))]
    return f"## The honest-number ladder\n\n{_table(head, rungs)}\n\n{told}"


def _rung(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['pr_auc']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _metrics(facts: Facts) -> str:
    there = _there(facts)
    rows = [
        [words, *(_estimate(facts["sides"][side]["metrics"][name], form) for side, *_ in there)]
        for name, words, _, form, _ in METRICS
    ]
    rows.append(["test customers", *(f"{facts['sides'][side]['rows']:,}" for side, *_ in there)])
    return _table(["metric", *(words for _, words, _ in there)], rows)


def _segments(facts: Facts) -> str:
    rows = []
    for row in facts["segments"]:
        found = row["test"]
        figures = [
            _estimate(found[name], ".3f") if found["enough"] else "too few to say" for name in ("pr_auc", "roc_auc")
        ]
        rate = "" if found["churn_rate"] is None else f"{found['churn_rate']:.1%}"
        rows.append([_text(row["column"]), _text(row["level"]), f"{found['rows']:,}", rate, *figures])
    return _table(["column", "value", "customers", "churned", "PR-AUC", "ROC AUC"], rows) if rows else "No categories."


def _drivers(facts: Facts) -> str:
    words, unit = facts["words"], facts["importance"]["unit"]
    first = facts["importance"]["features"][:10]
    rows = [[_text(r["feature"]), _text(words.get(r["feature"], "")), f"{r['value']:.4f}"] for r in first]
    return _table(["feature", "is", unit], rows)


def _candidates(facts: Facts) -> str:
    rows = [
        [
            _text(row["candidate"]),
            f"{row['validation_pr_auc']:.4f}",
            f"{row['behind_best']:.4f} ({row['behind_best_low']:.4f} to {row['behind_best_high']:.4f})",
            f"{row['test_pr_auc']:.4f}",
            f"{row['oot_test_pr_auc']:.4f}" if "oot_test_pr_auc" in row else "",
        ]
        for row in facts["comparison"]
    ]
    return _table(["candidate", "validation PR-AUC", "behind the best, paired 95 %", "test", "out of time"], rows)


def _validation(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "Not computed in this run: what the validation repaired and rejected."
    lines = [f"{found['rows_in']:,} rows in, {found['rows_rejected']:,} rejected ({found['rejected_share']:.2%})."]
    lines += [f"- repaired by {_text(r['repair'])}: {_text(r['words'])}" for r in found["repairs"]]
    lines += [
        f"- {c['what happens']}: {_text(c['reason'])} in {_text(c['column'])}, {c['rows']:,} rows"
        for c in found["causes"]
    ]
    return "\n".join([lines[0], "", *lines[1:]])


def _origin(facts: Facts) -> str:
    origin = facts["provenance"]
    wanted = ("data_sha256", "git_commit", "made_at", "dagster_run_id", "mlflow_run_id", "python")
    return "\n".join(f"- {name}: `{_text(origin[name])}`" for name in wanted if origin.get(name))


def _there(facts: Facts) -> list[tuple[str, str, str]]:
    return [side for side in SIDES if side[0] in facts["sides"]]


def _estimate(found: Mapping[str, float], form: str) -> str:
    return f"{found['value']:{form}} ({found['low']:{form}} to {found['high']:{form}})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sentence(words: str) -> str:
    return _text(words[:1].upper() + words[1:]).rstrip(".") + "."


def _text(words: object) -> str:
    """Words as Markdown shows them: no markup of their own, one line."""
    return escape(" ".join(str(words).split()), quote=False).translate(_SPECIAL)
