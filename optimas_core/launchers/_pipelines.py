"""The launcher that runs stages as tasks of compiled pipelines, wherever pipelines are executed.

Nothing comes back from a pipeline but whether it ended well: results are read from the workspace, by asking the same stage functions
for them in a context that may only read. What is committed already is not run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, Protocol

from optimas_core.controller import IterationPlan, IterationResult
from optimas_core.errors import EnvironmentNotReady, TemporaryError
from optimas_core.launchers._iteration import iterate
from optimas_core.launchers._tasks import forget_outcomes, read_outcome
from optimas_core.launchers.kfp_api import child_run_name, stage_run_name
from optimas_core.stages import (
    NotCommitted,
    PreferenceRequest,
    StageContext,
    TestRequest,
    TrainRequest,
    generate_preferences,
    sealed_test,
    train_lrf,
)

PipelineName = Literal["warm_up", "iteration", "sealed_test"]


class PipelineFailed(Exception):
    """A pipeline did not end well; the text is all that its executor knows."""


class Executor(Protocol):
    """Something that executes a compiled pipeline to its end."""

    def execute(self, pipeline: PipelineName, name: str, arguments: Mapping[str, Any]) -> None:
        """`name` is the same whenever the same work is asked for, so that work in progress is found again.

        Raises:
            PipelineFailed: a task did not end well.
            OptimasError: the pipeline could not be executed at all, or never will be.
        """

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What every task is told: where the run lies, its code, and how many tasks measure preference data."""

    workspace: str
    bundle: str
    shards: int = 4

    @property
    def indexes(self) -> list[int]:
        return list(range(self.shards))


class PipelineLauncher:
    """Runs stages through an executor of pipelines.

    Args:
        context: the run; its process holds the lease.
        executor: where pipelines run.
        placed: what every task is told.
    """

    def __init__(self, context: StageContext, executor: Executor, placed: Placed) -> None:
        self._context = context
        self._executor = executor
        self._placed = placed
        self._runner = asyncio.Runner()

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        async def names() -> tuple[dict[str, str], str]:
            requests = {name: PreferenceRequest(0, (name,), configuration, examples) for name in components}
            preferences = {name: await generate_preferences(self._context, request) for name, request in requests.items()}
            return preferences, await train_lrf(self._context, TrainRequest(tuple(preferences.values())))

        tasks = [*(f"0-generate-preferences-{index}" for index in self._placed.indexes), "0-train-lrf"]
        found: tuple[dict[str, str], str] = self._committed_by(
            "warm_up", stage_run_name(self._run_id, "warm-up"), self._spread(), tasks, names
        )
        return found

    def iterate(self, plan: IterationPlan) -> IterationResult:
        steps = ["propose", *(f"generate-preferences-{index}" for index in self._placed.indexes)]
        steps += ["adapt-lrf", "local-optimize", "validate-accept"]
        tasks = [f"{plan.state}-{step}" for step in steps]
        result: IterationResult = self._committed_by(
            "iteration",
            child_run_name(self._run_id, plan.iteration),
            self._spread() | {"state": plan.state},
            tasks,
            lambda: iterate(self._context, plan),
        )
        return result

    def test(self, before: str, after: str) -> str:
        request = TestRequest(before, after)
        name: str = self._committed_by(
            "sealed_test",
            stage_run_name(self._run_id, "sealed-test"),
            {"before": before, "after": after},
            ["sealed-test"],
            lambda: sealed_test(self._context, request),
        )
        return name

    def close(self) -> None:
        """Close the event loop and the executor."""
        self._runner.close()
        self._executor.close()

    @property
    def _run_id(self) -> str:
        return self._context.run.run_id

    def _spread(self) -> dict[str, Any]:
        return {"shards": self._placed.shards, "shard_indexes": self._placed.indexes}

    def _committed_by(
        self,
        pipeline: PipelineName,
        name: str,
        arguments: Mapping[str, Any],
        tasks: list[str],
        read: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Any:
        """What `read` finds; the pipeline is executed first where it is not all there.

        Raises:
            OptimasError: what the task that failed said.
            TemporaryError: no task said anything, or all ended well without committing their results.
        """
        try:
            return self._read(read)
        except NotCommitted:
            self._execute(pipeline, name, arguments, tasks)
        return self._read(read)

    def _execute(self, pipeline: PipelineName, name: str, arguments: Mapping[str, Any], tasks: list[str]) -> None:
        run = self._context.run
        forget_outcomes(run, tasks)
        self._context.budget.flush()  # what this process reserved ahead is for the tasks
        self._context.progress(f"pipeline {name}", 0, 0)
        common = {"workspace": self._placed.workspace, "run_id": run.run_id, "bundle": self._placed.bundle}
        try:
            self._executor.execute(pipeline, name, common | dict(arguments))
        except PipelineFailed as error:
            said = next((found for task in tasks if (found := read_outcome(run, task)) is not None), None)
            raise said or TemporaryError(f"pipeline {name}: {error}", remedy="`optimas resume` goes on from here.") from None

    def _read(self, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self._context.only_read = True
        try:
            return self._runner.run(read())
        finally:
            self._context.only_read = False


def compiled(name: str) -> bytes:
    """The YAML of one of our pipelines, out of the package.

    Raises:
        EnvironmentNotReady: this installation does not have it.
    """
    place = files("optimas_core") / "pipelines" / f"{name}.yaml"
    if not name.replace("_", "").isalnum() or not place.is_file():
        raise EnvironmentNotReady(
            f"this installation has no compiled pipeline {name!r}.", remedy="Install the wheel, or run `make pipelines` in a source tree."
        )
    return place.read_bytes()
