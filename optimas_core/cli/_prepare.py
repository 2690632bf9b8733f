"""`optimas prepare`: the embedded models, converted once."""

from __future__ import annotations

from optimas_core.models.embedded import EMBEDDED, prepare


def prepare_models() -> None:
    """Convert every embedded model into this user's cache and print where each lies.

    Raises:
        EnvironmentNotReady: a wheel is not installed or its file has another digest.
    """
    for name in EMBEDDED:
        print(f"{name}: {prepare(name)}", flush=True)
