"""Launchers: where the stages of a run are executed."""

from optimas_core.launchers._iteration import iterate
from optimas_core.launchers._kfp_local import KfpLocalLauncher
from optimas_core.launchers.in_process import InProcessLauncher

__all__ = ["InProcessLauncher", "KfpLocalLauncher", "iterate"]
