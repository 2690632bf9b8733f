"""`optimas prepare`: the embedded models, converted once."""

from __future__ import annotations

from typing import get_args

from optimas_core.models.embedded import EmbeddedName, prepare


def prepare_models() -> None:
    """Convert every embedded model into this user's cache and print where each lies.

    Raises:
        EnvironmentNotReady: a wheel is not installed or its file has another digest.
    """
    for name in get_args(EmbeddedName):
        print(f"{name}: {prepare(name)}", flush=True)
