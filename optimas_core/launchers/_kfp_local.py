"""The compiled pipelines on this machine, without a cluster: every task is a process of its own, as it is a container on one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from importlib.resources import as_file, files
from typing import Any

from optimas_core.controller import IterationPlan, IterationResult
from optimas_core.errors import EnvironmentNotReady, TemporaryError
from optimas_core.launchers._iteration import iterate
from optimas_core.launchers._tasks import read_outcome
from optimas_core.stages import PreferenceRequest, StageContext, TestRequest, TrainRequest, generate_preferences, sealed_test, train_lrf


class KfpLocalLauncher:
    """Runs each pipeline with `kfp.local` and reads what its tasks committed.

    Args:
        context: the run; its process holds the lease.
        bundle: digest of the run's code in the workspace.
        shards: how many tasks measure preference data.

    Raises:
        EnvironmentNotReady: kfp is not installed.
    """

    def __init__(self, context: StageContext, *, workspace: str, bundle: str, shards: int = 4) -> None:
        try:
            import kfp  # noqa: F401
        except ImportError:
            raise EnvironmentNotReady("kfp is not installed.", remedy="Install it: pip install 'optimas-kube[kfp]'.") from None
        self._context = context
        self._common = {"workspace": workspace, "run_id": context.run.run_id, "bundle": bundle}
        self._indexes = list(range(shards))
        self._spread = {"shards": shards, "shard_indexes": self._indexes}
        self._folder = tempfile.TemporaryDirectory(prefix="optimas-kfp-")
        self._runner = asyncio.Runner()

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        shards = [f"0-generate-preferences-{index}" for index in self._indexes]
        self._execute("warm_up", self._spread, [*shards, "0-train-lrf"])

        async def names() -> tuple[dict[str, str], str]:
            requests = {name: PreferenceRequest(0, (name,), configuration, examples) for name in components}
            preferences = {name: await generate_preferences(self._context, request) for name, request in requests.items()}
            return preferences, await train_lrf(self._context, TrainRequest(tuple(preferences.values())))

        found: tuple[dict[str, str], str] = self._read(names())
        return found

    def iterate(self, plan: IterationPlan) -> IterationResult:
        tasks = ["propose", *(f"generate-preferences-{index}" for index in self._indexes)]
        tasks += ["adapt-lrf", "local-optimize", "validate-accept"]
        self._execute("iteration", self._spread | {"state": plan.state}, [f"{plan.state}-{task}" for task in tasks])
        result: IterationResult = self._read(iterate(self._context, plan))
        return result

    def test(self, before: str, after: str) -> str:
        self._execute("sealed_test", {"before": before, "after": after}, ["sealed-test"])
        name: str = self._read(sealed_test(self._context, TestRequest(before, after)))
        return name

    def close(self) -> None:
        """Close the event loop and delete what the tasks left in the temporary folder."""
        self._runner.close()
        self._folder.cleanup()

    def _execute(self, pipeline: str, arguments: Mapping[str, Any], tasks: list[str]) -> None:
        """Run it to its end.

        Raises:
            OptimasError: what the task that failed said.
            TemporaryError: no task said anything.
        """
        from kfp import components, local

        for task in tasks:  # what an earlier try said is no news
            self._context.run.write_file(f"report/tasks/{task}.json", b"null")
        self._context.budget.flush()
        self._context.progress(f"pipeline {pipeline} on this machine", 0, 0)
        with as_file(files("optimas_core") / "pipelines" / f"{pipeline}.yaml") as path:
            definition = components.load_component_from_file(str(path))
        with _quiet():
            local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=self._folder.name, raise_on_error=True)
            try:
                definition(**self._common, **arguments)
            except RuntimeError as error:
                said = [found for task in tasks if (found := read_outcome(self._context.run, task)) is not None]
                raise said[0] if said else TemporaryError(f"pipeline {pipeline}: {error}", remedy="Run `optimas resume`.") from None

    def _read(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Names of what the tasks committed: the same stages again, which find it there and may do nothing else.

        Raises:
            TemporaryError: a task ended well, but what it should have committed is not there.
        """

        def nothing_to_do() -> None:
            raise TemporaryError("a task ended well without committing its result.", remedy="Run `optimas resume`.")

        before_call, before_commit = self._context.engine.before_call, self._context.before_commit
        self._context.engine.before_call = self._context.before_commit = nothing_to_do
        try:
            return self._runner.run(work)
        finally:
            self._context.engine.before_call, self._context.before_commit = before_call, before_commit


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp.local tells everything on stdout, where a program reads our result: it goes to stderr, and its own log only from warnings up."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(level)
