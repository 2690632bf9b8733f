"""Launchers: where the stages of a run are executed."""

from optimas_core.launchers.in_process import InProcessLauncher, iterate

__all__ = ["InProcessLauncher", "iterate"]
