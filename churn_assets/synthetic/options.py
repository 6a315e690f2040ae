"""The generator's knobs as they stand on a command line."""

from __future__ import annotations

from collections.abc import Sequence

from churn_assets.contract.model import Contract
from churn_assets.errors import ScenarioError
from churn_assets.synthetic.faults import Change, Duplicate, read_drift, read_fault
from churn_assets.synthetic.leaks import KINDS
from churn_assets.synthetic.scenario import Offer, Scenario, check_scenario


def read_scenario(
    contract: Contract,
    drifts: Sequence[str] = (),
    faults: Sequence[str] = (),
    offer: tuple[float | None, float, float] = (None, 0.0, 0.0),
    *,
    label_delay_days: int | None = None,
    over_days: int = 30,
) -> Scenario:
    """A scenario from texts (see `faults`) and `offer` = (share or None, effect, targeting).

    Drifts come before faults, each in the order given. Raises ScenarioError.
    """
    read = [read_fault(contract, text) for text in faults]
    share, effect, targeting = offer
    scenario = Scenario(
        changes=(*(read_drift(contract, text) for text in drifts), *(f for f in read if isinstance(f, Change))),
        duplicates=tuple(f for f in read if isinstance(f, Duplicate)),
        offer=None if share is None else Offer(share, effect, targeting),
        label_delay_days=label_delay_days,
        over_days=over_days,
    )
    check_scenario(contract, scenario)
    return scenario


def read_leaks(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Kinds and strengths of leaks from texts such as `label_echo:0.8`. Raises ScenarioError."""
    found = []
    for text in texts:
        kind, _, strength = text.partition(":")
        try:
            number = float(strength)
        except ValueError:
            number = 0.0
        if kind not in KINDS or not 0.55 <= number <= 0.95:
            raise ScenarioError(
                f"--leak '{text}': expected KIND:STRENGTH, a strength from 0.55 to 0.95 (ROC AUC of the column alone), "
                f"kinds: {', '.join(KINDS)}"
            )
        found.append((kind, number))
    return tuple(found)
