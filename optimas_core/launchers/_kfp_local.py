"""Compiled pipelines on this machine, without a cluster: every task is a process of its own, as it is a container on one."""

from __future__ import annotations

import builtins
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from optimas_core.errors import EnvironmentNotReady
from optimas_core.launchers._pipelines import PipelineFailed, PipelineName, compiled


class LocalPipelines:
    """Executes pipelines with `kfp.local`.

    Raises:
        EnvironmentNotReady: kfp is not installed.
    """

    def __init__(self) -> None:
        try:
            import kfp  # noqa: F401
        except ImportError:
            raise EnvironmentNotReady("kfp is not installed.", remedy="Install it: pip install 'optimas-kube[kfp]'.") from None
        self._folder = tempfile.TemporaryDirectory(prefix="optimas-kfp-")

    def execute(self, pipeline: PipelineName, name: str, arguments: Mapping[str, Any]) -> None:
        """See `Executor`. Tasks of one pipeline run one after another, of a loop two at once: that is how kfp.local is."""
        from kfp import components, local

        definition = components.load_component_from_text(compiled(pipeline).decode())
        with _quiet():
            local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=self._folder.name, raise_on_error=True)
            try:
                definition(**arguments)
            except RuntimeError as error:
                raise PipelineFailed(str(error)) from None

    def close(self) -> None:
        """Delete what the tasks left in the temporary folder."""
        self._folder.cleanup()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp.local tells everything on stdout, where a program reads our result: it goes to stderr, and its own log only from warnings up.

    It also replaces `print` by one that indents, and two tasks of a loop at once put it back in the wrong order: ours is put back here.
    """
    logger = logging.getLogger()
    level, plain = logger.level, builtins.print
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        builtins.print = plain
        logger.setLevel(level)
