"""A run that starts where another one ended, and the recorded calls that are its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.controller import RunState
from optimas_core.errors import ArtifactCorrupt, ConfigurationError, SpecError
from optimas_core.spec import WarmStart
from optimas_core.stages import load_project, open_run, renewed_project, reopen_project
from optimas_core.system import Configuration

Write = Callable[..., Path]


def promoted(path: Path, values: dict[str, dict[str, object]]) -> tuple[Workspace, str]:
    """A run named `first` that holds the configuration."""
    workspace = Workspace.open(load_project(path).workspace_url)
    return workspace, workspace.run("first").put_configuration(values)


def test_the_start_is_the_other_runs_configuration_and_unnamed_knobs_keep_their_defaults(scripted_project: Write) -> None:
    path = scripted_project()
    workspace, name = promoted(path, {"lookup": {"k": 2}})
    base = load_project(path)
    project = renewed_project(base.settings, base.directory, workspace, "second", WarmStart(run="first", configuration=name))
    start = project.system.configuration
    assert start.of("lookup") == {"k": 2} and start.of("answerer") == base.system.configuration.of("answerer")
    assert base.system.configuration.of("lookup") == {"k": 1}, "the system itself is as it was"
    context = open_run(project)
    assert context.run.read_spec()["start"] == start.digest  # type: ignore[index]
    assert project.identity != base.identity
    again = reopen_project(base.directory, workspace.url, "second")
    assert (again.identity, again.system.configuration.digest) == (project.identity, start.digest), "the frozen spec says it all"


def test_where_no_digest_is_given_the_other_runs_last_state_counts_and_is_written_out(scripted_project: Write) -> None:
    path = scripted_project()
    workspace, name = promoted(path, {"lookup": {"k": 2}})
    workspace.run("first").append_state(0, RunState(configuration=name).to_json())
    base = load_project(path)
    settings = base.settings.model_copy(update={"warm_start": WarmStart(run="first")})
    project = renewed_project(settings, base.directory, workspace, "second", WarmStart(run="first"))
    assert project.settings.warm_start == WarmStart(run="first", configuration=name, lrf=None)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (WarmStart(run="nobody"), "has no state"),
        (WarmStart(run="first", configuration="0" * 32), "has no configuration"),
        (WarmStart(run="first", configuration="../x"), "warm_start.configuration"),
    ],
)
def test_a_place_to_start_from_that_is_not_there_is_named(scripted_project: Write, start: WarmStart, said: str) -> None:
    path = scripted_project()
    workspace, _ = promoted(path, {"lookup": {"k": 2}})
    base = load_project(path)
    with pytest.raises(SpecError, match=said):
        renewed_project(base.settings, base.directory, workspace, "second", start)


def test_a_configuration_that_the_system_no_longer_allows_is_refused(scripted_project: Write) -> None:
    path = scripted_project()
    workspace, name = promoted(path, {"lookup": {"k": 7}})
    base = load_project(path)
    with pytest.raises(ConfigurationError, match="k"):
        renewed_project(base.settings, base.directory, workspace, "second", WarmStart(run="first", configuration=name))


def test_reward_functions_that_the_other_run_lost_are_named(scripted_project: Write) -> None:
    path = scripted_project()
    workspace, name = promoted(path, {"lookup": {"k": 2}})
    base = load_project(path)
    start = WarmStart(run="first", configuration=name, lrf="c" * 32)
    with pytest.raises(ArtifactCorrupt, match="no reward functions"):
        open_run(renewed_project(base.settings, base.directory, workspace, "second", start))


CONFIG = {"rung": "frozen", "backbone": "all-minilm-l6-v2", "max_tokens": 256, "precision": "auto", "lora_rank": 32, "lora_alpha": 16}


@pytest.mark.parametrize(
    ("changes", "sections", "continued"),
    [
        ({}, {}, True),
        ({"backbone": "another"}, {}, False),
        ({"rung": "lora"}, {}, False),
        ({"components": ["lookup"]}, {}, False),
        ({"lora_rank": 8}, {}, True),  # the frozen rung has no LoRA
        ({}, {"seed": 5}, False),  # other examples held out: it would be judged on what it was trained on
        ({}, {"preferences": {"held_out": 0.5}}, False),
    ],
)
def test_reward_functions_are_trained_further_only_where_that_means_the_same(
    scripted_project: Write, changes: dict[str, object], sections: dict[str, object], continued: bool
) -> None:
    path = scripted_project()
    first = open_run(load_project(path, name="first"))
    config = {**CONFIG, "components": ["lookup", "answerer"], **changes}
    first.run.commit_artifact("lrf", "d" * 32, {"config.json": json.dumps(config).encode()}, inputs={}, producer="p", created_at="t")
    base = load_project(scripted_project("other", workspace=str(path.parent / "workspace"), **sections))
    start = WarmStart(run="first", configuration=first.system.configuration.digest, lrf="d" * 32)
    project = renewed_project(base.settings, base.directory, Workspace.open(base.workspace_url), "second", start)
    assert project.settings.warm_start is not None
    assert project.settings.warm_start.lrf == ("d" * 32 if continued else None)


def test_a_run_that_has_begun_needs_the_other_one_no_more(scripted_project: Write) -> None:
    path = scripted_project()
    workspace, name = promoted(path, {"lookup": {"k": 2}})
    base = load_project(path)
    begun = renewed_project(base.settings, base.directory, workspace, "second", WarmStart(run="first", configuration=name))
    open_run(begun)
    shutil.rmtree(path.parent / "workspace" / "runs" / "first")
    again = reopen_project(base.directory, workspace.url, "second")
    assert again.identity == begun.identity and open_run(again).system.configuration == begun.system.configuration


def test_a_value_chosen_per_input_brings_its_reward_functions_along(scripted_project: Write) -> None:
    path = scripted_project()
    first = open_run(load_project(path, name="first"))
    files = {"config.json": b"{}", "heads.safetensors": b"h"}
    first.run.commit_artifact("lrf", "d" * 32, files, inputs={}, producer="p", created_at=first.created_at)
    value = {"per_input": [1, 2], "lrf": "d" * 32}
    configuration = Configuration(first.system.configuration.knobs).replace("lookup", {"k": value})
    workspace = Workspace.open(load_project(path).workspace_url)
    name = workspace.run("first").put_configuration(configuration.to_json())
    base = load_project(path)
    second = open_run(renewed_project(base.settings, base.directory, workspace, "second", WarmStart(run="first", configuration=name)))
    brought = second.run.open_artifact("lrf", "d" * 32)
    assert brought is not None and {file: brought.read(file) for file in brought.names} == files


def test_calls_of_its_own_are_read_by_no_other_run(tmp_path: Path) -> None:
    shared = Workspace.open(tmp_path).calls
    own, other = replace(shared, only_for="one"), replace(shared, only_for="two")
    own.put("e" * 32, {"text": "mine"})
    assert own.get("e" * 32) == {"text": "mine"}
    assert shared.get("e" * 32) is None and other.get("e" * 32) is None
