"""A workspace may come from anyone: what its JSON leads a reader to is told as damage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from optimas_core.artifacts import RunWorkspace
from optimas_core.errors import ArtifactCorrupt


@contextlib.contextmanager
def damage_told(run: RunWorkspace) -> Iterator[None]:
    """For what only reads and shows a run: JSON of another form is damage and no defect.

    Raises:
        ArtifactCorrupt: instead of what a value of another type or size led to.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError, StopIteration) as error:
        raise ArtifactCorrupt(
            f"{run.uri} holds a file of another form than this version writes ({type(error).__name__}: {str(error)[:120]!r}).",
            remedy="Look at it with the version that wrote it.",
        ) from error
