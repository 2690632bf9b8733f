"""Where things lie in a workspace, and which names may stand in a path.

runs/<run_id>/spec.json  lease.json
              state/000000.json …  HEAD
              <kind>/<digest>/…  manifest.json        (preferences, lrf, proposals, validations, adapters, …)
              configurations/<digest>.json
              ledger/000000.json …  HEAD
              report/…
calls/<hh>/<digest>
bundles/<digest>                                      (a system's code, as it was submitted)
current/<system>
probe/<random>                                        (short-lived)
"""

from __future__ import annotations

import re

from optimas_core.errors import SpecError

MANIFEST = "manifest.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_RECORD = re.compile(r"(\d{6,12})\.json")
_NOT_KINDS = {"state", "ledger", "configurations"}


def check_name(what: str, name: str) -> str:
    """Return a run id or system name that is safe in a path, a file system and a Kubernetes annotation.

    Raises:
        SpecError: other characters, or longer than 100.
    """
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"{what} {name[:120]!r} cannot be used as a name.",
            remedy="Use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 100 characters.",
        )
    return name


def check_kind(kind: str) -> str:
    """Raises: ValueError: not the name of a kind of artifact."""
    if not _KIND.fullmatch(kind) or kind in _NOT_KINDS:
        raise ValueError(f"not a kind of artifact: {kind[:80]!r}")
    return kind


def check_digest(digest: str) -> str:
    """Raises: ValueError: not 8 to 64 lower-case hexadecimal characters."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"not a digest: {digest[:80]!r}")
    return digest


def is_artifact_folder(kind: str, digest: str) -> bool:
    """Whether runs/<run_id>/<kind>/<digest>/ is the folder of an artifact."""
    return bool(_KIND.fullmatch(kind) and kind not in _NOT_KINDS and _DIGEST.fullmatch(digest))


def record_name(index: int) -> str:
    """The file of record `index` of a log: states and ledger."""
    return f"{index:06d}.json"


def record_index(name: str) -> int | None:
    """The index in "000007.json", None for other names."""
    found = _RECORD.fullmatch(name)
    return int(found[1]) if found and record_name(int(found[1])) == name else None
