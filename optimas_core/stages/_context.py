"""What every stage is given: the run's frozen spec, its workspace, the system, the data and an engine with the run's budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from optimas_core.artifacts import Artifact, RunWorkspace
from optimas_core.canonical import canonical_json, digest
from optimas_core.errors import ArtifactCorrupt, DataError, TemporaryError
from optimas_core.optimizers import LeakGuard
from optimas_core.rewards import ALONE, Ranks
from optimas_core.rollouts import Budget, RolloutEngine
from optimas_core.spec import RunSettings
from optimas_core.system import CompoundSystem, Configuration, Example, Split

if TYPE_CHECKING:
    from optimas_core.rewards import RewardModel


class Progress(Protocol):
    """Told what is being done; `done` of `total` steps of the named work."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


def no_progress(what: str, done: int, total: int) -> None:
    """Says nothing."""


class NotCommitted(TemporaryError):
    """A stage was asked for its result where it may not run, and it is not there yet."""

    code = "not_committed"


@dataclass
class StageContext:
    """Everything a stage function needs beside its request. `identity` is the digest of all that decides results: settings,
    system code, data and our own version; it is part of every artifact's name."""

    run: RunWorkspace
    settings: RunSettings
    system: CompoundSystem
    split: Split
    engine: RolloutEngine
    budget: Budget
    identity: str
    created_at: str
    producer: str
    progress: Progress = no_progress
    opro_client: Any = None
    only_read: bool = False
    before_commit: Callable[[], None] = lambda: None
    after_commit: Callable[[], None] = lambda: None
    ranks: Ranks = ALONE
    _models: dict[str, RewardModel] = field(default_factory=dict)
    _models_lock: threading.Lock = field(default_factory=threading.Lock)
    _leak_guard: LeakGuard | None = None

    def name(self, stage: str, request: Any) -> str:
        """The content address of a stage's result: stage, request and everything the run is made of."""
        return digest([stage, request, self.identity])

    def commit(
        self, kind: str, name: str, files: Mapping[str, bytes], inputs: Mapping[str, str], schemas: Mapping[str, int] | None = None
    ) -> Artifact:
        """Commit an artifact, manifest last; settles the budget first, so nothing committed is unaccounted for."""
        self.before_commit()
        self.budget.flush()
        artifact = self.run.commit_artifact(
            kind, name, files, inputs=inputs, producer=self.producer, created_at=self.created_at, schemas=schemas
        )
        self.after_commit()
        return artifact

    def existing(self, kind: str, name: str) -> Artifact | None:
        """The artifact if its manifest exists: then the stage has nothing to do.

        Raises:
            NotCommitted: it does not, and `only_read` says that stages run elsewhere.
        """
        found = self.run.open_artifact(kind, name)
        if found is None and self.only_read:
            raise NotCommitted(f"{kind}/{name} is not committed in {self.run.uri}.", remedy="Run the stage that makes it.")
        return found

    def required(self, kind: str, name: str) -> Artifact:
        """Raises ArtifactCorrupt if the artifact a request names is not committed."""
        found = self.run.open_artifact(kind, name)
        if found is None:
            raise ArtifactCorrupt(f"{kind}/{name} is not committed in {self.run.uri}.", remedy="Run the stage that makes it first.")
        return found

    def configuration(self, name: str) -> Configuration:
        """The configuration committed under `name`.

        Raises:
            ArtifactCorrupt: it is not there, or damaged.
            ConfigurationError: it is none of this system.
        """
        data = self.run.read_configuration(name)
        if data is None:
            raise ArtifactCorrupt(f"configuration {name} is not in {self.run.uri}.", remedy="Restore it, or start a new run.")
        found = Configuration.from_json(data)
        self.system.check_configuration(found)
        return found

    def examples(self, ids: Sequence[str]) -> list[Example]:
        """The examples of the named ids, in that order. Raises DataError for an id that is not in the data."""
        known = {example.id: example for example in (*self.split.train, *self.split.validation, *self.split.test)}
        unknown = [name for name in ids if name not in known]
        if unknown:
            raise DataError(f"there is no example {unknown[0]!r} in the data.", remedy="Name ids of the run's own data.")
        return [known[name] for name in ids]

    def leak_guard(self) -> LeakGuard:
        """The guard over this run's data; its index is made at the first use."""
        if self._leak_guard is None:
            self._leak_guard = LeakGuard(self.split, self.system.inputs)
        return self._leak_guard

    def reward_model(self, name: str) -> RewardModel:
        """The committed Local Reward Functions under `name`; the last one loaded is kept."""
        from optimas_core.rewards import RewardModel

        with self._models_lock:  # per-input choices ask from several threads at once
            model = self._models.get(name)
            if model is None:
                artifact = self.required("lrf", name)
                files = {file: artifact.read(file) for file in artifact.names if not file.startswith("metrics")}
                # The run's own setting says where the backbone lies, not the file that someone may have given us.
                model = RewardModel.from_files(files, backbone=self.settings.lrf.backbone)
                self._models.clear()
                self._models[name] = model
            return model

    def forget_reward_models(self) -> None:
        """Drop loaded models; the next use reads the committed files."""
        self._models.clear()

    def tell(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(what, done, total)


def json_file(value: Any) -> bytes:
    """Canonical JSON as a file's bytes."""
    return canonical_json(value).encode("utf-8", "surrogatepass") + b"\n"
