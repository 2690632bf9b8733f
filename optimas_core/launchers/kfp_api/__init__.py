"""Kubeflow Pipelines as a client sees it: the few calls we make, over plain HTTP, and how to reach it.

connect(KfpHost(...)) -> KfpApi     address, identity, port-forward
get_or_create_run                   exactly one run of a name
RunView, RecurringView, PodProblem  what came back
"""

from optimas_core.launchers.kfp_api._auth import FoundCredentials, KfpHost, connect, in_cluster
from optimas_core.launchers.kfp_api._client import KfpApi
from optimas_core.launchers.kfp_api._create import get_or_create_run
from optimas_core.launchers.kfp_api._http import AlreadyThere, Credentials, KfpHttp, NotFound
from optimas_core.launchers.kfp_api._names import (
    MAX_PARAMETER_BYTES,
    attempt_name,
    checked_parameters,
    child_prefix,
    child_run_name,
    is_child_run,
    stage_run_name,
    version_name,
)
from optimas_core.launchers.kfp_api._pod_problems import PodProblem, problems_of
from optimas_core.launchers.kfp_api._views import PipelineIds, RecurringView, RunView, ServerInfo, run_view

__all__ = [
    "MAX_PARAMETER_BYTES",
    "AlreadyThere",
    "Credentials",
    "FoundCredentials",
    "KfpApi",
    "KfpHost",
    "KfpHttp",
    "NotFound",
    "PipelineIds",
    "PodProblem",
    "RecurringView",
    "RunView",
    "ServerInfo",
    "attempt_name",
    "checked_parameters",
    "child_prefix",
    "child_run_name",
    "connect",
    "get_or_create_run",
    "in_cluster",
    "is_child_run",
    "problems_of",
    "run_view",
    "stage_run_name",
    "version_name",
]
