"""Live progress: the stage, what is being measured, spend against budget, time left. Lines instead of a live area where there is
no terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from optimas_core.controller import RunState
from optimas_core.rollouts import Budget

_LINE_EVERY_S = 5.0


class RunProgress:
    """A stages.Progress for people. Use as a context manager; `attach` gives it the budget once it is known."""

    def __init__(self, iterations: int) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if self._console.is_terminal else None
        self._lock = threading.Lock()
        self._budget: Budget | None = None
        self._iterations = iterations
        self._state: RunState | None = None
        self._what, self._done, self._total = "starting", 0, 0
        self._started_s = self._step_began_s = time.monotonic()
        self._steps_s: list[float] = []
        self._printed_s = 0.0

    def attach(self, budget: Budget) -> None:
        self._budget = budget

    def __call__(self, what: str, done: int, total: int) -> None:
        with self._lock:
            changed = what != self._what
            self._what, self._done, self._total = what, done, total
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._view())
        elif changed or now - self._printed_s > _LINE_EVERY_S:
            self._printed_s = now
            print(f"[{now - self._started_s:6.1f} s] {self._headline()}  {self._spend()}", file=sys.stderr, flush=True)

    def on_state(self, state: RunState) -> None:
        """A state was appended: say what the step came to."""
        now = time.monotonic()
        if state.phase == "iterating":
            self._steps_s.append(now - self._step_began_s)
        self._step_began_s = now
        self._state = state
        line = _state_line(state)
        if line and self._live is not None:
            self._live.console.print(Text(line))
        elif line:
            print(f"[{now - self._started_s:6.1f} s] {line}", file=sys.stderr, flush=True)

    def __enter__(self) -> RunProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def _headline(self) -> str:
        phase = "warm-up"
        if self._state is not None and self._state.phase in ("warm", "iterating"):
            phase = f"iteration {self._state.iteration + 1} of {self._iterations}"
        elif self._state is not None and self._state.phase in ("testing", "finished"):
            phase = "sealed test"
        count = f" {self._done}/{self._total}" if self._total else ""
        return f"{phase}: {self._what}{count}"

    def _spend(self) -> str:
        if self._budget is None:
            return ""
        spent, caps = self._budget.spent(), self._budget.caps
        usd = f"USD {spent.usd:.4f}" if not spent.usd_unknown_calls else f"USD {spent.usd:.4f} + not reported"
        parts = [
            _against(f"{spent.system_runs:.0f}", caps.system_runs, "system runs"),
            _against(f"{spent.tokens:,}", caps.tokens, "tokens"),
            usd + (f" of {caps.usd:g}" if caps.usd is not None else ""),
            _against(f"{60 * self._budget.hours():.1f}", None if caps.hours is None else 60 * caps.hours, "min"),
        ]
        return "spent: " + ", ".join(parts) + self._time_left()

    def _time_left(self) -> str:
        if not self._steps_s or self._state is None or self._state.phase != "iterating":
            return ""
        left = self._iterations - self._state.iteration
        seconds = left * sum(self._steps_s) / len(self._steps_s)
        return f"; at most about {seconds / 60:.0f} min left" if seconds > 90 else f"; at most about {seconds:.0f} s left"

    def _view(self) -> Group:
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._total, 1), completed=self._done, width=30)
        grid.add_row(bar, Text(self._headline()))
        return Group(grid, Text(self._spend(), style="dim"))


def _against(used: str, cap: float | None, unit: str) -> str:
    return f"{used}{f' of {cap:g}' if cap is not None else ''} {unit}"


def _state_line(state: RunState) -> str:
    result = state.record.get("result")
    plan = state.record.get("plan")
    if result and plan:
        return f"iteration {state.iteration}: {plan['component']}.{plan['knob']}: {result['verdict']}: {result['reason']}"
    if state.phase == "warm":
        return "warm-up done: first preference data and reward functions are committed"
    if state.phase == "testing":
        return f"the loop ended: {state.stop_reason}"
    return ""
