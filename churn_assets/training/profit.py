"""Thresholds set on validation rows; expected profit on test rows, and the assumption it depends on most.

Contacting a customer costs `offer_cost`; a churner among them stays with probability `save_rate` and is then worth
`customer_value` (Verbeke et al., "New insights into churn prediction in the telecommunication sector: a profit driven
data mining approach", EJOR 2012). Every figure is per customer of the table, in the contract's currency, with the 95 %
bootstrap interval over test rows, drawn regardless of label: the number of churners is part of the uncertainty. No
table measures the assumptions, so they are varied one at a time (`tornado`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from churn_assets.contract.limits import Value
from churn_assets.evaluation.bootstrap import DRAWS, interval, intervals, samples
from churn_assets.evaluation.metrics import Floats, Labels, Ranking
from churn_assets.scoring.card import BreakEven, ProfitPoint, ProfitReport, Swing

POINTS = 60  # of the curve: enough to draw, few enough to keep in the card
VARIED_BY = 0.5  # an assumption is varied by half of its value, down and up
LIST_SHARES = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.50)
GRID = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds of the table, beside the named ones


class ThresholdRow(msgspec.Struct, frozen=True):
    """Test customers contacted from `threshold` on, and what that brings if each could still be kept.

    `names` are the rules whose threshold this is: f1, profit, capacity, and `chosen` for the one in use. `precision`
    is None where nobody is contacted. `profit` is per customer of the table, with its 95 % bootstrap interval.
    """

    threshold: float
    names: tuple[str, ...]
    contacts: int
    contacted_share: float
    precision: float | None
    recall: float
    profit: float
    low: float
    high: float


def choose_thresholds(churned: Labels, probability: Floats, value: Value, customers: int) -> dict[str, float]:
    """`f1`, `profit` and, if the contract has a capacity, `capacity`. `customers` is the size of the table a call list
    is made from: capacity is a share of it."""
    thresholds = {"f1": f1_threshold(churned, probability), "profit": profit_threshold(value)}
    if value.capacity is not None:
        share = min(1.0, value.capacity / customers)
        thresholds["capacity"] = float(np.quantile(probability, 1.0 - share, method="higher"))
    return thresholds


def f1_threshold(churned: Labels, probability: Floats) -> float:
    """The threshold with the largest F1; customers of equal probability are predicted alike."""
    ranking = Ranking(churned, probability)
    predicted, true_positives = ranking.counts()
    return float(ranking.cuts[np.argmax(2 * true_positives / (predicted + np.sum(churned)))])


def profit_threshold(value: Value) -> float:
    """The probability from which on a contact is expected to pay: offer_cost over save_rate x customer_value
    (Elkan, 2001); 1 if no contact can pay. The best cut on validation rows would follow their noise instead."""
    gain = value.save_rate * value.customer_value
    return min(1.0, value.offer_cost / gain) if gain > 0 else 1.0


def profit_report(
    churned: Labels, probability: Floats, value: Value, thresholds: Mapping[str, float], seed: int = 42
) -> ProfitReport:
    """Profit on test rows `churned` (n,) and `probability` (n,); the same for equal rows and seed."""
    rows = len(probability)
    chosen = int(np.sum(probability >= thresholds[value.decide_by]))
    ends = np.unique(np.linspace(0, rows, POINTS + 1).astype(np.int64)).tolist()
    sizes = [max(1, round(share * rows)) for share in LIST_SHARES]
    shares, drawn = _shares(churned, probability, samples(rows, DRAWS, seed), [*ends, *sizes, chosen])
    drawn_profit = _profit(drawn, value)
    columns = np.column_stack([*shares, _profit(shares, value), *intervals(drawn_profit)]).tolist()
    points = [ProfitPoint(*column) for column in columns]
    curve, lists, operating = points[: len(ends)], points[len(ends) : -1], points[-1]
    contacts, churners = shares[:, -1]
    assumed = {"save_rate": value.save_rate, "offer_cost": value.offer_cost, "customer_value": value.customer_value}
    swings = _tornado(contacts, churners, assumed, interval(drawn_profit[:, -1]))
    cost = contacts * value.offer_cost
    limits = BreakEven(
        save_rate=_ratio(cost, churners * value.customer_value),
        offer_cost=_ratio(churners * (value.save_rate * value.customer_value), contacts),
        customer_value=_ratio(cost, churners * value.save_rate),
    )
    return ProfitReport(
        decide_by=value.decide_by,
        threshold=thresholds[value.decide_by],
        values=assumed,
        curve=curve,
        chosen=operating,
        best=max(curve, key=lambda point: point.profit),
        tornado=swings,
        break_even=limits,
        list_sizes=lists,
        card_sentence=_card_sentence(operating, swings, limits),
    )


def threshold_table(
    churned: Labels, probability: Floats, value: Value, thresholds: Mapping[str, float], seed: int = 42
) -> list[ThresholdRow]:
    """Figures of test rows `churned` (n,) and `probability` (n,) at the thresholds of `GRID` and of each rule, the
    lowest first."""
    named = {**thresholds, "chosen": thresholds[value.decide_by]}
    cuts = sorted({*GRID, *thresholds.values()})
    rows, churners = len(probability), float(np.sum(churned))
    ends = [int(np.sum(probability >= cut)) for cut in cuts]
    shares, drawn = _shares(churned, probability, samples(rows, DRAWS, seed), ends)
    low, high = intervals(_profit(drawn, value))
    hits, profit = shares[1] * rows, _profit(shares, value)
    return [
        ThresholdRow(
            threshold=cut,
            names=tuple(name for name, threshold in named.items() if threshold == cut),
            contacts=contacts,
            contacted_share=contacts / rows,
            precision=float(hits[i]) / contacts if contacts else None,
            recall=float(hits[i]) / churners if churners else 0.0,
            profit=float(profit[i]),
            low=float(low[i]),
            high=float(high[i]),
        )
        for i, (cut, contacts) in enumerate(zip(cuts, ends, strict=True))
    ]


def describe_profit(report: ProfitReport) -> str:
    """The chosen operating point and the assumption that matters most, as sentences."""
    chosen = report.chosen
    if not chosen.contacted_share:
        return "Under the contract's values no contact is expected to pay: nobody is contacted, and the profit is 0."
    swing, names = _largest_assumption(report.tornado)
    limit = getattr(report.break_even, swing.assumption)
    end = "" if limit is None else f"; the profit is zero at a {_spaced(swing.assumption)} of {limit:.3g}"
    sampling = (
        "" if report.tornado[0] is swing else " The choice of test customers matters more than any single assumption."
    )
    return (
        f"Contact the riskiest {chosen.contacted_share:.1%}; expected profit per customer: {chosen.profit:.2f} "
        f"(95 % interval {chosen.low:.2f} to {chosen.high:.2f}). It depends most on the {names}: "
        f"{VARIED_BY:.0%} less or more changes it to {swing.profit_low:.2f} or {swing.profit_high:.2f} "
        f"(assumed {swing.assumed:.4g}{end}).{sampling}"
    )


def _card_sentence(chosen: ProfitPoint, swings: Sequence[Swing], limits: BreakEven) -> str:
    """`describe_profit` in the words of bundles made so far: other words would be another bundle version."""
    if not chosen.contacted_share:
        return (
            "Under the contract's values no contact is expected to pay, so nobody is contacted and nothing is earned."
        )
    swing, names = _largest_assumption(swings)
    limit = getattr(limits, swing.assumption)
    end = "" if limit is None else f"; the list earns nothing at a {_spaced(swing.assumption)} of {limit:.3g}"
    sampling = "" if swings[0] is swing else " The test rows' own chance weighs more than any assumption."
    return (
        f"Contacting the riskiest {chosen.contacted_share:.1%} earns {chosen.profit:.2f} a customer of the table "
        f"(95 % {chosen.low:.2f} to {chosen.high:.2f}). What matters most is the {names}: "
        f"{VARIED_BY:.0%} lower or higher, alone, moves that to {swing.profit_low:.2f} or {swing.profit_high:.2f} "
        f"(assumed {swing.assumed:.4g}{end}).{sampling}"
    )


def _largest_assumption(swings: Sequence[Swing]) -> tuple[Swing, str]:
    """The assumption with the largest swing, and the names of all whose swing equals it."""
    assumed = [swing for swing in swings if swing.assumed is not None]
    largest = assumed[0]
    equal = [s.assumption for s in assumed if abs(s.swing - largest.swing) <= 1e-9 * abs(largest.swing)]
    return largest, " and ".join(_spaced(name) for name in equal)


def _tornado(contacts: float, churners: float, assumed: Mapping[str, float], chance: tuple[float, ...]) -> list[Swing]:
    """Profit of a list when one assumption is `VARIED_BY` lower or higher, and its 95 % interval by the choice of test
    customers, `chance`. The largest swing comes first."""
    swings = []
    for name, number in assumed.items():
        lowest, highest = number * (1.0 - VARIED_BY), number * (1.0 + VARIED_BY)
        if name == "save_rate":
            highest = min(1.0, highest)
        varied = [{**assumed, name: end} for end in (lowest, highest)]
        ends = [float(churners * v["save_rate"] * v["customer_value"] - contacts * v["offer_cost"]) for v in varied]
        swings.append(Swing(name, number, lowest, highest, min(ends), max(ends), abs(ends[1] - ends[0])))
    low, high = chance
    swings.append(Swing("which customers were tested", None, None, None, low, high, abs(high - low)))
    return sorted(swings, key=lambda swing: -swing.swing)


def _shares(churned: Labels, probability: Floats, weights: Floats, ends: Sequence[int]) -> tuple[Floats, Floats]:
    """Shares of customers contacted and of churners among them, if the list ends after each of `ends` rows, the
    riskiest first: of the rows, (2, cuts), and under samples `weights` (draws, n), (2, draws, cuts)."""
    order = np.argsort(-probability, kind="stable")
    label, drawn = np.asarray(churned, dtype=np.float64)[order], weights[:, order]
    cuts = np.asarray(ends, dtype=np.int64)

    def share_at_cuts(values: Floats) -> Floats:
        summed = np.cumsum(values, axis=-1)
        return np.asarray(np.where(cuts > 0, summed[..., cuts - 1], 0.0) / float(len(order)))

    rows = np.stack([share_at_cuts(np.ones_like(label)), share_at_cuts(label)])
    return rows, np.stack([share_at_cuts(drawn), share_at_cuts(drawn * label)])


def _profit(shares: Floats, value: Value) -> Floats:
    """Profit per customer of the table, (...), of the shares contacted and churners among them, (2, ...)."""
    return np.asarray(shares[1] * (value.save_rate * value.customer_value) - shares[0] * value.offer_cost)


def _ratio(over: float, under: float) -> float | None:
    return float(over / under) if under > 0.0 else None


def _spaced(name: str) -> str:
    return name.replace("_", " ")
