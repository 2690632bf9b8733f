"""What the API says about runs, recurring runs and itself, in the few words that a launcher needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["pending", "running", "canceling", "succeeded", "failed", "canceled"]

_STATES: dict[str, State] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "canceling",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "canceled",
}
_FINISHED = ("succeeded", "failed", "canceled")
_MAX_ERRORS = 8
_ERROR_CHARS = 400


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """`version` is "" where the server does not know its own."""

    version: str
    multi_user: bool


@dataclass(frozen=True, slots=True)
class PipelineIds:
    """An uploaded pipeline version."""

    pipeline_id: str
    version_id: str
    version_name: str


@dataclass(frozen=True, slots=True)
class RunView:
    """One look at a KFP run. `created_at` is ISO 8601; `errors` are what the server reports, the run's own first."""

    run_id: str
    name: str
    state: State
    created_at: str
    errors: tuple[str, ...] = ()
    experiment_id: str = ""

    @property
    def finished(self) -> bool:
        return self.state in _FINISHED


@dataclass(frozen=True, slots=True)
class RecurringView:
    """One recurring run. `cron` has six fields, the first is seconds."""

    recurring_id: str
    name: str
    enabled: bool
    cron: str
    created_at: str
    description: str = ""
    no_catchup: bool = False
    max_concurrency: int = 1


def run_view(body: Mapping[str, Any]) -> RunView:
    """A run of the v2beta1 API. One that was just created has no state yet: it is pending."""
    return RunView(
        run_id=_text(body, "run_id"),
        name=_text(body, "display_name"),
        state=_state(body),
        created_at=_text(body, "created_at"),
        errors=tuple(dict.fromkeys(_errors(body)))[:_MAX_ERRORS],
        experiment_id=_text(body, "experiment_id"),
    )


def _state(body: Mapping[str, Any]) -> State:
    found = _STATES.get(_text(body, "state"), "pending")
    return "canceled" if found == "failed" and _was_canceled(body) else found


def _was_canceled(body: Mapping[str, Any]) -> bool:
    """A canceled run ends as FAILED; its history shows CANCELING before. A run that was retried later starts over."""
    canceling = over = False
    for entry in _objects(body.get("state_history")):
        state = _STATES.get(_text(entry, "state"))
        if over:
            canceling, over = False, False
        canceling = canceling or state == "canceling"
        over = state in _FINISHED
    return canceling


def _errors(body: Mapping[str, Any]) -> Iterator[str]:
    details = body.get("run_details")
    tasks = details.get("task_details") if isinstance(details, dict) else None
    for holder in (body, *_objects(body.get("state_history")), *_objects(tasks)):
        error = holder.get("error")
        message = " ".join(_text(error, "message").split()) if isinstance(error, dict) else ""
        if message:
            yield message[:_ERROR_CHARS]


def recurring_view(body: Mapping[str, Any]) -> RecurringView:
    trigger = body.get("trigger")
    cron = trigger.get("cron_schedule") if isinstance(trigger, dict) else None
    concurrency = _text(body, "max_concurrency")  # int64: a text in JSON
    return RecurringView(
        recurring_id=_text(body, "recurring_run_id"),
        name=_text(body, "display_name"),
        enabled=_text(body, "status") == "ENABLED",
        cron=_text(cron, "cron") if isinstance(cron, dict) else "",
        created_at=_text(body, "created_at"),
        description=_text(body, "description"),
        no_catchup=body.get("no_catchup") is True,
        max_concurrency=int(concurrency) if concurrency.isdecimal() else 1,
    )


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
