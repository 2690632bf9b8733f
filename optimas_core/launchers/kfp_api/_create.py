"""Exactly one run of a name, though the server takes the same name twice.

Whoever creates holds a lease, looks, creates, and looks again. An answer that was lost is looked up before the next try. No run id
of ours is ever sent: the server honours it, but answers a second create with 500 after starting a Workflow that no list shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from optimas_core.launchers.kfp_api._client import KfpApi
from optimas_core.launchers.kfp_api._names import checked_parameters
from optimas_core.launchers.kfp_api._views import PipelineIds, RunView


def get_or_create_run(
    api: KfpApi,
    *,
    name: str,
    experiment_id: str,
    pipeline: PipelineIds,
    parameters: Mapping[str, Any],
    hold: AbstractContextManager[object],
    service_account: str = "",
) -> tuple[RunView, bool]:
    """The run of that name, finished or not, and whether this call started it. `hold` keeps every other creator of the name out.

    Raises:
        SpecError: a parameter that is too large; nothing was sent.
        TemporaryError: the server did not answer until the deadline; the run may exist, and the next call will find it.
        OptimasError: what entering `hold` raises.
    """
    checked_parameters(parameters)
    there = _chosen(api.find_runs(name, experiment_id))
    if there is not None:  # no lease is needed to find it, and its controller may hold that for hours
        return there, False
    with hold:
        sent = False

        def attempt(left_s: float) -> RunView:
            nonlocal sent
            found = _chosen(api.find_runs(name, experiment_id))
            if found is not None:
                return found
            sent = True
            return api.create_run_once(
                name=name,
                experiment_id=experiment_id,
                pipeline=pipeline,
                parameters=parameters,
                service_account=service_account,
                timeout_s=left_s,
            )

        made = api.persist(attempt)
        return (_settled(api, made, name, experiment_id), True) if sent else (made, False)


def _settled(api: KfpApi, made: RunView, name: str, experiment_id: str) -> RunView:
    """Of several runs of the name the oldest stays: a create whose answer was lost may have been carried out after we looked."""
    alive = [run for run in api.find_runs(name, experiment_id) if not run.finished and run.state != "canceling"]
    for extra in alive[1:]:
        api.terminate_run(extra.run_id)
    return alive[0] if alive else made


def _chosen(runs: tuple[RunView, ...]) -> RunView | None:
    """The oldest that lives, else the one that ended last."""
    alive = [run for run in runs if not run.finished and run.state != "canceling"]
    return alive[0] if alive else runs[-1] if runs else None
