"""The embedded default: stages run in this process, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from optimas_core.controller import IterationPlan, IterationResult
from optimas_core.launchers._iteration import iterate
from optimas_core.stages import PreferenceRequest, StageContext, TestRequest, TrainRequest, generate_preferences, sealed_test, train_lrf


class InProcessLauncher:
    """Calls the stage functions on one event loop. Every stage that is committed already costs nothing."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._runner = asyncio.Runner()

    def warm_up(self, components: tuple[str, ...], configuration: str, examples: tuple[str, ...]) -> tuple[Mapping[str, str], str | None]:
        preferences = {
            name: self._run(generate_preferences(self._context, PreferenceRequest(0, (name,), configuration, examples)))
            for name in components
        }
        return preferences, self._run(train_lrf(self._context, TrainRequest(tuple(preferences.values()))))

    def iterate(self, plan: IterationPlan) -> IterationResult:
        result: IterationResult = self._run(iterate(self._context, plan))
        return result

    def test(self, before: str, after: str) -> str:
        name: str = self._run(sealed_test(self._context, TestRequest(before, after)))
        return name

    def close(self) -> None:
        """Close the event loop and the clients' connections that live on it."""
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)
