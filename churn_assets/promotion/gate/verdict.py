"""May the challenger replace the champion? Both are measured on the same rows; every number is told.

The rules, each a line of the verdict's table:

- PR-AUC, the lower end of the interval of challenger minus champion (paired percentile bootstrap, stratified
  by label): on the frozen holdout that of the 95 % interval exceeds `holdout_margin`, a test of
  non-inferiority (Piaggio et al., 2012), for "not seen to be worse" is what every small sample says; on recent
  labels that of the 99 % interval exceeds `recent_margin`. Somewhere it must be shown to be better, and 95 %
  would let 2.5 % of equal challengers through. A holdout that shows it at 99 % (over its margin, and over
  zero) does instead: alone if recent labels are too few, else if those point the same way, for a few
  hundred seldom prove a thing by themselves.
- Log-loss: on the rows that decide (recent labels; the holdout, if alone) the challenger's mean is not
  higher; on the others it is not higher beyond noise (lower end of the 95 % interval not above zero).
- Segments: of those with enough rows none falls by more than the limit in PR-AUC and beyond its own
  noise (upper end of the segment's 95 % interval below zero), for one churner in a small segment can
  move its PR-AUC by more than any limit.
- Calibration: the challenger's ECE stays within the limit, or within what perfect probabilities would
  show on so few rows.

Rates of wrong verdicts: `benchmarks/gate_simulation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract
from churn_assets.contract.policy import Release
from churn_assets.evaluation.bootstrap import interval
from churn_assets.promotion.gate.comparison import FEWEST, Check, Compared, compare
from churn_assets.promotion.gate.evidence import Evidence, holdout_evidence, no_evidence, recent_evidence
from churn_assets.promotion.gate.guards import guards
from churn_assets.scoring.scorer import Scorer

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]

SURE_QUANTILE = 0.005  # lower end of a 99 % interval


@dataclass(frozen=True)
class Verdict:
    """`passed` is true if every check is. For drawing, and no part of the JSON: `draws`, bootstrapped PR-AUC
    differences by the rows' name, and `evidence`, the rows of the frozen holdout."""

    champion: str
    challenger: str
    checks: tuple[Check, ...]
    draws: Mapping[str, Floats] = field(default_factory=dict, repr=False, compare=False)
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the challenger; with nothing looked at, no."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The verdict in one sentence."""
        failed = [check for check in self.checks if not check.passed]
        if not failed:
            return f"challenger {self.challenger} holds all {len(self.checks)} checks against champion {self.champion}"
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return f"challenger {self.challenger} is refused: {failed[0].words}{more}"

    def to_json(self) -> dict[str, Any]:
        """Everything but the draws."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "passed": self.passed,
            "reason": self.reason,
            "checks": [asdict(check) for check in self.checks],
        }


def duel(
    contract: Contract,
    champion: Scorer,
    challenger: Scorer,
    holdout: pa.Table,
    labelled: pa.Table | None,
    seed: int = 0,
) -> Verdict:
    """The verdict on two scorers of `contract`, its `[release]` as it is now: see `judge`.

    `holdout` are typed rows with `churned`; `labelled` is the table `labelled_predictions`, None if there is
    none. Raises RowsRejected or DataError for rows that one of them cannot score.
    """
    frozen = holdout_evidence(contract, champion, challenger, holdout)
    late = no_evidence() if labelled is None else recent_evidence(contract, champion, challenger, labelled)
    return judge(contract, champion.version, challenger.version, frozen, late, seed)


def judge(
    contract: Contract, champion: str, challenger: str, holdout: Evidence, recent: Evidence, seed: int = 0
) -> Verdict:
    """The verdict on two versions by the contract's `[release]`, recent labels counting from
    `monitoring.label_floor` of them."""
    late = compare(recent, seed + 1) if len(recent.churned) >= contract.monitoring.label_floor else None
    return verdict(contract, champion, challenger, holdout, recent, (compare(holdout, seed), late), seed)


def verdict(
    contract: Contract,
    champion: str,
    challenger: str,
    holdout: Evidence,
    recent: Evidence,
    compared: tuple[Compared | None, Compared | None],
    seed: int = 0,
) -> Verdict:
    """The verdict once both comparisons are made; without one of the holdout it never passes."""
    frozen, late = compared
    checks = [_enough(holdout, frozen), _recent_enough(contract, recent, late)]
    sure = frozen is not None and _surely(frozen) > max(contract.release.holdout_margin, 0.0)
    if frozen is not None:
        ranks = _holdout_alone(contract.release, frozen) if late is None else _holdout(contract.release, frozen)
        checks += [ranks, *guards("holdout", contract.release, frozen, late is None, seed)]
    if late is not None:
        checks += [_recent(contract.release, late, sure), *guards("recent", contract.release, late, True, seed)]
    draws = {found.evidence.name: found.pr_auc for found in compared if found is not None}
    return Verdict(champion, challenger, tuple(checks), draws, holdout)


def _enough(holdout: Evidence, compared: Compared | None) -> Check:
    rows, fewest = len(holdout.churned), holdout.fewest
    words = f"the frozen holdout has {rows:,} customers, {holdout.churners:,} of them churned"
    if compared is None:
        words += f": too few to compare on, expected at least {FEWEST} churned and as many kept"
    return Check("holdout_rows", float(fewest), float(FEWEST), compared is not None, words)


def _recent_enough(contract: Contract, recent: Evidence, compared: Compared | None) -> Check:
    rows, floor = len(recent.churned), contract.monitoring.label_floor
    words = f"{rows:,} customers have recent final labels set apart for the gate, {recent.churners:,} of them churned"
    if compared is None:
        least = f"{floor:,}" if rows < floor else f"{FEWEST} churned and as many kept"
        words += f"; fewer than {least}, so the frozen holdout decides alone, and asks for more"
    return Check("recent_rows", float(rows), float(floor), True, words)


def _surely(compared: Compared) -> float:
    return float(np.quantile(compared.pr_auc, SURE_QUANTILE))


def _holdout(release: Release, compared: Compared) -> Check:
    return _ranking("holdout", compared, interval(compared.pr_auc)[0], release.holdout_margin, "95 %")


def _holdout_alone(release: Release, compared: Compared) -> Check:
    return _ranking("holdout", compared, _surely(compared), max(release.holdout_margin, 0.0), "99 %")


def _recent(release: Release, compared: Compared, sure: bool) -> Check:
    margin = release.recent_margin
    found = _ranking("recent", compared, _surely(compared), margin, "99 %")
    if found.passed or not (sure and compared.gain > margin):
        return found
    words = f"{_told(compared)}; that agrees with the frozen holdout, which shows it to be better at 99 % by itself"
    return Check(found.check, compared.gain, margin, True, words)


def _ranking(name: str, compared: Compared, low: float, margin: float, level: str) -> Check:
    passed = low > margin
    words = (
        f"{_told(compared)}, at least {low:+.4f} at {level}, {'' if passed else 'not '}over the margin {margin:+.4f}"
    )
    if not passed and compared.gain > margin:
        rows, shown = len(compared.evidence.churned), compared.gain - low + margin
        words += f" ({rows:,} rows prove nothing below {shown:+.4f})"
    return Check(f"{name}_pr_auc", low, margin, passed, words)


def _told(compared: Compared) -> str:
    return (
        f"on {compared.evidence.name} PR-AUC is {compared.challenger:.4f}, the champion's {compared.champion:.4f}: "
        f"{compared.gain:+.4f}"
    )
