"""What a run is going to do, step by step, and how long the rest of it takes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

_RUNS = 5  # of a home, the newest: a step that the last run left out was timed in one before it
_SHORT_S = 0.1  # of a step that no run has timed
_ENOUGH_S = 1.0  # of expected work done before its real time corrects the rest

# Seconds of each step with the public table of 30,801 customers on one core; where a home has no run yet they are
# shares, scaled by what the steps so far have taken.
_FIRST_RUN: Mapping[str, float] = {
    "raw_customers": 0.8,
    "validation": 0.3,
    "data_profile": 0.2,
    "splits": 0.7,
    "customer_features": 0.2,
    "logistic_candidate": 1.4,
    "boosted_candidate": 4.0,
    "network_candidate": 7.0,
    "chosen_model": 2.7,
    "cross_validation": 4.3,
    "leakage_audit": 10.6,
    "model_report": 2.1,
    "registered_model": 1.1,
    "churn_bento": 1.2,
    "risk_list": 0.5,
}


@dataclass(frozen=True)
class RunPlan:
    """The steps of a run, in order, and the seconds that each is expected to take.

    `measured`: the seconds are those of earlier runs in this home, not the shares of another table. `finished` are
    steps of the run that this one resumes; they are not executed again.
    """

    steps: tuple[str, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    measured: bool = False
    finished: frozenset[str] = frozenset()

    def remaining_s(self, taken: Mapping[str, float]) -> float | None:
        """Seconds that the steps after those in `taken` (seconds by step) will take.

        None while nothing is known: in the first run of a home, before a second of the work is done.
        """
        expected_done = sum(self._expected(step) for step in taken)
        rest = sum(self._expected(step) for step in self.steps if step not in taken and step not in self.finished)
        if expected_done < _ENOUGH_S:
            return rest if self.measured else None
        return rest * sum(taken.values()) / expected_done

    def _expected(self, step: str) -> float:
        return self.seconds.get(step, _SHORT_S)


def plan_run(
    job: dg.JobDefinition, assets: Sequence[dg.AssetKey], instance: dg.DagsterInstance, finished: Collection[str] = ()
) -> RunPlan:
    """The plan of a run of `assets`, with the times of earlier runs in this home if there are any."""
    steps = [node.name for node in job.get_subset(asset_selection=frozenset(assets)).nodes_in_topological_order]
    earlier = step_seconds(instance)
    seconds = {step: earlier.get(step, _FIRST_RUN.get(step, _SHORT_S)) for step in steps}
    return RunPlan((*finished, *steps), seconds, bool(earlier), frozenset(finished))


def step_seconds(instance: dg.DagsterInstance) -> dict[str, float]:
    """Seconds of each step in the newest successful run that executed it; empty before the first."""
    seconds: dict[str, float] = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=_RUNS):
        for step in instance.get_run_step_stats(record.dagster_run.run_id):
            if step.start_time is not None and step.end_time is not None:
                seconds.setdefault(step.step_key, step.end_time - step.start_time)
    return seconds
