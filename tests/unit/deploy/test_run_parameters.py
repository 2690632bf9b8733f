"""What a pipeline is told follows from one place each: the command's options, the project, the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from optimas_core.deploy import Target, read_pipeline
from optimas_core.deploy._parameters import parameters_of
from optimas_core.errors import SpecError
from optimas_core.launchers import compiled
from optimas_core.stages import Project, load_project


@pytest.fixture
def project(scripted_project: Callable[..., Path]) -> Project:
    return load_project(scripted_project(), name="colours", workspace="s3://bucket/optimas")


@pytest.mark.parametrize("pipeline", ["controller", "recurring"])
def test_the_runs_of_a_controller_go_where_the_controller_went(project: Project, pipeline: str) -> None:
    target = Target("team-runs", "optimas-controller", "team")
    found = parameters_of(project, read_pipeline(compiled(pipeline)), {"cpu": "4", "shards": 3}, target, "b" * 64)
    assert (found["namespace"], found["experiment"], found["service_account"]) == ("team", "team-runs", "optimas-controller")
    assert found["cluster"] == {"cpu": "4"} and found["shard_indexes"] == [0, 1, 2]
    assert (found["workspace"], found["run_id"], found["bundle"]) == ("s3://bucket/optimas", "colours", "b" * 64)


@pytest.mark.parametrize(("name", "option"), [("namespace", "--namespace"), ("experiment", "--experiment"), ("run_id", "--name")])
def test_what_has_an_option_of_its_own_is_not_set_twice(project: Project, name: str, option: str) -> None:
    with pytest.raises(SpecError, match="not set by itself") as caught:
        parameters_of(project, read_pipeline(compiled("controller")), {name: "other"}, Target(), "b" * 64)
    assert option in caught.value.remedy
