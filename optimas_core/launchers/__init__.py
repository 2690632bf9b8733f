"""Launchers: where the stages of a run are executed."""

from optimas_core.launchers._iteration import iterate
from optimas_core.launchers._kfp import ClusterSettings, KubeflowPipelines
from optimas_core.launchers._kfp_local import LocalPipelines
from optimas_core.launchers._pipelines import Executor, PipelineFailed, PipelineLauncher, Placed, compiled
from optimas_core.launchers.in_process import InProcessLauncher

__all__ = [
    "ClusterSettings",
    "Executor",
    "InProcessLauncher",
    "KubeflowPipelines",
    "LocalPipelines",
    "PipelineFailed",
    "PipelineLauncher",
    "Placed",
    "compiled",
    "iterate",
]
