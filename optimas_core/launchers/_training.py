"""Tasks that train: in one process, as one of several that torchrun started, or as the one that starts them.

With several GPUs a task starts torchrun on its own program, one process for each; process 0 does the task and commits, the others compute
their share of every batch. The task that started them then does its work once more and finds it all committed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.errors import EnvironmentNotReady, TemporaryError
from optimas_core.launchers._pod_settings import ATTEMPTS
from optimas_core.launchers._tasks import forget_outcomes, read_outcome, run_task
from optimas_core.rewards import ALONE, ProcessesLost, Ranks, follow, training_processes

PROCESSES = "OPTIMAS_TRAIN_PROCESSES"
_MOST_PROCESSES = 64
_TAIL_LINES = 400
# How torchrun's last report names a process that failed.
_FAILURE = re.compile(r"^\s*rank\s*:\s*(\d+).*\n\s*exitcode\s*:\s*(-?\d+)", re.MULTILINE)

Work = Callable[[Ranks], Coroutine[Any, Any, str]]


def run_training(program: str, arguments: Mapping[str, str | int], task: str, work: Work) -> str:
    """`work` to its end, in as many processes as there are GPUs, or as OPTIMAS_TRAIN_PROCESSES says.

    `program` and `arguments` are what `stage_task` takes to do the same; `task` names it within the run.

    Raises:
        OptimasError: the last failure.
        SystemExit: this process only followed and is done (0), or lost the others (1).
    """
    workspace, run_id = str(arguments["workspace"]), str(arguments["run_id"])
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        return _as_one_of_several(workspace, run_id, task, work)

    async def alone_or_started() -> str:
        run = Workspace.open(workspace).run(run_id)
        processes = _wanted_processes(run)
        if processes > 1:
            forget_outcomes(run, [task])
            _start(run, task, [program, *_options(arguments)], processes)
        return await work(ALONE)

    return run_task(workspace, run_id, task, alone_or_started)


def _as_one_of_several(workspace: str, run_id: str, task: str, work: Work) -> str:
    try:
        with training_processes() as ranks:
            if ranks.leads:
                return run_task(workspace, run_id, task, lambda: work(ranks))
            follow(ranks)
    except ProcessesLost as error:
        print(f"optimas: {error} Every process of this training ends; the task can be run again.", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    raise SystemExit(0)


def _wanted_processes(run: RunWorkspace) -> int:
    """How many share the work; 1 where there is nothing to share: the frozen rung is solved in seconds.

    Raises:
        EnvironmentNotReady: the variable holds no such number.
    """
    frozen = run.read_spec()
    if frozen is None or frozen["settings"]["lrf"]["rung"] != "lora":
        return 1
    text = os.environ.get(PROCESSES)
    if text:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_PROCESSES:
            raise EnvironmentNotReady(
                f"{PROCESSES}={text[:80]!r} is no number from 1 to {_MOST_PROCESSES}.", remedy="Leave it out: the GPUs decide."
            )
        return int(text)
    import torch

    devices: int = torch.cuda.device_count()
    return max(1, devices)


def _options(arguments: Mapping[str, str | int]) -> list[str]:
    return [part for name, value in arguments.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _start(run: RunWorkspace, task: str, program: list[str], processes: int) -> None:
    """torchrun to its end; what the processes say goes to stderr as it comes.

    Raises:
        OptimasError: what process 0 ended with.
        TemporaryError: a process died without a word.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // processes) if hasattr(os, "sched_getaffinity") else 1
    # How often it is tried is for the task that starts them: whoever lost the others cannot go on.
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, ATTEMPTS: "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    process = subprocess.Popen(
        [*torchrun, "-m", "optimas_core.launchers.stage_task", *program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None
        tail = _forwarded(process.stdout)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
    if code != 0:
        raise read_outcome(run, task) or TemporaryError(
            f"{_who_failed(tail, processes)}, and the training with it.",
            remedy="The task's log has what it said; where its memory ran out, give it more with --set memory=….",
        )


def _forwarded(lines: Iterable[str]) -> str:
    """The last lines, after all were passed on."""
    kept: deque[str] = deque(maxlen=_TAIL_LINES)
    for line in lines:
        sys.stderr.write(line)
        sys.stderr.flush()
        kept.append(line)
    return "".join(kept)


def _who_failed(tail: str, processes: int) -> str:
    """From the last report of torchrun, or in general where it has another form.

    One that was killed comes before those that ended because of it, whichever torchrun saw first; the last in the report is its guess.
    """
    failures = [(rank, int(code)) for rank, code in _FAILURE.findall(tail)]
    if not failures:
        return f"one of {processes} training processes failed"
    killed = [item for item in failures if item[1] < 0 and item[1] != -signal.SIGTERM]
    rank, code = (killed or failures)[-1]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"training process {rank} of {processes} {how}"
