"""Removes what no manifest names: leftovers of killed writers. Never a state, a manifest or what either refers to."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections import defaultdict

from optimas_core.artifacts._directory import DirectoryStore
from optimas_core.artifacts._layout import MANIFEST, is_artifact_folder
from optimas_core.artifacts._store import Store, StoredKey
from optimas_core.artifacts._workspace import RunWorkspace, Workspace
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady

DEFAULT_MIN_AGE_S = 24 * 3600.0

_log = logging.getLogger(__name__)
_HEX = re.compile(r"[0-9a-f]{8,64}")


def collect(
    workspace: Workspace,
    run_id: str | None = None,
    *,
    dry_run: bool = False,
    min_age_s: float = DEFAULT_MIN_AGE_S,
    calls: bool = False,
    now_s: float | None = None,
) -> list[str]:
    """Remove leftovers older than `min_age_s` and return their keys (with `dry_run`: what would go).

    With a run id, only that run's artifact folders are looked at; without, all runs, abandoned probes and temporary
    files. `calls=True` also removes call records of that age: they can be had again, but not for nothing.
    Code bundles stay, whatever their age: a schedule or a pod that starts tomorrow names one of today.
    `min_age_s` must exceed the longest commit, since a commit in progress looks like a leftover.

    Raises:
        SpecError: an impossible run id.
        ArtifactCorrupt: the run's states cannot be read, so what they refer to is not known. Among all runs, such a
            run is left alone with a warning.
    """
    now_s = _now_of(workspace.store, dry_run) if now_s is None else now_s
    found: list[str] = []
    runs = _all_runs(workspace) if run_id is None else [workspace.run(run_id)]
    for run in runs:
        try:
            found += _leftovers(run, now_s - min_age_s)
        except ArtifactCorrupt as error:
            if run_id is not None:
                raise
            _log.warning("gc leaves run %s alone: %s", run.run_id, error)
    if run_id is None:
        prefixes = ["probe/", "calls/"] if calls else ["probe/"]
        found += [item.key for prefix in prefixes for item in workspace.store.scan(prefix) if _old(item, now_s - min_age_s)]
    if not dry_run:
        for key in found:
            workspace.store.delete(key)
    if run_id is None and isinstance(workspace.store, DirectoryStore):
        found += workspace.store.sweep(min_age_s=min_age_s, dry_run=dry_run)
    return found


def _now_of(store: Store, dry_run: bool) -> float:
    """Seconds since 1970 on the clock that dates the store's files: this machine's may be an hour off, and a commit young."""
    key = f"probe/{secrets.token_hex(16)}"
    try:
        store.put(key, b"what time is it", durable=False)
        try:
            return next((item.modified_at_s for item in store.scan(key)), time.time())
        finally:
            store.delete(key)
    except EnvironmentNotReady:
        if not dry_run:
            raise
        return time.time()  # a store that may only be read can still be looked at


def _leftovers(run: RunWorkspace, before_s: float) -> list[str]:
    folders: dict[tuple[str, str], list[StoredKey]] = defaultdict(list)
    for item in run.store.scan(f"{run.prefix}/"):
        parts = item.key.removeprefix(f"{run.prefix}/").split("/")
        if len(parts) >= 3 and is_artifact_folder(parts[0], parts[1]):
            folders[parts[0], parts[1]].append(item)
    if not any(_old(item, before_s) for items in folders.values() for item in items):
        return []
    referred = _digests_in_states(run)
    found: list[str] = []
    for (kind, digest), items in sorted(folders.items()):
        if digest in referred and not any(item.key.endswith(f"/{digest}/{MANIFEST}") for item in items):
            continue  # a state names it, yet it has no manifest: a person should see this, not a broom
        try:
            artifact = run.open_artifact(kind, digest)  # now, not when the folder was listed: it may be new
        except ArtifactCorrupt:
            continue  # which files it needs is not known
        folder = f"{run.prefix}/{kind}/{digest}"
        kept = {f"{folder}/{MANIFEST}"}
        if artifact is not None:
            kept |= {f"{folder}/{file.path}" for file in artifact.manifest.files}
        found += [item.key for item in items if item.key not in kept and _old(item, before_s)]
    return found


def _digests_in_states(run: RunWorkspace) -> set[str]:
    """Everything in the states that could be a digest: too much is safe."""
    return {text for state in run.states() for text in _HEX.findall(json.dumps(state.data))}


def _all_runs(workspace: Workspace) -> list[RunWorkspace]:
    # From all keys, not from specs: a run killed before its spec was frozen leaves files too.
    names = {key.split("/")[1] for key in workspace.store.list("runs/") if key.count("/") >= 2}
    return [RunWorkspace(workspace.store, name) for name in sorted(names)]


def _old(item: StoredKey, before_s: float) -> bool:
    return item.modified_at_s < before_s
