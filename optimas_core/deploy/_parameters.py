"""From what a user sets to what a pipeline is given: its own parameters, and what it passes on to the runs that it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.deploy._compiled import CompiledPipeline, fitting
from optimas_core.errors import SpecError
from optimas_core.launchers.kfp_api import checked_parameters
from optimas_core.stages import MAX_SHARDS, Project

# Each follows from something else; set apart from it, the parts of a run would disagree.
_DERIVED = {
    "workspace": "Use --workspace.",
    "run_id": "Use --name.",
    "bundle": "It is the digest of the project's files.",
    "experiment": "Use --experiment.",
    "service_account": "Use --service-account.",
    "shard_indexes": "It follows from shards.",
    "cluster": "It is what the other settings say.",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where in an installation runs go, and as whom they run ("": the pipeline's default)."""

    experiment: str = "optimas"
    service_account: str = ""

    def account_for(self, pipeline: CompiledPipeline) -> str:
        """The service account of all pods; "" is the installation's own default."""
        return self.service_account or str(pipeline.defaults.get("service_account", ""))


def parameters_of(project: Project, pipeline: CompiledPipeline, settings: Mapping[str, Any], target: Target, bundle: str) -> dict[str, Any]:
    """Everything the pipeline is told.

    The runs that a controller starts belong to its own experiment, where `cancel` looks for them, run as its account, and get the same
    settings of the cluster through `cluster`.

    Raises:
        SpecError: a setting the pipeline does not have, of another type, too large, or one that follows from something else.
    """
    for key in settings:
        if key in _DERIVED:
            raise SpecError(f"parameter {key!r} is not set by itself.", remedy=_DERIVED[key])
    fitting(pipeline, settings, complete=False)
    checked_parameters(settings)
    derived: dict[str, Any] = {
        "experiment": target.experiment,
        "service_account": target.account_for(pipeline),
        "cluster": {key: value for key, value in settings.items() if key != "shards"},
    }
    shards = settings.get("shards")
    if shards is not None:
        if not 1 <= shards <= MAX_SHARDS:
            raise SpecError(f"shards = {shards} is not between 1 and {MAX_SHARDS}.", remedy="Give --set shards=4.")
        derived["shard_indexes"] = list(range(shards))
    common = {"workspace": project.workspace_url, "run_id": project.run_id, "bundle": bundle}
    taken = {key: value for key, value in derived.items() if key in pipeline.parameters}
    return checked_parameters(fitting(pipeline, {**common, **settings, **taken}))
