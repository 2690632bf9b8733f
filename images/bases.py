"""The base images named in bases.env, the one place that names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

BASES_FILE = Path(__file__).with_name("bases.env")
_LINE = re.compile(r"([A-Z][A-Z0-9_]*)=(\S+)")


def read_bases(text: str) -> dict[str, str]:
    """Name -> image reference.

    Raises:
        ValueError: a line that is neither a comment nor NAME=reference.
    """
    bases = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ValueError(f"bases.env line {number}: {line!r} is not NAME=image.")
            bases[found[1]] = found[2]
    return bases


def chosen_bases(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The bases of the file, each replaced where the environment has its name."""
    return {name: environment.get(name) or reference for name, reference in read_bases(text).items()}


def with_digests(text: str, digests: Mapping[str, str]) -> str:
    """The file with each reference pinned to the digest looked up for it (`sha256:…`, by name); an older digest is replaced.

    Raises:
        ValueError: something that is no digest.
    """
    lines = []
    for line in text.splitlines():
        found = None if line.startswith("#") else _LINE.fullmatch(line.strip())
        if found is not None and found[1] in digests:
            digest = digests[found[1]]
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
                raise ValueError(f"{digest!r} is no digest of {found[2]}.")
            line = f"{found[1]}={tag_of(found[2])}@{digest}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def tag_of(reference: str) -> str:
    """The reference without its digest."""
    return reference.partition("@")[0]
