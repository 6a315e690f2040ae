"""Which bundles this process holds, and how others replace them while requests go on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from churn_assets.errors import ChurnError
from churn_assets.release.policy import ANSWERING, CHAMPION, POLICY, Policy, PolicyArm, read_policy
from churn_assets.serving.routing.models import ServedModel, load_served_model
from churn_assets.serving.routing.router import Arm, Router
from churn_assets.storage.sealed import bundle_hash

RETRY_S = 30.0  # a refused bundle is tried again; it may have been copied only in part
UNUSED_S = 2.0  # a model out of use stays so long: a move writes pointer and policy one after the other


@dataclass(slots=True)
class LoadedModel:
    """A model in memory. `sha256` is that of its manifest; `seconds` its load took, with its golden rows, and `memory`
    bytes the process has grown by meanwhile: of the first model with the libraries that it needs."""

    model: ServedModel
    sha256: str
    seconds: float
    memory: int
    unused_since: float | None = None


class WatcherEvents:
    """What a watcher tells; nothing listens here. Called in the thread of a check."""

    def router_changed(self, router: Router) -> None:
        """Requests from now on take `router`."""

    def model_loaded(self, loaded: LoadedModel) -> None:
        """A model is in memory; it answers once a router has it."""

    def models_unloaded(self, versions: list[str]) -> None:
        """Models out of use are gone, but for requests in work."""

    def bundle_refused(self) -> None:
        """A bundle that should answer cannot, for the first time in a row."""

    def refused(self, reason: str) -> None:
        """Why what should answer does not; another reason than before."""


class PolicyFile:
    """The policy of a home, parsed again only if its file was replaced."""

    def __init__(self, home: Path) -> None:
        self._home, self._path = home, home / POLICY
        self._signature: tuple[int, ...] | None = None
        self._policy: Policy | None = None

    def read(self) -> Policy | None:
        """As `read_policy`. Raises PolicyCorrupt."""
        try:
            status = self._path.stat()
        except OSError:  # mostly since there is none
            self._signature = None
            return read_policy(self._home)
        signature = status.st_ino, status.st_mtime_ns, status.st_size
        if signature != self._signature:
            self._signature = None
            self._policy = read_policy(self._home)
            self._signature = signature
        return self._policy


class _Refusal(Exception):
    """Why a policy is not in force although the pointer names its champion."""


class ModelWatcher:
    """The models of a worker, and the check for those that should answer.

    `router` is one reference, replaced whole: a request takes it once and keeps it. `refused` says why what should
    answer does not. Clients read it, so no folder above `home` or above the bundle is in it. Without `policies` the
    champion answers everybody.
    """

    def __init__(
        self,
        find: Callable[[], Path],
        load: Callable[[Path], ServedModel] = load_served_model,
        events: WatcherEvents | None = None,
        clock: Callable[[], float] = time.monotonic,
        home: Path | None = None,
        policies: PolicyFile | None = None,
    ) -> None:
        self._find, self._load, self._clock, self._home, self._policies = find, load, clock, home, policies
        self._events = events or WatcherEvents()
        self.router: Router | None = None
        self.refused: str | None = None
        self.missing = "no model has been loaded yet; ask again in a second"
        self.refusals = 0
        self._models: dict[Path, LoadedModel] = {}
        self._refusals: dict[Path, tuple[float, str]] = {}
        self._state, self._loading = threading.Lock(), threading.Lock()

    @property
    def arm(self) -> Arm | None:
        """The champion's arm, None without a model."""
        return None if self.router is None else self.router.champion

    @property
    def current(self) -> ServedModel | None:
        """The champion's model, None if there is none."""
        return None if self.router is None else self.router.champion.model

    def check(self) -> None:
        """Swap to what can answer now; load what should and cannot yet, and swap again.

        Several threads may check: one loads, and meanwhile another still finds that the policy was replaced.
        """
        while (path := self._advance()) is not None and self._loading.acquire(blocking=False):
            try:
                self._load_model(path)
            finally:
                self._loading.release()

    def _advance(self) -> Path | None:
        """Swap to what can answer now. The first bundle that should answer, too, and is not loaded; None if all are, or
        have been refused a moment ago."""
        with self._state:
            refused, wanted, used = self._decide()
            if refused != self.refused and refused is not None:
                self._events.refused(refused)
            self.refused = refused
            self._refusals = {path: refusal for path, refusal in self._refusals.items() if path in used}
            self._unload(used)
            return wanted

    def _decide(self) -> tuple[str | None, Path | None, set[Path]]:
        """(why what should answer does not, a bundle to load, bundles in use)."""
        try:
            path = self._find().resolve()
        except (ChurnError, OSError, RuntimeError) as error:  # of a path that cannot be resolved, too
            self.missing = self._text(error)
            # The champion goes on answering when the pointer cannot be read; no policy is in force.
            present = self._answer_alone()
            return (self.missing if self.router is not None else None), None, present
        champion = self._models.get(path)
        if champion is None:
            present = {path} | self._answer_alone()
            reason = self._refusals[path][1] if path in self._refusals else None
            if reason is not None:
                self.missing = reason
            return reason, path if self._may_load(path) else None, present
        self._refusals.pop(path, None)
        try:
            policy = self._policy(champion)
            places = {} if policy is None else self._places(policy)
            self._check_arms(policy, places, champion)
        except (ChurnError, OSError, RuntimeError, _Refusal) as error:
            self._swap(champion.model)
            return self._text(error), None, {path}
        used = {path, *places.values()}
        missing = [place for place in places.values() if place not in self._models]
        if missing:
            self._swap(champion.model)
            reasons = [self._refusals[place][1] for place in missing if place in self._refusals]
            loadable = [place for place in missing if self._may_load(place)]
            return next(iter(reasons), None), next(iter(loadable), None), used
        for place in used:
            self._refusals.pop(place, None)
        models = {name: self._models[place].model for name, place in places.items()}
        self._swap(champion.model, policy, models)
        return None, None, used

    def _answer_alone(self) -> set[Path]:
        """Have the champion that answers now do so for everybody; its path."""
        if self.router is None:
            return set()
        model = self.router.champion.model
        self._swap(model)
        return {path for path, loaded in self._models.items() if loaded.model is model}

    def _policy(self, champion: LoadedModel) -> Policy | None:
        """The policy in force with this champion. Raises PolicyCorrupt."""
        policy = None if self._policies is None else self._policies.read()
        return policy if policy is not None and policy.champion.version == champion.model.scorer.version else None

    def _places(self, policy: Policy) -> dict[str, Path]:
        """The bundle of each further arm that answers, by the arm's name. A shadow is scored by another process."""
        assert self._home is not None
        arms = policy.arms if policy.kind in ANSWERING else ()
        return {arm.name: (self._home / arm.bundle).resolve() for arm in arms if arm.name != CHAMPION}

    def _check_arms(self, policy: Policy | None, places: dict[str, Path], champion: LoadedModel) -> None:
        """Raises _Refusal if a loaded model is not what the policy says, or has another key than the champion. Such a
        challenger is dropped, and loaded again later: its folder may have been copied only in part."""
        if policy is None:
            return
        for arm in policy.arms:
            place = places.get(arm.name)
            loaded = champion if arm.name == CHAMPION else None if place is None else self._models.get(place)
            reason = None if loaded is None else _unlike(loaded, arm, champion)
            if reason is None:
                continue
            if place is not None and loaded is not champion:
                self._refuse(place, f"{place.name}: {reason}")
                del self._models[place]
            else:
                raise _Refusal(f"{POLICY}: the arm {arm.name}: {reason}")

    def _may_load(self, path: Path) -> bool:
        return path not in self._refusals or self._clock() - self._refusals[path][0] >= RETRY_S

    def _refuse(self, path: Path, reason: str) -> None:
        if path not in self._refusals:
            self.refusals += 1
            self._events.bundle_refused()
        self._refusals[path] = self._clock(), reason

    def _load_model(self, path: Path) -> None:
        try:
            process, start = psutil.Process(), time.perf_counter()
            memory = process.memory_info().rss
            model, sha256 = self._load(path), bundle_hash(path)
            grown = max(0, process.memory_info().rss - memory)
        except Exception as error:  # whatever a damaged bundle makes a library raise: the present models answer
            with self._state:
                self._refuse(path, self._text(error, path.parent))
            return
        loaded = LoadedModel(model, sha256, time.perf_counter() - start, grown)
        with self._state:
            self._models[path] = loaded
            self._events.model_loaded(loaded)

    def _swap(
        self, champion: ServedModel, policy: Policy | None = None, models: Mapping[str, ServedModel] | None = None
    ) -> None:
        """Another router, if champion or policy are others: each look would make one, with a counter, for nothing."""
        now = self.router
        if now is None or now.champion.model is not champion or now.policy != policy:
            self.router = Router.of(champion, policy, models or {})
            self._events.router_changed(self.router)

    def _unload(self, used: set[Path]) -> None:
        now, gone = self._clock(), []
        for path, loaded in list(self._models.items()):
            if path in used:
                loaded.unused_since = None
            elif loaded.unused_since is None:
                loaded.unused_since = now
            elif now - loaded.unused_since >= UNUSED_S:
                gone.append(self._models.pop(path).model.scorer.version)
        if gone:
            self._events.models_unloaded(gone)

    def _text(self, error: Exception, *folders: Path) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        for folder in (*folders, self._home):
            text = text if folder is None else text.replace(f"{folder}{os.sep}", "")
        return text


def _unlike(loaded: LoadedModel, arm: PolicyArm, champion: LoadedModel) -> str | None:
    """What is not as the policy's arm says, or as the champion has it."""
    version = loaded.model.scorer.version
    if version != arm.version:
        return (
            f"is version {version[:40]}, the policy says {arm.version[:40]}, expected the same; start the release again"
        )
    if loaded.sha256 != arm.sha256:
        return (
            f"the sha256 of its manifest is {loaded.sha256[:12]}..., the policy says {arm.sha256[:12]}..., expected "
            "the same; take the bundle from its source again"
        )
    key, expected = loaded.model.contract.key.name, champion.model.contract.key.name
    if key != expected:
        return (
            f"its key column is {key[:40]!r}, the champion's is {expected[:40]!r}, expected the same, by which a "
            "customer has an arm; end the release: churn release rollback"
        )
    return None
