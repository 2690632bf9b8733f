"""runs/<run_id>/submission.json: under which name a run was given to a cluster, written before it was, and its KFP id after.

Written by compare-and-swap, so that two submissions at once agree on one name; `cancel` and a later `submit` read it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from optimas_core.artifacts import Conflict, RunWorkspace
from optimas_core.canonical import parse_json
from optimas_core.errors import ArtifactCorrupt

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Attempt:
    """One KFP run of the controller. `kfp_run_id` is "" until the server has told it; `at` is ISO 8601."""

    name: str
    at: str
    kfp_run_id: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """Where a run went. `host` is for people only: a port-forward has another address each time."""

    run_id: str
    host: str
    experiment: str
    bundle: str
    attempts: tuple[Attempt, ...]

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    def with_id(self, name: str, kfp_run_id: str) -> Submission:
        return replace(self, attempts=tuple(replace(item, kfp_run_id=kfp_run_id) if item.name == name else item for item in self.attempts))


def read_submission(run: RunWorkspace) -> tuple[Submission, str] | None:
    """The record and its etag; None where the run was never submitted.

    Raises:
        ArtifactCorrupt: the file holds something else.
    """
    blob = run.store.get(_key(run), max_bytes=_MAX_BYTES)
    if blob is None:
        return None
    try:
        body: dict[str, Any] = parse_json(blob.data, max_bytes=_MAX_BYTES)
        if body.pop("format") != 1:
            raise ValueError("another format")
        attempts = tuple(Attempt(**item) for item in body.pop("attempts"))
        found = Submission(attempts=attempts, **body)
        texts = [found.run_id, found.host, found.experiment, found.bundle]
        texts += [text for item in attempts for text in (item.name, item.at, item.kfp_run_id)]
        if not attempts or not all(isinstance(text, str) for text in texts) or found.run_id != run.run_id:
            raise ValueError("wrong types")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactCorrupt(
            f"{run.uri}/submission.json is damaged ({type(error).__name__}).",
            remedy="See in Kubeflow that no run of that name is going, then delete the file.",
        ) from error
    return found, blob.etag


def write_submission(run: RunWorkspace, submission: Submission, *, etag: str | None) -> str:
    """Write it where nothing is (`etag` None), or in place of what was read. Returns the new etag.

    Raises:
        Conflict: someone else wrote meanwhile: read again.
    """
    data = (json.dumps({"format": 1, **asdict(submission)}, sort_keys=True) + "\n").encode()
    if etag is None:
        return run.store.put(_key(run), data, if_absent=True)
    return run.store.put(_key(run), data, if_match=etag)


def record_id(run: RunWorkspace, name: str, kfp_run_id: str) -> None:
    """Write the id that the server gave to the attempt of that name, whoever else is writing."""
    while (found := read_submission(run)) is not None:
        submission, etag = found
        if all(item.kfp_run_id == kfp_run_id for item in submission.attempts if item.name == name):
            return
        try:
            write_submission(run, submission.with_id(name, kfp_run_id), etag=etag)
            return
        except Conflict:
            continue


def _key(run: RunWorkspace) -> str:
    return f"{run.prefix}/submission.json"
