"""The report of one training: a page that opens anywhere, its pictures inside it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from churn_assets.contract.model import Contract

GENERATED = "These customers are generated, not real: every figure below describes a simulation."
_METRICS = ("pr_auc", "roc_auc", "ece", "log_loss", "brier", "precision", "recall", "f1", "churn_rate", "rows")
_PARTS = {"validation": "random split, validation", "test": "random split, test", "oot": "out of time, test"}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}"
    "img{max-width:100%}.warn{background:#fff3cd;padding:.6rem 1rem;font-weight:600}"
)


def training_page(
    contract: Contract, card: Mapping[str, Any], pictures: Mapping[str, bytes], version: str, generated: bool
) -> str:
    """HTML: what was chosen and why, every figure on both splits, what to be careful about.

    `card` is the bundle's; the page of two equal trainings is the same.
    """
    suspects = [(c.name, c.suspect, c.attested) for c in contract.columns if c.suspect]
    parts = [
        f"<h1>{escape(contract.title)}</h1>",
        f'<p class="warn">{GENERATED}</p>' if generated else "",
        f"<p>Model {escape(version)}: <b>{escape(card['chosen'])}</b>. {escape(card['reason'])}.</p>",
        f"<p>{card['rows']:,} customers of {escape(card['source'])}, as of {escape(card['as_of'])}.</p>",
        "<h2>Figures</h2>",
        _table(("", *_parts_in(card["metrics"]).values()), _figures(card["metrics"])),
        "<p>In brackets: the middle 95 % of a bootstrap over customers. Out of time is the model of older customers "
        "on newer ones, and closer to what a call list will meet.</p>",
        "<h2>Candidates, PR-AUC</h2>",
        _table(("candidate", "validation", "test", "out of time", "operations a row"), _compared(card["comparison"])),
        "<h2>Columns that may be a consequence of churn</h2>" if suspects else "",
        _table(("column", "why", "attested by"), suspects) if suspects else "",
        *(f"<h2>{escape(name.replace('_', ' '))}</h2>{_image(name, png)}" for name, png in pictures.items()),
    ]
    body = "\n".join(part for part in parts if part)
    title = escape(f"{contract.name}: model {version}")
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _parts_in(metrics: Mapping[str, float]) -> dict[str, str]:
    return {part: words for part, words in _PARTS.items() if f"{part}_pr_auc" in metrics}


def _figures(metrics: Mapping[str, float]) -> Iterable[Sequence[str]]:
    for name in _METRICS:
        yield name, *(_figure(metrics, f"{part}_{name}") for part in _parts_in(metrics))


def _figure(metrics: Mapping[str, float], name: str) -> str:
    value = metrics[name]
    if name.endswith("_rows"):
        return f"{value:,.0f}"
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return f"{value:.4f}" + (f" ({low:.4f} to {high:.4f})" if low is not None else "")


def _compared(comparison: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for row in comparison:
        figures = (row.get(f"{key}_pr_auc") for key in ("validation", "test", "oot_test"))
        yield row["candidate"], *("" if f is None else f"{f:.4f}" for f in figures), f"{row['cost']:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + "".join([line("th", head), *(line("td", row) for row in rows)]) + "</table>"


def _image(name: str, png: bytes) -> str:
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{b64encode(png).decode()}">'
