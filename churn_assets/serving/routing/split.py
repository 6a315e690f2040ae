"""Customers under a canary or A/B: each is scored by the model of its arm, by the champion where that model fails."""

from __future__ import annotations

import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from churn_assets.contract.values import canonical_id
from churn_assets.errors import RowsRejected
from churn_assets.release.policy import CHAMPION, FALLBACK
from churn_assets.scoring.online import CustomerScore
from churn_assets.serving.predict import (
    AS_OF,
    OK,
    PredictionResult,
    RequestContext,
    ScoringDay,
    check_objects,
    new_prediction_id,
    predict_many,
    predict_one,
    read_as_of,
    respond,
)
from churn_assets.serving.routing.counts import SplitRow, SplitRows
from churn_assets.serving.routing.router import Arm, Router

_Row = dict[str, Any]
_Score = Callable[[Arm, Sequence[_Row], float], list[CustomerScore]]


def score_one(router: Router, customer: _Row, context: RequestContext) -> PredictionResult:
    """`predict_one` by the arm of the customer."""
    if not router.is_split:
        return predict_one(router.champion, customer, context)
    day = read_as_of(customer.pop(AS_OF, None), context)
    return _Split(
        router, [customer], day, context, lambda arm, rows, at: [arm.model.customers.score(rows[0], at)]
    ).run()


def score_many(router: Router, customers: Sequence[_Row], as_of: object, context: RequestContext) -> PredictionResult:
    """`predict_many`, each customer by its arm, in one order. If the champion refuses one of its rows, or of those that
    the model of another arm could not score, none is answered."""
    if not router.is_split:
        return predict_many(router.champion, customers, as_of, context)
    day = read_as_of(as_of, context)
    check_objects(customers)
    return _Split(router, customers, day, context, lambda arm, rows, at: arm.model.customers.score_many(rows, at)).run()


class _Split:
    """One request."""

    def __init__(
        self, router: Router, rows: Sequence[_Row], day: ScoringDay, context: RequestContext, score: _Score
    ) -> None:
        self._router, self._rows, self._day, self._context, self._score = router, rows, day, context, score
        self._ids = [new_prediction_id() for _ in rows]
        self._shares = [0.0] * len(rows)
        self._scored: dict[
            int, tuple[Arm, str, CustomerScore, float | None]
        ] = {}  # place -> arm, status, score, seconds
        self._errors: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._reason = ""

    def run(self) -> PredictionResult:
        """The answers. Raises RowsRejected, and whatever else the champion raises."""
        key = self._router.champion.model.contract.key.name
        groups: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(self._rows):
            self._shares[place] = share = self._router.share(canonical_id(row.get(key)) or self._ids[place])
            groups[self._router.at(share).name].append(place)
        own = groups.pop(CHAMPION, [])
        failed = [
            place for name, places in groups.items() for place in self._challenge(self._router.arms[name], places)
        ]
        self._defend(own, failed)
        return self._answer()

    def _challenge(self, arm: Arm, places: Sequence[int]) -> list[int]:
        """Score rows by the model of their arm; the places of those that it cannot score."""
        try:
            self._score_group(arm, places)
            return []
        except Exception:  # whatever a new model raises: which rows are they?
            good = [place for place in places if self._can_score(arm, place)]
        try:
            self._score_group(arm, good)
        except Exception as error:
            self._note(error)
            self._errors[arm.name] += len(good)
            return list(places)
        return [place for place in places if place not in self._scored]

    def _can_score(self, arm: Arm, place: int) -> bool:
        try:
            arm.model.customers.score(self._rows[place], self._day.days)
        except RowsRejected:
            self._refused[arm.name] += 1
        except Exception as error:
            self._note(error)
            self._errors[arm.name] += 1
        else:
            return True
        return False

    def _defend(self, own: Sequence[int], failed: Sequence[int]) -> None:
        """Score the champion's rows, and those that another model could not."""
        places = sorted([*own, *failed])
        try:
            self._score_group(self._router.champion, places, failed)
        except RowsRejected as error:
            raise type(error)([replace(each, row=places[each.row]) for each in error.violations]) from None
        except Exception as error:
            self._note(error)
            self._errors[CHAMPION] += bool(own)
            if self._router.counter is not None:
                self._router.counter.count(SplitRows((), self._errors, Counter(), self._reason, self._context.test))
            raise

    def _score_group(self, arm: Arm, places: Sequence[int], failed: Sequence[int] = ()) -> None:
        if not places:
            return
        start = time.perf_counter()
        scores = self._score(arm, [self._rows[place] for place in places], self._day.days)
        seconds = time.perf_counter() - start if len(self._rows) == 1 else None
        fallen = frozenset(failed)
        for place, score in zip(places, scores, strict=True):
            self._scored[place] = arm, FALLBACK if place in fallen else OK, score, seconds

    def _note(self, error: Exception) -> None:
        """Where an unexpected error comes from; its text may have values of a customer."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        self._reason = f"{type(error).__name__} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"

    def _answer(self) -> PredictionResult:
        responses, lines, warned, rows = [], [], [], []
        for place, row in enumerate(self._rows):
            arm, status, score, seconds = self._scored[place]
            counted = score.probability, score.churn, bool(score.warnings), seconds, self._shares[place]
            rows.append(SplitRow(arm, status, *counted))
            response, line, names = respond(arm, row, self._day, self._context, score, self._ids[place], status)
            responses.append(response)
            lines.append(line)
            warned += names
        split = SplitRows(rows, self._errors, self._refused, self._reason, self._context.test)
        return PredictionResult(responses, b"".join(lines), warned, split)
