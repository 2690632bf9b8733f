"""From what a user sets to what a pipeline is given: its own parameters, and what it passes on to the runs that it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.canonical import canonical_json
from optimas_core.deploy._compiled import CompiledPipeline, fitting
from optimas_core.errors import SpecError
from optimas_core.launchers import POD_SETTINGS, pod_settings
from optimas_core.launchers.kfp_api import checked_parameters
from optimas_core.stages import MAX_SHARDS, Project

# Each follows from something else; set apart from it, the parts of a run would disagree.
_DERIVED = {
    "workspace": "Use --workspace.",
    "run_id": "Use --name.",
    "bundle": "It is the digest of the project's files.",
    "experiment": "Use --experiment.",
    "namespace": "Use --namespace.",
    "service_account": "Use --service-account.",
    "shard_indexes": "It follows from shards.",
    "cluster": "It is what the other settings say.",
}


_MEANINGS = {
    "shards": f"tasks that measure preference data, 1 to {MAX_SHARDS}",
    "image": "of the controller",
    "train_image": "of every other task",
    "controller_cpu": "CPUs of the controller",
    "controller_memory": "memory of the controller",
    "cpu": "CPUs of each other task",
    "memory": "memory of each other task",
    "gpu_type": "resource name of the GPUs of train-lrf and adapt-lrf",
    "gpus": "their number; 0: these train on the CPU, several: one training process for each",
    "node_selector": "JSON, as Kubernetes has it",
    "tolerations": "JSON, as Kubernetes has them",
    "s3_secret": "secret whose AWS_* keys become environment variables",
    "llm_secret": "the same for OPENAI_API_KEY, ANTHROPIC_API_KEY, OPTIMAS_LLM_KEY",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What `--set` takes: a name, what stands without it, what it does."""

    name: str
    default: str
    meaning: str


def settings_of(pipeline: CompiledPipeline) -> tuple[Setting, ...]:
    """All that may be set: the pipeline's parameters that follow from nothing else, then what is written into its YAML."""
    free = [key for key, (_, required) in pipeline.parameters.items() if not required and key not in _DERIVED]
    own = [Setting(key, _shown(pipeline.defaults.get(key)), _MEANINGS.get(key, "")) for key in sorted(free)]
    return (*own, *(Setting(item.name, item.default, item.meaning) for item in POD_SETTINGS))


def _shown(default: Any) -> str:
    if isinstance(default, float) and default.is_integer():  # KFP writes every number as a double
        default = int(default)
    return default if isinstance(default, str) else canonical_json(default)


@dataclass(frozen=True, slots=True)
class Target:
    """Where in an installation runs go, and as whom they run ("": the pipeline's default).

    `namespace`: of the runs that a controller starts, where Kubeflow has several users.
    """

    experiment: str = "optimas"
    service_account: str = ""
    namespace: str = ""

    def account_for(self, pipeline: CompiledPipeline) -> str:
        """The service account of all pods; "" is the installation's own default."""
        return self.service_account or str(pipeline.defaults.get("service_account", ""))


def parameters_of(project: Project, pipeline: CompiledPipeline, settings: Mapping[str, Any], target: Target, bundle: str) -> dict[str, Any]:
    """Everything the pipeline is told.

    The runs that a controller starts belong to its own experiment, where `cancel` looks for them, run as its account, and get the same
    settings of the cluster through `cluster`. Those that KFP fixes in the YAML are no parameters: `CompiledPipeline.with_settings`.

    Raises:
        SpecError: a setting the pipeline does not have, of another type, too large, or one that follows from something else.
    """
    for key in settings:
        if key in _DERIVED:
            raise SpecError(f"parameter {key!r} is not set by itself.", remedy=_DERIVED[key])
    pods = pod_settings(settings)
    own = {key: value for key, value in settings.items() if key not in pods}
    fitting(pipeline, own, complete=False)
    checked_parameters(settings)
    derived: dict[str, Any] = {
        "experiment": target.experiment,
        "namespace": target.namespace,
        "service_account": target.account_for(pipeline),
        "cluster": {key: value for key, value in {**own, **pods}.items() if key != "shards"},
    }
    shards = settings.get("shards")
    if shards is not None:
        if not 1 <= shards <= MAX_SHARDS:
            raise SpecError(f"shards = {shards} is not between 1 and {MAX_SHARDS}.", remedy="Give --set shards=4.")
        derived["shard_indexes"] = list(range(shards))
    common = {"workspace": project.workspace_url, "run_id": project.run_id, "bundle": bundle}
    taken = {key: value for key, value in derived.items() if key in pipeline.parameters}
    return checked_parameters(fitting(pipeline, {**common, **own, **taken}))
