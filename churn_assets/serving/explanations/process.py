"""The process that computes explanations beside a worker: `python -m churn_assets.serving.explanations.process`.

An explanation is some milliseconds of Python and NumPy. In a thread of the worker it would hold the interpreter's lock
while customers wait for /predict; a process of lower priority takes only what /predict leaves. It reads questions from
its standard input and writes answers to its standard output, one at a time, and ends with the end of its input, so that
it outlives no worker.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from churn_assets.errors import BundleError, ChurnError, ContractConflict, DataError, RowsRejected, Violation, one_line
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.explain import Explainer
from churn_assets.scoring.explanations.anchor import AnchorSearch
from churn_assets.scoring.explanations.contributions import explain
from churn_assets.scoring.explanations.counterfactual import CounterfactualSearch
from churn_assets.scoring.explanations.customer import Customer, ExplainedCustomer
from churn_assets.scoring.explanations.reference import Reference
from churn_assets.scoring.online import CustomerScorer
from churn_assets.serving.explanations.messages import (
    AS_OF,
    LENGTH,
    READY,
    Answer,
    Question,
    decode_question,
    encode,
    frame,
)

NICENESS = 10  # of 19: after /predict, and still some of a busy machine
MODELS_KEPT = 2  # the champion, and the one before or a challenger


class ExplainedModel:
    """A bundle and what explains its scores; each part is made when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._customers = path, CustomerScorer(load_bundle(path))

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._customers.scorer)

    @cached_property
    def _reference(self) -> Reference:
        return Reference.read(self._path, self._customers.scorer)

    @cached_property
    def _counterfactuals(self) -> CounterfactualSearch:
        return CounterfactualSearch(self._customers, self._reference)

    @cached_property
    def _anchors(self) -> AnchorSearch:
        return AnchorSearch(self._customers, self._reference)

    def answer(self, question: Question) -> ExplainedCustomer:
        """The answer to a question. Raises as `Customer.read`, and BundleError for a bundle that cannot explain."""
        row = msgspec.json.decode(question.customer, type=dict[str, Any])
        row.pop(AS_OF, None)
        customer = Customer.read(self._customers, row, question.day, question.as_of)
        match question.kind:
            case "explain":
                return explain(self._explainer, customer, question.warnings)
            case "counterfactual":
                return self._counterfactuals.search(customer, question.warnings)
            case "anchor":
                return self._anchors.search(customer, question.warnings)


@lru_cache(maxsize=MODELS_KEPT)
def _model(path: Path) -> ExplainedModel:
    return ExplainedModel(path)


def answer(question: Question) -> Answer:
    """The answer to a question, or why there is none; no exception leaves it."""
    try:
        return Answer("ok", msgspec.json.encode(_model(Path(question.bundle)).answer(question)))
    except ContractConflict as error:
        return Answer("conflict", violations=list(error.violations))
    except RowsRejected as error:
        return Answer("rejected", violations=list(error.violations))
    except DataError as error:
        expected = "values that give a finite score"
        return Answer("conflict", violations=[Violation(0, "", str(error).partition(";")[0], expected)])
    except BundleError as error:
        return Answer("unavailable", text=one_line(error, 300))
    except ChurnError as error:
        return Answer("failed", text=one_line(error, 300))
    except Exception as error:  # a mistake of ours must not end the process
        logging.getLogger(__name__).exception("an explanation failed")
        return Answer("failed", text=f"{type(error).__name__}: {one_line(error, 300)}")


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer questions until their end."""
    answers.write(frame(READY))
    answers.flush()
    while length := questions.read(LENGTH):
        content = questions.read(int.from_bytes(length, "big"))
        answers.write(encode(answer(decode_question(content))))
        answers.flush()


def main() -> None:
    """Serve on the standard streams; what libraries print goes to the standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the worker, and this process with it
    os.nice(NICENESS)
    with os.fdopen(os.dup(0), "rb") as questions, os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        try:
            serve(questions, answers)
        except BrokenPipeError:  # the worker has died
            os._exit(1)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr)
    main()
