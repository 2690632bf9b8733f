"""What a task of a pipeline does, wherever it runs: open the run, do one step, say how it ended.

A task is given texts and numbers only: the workspace, the run, the digest of the code, the number of the state that it follows. All
else lies in the workspace. It may be run twice at once, or again after it was killed: what it commits has a content address.
Infrastructure that fails is tried again here, because Kubeflow does not do it by default; how a task ended is written beside the
report, since a pipeline's own error text only says that a container failed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from optimas_core._memory import few_arenas
from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.canonical import canonical_json, parse_json
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady, OptimasError, TemporaryError
from optimas_core.launchers._pod_settings import ATTEMPTS, BACKOFF
from optimas_core.stages import StageContext, open_run, reopen_project

if TYPE_CHECKING:
    from tenacity import Retrying

Figures = MutableMapping[str, Any]
"""Numbers that the pipeline's page shows beside the task (a KFP Metrics artifact's metadata)."""
Result = TypeVar("Result")

CODE_FOLDER = "OPTIMAS_CODE_FOLDER"
_KFP_RUN_FILE = "report/tasks/kfp-run.json"
_ATTEMPTS, _BACKOFF_S = 3, 2.0
_BACKOFF_DOUBLED = 30.0


def open_task(workspace: str, run_id: str, bundle: str, *, for_the_test: bool = False) -> StageContext:
    """The run with its own code: the bundle's digest is checked before anything of it is imported.

    `for_the_test`: this task may spend what is held back for the sealed test.

    Raises:
        ArtifactCorrupt: the bundle is not what its name says.
        UserError: as `reopen_project`.
    """
    opened = Workspace.open(workspace)
    project = reopen_project(unpacked(opened, bundle), workspace, run_id)
    context = open_run(project, workspace=opened)
    if not for_the_test:
        context.budget.hold_back(2.0 * len(context.split.test))
    return context


def unpacked(workspace: Workspace, bundle: str) -> Path:
    """The directory of the run's code, unpacked here if it was not. Raises: ArtifactCorrupt: the bundle is not what its name says."""
    from optimas_core.artifacts import unpack_bundle

    return unpack_bundle(workspace, bundle, Path(os.environ.get(CODE_FOLDER) or Path(tempfile.gettempdir()) / "optimas-code"))


def run_task(workspace: str, run_id: str, task: str, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """`work` to its end, again after failures of infrastructure; writes how it ended for whoever waits.

    `task` names it within the run ("3-adapt-lrf").

    Raises:
        OptimasError: the last failure.
    """
    few_arenas()
    run = Workspace.open(workspace).run(run_id)
    try:
        result: Result = retries()(lambda: asyncio.run(work()))
    except OptimasError as error:
        with suppress(OptimasError):  # where the store cannot be written, what went wrong before is still the news
            write_outcome(run, task, error)
        raise
    write_outcome(run, task, None)
    return result


def retries(attempts: int = _ATTEMPTS, backoff_s: float = _BACKOFF_S, say: Callable[[str], None] = lambda text: None) -> Retrying:
    """Calls again after failures of infrastructure. The pod's environment decides how often and after how long, else the arguments.

    Raises:
        EnvironmentNotReady: a variable holds no number of its kind.
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    attempts, backoff_s = int(_number(ATTEMPTS, attempts)), _number(BACKOFF, backoff_s)

    def tell(state: RetryCallState) -> None:
        say(f"again after: {state.outcome.exception() if state.outcome else ''}")

    return Retrying(
        retry=retry_if_exception_type(TemporaryError),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=backoff_s, max=_BACKOFF_DOUBLED * backoff_s),
        before_sleep=tell,
        reraise=True,
    )


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable) or f"{default:g}"
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6 or (isinstance(default, int) and not value.is_integer()):
        kind = "whole number" if isinstance(default, int) else "number"
        raise EnvironmentNotReady(f"{variable}={text[:80]!r} is no {kind} above 0.", remedy="Correct it, or leave it out.")
    return value


def write_outcome(run: RunWorkspace, task: str, error: OptimasError | None) -> None:
    """Overwrites what an earlier try of the task wrote."""
    body: dict[str, Any] = {"ok": error is None}
    if error is not None:
        body |= {"code": error.code, "message": error.message, "remedy": error.remedy}
    run.write_file(_outcome_file(task), canonical_json(body).encode())


def forget_outcomes(run: RunWorkspace, tasks: Iterable[str]) -> None:
    """What an earlier try said is no news."""
    for task in tasks:
        if run.read_file(_outcome_file(task)) is not None:
            run.write_file(_outcome_file(task), b"null")


def read_outcome(run: RunWorkspace, task: str) -> OptimasError | None:
    """The error that a task ended in, as the class that its code names; None where it ended well or wrote nothing."""
    try:
        body = parse_json(run.read_file(_outcome_file(task)) or b"null")
        if not isinstance(body, dict) or body.get("ok") is not False:
            return None
        kind = next((kind for kind in _kinds(OptimasError) if kind.code == body["code"]), OptimasError)
        return kind(str(body["message"]), remedy=str(body["remedy"]))
    except (ValueError, KeyError):  # cut short: as if it wrote nothing
        return None


def note_kfp_run(run: RunWorkspace, kfp_run_id: str) -> None:
    """Write down the KFP run that a schedule started and that this run is of: nobody submitted it, and `cancel` must find it."""
    run.write_file(_KFP_RUN_FILE, canonical_json({"kfp_run_id": kfp_run_id}).encode())


def read_kfp_run(run: RunWorkspace) -> str | None:
    """The id that `note_kfp_run` wrote. Raises: ArtifactCorrupt: the file holds something else."""
    data = run.read_file(_KFP_RUN_FILE)
    if data is None:
        return None
    try:
        return str(parse_json(data)["kfp_run_id"])
    except (ValueError, KeyError, TypeError):
        raise ArtifactCorrupt(f"{run.uri}/{_KFP_RUN_FILE} is damaged.", remedy="End the run in Kubeflow itself.") from None


def show_manifest(context: StageContext, kind: str, name: str | None, file: str) -> None:
    """Write an artifact's address and manifest to `file` for the pipeline's page; "" for no such file, None where nothing was made."""
    if not file:
        return
    artifact = context.required(kind, name) if name is not None else None
    shown = {"uri": None} if artifact is None else {"uri": artifact.uri, "manifest": parse_json(artifact.manifest.to_bytes())}
    Path(file).write_text(canonical_json(shown) + "\n", encoding="utf-8")


def _outcome_file(task: str) -> str:
    return f"report/tasks/{task}.json"


def _kinds(root: type[OptimasError]) -> list[type[OptimasError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]
