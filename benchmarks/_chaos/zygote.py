"""A process that has imported everything and forks one child for each command, so that a child spends its time on the run alone.

Reads one JSON object a line: {"arguments": ["run", "run.yaml"], "environment": {…}, "output": "file", …} and writes
{"pid": 12} for the child it made and {"pid": 12, "code": 0} when that ended (negative: by that signal). A child is `optimas` with
these arguments; what else may stand in a command is in `_prepare`.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

_POLL_S = 0.004


def main() -> None:
    _import_everything()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    rest = b""
    while True:
        if select.select([0], [], [], _POLL_S)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _start(json.loads(line))
        _report_ended()


def _import_everything() -> None:
    import boto3
    import matplotlib.figure  # noqa: F401
    import peft  # noqa: F401
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from botocore.loaders import JSONFileLoader
    from transformers import AutoModel, AutoTokenizer  # noqa: F401

    import optimas_core.cli._app
    import optimas_core.cli._run
    import optimas_core.cli._stage
    import optimas_core.models.scripted
    import optimas_core.optimizers
    import optimas_core.reporting._figures
    import optimas_core.rewards  # noqa: F401
    from optimas_core.artifacts import read_table, write_table

    # Every S3 client reads two megabytes of JSON that say what S3 is.
    JSONFileLoader.load_file = functools.cache(JSONFileLoader.load_file)  # type: ignore[method-assign]
    boto3.session.Session().client("s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    # pyarrow imports more when it is used.
    row = {"example_id": "e", "arm": "incumbent", "repeat": 0, "reward": 0.0, "status": "ok"}
    read_table("validations", write_table("validations", [row], run_id="r", created_at="t"), file="f")


def _start(command: Mapping[str, Any]) -> None:
    pid = os.fork()
    if pid == 0:
        _child(command)
    print(json.dumps({"pid": pid}), flush=True)


def _report_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        print(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}), flush=True)


def _child(command: Mapping[str, Any]) -> NoReturn:
    code = 1
    try:
        output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(command.get("environment", {}))
        _prepare(command)
        sys.argv = [command.get("script", "optimas"), *command["arguments"]]
        try:
            if "script" in command:
                sys.path.insert(0, str(Path(__file__).parents[1]))
                runpy.run_path(command["script"], run_name="__main__")
            else:
                from optimas_core.cli import main

                main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # the child must not go on as a second zygote
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(command: Mapping[str, Any]) -> None:
    """What a command may change in its child.

    started_at_s: the wall clock that a new run's time of creation is read from, so that two runs can be compared byte by byte.
    skew_s: seconds that this machine's wall clock is ahead of the truth.
    script: a Python file to run instead of `optimas`.
    mounts_of: process whose mounts it sees instead of ours.
    lease_ttl_s, lease_wait_s: instead of half a minute.
    s3_attempts: how often boto3 tries a request, instead of four times.
    signal: sent to itself at OPTIMAS_CRASH_AT instead of SIGKILL.
    report: False leaves the report out, which takes longer than the rest of a small run.
    refuse_pickle: end with code 99 as soon as anything is unpickled from a file's bytes.
    """
    import optimas_core.cli._run as run
    from optimas_core import crash_points
    from optimas_core.artifacts import _probe as probe

    crash_points._plan.cache_clear()
    if "mounts_of" in command:
        _enter_mounts(int(command["mounts_of"]))
    if "signal" in command:
        number = int(command["signal"])
        crash_points.die = lambda: os.kill(os.getpid(), number)  # type: ignore[assignment]
    if "started_at_s" in command:
        _fix_creation(float(command["started_at_s"]))
    if "skew_s" in command:
        _skew(float(command["skew_s"]))
    if "lease_ttl_s" in command:
        run.Lease = functools.partial(run.Lease, ttl_s=float(command["lease_ttl_s"]))  # type: ignore[assignment,misc]
    if "lease_wait_s" in command:
        run._LEASE_WAIT_S = float(command["lease_wait_s"])
    if "s3_attempts" in command:
        probe.S3Store = functools.partial(probe.S3Store, attempts=int(command["s3_attempts"]))  # type: ignore[assignment,misc]
    if not command.get("report", True):
        run.write_report = lambda _: ({"verdict": {"line": "no report"}}, "nowhere")  # type: ignore[assignment]
    if command.get("refuse_pickle"):
        sys.addaudithook(_refuse_pickle)


def _enter_mounts(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/mnt", "rb") as namespace:
        if libc.setns(namespace.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def _fix_creation(started_at_s: float) -> None:
    import optimas_core.stages._open as opening

    class Fixed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(started_at_s, tz or UTC)

    opening.datetime = Fixed  # type: ignore[attr-defined,misc]


def _skew(seconds: float) -> None:
    """A wall clock that is off, for our code and for the signatures of requests to S3."""
    import botocore.auth

    plain_time, plain_now = time.time, botocore.auth.get_current_datetime
    time.time = lambda: plain_time() + seconds

    def now(*arguments: Any, **options: Any) -> datetime:
        from datetime import timedelta

        return plain_now(*arguments, **options) + timedelta(seconds=seconds)

    botocore.auth.get_current_datetime = now


def _refuse_pickle(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        print(f"unpickled: {arguments}", file=sys.stderr, flush=True)
        os._exit(99)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it by closing its input
    main()
