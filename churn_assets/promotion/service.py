"""Everything that changes which model answers: register, gate, approve, reject, roll back, decide to retrain.

    waiting_gate --gate passed--> approved --gate passed again--> champion, straight or through a canary
         |             `--(approval = "manual")--> waiting_approval --a person--> approved
         `--gate failed--> refused                                        (the same from approved)

Each method loads what it needs, decides by a pure function, and commits: to the ledger first, then to the pointer.
The registry (MLflow) is told after the commit; if it does not answer, the result says so and the next call
tells it again. A process killed between two steps is recovered by the next call of any method.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from churn_assets.errors import BundleError, GateRefused, TrackingUnavailable, TransitionRefused
from churn_assets.mlflow_registry.registry import MODEL_NAME, Alias, MlflowRegistry, ModelRegistry
from churn_assets.promotion import records, registration
from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import IN_FLIGHT, Ledger
from churn_assets.promotion.pointer import REFUSAL, Champion, ChampionPointer, read_champion
from churn_assets.promotion.releases import LOOP, Releases
from churn_assets.promotion.rollout.status import describe_policy
from churn_assets.release.policy import ANSWERING, Policy
from churn_assets.settings import Settings
from churn_assets.storage.files import write_json
from churn_assets.storage.links import link_home
from churn_assets.storage.sealed import bundle_hash, verified_bundle_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from churn_assets.contract.limits import Monitoring
    from churn_assets.contract.model import Contract
    from churn_assets.promotion.holdout import Holdout
    from churn_assets.promotion.retraining import ExternalTrigger
    from churn_assets.scoring.scorer import Scorer

UNDECIDED: tuple[records.ChallengerStatus, ...] = ("waiting_gate", "waiting_approval", "approved")  # of a challenger
# undecided: the gate could not be held. overtaken: a person or another run has moved it or the champion meanwhile.
# canary: approved, and its canary runs. waiting_release: approved, and another canary or an ab runs.
OutcomeStatus = Literal[
    "promoted", "canary", "refused", "waiting_approval", "waiting_release", "undecided", "overtaken"
]


@dataclass(frozen=True)
class Outcome:
    """The gate's effect on one challenger. `verdict` is None if the gate could not be held; `missing` says why the
    registry does not have it, None if it does."""

    challenger: str
    status: OutcomeStatus
    message: str
    verdict: records.Verdict | None = None
    missing: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the asset `promotion` stores it."""
        return {"version": 1, **vars(self), "verdict": self.verdict.to_json() if self.verdict else None}


@dataclass(frozen=True)
class GateRun:
    """One outcome for each challenger that was waiting, the newest first, and the champion afterwards;
    `registry_message` as from `tell_registry`."""

    outcomes: tuple[Outcome, ...]
    champion: Champion | None
    registry_message: str | None

    @property
    def message(self) -> str:
        """All outcomes in one line."""
        return "; ".join(outcome.message for outcome in self.outcomes) or "no challenger waits for the gate"


@dataclass(frozen=True)
class AliasState:
    """What became of the registry's alias champion: a message if it was not right or could not be read, the version it
    `named`, whether somebody has moved it there by hand, and whether it names the champion now (`is_settled`)."""

    message: str = ""
    named: int | None = None
    moved: bool = False
    is_settled: bool = True


@dataclass(frozen=True)
class RunState:
    """A run of the orchestrator. "canceled" by a person; a run that was ended by force has "failed"."""

    run_id: str
    status: Literal["running", "failed", "canceled", "succeeded"]


def load_scorer(bundle: Path, contract: Contract) -> Scorer:
    """As `load_bundle`, whose NumPy a rollback does not wait for."""
    from churn_assets.scoring.bundle import load_bundle

    return load_bundle(bundle, contract)


class PromotionService:
    """What the loop and people change in ledger and champion pointer, but for releases, which are of `Releases`.
    `PromotionService.of(settings)` is the usual one."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        pointer: ChampionPointer,
        registry: ModelRegistry,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        load_scorer: Callable[[Path, Contract], Scorer] = load_scorer,
    ) -> None:
        self._load_scorer = load_scorer
        self._settings, self._home = settings, settings.home
        self._ledger, self._pointer, self._registry, self._clock = ledger, pointer, registry, clock
        self._champion = ChampionMoves(settings.bundles_dir, ledger, pointer, clock)
        self._policies = self._champion.policies

    @classmethod
    def of(cls, settings: Settings) -> PromotionService:
        """The service of a home, with its ledger, its pointer and MLflow."""
        link_home(settings)
        ledger, pointer = Ledger(settings.ledger_path), ChampionPointer(settings.home)
        return cls(settings, ledger, pointer, MlflowRegistry(settings.mlflow_uri))

    def recover(self) -> records.Move | None:
        """As `ChampionMoves.recover`."""
        return self._champion.recover()

    def rollback(self, to: str | None = None, *, by: str, why: str) -> records.Move:
        """As `ChampionMoves.rollback`; the registry's alias follows at the next training or promotion."""
        return self._champion.rollback(to, by, why)

    def tell_registry(self) -> str | None:
        """Let the registry's alias follow the pointer; a message if it named another version (a rollback, or somebody
        has moved it by hand) or could not be set, None if it was right."""
        return self._settle_alias().message or None

    def watch_alias(self, contract: Contract) -> AliasState:
        """As `tell_registry`; with `release.moved_alias` "gate", a refused challenger that somebody has moved the alias
        to waits for the gate once more. A rejected one does not: a person has decided."""
        state = self._settle_alias()
        if not state.moved or contract.release.moved_alias != "gate":
            return state
        rounds = [c for c in self._ledger.challengers() if c.registered_version == state.named]
        if not rounds or rounds[-1].status != "refused":
            return state
        again = rounds[-1]
        try:
            sha256 = verified_bundle_hash(self._home / again.bundle)
        except BundleError as error:
            return replace(
                state, message=f"{state.message}. Challenger {again.version} cannot be judged again: {error}"
            )
        self._ledger.add_challenger(again.version, again.bundle, sha256, state.named, None, self._clock())
        return replace(state, message=f"{state.message}. Challenger {again.version} waits for the gate once more")

    def _settle_alias(self) -> AliasState:
        champion = read_champion(self._home)
        if champion is None or champion.registered_version is None:
            return AliasState()
        number = champion.registered_version
        try:
            before = self._registry.set_alias("champion", number)
        except TrackingUnavailable as error:
            return AliasState(str(error), is_settled=False)
        present = read_champion(self._home)
        if present is not None and present.version != champion.version:  # it has moved meanwhile
            return self._settle_alias()
        if before is None:
            return AliasState()
        message = (
            f"the alias champion named version {before} in the registry, expected {number}, the champion "
            f"{champion.version}; it was set to that. An alias moved by hand changes nothing: churn rollback does"
        )
        return AliasState(message, before, moved=before != self._replaced())

    def _replaced(self) -> int | None:
        """The number of the champion that the last move has replaced, if that was a rollback or the end of a release,
        which tell the registry nothing: the alias may still name it."""
        done, policy = self._ledger.moves("done"), self._ledger.newest_policy_move("done")
        released = policy is not None and policy.kind == "promote"
        if not done or (done[-1].kind != "rollback" and not released):
            return None
        return next((m.to.registered_version for m in reversed(done[:-1]) if m.to.version == done[-1].before), None)

    def renew_holdout(self, contract: Contract, labelled: pa.Table | None, by: records.Person, why: str) -> Holdout:
        """Freeze the rolling holdout of `labelled` (the table `labelled_predictions`) in place of the frozen one.

        Raises TransitionRefused where `renewal.renewal_problem` says why not, HoldoutCorrupt, HomeBusy.
        """
        from churn_assets.promotion import holdout as holdouts
        from churn_assets.promotion.gate.renewal import RenewalFacts, renewal_problem
        from churn_assets.training.labelled_rows import set_apart_rows

        self.recover()
        with self._pointer.locked():
            folder, champion = self._settings.holdout_dir, read_champion(self._home)
            rows = None if labelled is None else set_apart_rows(contract, labelled)
            present = holdouts.read_holdout(folder, contract)
            facts = RenewalFacts(
                champion=champion.version if champion else None,
                holdout=present,
                waiting=", ".join(c.version for c in self._ledger.challengers(*UNDECIDED)),
                in_flight=", ".join(request.key for request in self._ledger.requests(*IN_FLIGHT)),
                broken=self._ledger.broken_data(),
                rows=rows,
            )
            if (problem := renewal_problem(facts, contract)) is not None:
                raise TransitionRefused(f"the holdout is not renewed: {problem}")
            assert champion is not None  # without these there is a problem
            assert present is not None
            assert rows is not None
            renewal = holdouts.Renewal(str(by), why)
            return holdouts.renew(folder, contract, rows, present, champion.version, self._clock(), renewal)

    def register(
        self,
        contract: Contract,
        model: registration.TrainedModel,
        bundle: Path,
        *,
        run_id: str | None = None,
        missing: str | None = None,
        request: str | None = None,
        before_champion: Callable[[], object] = lambda: None,
    ) -> registration.Registration:
        """Register a model; it becomes a challenger that waits for the gate, or the first champion.

        `bundle` lies inside the home; `run_id` is the training's MLflow run, `missing` why there is none; `request`
        is the key of the request that it answers. `before_champion` writes what must be on disk before the pointer
        moves to a model that becomes, or is, champion. A model with other inputs than the champion's is judged at once,
        by the rules of registration. Raises GateRefused as `check_registration`.
        """
        self._check(model, contract)
        registration.save_registration_record(self._home, model)
        self.recover()
        champion = read_champion(self._home)
        role = self._assign_role(contract, model, bundle, champion)
        number: int | None = None
        if run_id is not None and missing is None:  # before the commit: pointer and ledger store the number
            number, missing = self._register_version(run_id, contract, bundle, model.version)
        path = bundle.relative_to(self._home).as_posix()
        if role.alias == "champion":
            before_champion()
            champion = self._become_champion(contract, model.version, path, number, role.reason)
            if request is not None:
                self._ledger.finish_request(request, f"champion {model.version}", self._clock())
        else:
            self._ledger.add_challenger(model.version, path, bundle_hash(bundle), number, request, self._clock())
        if role.change:
            before_champion()  # the customers that later models with these inputs are compared on
            outcome = self.promote(contract, model.version, None)
            champion = read_champion(self._home)
            alias: Alias = "champion" if outcome.status == "promoted" else "challenger"
            role = registration.Role(alias, f"{role.reason}; {outcome.message}")
        if number is not None:
            missing = self._publish_aliases(role, number)
        entry = f"models:/{MODEL_NAME}/{number}" if number is not None else ""
        answering = champion.version if champion else ""
        return registration.Registration(
            model.version, path, role.alias, role.reason, answering, number, entry, missing
        )

    def _assign_role(
        self, contract: Contract, model: registration.TrainedModel, bundle: Path, champion: Champion | None
    ) -> registration.Role:
        from churn_assets.promotion.holdout import frozen_with
        from churn_assets.scoring.bundle import read_contract

        trained = read_contract(bundle) or contract  # which may leave columns out that the contract in use has
        frozen = frozen_with(self._settings.holdout_dir, contract) not in ("", model.version)
        generated, refused = self._is_generated(champion), self._is_refused(model.version)
        in_use = contract if frozen else None
        return registration.assign_role(model, trained, champion, self._home, generated, refused, in_use)

    def _is_refused(self, version: str) -> bool:
        """Whether the last thing decided on a version was no."""
        rounds = [challenger for challenger in self._ledger.challengers() if challenger.version == version]
        return bool(rounds) and rounds[-1].status in ("refused", "rejected")

    def _check(self, model: registration.TrainedModel, contract: Contract) -> None:
        """As `check_registration`; a refusal is kept for `read_refusal`."""
        refused = self._home / REFUSAL
        try:
            registration.check_registration(model, contract)
        except GateRefused as refusal:
            with contextlib.suppress(OSError):  # for `churn status` alone; the refusal itself must be told
                write_json(refused, {"version": model.version, "message": str(refusal)})
            raise
        refused.unlink(missing_ok=True)

    def _register_version(
        self, run_id: str, contract: Contract, bundle: Path, version: str
    ) -> tuple[int | None, str | None]:
        """The number in the registry, or None and the reason."""
        try:
            return self._registry.register(run_id, contract, bundle, version), None
        except TrackingUnavailable as error:
            return None, str(error)

    def _become_champion(
        self, contract: Contract, version: str, bundle: str, number: int | None, reason: str
    ) -> Champion:
        present = read_champion(self._home)
        if present is not None and present.version == version:
            if number is None:
                return present
            return self._champion.set_registered_version(version, number) or present
        champion = Champion(version, bundle, contract.fingerprint, number, self._clock(), "training", reason)
        return self._champion.move(champion, "first", champion.by, reason).to

    def _publish_aliases(self, role: registration.Role, number: int) -> str | None:
        try:
            self._registry.set_alias(role.alias, number)
        except TrackingUnavailable as error:
            return str(error)
        # The champion may have been rolled back, its alias moved by hand.
        return None if role.alias == "champion" else self.tell_registry()

    def _is_generated(self, champion: Champion | None) -> bool:
        from churn_assets.scoring.bundle import read_provenance

        if champion is None:
            return False
        try:
            return bool(read_provenance(champion.path(self._home)).generated)
        except (BundleError, OSError, ValueError):
            return False

    def promote_waiting(self, contract: Contract, labelled: pa.Table | None) -> GateRun:
        """Hold the gate for every challenger that waits for it or is approved, the newest first; once one is promoted
        the older ones are refused. `labelled` is the table `labelled_predictions`, None if there is none."""
        self.recover()
        outcomes: list[Outcome] = []
        promoted: str | None = None
        message = self.tell_registry()  # before a promotion sets the alias: one moved by hand is reported
        for challenger in reversed(self._ledger.challengers("waiting_gate", "approved")):
            outcome = self._waiting(challenger) or self._decide_on(contract, challenger, labelled, promoted)
            if outcome.status == "promoted":
                promoted = challenger.version
            outcomes.append(outcome)
        return GateRun(tuple(outcomes), read_champion(self._home), self.tell_registry() or message)

    def _waiting(self, challenger: records.Challenger) -> Outcome | None:
        """The outcome for an approved challenger while a release runs: it is not judged again, it waits."""
        running = self._running()
        if challenger.status != "approved" or running is None:
            return None
        status, message = _while_running(running, challenger.version)
        return Outcome(challenger.version, status, message, challenger.verdict)

    def _decide_on(
        self, contract: Contract, challenger: records.Challenger, labelled: pa.Table | None, promoted: str | None
    ) -> Outcome:
        """The outcome for one challenger, once `promoted` (None: no other) has been promoted in this run."""
        from churn_assets.promotion.gate.judge import superseded

        version = challenger.version
        try:
            if promoted is not None:
                return self._commit(contract, challenger, superseded(version, promoted))
            return self.promote(contract, version, labelled)
        except TransitionRefused as error:
            return Outcome(version, "overtaken", str(error))

    def promote(self, contract: Contract, version: str, labelled: pa.Table | None) -> Outcome:
        """Hold the gate for one challenger, and do what the verdict and the contract's approval say: the only way.

        Raises TransitionRefused for a version that is not a challenger waiting for the gate or approved, or if another
        than the one it was compared with has become champion meanwhile: it stays approved.
        """
        from churn_assets.promotion.gate.inputs import GateBlocked, load_inputs
        from churn_assets.promotion.gate.judge import judge

        self.recover()
        challenger = self._ledger.challenger(version)
        try:
            champion = read_champion(self._home)
            inputs = load_inputs(self._settings, contract, champion, challenger, labelled, self._load_scorer)
        except GateBlocked as obstacle:
            message = f"the gate cannot be held for challenger {version}: {obstacle}"
            self.fail_gate_run(challenger.run_key, message)
            return Outcome(version, "undecided", message)
        return self._commit(contract, challenger, judge(inputs))

    def _commit(self, contract: Contract, challenger: records.Challenger, verdict: records.Verdict) -> Outcome:
        version, needs_person = challenger.version, self._needs_person(contract, verdict)
        challenger = self._ledger.record_verdict(version, verdict, needs_person=needs_person, at=self._clock())
        status: OutcomeStatus = "refused"
        message = verdict.reason
        if challenger.status == "waiting_approval":
            status, message = "waiting_approval", f"{message}; it waits for a person: churn approve {version}"
        if challenger.status == "approved":
            status, outcome = self._let_in(contract, challenger, verdict)
            message = f"{message}; {outcome}"
        if status == "refused":
            self.recover()  # if it answered some customers, that ends
        missing = self._publish_verdict(challenger, verdict, promoted=status == "promoted")
        return Outcome(version, status, message, verdict, missing)

    def _needs_person(self, contract: Contract, verdict: records.Verdict) -> bool:
        """Whether contract or verdict want a person, or the model has other inputs than a champion that a person went
        back to: its training must not undo the rollback."""
        if verdict.needs_person or contract.release.approval == "manual":
            return True
        done = self._ledger.moves("done") if any(check.check == "inputs" for check in verdict.checks) else ()
        return bool(done) and done[-1].kind == "rollback"

    def _let_in(
        self, contract: Contract, challenger: records.Challenger, verdict: records.Verdict
    ) -> tuple[OutcomeStatus, str]:
        """Make an approved challenger the champion, straight or through a canary as the contract says, or let it wait
        while a canary or ab runs. A model with other inputs goes straight: a canary's two models read the same rows."""
        version, other_inputs = challenger.version, any(check.check == "inputs" for check in verdict.checks)
        if contract.release.rollout == "canary" and not other_inputs and self._running() is None:
            releases = Releases(self._settings, self._ledger, self._pointer, self._clock, lambda: contract)
            policy = releases.canary(version, LOOP, verdict.reason).after
            return "canary", f"it is let in by policy {policy.id}: {describe_policy(policy)}"
        with self._pointer.locked():
            self._champion.recover_held()
            if (running := self._running()) is not None:
                return _while_running(running, version)
            by = str(challenger.approved_by or records.Gate())
            bundle, number = challenger.bundle, challenger.registered_version
            to = Champion(version, bundle, contract.fingerprint, number, self._clock(), by, verdict.reason)
            self._champion.move_held(to, "promotion", by, verdict.reason, verdict.champion)
        return "promoted", f"it is champion, approved by {by}"

    def _running(self) -> Policy | None:
        """The policy of a canary or ab that runs."""
        policy = self._policies.in_force
        return policy if policy is not None and policy.kind in ANSWERING else None

    def _publish_verdict(self, challenger: records.Challenger, verdict: records.Verdict, promoted: bool) -> str | None:
        number = challenger.registered_version
        if number is None:
            missing = f"challenger {challenger.version} is not in MLflow's registry"
            return f"{missing}, expected a version to tag; register it again"
        try:
            self._registry.set_tags(number, _verdict_tags(verdict))
            if promoted:
                self._registry.set_alias("champion", number)
        except TrackingUnavailable as error:
            return str(error)
        return None

    def approve(self, version: str, by: records.Person, why: str) -> records.Challenger:
        """As `Ledger.approve`; the gate runs again before the promotion. Raises BundleCorrupt for a changed bundle."""
        self.recover()
        challenger = self._ledger.challenger(version)
        sha256 = verified_bundle_hash(self._home / challenger.bundle)
        return self._ledger.approve(version, by, why, sha256, self._clock())

    def reject(self, version: str, by: records.Person, why: str) -> records.Challenger:
        """As `Ledger.reject`; it ends the canary or ab in which the challenger answers."""
        self.recover()
        challenger = self._ledger.reject(version, by, why, self._clock())
        self.recover()
        return challenger

    def decide_retraining(
        self,
        limits: Monitoring,
        summarize: Callable[[Champion], records.MonitoringSummary],
        requested: ExternalTrigger | None = None,
    ) -> records.DecisionRecord:
        """As `Ledger.decide`, by `retraining.decide`; `summarize` gives what monitoring reports about a champion."""
        from churn_assets.promotion.retraining import RetrainingInputs, decide

        self.recover()
        now, champion = self._clock(), read_champion(self._home)
        monitoring = records.MonitoringSummary() if champion is None else summarize(champion)
        version = champion.version if champion else ""
        return self._ledger.decide(
            lambda state: decide(RetrainingInputs(now, version, limits, state, monitoring, requested)), now
        )

    def start_request(self, key: str, run_id: str) -> None:
        """As `Ledger.start_request`."""
        self._ledger.start_request(key, run_id)

    def fail_request(self, key: str, run_id: str, why: str) -> records.Request | None:
        """As `Ledger.fail_request`."""
        return self._ledger.fail_request(key, run_id, why, self._clock())

    def settle_request(self, request: records.Request, runs: Sequence[RunState]) -> None:
        """Record which of its runs (the newest first) has started a request, or end it: its run failed, was canceled,
        vanished, or succeeded without a challenger."""
        running = [run for run in runs if run.status == "running"]
        if running:
            if request.status == "open":
                self.start_request(request.key, running[0].run_id)
        elif runs:
            self._settle_ended(request, runs[0])
        elif request.run_id is not None:
            self.fail_request(request.key, request.run_id, "Dagster does not know the run any more")

    def _settle_ended(self, request: records.Request, run: RunState) -> None:
        if run.status == "failed":
            self.fail_request(request.key, request.run_id or run.run_id, "the run failed")
            return
        outcome = "was canceled by a person" if run.status == "canceled" else "ended and left no challenger"
        self._ledger.abandon_request(request.key, f"run {run.run_id} {outcome}", self._clock())

    def fail_gate_run(self, run_key: str, why: str) -> records.Challenger | None:
        """As `Ledger.fail_promotion`."""
        return self._ledger.fail_promotion(run_key, why, self._clock())


def _while_running(policy: Policy, version: str) -> tuple[OutcomeStatus, str]:
    """What becomes of an approved challenger while `policy` runs."""
    if version in {arm.version for arm in policy.arms}:
        return "canary", f"challenger {version} is let in by policy {policy.id}: {describe_policy(policy)}"
    return "waiting_release", (
        f"challenger {version} is approved and waits until policy {policy.id} has ended: {describe_policy(policy)}"
    )


def _verdict_tags(verdict: records.Verdict) -> dict[str, str]:
    figures = {
        check.check: [*(None if x is None else round(x, 6) for x in (check.value, check.limit)), check.passed]
        for check in verdict.checks
    }
    return {
        "gate": "passed" if verdict.passed else "refused",
        "gate_reason": verdict.reason,
        "gate_champion": verdict.champion,
        "gate_figures": dumps(figures),
    }
