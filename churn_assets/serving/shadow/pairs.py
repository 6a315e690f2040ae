"""One answered row after the other, scored by both models and counted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from churn_assets.errors import RowsRejected
from churn_assets.prediction_log.records import Prediction
from churn_assets.release.counts import ArmCounts, ReleaseCounts
from churn_assets.release.policy import CHALLENGER, CHAMPION, share_of
from churn_assets.release.replay import replay
from churn_assets.scoring.online import CustomerScorer

AGREES = 1e-9  # between two ways to compute one score: a row of a batch is scored over arrays


@dataclass
class PairScorer:
    """The shadow of one policy: what the challenger says of rows that the champion has answered.

    Both models score each row here, one after the other, so that their times compare: the worker is another process, of
    another priority. Which of them is first changes from row to row. A `test` is scored, and not counted.
    """

    policy: str
    champion: CustomerScorer
    challenger: CustomerScorer
    counts: ReleaseCounts = field(default_factory=ReleaseCounts)
    scored: int = 0
    refused: int = 0
    errors: int = 0
    differing: int = 0
    error: str = ""  # the challenger's last one

    def score(self, record: Prediction) -> Prediction | None:
        """The challenger's row, None if it refuses the row, cannot score it, or the row is not of this policy."""
        if record.policy != self.policy or record.model_version != self.champion.scorer.version or record.shadow:
            return None
        counts = ReleaseCounts() if record.test else self.counts
        first = (self.scored + self.refused + self.errors) % 2
        if first:
            seconds = self._replay_champion(record)
            row = self._replay_challenger(record, counts)
        else:
            row = self._replay_challenger(record, counts)
            seconds = self._replay_champion(record)
        share = share_of(self.policy, record.customer_id or record.prediction_id)
        counts.arm(CHAMPION).scored(record.score, record.decision, bool(record.warnings), seconds)
        counts.arm(CHAMPION).saw(share)
        if row is not None:
            counts.arm(CHALLENGER).saw(share)
            difference = row.score - record.score
            counts.pairs.rows += 1
            counts.pairs.flips += row.decision is not record.decision
            counts.pairs.difference_sum += difference
            counts.pairs.difference_squares += difference * difference
        return row

    def _replay_champion(self, record: Prediction) -> float:
        """The seconds that the champion takes. The answer is what the worker has given; another score is reported."""
        start = time.perf_counter()
        try:
            score = replay(self.champion, record).score
        except Exception:  # it has answered this row
            score = -1.0
        seconds = time.perf_counter() - start
        self.differing += abs(score - record.score) > AGREES
        return seconds

    def _replay_challenger(self, record: Prediction, counts: ReleaseCounts) -> Prediction | None:
        own: ArmCounts = counts.arm(CHALLENGER)
        start = time.perf_counter()
        try:
            row = replay(self.challenger, record, CHALLENGER)
        except RowsRejected:
            own.refused += 1
            self.refused += 1
        except Exception as error:  # of a model nobody has approved yet: whatever it raises is its error
            own.errors += 1
            self.errors += 1
            self.error = type(error).__name__  # its text may have a customer's values, and /readyz asks for no key
        else:
            own.scored(row.score, row.decision, bool(row.warnings), time.perf_counter() - start)
            self.scored += 1
            return row
        return None
