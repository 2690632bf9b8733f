"""Launchers: where the stages of a run are executed."""

from optimas_core.launchers._iteration import iterate
from optimas_core.launchers._kfp import ClusterSettings, KubeflowPipelines
from optimas_core.launchers._kfp_local import LocalPipelines
from optimas_core.launchers._pipelines import Executor, PipelineFailed, PipelineLauncher, Placed, compiled
from optimas_core.launchers._pod_settings import POD_SETTINGS, PodSetting, pod_settings, with_pod_settings
from optimas_core.launchers._recurring import Renewal, check_again, renewal
from optimas_core.launchers._tasks import read_kfp_run
from optimas_core.launchers.in_process import InProcessLauncher

__all__ = [
    "POD_SETTINGS",
    "ClusterSettings",
    "Executor",
    "InProcessLauncher",
    "KubeflowPipelines",
    "LocalPipelines",
    "PipelineFailed",
    "PipelineLauncher",
    "Placed",
    "PodSetting",
    "Renewal",
    "check_again",
    "compiled",
    "iterate",
    "pod_settings",
    "read_kfp_run",
    "renewal",
    "with_pod_settings",
]
