"""Thresholds set on validation rows; expected profit on test rows, and what of it a call list can count on.

Contacting a customer costs `offer_cost`; a churner among them stays with probability `save_rate` and is then worth
`customer_value` (Verbeke et al., "New insights into churn prediction in the telecommunication sector: a profit driven
data mining approach", EJOR 2012). Every figure is per customer of the table, in the contract's currency, with the 95 %
bootstrap interval over test rows, drawn regardless of label: the number of churners is part of the uncertainty. No
table measures the assumptions, so they are varied one at a time (`tornado`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from churn_assets.contract.limits import Value
from churn_assets.evaluation.bootstrap import DRAWS, interval, intervals, samples
from churn_assets.evaluation.metrics import Floats, Labels, Ranking
from churn_assets.scoring.call_list import expected_value
from churn_assets.scoring.card import BreakEven, ProfitPoint, ProfitReport, Realized, Swing
from churn_assets.scoring.list_money import ListMoney, amount, describe_list_money
from churn_assets.scoring.prices import Prices, constant_prices
from churn_assets.scoring.scorer import Discount

POINTS = 60  # of the curve: enough to draw, few enough to keep in the card
VARIED_BY = 0.5  # an assumption is varied by half of its value, down and up
LIST_SHARES = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.50)
FEWEST = 10.0  # predicted churners, weighed, from which on a realized share is a figure
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


def choose_thresholds(
    churned: Labels, probability: Floats, value: Value, customers: int, gain: float | None = None
) -> dict[str, float]:
    """`f1`, `profit` and, if the contract has a capacity, `capacity`. `customers` is the size of the table a call list
    is made from: capacity is a share of it. `gain` is the mean of save rate x value, if they differ by customer."""
    thresholds = {"f1": f1_threshold(churned, probability), "profit": profit_threshold(value, gain)}
    if value.capacity is not None:
        share = min(1.0, value.capacity / customers)
        thresholds["capacity"] = float(np.quantile(probability, 1.0 - share, method="higher"))
    return thresholds


def f1_threshold(churned: Labels, probability: Floats) -> float:
    """The threshold with the largest F1; customers of equal probability are predicted alike."""
    ranking = Ranking(churned, probability)
    predicted, true_positives = ranking.counts()
    return float(ranking.cuts[np.argmax(2 * true_positives / (predicted + np.sum(churned)))])


def profit_threshold(value: Value, gain: float | None = None) -> float:
    """The probability from which on a contact is expected to pay: offer_cost over save_rate x customer_value
    (Elkan, 2001), or over the mean `gain` where those differ by customer; 1 if no contact can pay. The best cut on
    validation rows would follow their noise instead."""
    gain = value.save_rate * value.customer_value if gain is None else gain
    return min(1.0, value.offer_cost / gain) if gain > 0 else 1.0


def profit_report(
    churned: Labels,
    probability: Floats,
    value: Value,
    thresholds: Mapping[str, float],
    seed: int = 42,
    prices: Prices | None = None,
) -> ProfitReport:
    """Profit on test rows `churned` (n,) and `probability` (n,) at their `prices`, by default the constants; the same
    for equal rows and seed."""
    rows, prices = len(probability), prices or constant_prices(value, len(probability))
    chosen = int(np.sum(probability >= thresholds[value.decide_by]))
    ends = _curve_ends(rows)
    sizes = [max(1, round(share * rows)) for share in LIST_SHARES]
    cuts = _Cuts.of(churned, probability, prices.gain, value.offer_cost, seed, [*ends, *sizes, chosen])
    points = cuts.points()
    curve, lists, operating = points[: len(ends)], points[len(ends) : -1], points[-1]
    gross, cost = float(cuts.gained[-1]), float(cuts.contacted[-1]) * value.offer_cost
    assumed = {
        "save_rate": float(np.mean(prices.save_rate)),
        "offer_cost": value.offer_cost,
        "customer_value": float(np.mean(prices.customer_value)),
    }
    report = ProfitReport(
        decide_by=value.decide_by,
        threshold=thresholds[value.decide_by],
        values=assumed,
        curve=curve,
        chosen=operating,
        best=max(curve, key=lambda point: point.profit),
        tornado=_tornado(gross, cost, assumed, (operating.low, operating.high)),
        break_even=BreakEven(
            save_rate=_ratio(assumed["save_rate"] * cost, gross),
            offer_cost=_ratio(gross, operating.contacted_share),
            customer_value=_ratio(assumed["customer_value"] * cost, gross),
        ),
        list_sizes=lists,
        card_sentence="",
    )
    return msgspec.structs.replace(report, card_sentence=describe_profit(report))


def with_list(
    report: ProfitReport,
    list_of: Callable[[Discount], ListMoney],
    realized: Mapping[str, Realized],
    out_of_time: ProfitPoint | None,
) -> ProfitReport:
    """The report with the money of the call list, made by `list_of` at the discount that `realized` calls for."""
    discount = discount_of(realized)
    report = msgspec.structs.replace(
        report, out_of_time=out_of_time, realized=dict(realized), discount=discount, call_list=list_of(discount)
    )
    return msgspec.structs.replace(report, card_sentence=describe_profit(report))


def profit_curve(churned: Labels, probability: Floats, gain: Floats, cost: float, seed: int) -> list[ProfitPoint]:
    """Profit on test rows (n,) at their gains (n,), by the number contacted; the curve of `profit_report`."""
    return _Cuts.of(churned, probability, gain, cost, seed, _curve_ends(len(probability))).points()


def operating_point(
    churned: Labels, probability: Floats, value: Value, threshold: float, seed: int = 42, prices: Prices | None = None
) -> ProfitPoint:
    """Profit on test rows contacted from `threshold` on."""
    prices = prices or constant_prices(value, len(probability))
    end = int(np.sum(probability >= threshold))
    return _Cuts.of(churned, probability, prices.gain, value.offer_cost, seed, [end]).points()[0]


def realized_churn(
    churned: Labels, probability: Floats, value: Value, seed: int = 42, prices: Prices | None = None
) -> Realized | None:
    """Observed over predicted churners among the test rows whose contact is expected to pay, each weighed by 1 -
    probability: of customers who have not left, the list's, there are as many at a score as have not churned there.
    None where fewer than `FEWEST` are predicted."""
    worth = expected_value(probability, value, prices) > 0.0
    weight = np.where(worth, 1.0 - probability, 0.0)
    weighed = np.stack([weight * probability, weight * np.asarray(churned, dtype=np.float64)], axis=1)
    predicted, observed = weighed.sum(axis=0).tolist()
    if predicted < FEWEST:
        return None
    drawn = samples(len(probability), DRAWS, seed) @ weighed
    low, high = interval(drawn[:, 1] / np.maximum(drawn[:, 0], 1e-12))
    return Realized(int(worth.sum()), predicted, observed, observed / predicted, low, high)


def discount_of(realized: Mapping[str, Realized]) -> Discount:
    """The lowest share of the splits on which churners were fewer than predicted beyond chance. Without one all count,
    and the interval is that of the split with the lowest share."""
    short = {name: split for name, split in realized.items() if split.high < 1.0}
    if short:
        name = min(short, key=lambda name: short[name].share)
        return Discount(short[name].share, short[name].low, short[name].high, name)
    if not realized:
        return Discount()
    name = min(realized, key=lambda name: realized[name].share)
    return Discount(1.0, min(1.0, realized[name].low), max(1.0, realized[name].high), name)


def threshold_table(
    churned: Labels,
    probability: Floats,
    value: Value,
    thresholds: Mapping[str, float],
    seed: int = 42,
    prices: Prices | None = None,
) -> list[ThresholdRow]:
    """Figures of test rows `churned` (n,) and `probability` (n,) at the thresholds of `GRID` and of each rule, the
    lowest first."""
    named = {**thresholds, "chosen": thresholds[value.decide_by]}
    cuts = sorted({*GRID, *thresholds.values()})
    rows, churners = len(probability), float(np.sum(churned))
    ends = [int(np.sum(probability >= cut)) for cut in cuts]
    prices = prices or constant_prices(value, rows)
    points = _Cuts.of(churned, probability, prices.gain, value.offer_cost, seed, ends).points()
    table = []
    for cut, contacts, point in zip(cuts, ends, points, strict=True):
        hits = point.churners_share * rows
        row = ThresholdRow(
            threshold=cut,
            names=tuple(name for name, threshold in named.items() if threshold == cut),
            contacts=contacts,
            contacted_share=point.contacted_share,
            precision=hits / contacts if contacts else None,
            recall=hits / churners if churners else 0.0,
            profit=point.profit,
            low=point.low,
            high=point.high,
        )
        table.append(row)
    return table


def describe_profit(report: ProfitReport) -> str:
    """The money of the call list and the operating point on test customers, as sentences."""
    money, chosen = report.call_list, report.chosen
    if money is None:
        return _describe_point(report)
    sentences = describe_list_money(money)
    if money.contacts:
        gross, save_rate = money.profit + money.cost, report.values["save_rate"]
        sentences.append(
            f"Profit depends most on save rate and customer value: at half the save rate of {100 * save_rate:.3g} % it "
            f"is {amount(gross / 2.0 - money.cost)}; it is zero at {100 * save_rate * money.cost / gross:.2g} %."
        )
    if chosen.contacted_share:
        newest = report.out_of_time
        later = (
            "" if newest is None else f", and {newest.profit:.2f} ({newest.low:.2f} to {newest.high:.2f}) out of time"
        )
        sentences.append(
            f"A figure to compare models by, not revenue, because it includes churners who have left: contacting test "
            f"customers from a probability of {report.threshold:.3g} on brings {chosen.profit:.2f} per customer of the "
            f"table (95 % interval {chosen.low:.2f} to {chosen.high:.2f}){later}."
        )
    return " ".join(sentences)


def _describe_point(report: ProfitReport) -> str:
    """The chosen operating point and the assumption that matters most, where no call list is known."""
    chosen = report.chosen
    if not chosen.contacted_share:
        return "Under the contract's values no contact is expected to pay: nobody is contacted, and the profit is 0."
    assumed = [swing for swing in report.tornado if swing.assumed is not None]
    swing = assumed[0]
    equal = [s.assumption for s in assumed if abs(s.swing - swing.swing) <= 1e-9 * abs(swing.swing)]
    limit = getattr(report.break_even, swing.assumption)
    end = "" if limit is None else f"; the profit is zero at a {_spaced(swing.assumption)} of {limit:.3g}"
    sampling = (
        "" if report.tornado[0] is swing else " The choice of test customers matters more than any single assumption."
    )
    return (
        f"Contact the riskiest {chosen.contacted_share:.1%}; expected profit per customer: {chosen.profit:.2f} "
        f"(95 % interval {chosen.low:.2f} to {chosen.high:.2f}). It depends most on the "
        f"{' and '.join(map(_spaced, equal))}: {VARIED_BY:.0%} less or more changes it to {swing.profit_low:.2f} or "
        f"{swing.profit_high:.2f} (assumed {swing.assumed:.4g}{end}).{sampling}"
    )


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _tornado(gross: float, cost: float, assumed: Mapping[str, float], chance: tuple[float, float]) -> list[Swing]:
    """Profit of a list when one assumption is `VARIED_BY` lower or higher, and its 95 % interval by the choice of test
    customers, `chance`. The largest swing comes first."""
    swings = []
    for name, number in assumed.items():
        lowest, highest = number * (1.0 - VARIED_BY), number * (1.0 + VARIED_BY)
        if name == "save_rate":
            highest = min(1.0, highest)
        by = [end / number if number else 1.0 for end in (lowest, highest)]
        ends = [gross - cost * factor if name == "offer_cost" else gross * factor - cost for factor in by]
        swings.append(Swing(name, number, lowest, highest, min(ends), max(ends), abs(ends[1] - ends[0])))
    low, high = chance
    swings.append(Swing("which customers were tested", None, None, None, low, high, abs(high - low)))
    return sorted(swings, key=lambda swing: -swing.swing)


@dataclass(frozen=True)
class _Cuts:
    """Lists that end after given numbers of rows, the riskiest first, per customer of the table: shares `contacted` and
    `churners` (cuts,), what the churners bring, `gained` (cuts,), and profit under samples, `drawn` (draws, cuts)."""

    contacted: Floats
    churners: Floats
    gained: Floats
    profit: Floats
    drawn: Floats

    @classmethod
    def of(
        cls, churned: Labels, probability: Floats, gain: Floats, cost: float, seed: int, ends: Sequence[int]
    ) -> _Cuts:
        """Of test rows (n,) at their gains (n,)."""
        order, rows = np.argsort(-probability, kind="stable"), len(probability)
        label = np.asarray(churned, dtype=np.float64)[order]
        gained, weights = label * gain[order], samples(rows, DRAWS, seed)[:, order]
        cuts = np.asarray(ends, dtype=np.int64)

        def at_cuts(values: Floats) -> Floats:
            summed = np.cumsum(values, axis=-1)
            return np.asarray(np.where(cuts > 0, summed[..., cuts - 1], 0.0) / float(rows))

        contacted, own = at_cuts(np.ones(rows)), at_cuts(gained)
        return cls(contacted, at_cuts(label), own, own - contacted * cost, at_cuts(weights * (gained - cost)))

    def points(self) -> list[ProfitPoint]:
        """One a list, with its 95 % interval."""
        columns = np.column_stack([self.contacted, self.churners, self.profit, *intervals(self.drawn)])
        return [ProfitPoint(*column) for column in columns.tolist()]


def _curve_ends(rows: int) -> list[int]:
    return [int(end) for end in np.unique(np.linspace(0, rows, POINTS + 1).astype(np.int64))]


def _ratio(over: float, under: float) -> float | None:
    return float(over / under) if under > 0.0 else None
