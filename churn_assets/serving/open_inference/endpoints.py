"""What REST and gRPC answer alike. Customers are scored, logged and counted by the handlers of `/predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from churn_assets.contract.model import Contract
from churn_assets.errors import ContractConflict, RowsRejected, Violation
from churn_assets.serving.http import Refused
from churn_assets.serving.open_inference.customers import (
    AS_OF,
    MODEL,
    OUTPUTS,
    InferenceRequest,
    TensorDescription,
    check_outputs,
    describe_inputs,
    output_tensors,
    read_customers,
)
from churn_assets.serving.open_inference.messages import Target, V2ModelMetadata, V2ServerMetadata, V2TensorMetadata
from churn_assets.serving.open_inference.tensors import Tensor, TensorError
from churn_assets.serving.predict import PredictionResult, RequestContext
from churn_assets.serving.routing.router import Router
from churn_assets.serving.routing.split import score_many, score_one

if TYPE_CHECKING:
    from churn_assets.serving.routes import Handlers, RequestFacts

PLATFORM = "churn_bundle"
EXTENSIONS = ["binary_tensor_data"]
SMALL_BODY = 16_384  # bytes: customers of a shorter body are scored at once, of a longer one in a thread


@dataclass(frozen=True, slots=True)
class Inference:
    """The answer to a request: the version and contract of the model, and its output tensors. The version is "" where
    several have answered."""

    version: str
    contract: str
    outputs: Sequence[Tensor]


class InferenceEndpoints:
    """The endpoints of the protocol. Each raises `Refused` for a request that it refuses."""

    def __init__(self, handlers: Handlers, batch_rows: int) -> None:
        self._handlers, self._batch_rows = handlers, batch_rows

    async def infer(
        self, target: Target, read: Callable[[Contract], InferenceRequest], size: int, facts: RequestFacts
    ) -> Inference:
        """Score the customers of a message of `size` bytes, which `read` reads: one as `/predict` does, several as
        `/predict_batch`. `read` may raise RowsRejected, TensorError and Refused, and may run in a thread. Tensors and
        values that do not fit the model are a conflict with it: the protocol's own schema allows them."""
        context = self._handlers.context(facts)
        router = self._router(target)
        names: list[str] = []

        def score() -> PredictionResult:
            try:
                request = read(router.champion.model.contract)
            except TensorError as error:
                raise ContractConflict([Violation(0, error.tensor, error.problem, error.expected)]) from None
            names.extend(request.outputs)
            try:
                return self._score(router, request, context)
            except RowsRejected as error:
                raise ContractConflict(error.violations) from None

        answer = self._handlers.answer if size <= SMALL_BODY else self._handlers.answer_in_thread
        responses = (await answer(router, score)).responses
        versions = {response.model_version for response in responses}
        version = responses[0].model_version if len(versions) == 1 else ""
        return Inference(version, router.champion.model.contract.name, output_tensors(responses, names))

    def _score(self, router: Router, request: InferenceRequest, context: RequestContext) -> PredictionResult:
        check_outputs(request.outputs)
        customers = read_customers(router.champion.model.contract, request.inputs, self._batch_rows)
        self._handlers.check_queue(len(customers))
        as_of = request.parameters.get(AS_OF)
        if len(customers) > 1:
            return score_many(router, customers, as_of, context)
        return score_one(router, customers[0] if as_of is None else {**customers[0], AS_OF: as_of}, context)

    def is_ready(self, target: Target | None = None) -> bool:
        """Whether the model, in that version, can answer. Raises Refused for another model or version."""
        try:
            self.check_ready(target)
        except Refused as refusal:
            if refusal.status != 503:
                raise
            return False
        return True

    def check_ready(self, target: Target | None = None) -> None:
        """Raise Refused unless the model, in that version, can answer."""
        if target is None:
            self._handlers.router()
        else:
            self._router(target)

    def describe_server(self) -> V2ServerMetadata:
        """Name, version of the package, extensions."""
        return V2ServerMetadata(MODEL, metadata.version("churn-assets"), EXTENSIONS)

    def describe_model(self, target: Target) -> V2ModelMetadata:
        """The versions that answer, the champion's first; inputs and outputs of the one that is named, else of the
        champion."""
        router = self._router(target)
        inputs, outputs = _metadata(describe_inputs(router.champion.model.contract)), _metadata(OUTPUTS)
        return V2ModelMetadata(MODEL, router.versions, PLATFORM, inputs, outputs)

    def _router(self, target: Target) -> Router:
        """The models that answer; with a version in `target` that one alone."""
        if target.model != MODEL:
            raise Refused(404, "path", f"the model is {target.model[:60]!r}, expected {MODEL}; correct the name")
        router = self._handlers.router()
        if target.version in (None, ""):
            return router
        named = router.named(str(target.version))
        if named is None:
            text = f"version {str(target.version)[:80]!r} is not loaded, expected {' or '.join(router.versions)}"
            raise Refused(404, "path", f"{text}; ask for that version, or for none")
        return named


def _metadata(tensors: Sequence[TensorDescription]) -> list[V2TensorMetadata]:
    return [V2TensorMetadata(tensor.name, tensor.datatype, [-1]) for tensor in tensors]
