"""One iteration: select and propose, label the mini-batch over shards, adapt, choose, validate. The same size at any iteration."""

from kfp import dsl

from components.adapt_lrf.component import adapt_lrf
from components.generate_preferences.component import generate_preferences
from components.local_optimize.component import local_optimize
from components.propose.component import propose
from components.validate_accept.component import validate_accept


@dsl.pipeline(name="optimas-iteration", description="One iteration of a run, from the state that it follows to the gate's verdict.")
def iteration(
    workspace: str,
    run_id: str,
    bundle: str,
    state: int,
    shards: int,
    shard_indexes: list,
):
    proposed = propose(workspace=workspace, run_id=run_id, bundle=bundle, state=state).set_caching_options(False)
    with dsl.ParallelFor(items=shard_indexes) as shard:
        measured = (
            generate_preferences(workspace=workspace, run_id=run_id, bundle=bundle, state=state, shard=shard, shards=shards)
            .after(proposed)
            .set_caching_options(False)
        )
    adapted = (
        adapt_lrf(workspace=workspace, run_id=run_id, bundle=bundle, state=state, proposals=proposed.outputs["Output"])
        .after(measured)
        .set_caching_options(False)
    )
    chosen = local_optimize(
        workspace=workspace,
        run_id=run_id,
        bundle=bundle,
        state=state,
        proposals=proposed.outputs["Output"],
        lrf=adapted.outputs["Output"],
    ).set_caching_options(False)
    validate_accept(workspace=workspace, run_id=run_id, bundle=bundle, state=state, ranking=chosen.outputs["Output"]).set_caching_options(
        False
    )
