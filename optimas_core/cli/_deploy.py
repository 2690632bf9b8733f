"""`optimas submit`, `cancel` and `schedule`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Workspace
from optimas_core.cli._signals import stop_on_sigterm
from optimas_core.deploy import (
    CompiledPipeline,
    Cron,
    Target,
    cancel,
    follow,
    parsed_settings,
    pause,
    read_cron,
    read_pipeline,
    remove,
    resume,
    schedule,
    schedules,
    settings_of,
    submit,
)
from optimas_core.errors import CallRejected, Interrupted, SpecError
from optimas_core.launchers import compiled
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, RecurringView, RunView, connect
from optimas_core.stages import load_project


@dataclass(frozen=True, slots=True)
class Place:
    """Where the command line says to go. `settings` are texts like "gpus=1"."""

    host: str | None
    namespace: str
    kfp_namespace: str
    experiment: str = "optimas"
    service_account: str = ""
    settings: tuple[str, ...] = ()

    @property
    def kfp(self) -> KfpHost:
        return KfpHost(self.host, self.namespace, self.kfp_namespace)

    @property
    def target(self) -> Target:
        return Target(self.experiment, self.service_account, self.namespace)

    def parameters(self, pipeline: CompiledPipeline) -> dict[str, Any]:
        """Raises: SpecError: a text without `=`, or no value of the declared type."""
        texts = {}
        for text in self.settings:
            key, found, value = text.partition("=")
            if not found or not key:
                raise SpecError(f"--set {text[:80]!r} is not name=value.", remedy="Write for example --set gpus=1.")
            texts[key] = value
        return parsed_settings(pipeline, texts)


def list_settings(pipeline: str) -> None:
    """Print what `--set` takes: name, default, meaning."""
    for setting in settings_of(read_pipeline(compiled(pipeline))):
        print(f"{setting.name:<18} {setting.default or '-':<24} {setting.meaning}")


def submit_project(
    run_yaml: Path,
    place: Place,
    *,
    workspace: str | None,
    name: str | None,
    seed: int | None,
    again: bool,
    wait: bool,
    json_output: bool,
) -> None:
    """Start the run on the cluster or attach to it; print its id and link.

    Raises:
        UserError: bad input; nothing was started.
        CallRejected: it was waited for and did not succeed.
    """
    project = load_project(run_yaml, name=name, seed=seed, workspace=workspace)
    pipeline = read_pipeline(compiled("controller"))
    parameters = place.parameters(pipeline)
    with connect(place.kfp) as api:
        done = submit(project, api, pipeline=pipeline, settings=parameters, target=place.target, run_file=run_yaml.name, again=again)
        if not json_output:
            print(f"{done.run_id}: {'attached, ' + done.kfp_run.state if done.attached else 'submitted'}")
            print(f"Link: {done.link}")
            print(f"Follow: optimas watch {project.workspace_url} {done.run_id}")
            sys.stdout.flush()
        last = done.kfp_run
        if wait and not last.finished:
            last = _wait(api, last.run_id)
        why = (last.errors or api.failures(last.run_id)) if last.state == "failed" else ()
    if json_output:
        facts = {"run_id": done.run_id, "kfp_run_id": last.run_id, "state": last.state, "link": done.link, "attached": done.attached}
        print(json.dumps(facts, sort_keys=True))
    if last.state in ("failed", "canceled"):
        said = f" {'; '.join(why[:2])}" if why else ""
        remedy = "`optimas report` says how far it came; `optimas submit --again` goes on from there."
        raise CallRejected(f"run {done.run_id} {last.state} on the cluster.{said}", remedy=remedy)


def _wait(api: KfpApi, kfp_run_id: str) -> RunView:
    """Raises: Interrupted: the waiting was stopped; the run was not."""
    left = Interrupted("no longer waiting; the run goes on in the cluster.", remedy="`optimas submit --wait` attaches again.")
    with stop_on_sigterm() as stopping:

        def sleep(seconds: float) -> None:
            until = time.monotonic() + seconds
            while not stopping.asked and (left_s := until - time.monotonic()) > 0:
                time.sleep(min(0.5, left_s))
            if stopping.asked:
                raise left

        try:
            return follow(api, kfp_run_id, say=lambda text: print(text, file=sys.stderr, flush=True), sleep=sleep)
        except KeyboardInterrupt:
            raise left from None


def cancel_run(workspace: str, run_id: str, place: Place, wait_s: float, json_output: bool) -> None:
    """End the run on its cluster and say what was ended."""
    run = Workspace.open(workspace).run(run_id)
    with connect(place.kfp) as api:
        done = cancel(run, api, wait_s=wait_s)
    if json_output:
        print(json.dumps(asdict(done)))
        return
    for name in done.names:
        print(f"ended {name}")
    print(f"{run_id}: nothing of it runs on the cluster")


def manage_schedule(
    run_yaml: Path | None,
    place: Place,
    actions: Sequence[str],
    *,
    cron: str | None,
    name: str | None,
    workspace: str | None,
    wait_s: float,
    json_output: bool,
) -> None:
    """Set, list, pause, resume or delete a schedule.

    Raises:
        SpecError: not exactly one of these, or what it needs is missing.
    """
    if len(actions) + (cron is not None) != 1:
        raise SpecError("schedule does one thing at a time.", remedy="Give --cron, or one of --list, --pause, --resume, --delete.")
    read = read_cron(cron) if cron is not None else None
    if actions == ["list"]:
        with connect(place.kfp) as api:
            _show(schedules(api, place.experiment), json_output)
        return
    if run_yaml is None and (read is not None or name is None):
        raise SpecError("no run.yaml is given.", remedy="Give its path" + (", or the schedule's --name." if read is None else "."))
    project = load_project(run_yaml, workspace=workspace) if run_yaml is not None and (read or name is None) else None
    named = name or (project and (project.settings.name or project.system.name)) or ""
    if read is not None and project is not None and run_yaml is not None:
        pipeline = read_pipeline(compiled("recurring"))
        parameters = place.parameters(pipeline)
        with connect(place.kfp) as api:
            done = schedule(
                project,
                api,
                name=named,
                cron=read,
                pipeline=pipeline,
                settings=parameters,
                target=place.target,
                run_file=run_yaml.name,
                wait_s=wait_s,
            )
        if json_output:
            print(json.dumps(asdict(done) | {"cron": read.text, "next": _times(read)}, sort_keys=True))
            return
        print(f"{done.name}: {done.action}. {read.words}.")
        _tell_left(done.finishing)
        for moment in _times(read):
            print(f"  {moment}")
        return
    with connect(place.kfp) as api:
        if actions == ["pause"]:
            pause(api, place.experiment, named)
        elif actions == ["resume"]:
            resume(api, place.experiment, named)
        else:
            left = remove(api, place.experiment, named, wait_s=wait_s)
            _tell_left(left)
    past = {"pause": "paused", "resume": "resumed", "delete": "deleted"}[actions[0]]
    print(json.dumps({"name": named, "action": past}) if json_output else f"{named}: {past}")


def _tell_left(left: Sequence[str]) -> None:
    for recurring_id in left:
        print(
            f"  {recurring_id} is off, and stays until its running run has ended: repeat this command then, or give --wait-s",
            file=sys.stderr,
        )


def _show(found: Sequence[RecurringView], json_output: bool) -> None:
    if json_output:
        print(json.dumps([asdict(item) for item in found]))
        return
    for item in found:
        try:
            words = read_cron(item.cron).words
        except SpecError:  # made by hand, or by another version
            words = item.cron
        print(f"{item.name}: {'on' if item.enabled else 'off'}, {words} ({item.cron})")
    if not found:
        print("no schedules")


def _times(cron: Cron) -> list[str]:
    return [f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in cron.next_times()]
