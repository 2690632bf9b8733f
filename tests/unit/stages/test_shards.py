"""The table of preferences does not depend on the number of shards that measured it, nor on one that was killed or ran twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.errors import SpecError
from optimas_core.stages import (
    MAX_SHARDS,
    PreferenceRequest,
    Shard,
    StageContext,
    generate_preferences,
    load_project,
    measure_shard,
    open_run,
)

Write = Callable[..., Path]


@pytest.fixture
def opened(scripted_project: Write, tmp_path: Path) -> Callable[[str], StageContext]:
    """A context over a workspace of that name; every one has the same frozen spec, so that bytes can be compared."""
    path = scripted_project(name="colours")
    first = open_run(load_project(path, workspace=str(tmp_path / "first")))

    def context(workspace: str) -> StageContext:
        project = load_project(path, workspace=str(tmp_path / workspace))
        from optimas_core.artifacts import Workspace

        Workspace.open(project.workspace_url).run("colours").freeze_spec(first.run.read_spec() or {})
        return open_run(project)

    return context


def request_of(context: StageContext, component: str = "answerer") -> PreferenceRequest:
    ids = tuple(example.id for example in context.split.train[:12])
    return PreferenceRequest(0, (component,), context.system.configuration.digest, ids)


def table(context: StageContext, name: str) -> dict[str, bytes]:
    artifact = context.required("preferences", name)
    return {file: artifact.read(file) for file in artifact.names}


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("component", ["lookup", "answerer"])
def test_the_table_has_the_same_bytes_for_any_number_of_shards(opened: Callable[[str], StageContext], component: str, count: int) -> None:
    whole = opened("whole")
    name = asyncio.run(generate_preferences(whole, request_of(whole, component)))
    for index in range(count):  # each shard as a process of its own would open it
        context = opened("sharded")
        asyncio.run(measure_shard(context, request_of(context, component), Shard(index, count)))
    merging = opened("sharded")
    before = merging.budget.spent()
    assert asyncio.run(generate_preferences(merging, request_of(merging, component))) == name
    assert table(merging, name) == table(whole, name)
    merging.budget.flush()
    after = merging.budget.spent()
    assert (after.tokens, after.system_runs) == (before.tokens, before.system_runs), "the shards paid for everything"


def test_a_shard_that_never_ran_is_made_up_for(opened: Callable[[str], StageContext]) -> None:
    whole, context = opened("whole"), opened("sharded")
    name = asyncio.run(generate_preferences(whole, request_of(whole)))
    asyncio.run(measure_shard(context, request_of(context), Shard(0, 3)))
    asyncio.run(measure_shard(context, request_of(context), Shard(0, 3)))
    assert asyncio.run(generate_preferences(context, request_of(context))) == name and table(context, name) == table(whole, name)


def test_a_shard_of_a_committed_table_makes_no_call(opened: Callable[[str], StageContext]) -> None:
    context = opened("whole")
    asyncio.run(generate_preferences(context, request_of(context)))

    def refused() -> None:
        raise AssertionError("a call was made")

    context.engine.before_call = refused
    assert asyncio.run(measure_shard(context, request_of(context), Shard(0, 1))) == {}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1), max_size=30, unique=True), st.integers(1, MAX_SHARDS))
def test_every_example_is_in_exactly_one_shard(ids: list[str], count: int) -> None:
    shards = [Shard(index, count) for index in range(count)]
    assert all(sum(shard.holds(name) for shard in shards) == 1 for name in ids)


@pytest.mark.parametrize(("index", "count"), [(0, 0), (4, 4), (-1, 2), (0, MAX_SHARDS + 1)])
def test_an_impossible_shard_is_refused(index: int, count: int) -> None:
    with pytest.raises(SpecError, match="shard"):
        Shard(index, count)
