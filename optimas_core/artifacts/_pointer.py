"""The promoted configuration of a system: one small file, moved by compare-and-swap, with its whole history."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from optimas_core.artifacts._layout import check_digest, check_name
from optimas_core.artifacts._store import Conflict, Store
from optimas_core.canonical import parse_json
from optimas_core.errors import ArtifactCorrupt, SpecError, UserError

_TRIES = 8
_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Promotion:
    """One entry of the history. The configuration lies at runs/<run_id>/configurations/<configuration>.json.

    `serial` counts entries from 1; `at` is an ISO 8601 time; `note` says why (for example the run's verdict line).
    """

    serial: int
    action: Literal["promote", "rollback"]
    configuration: str
    run_id: str
    at: str
    note: str = ""


@dataclass(frozen=True)
class PromotedPointer:
    """current/<system>. Two people who promote at once both appear in the history, one after the other."""

    store: Store
    system: str

    def current(self) -> Promotion | None:
        """Raises: ArtifactCorrupt: the file is damaged."""
        history = self.history()
        return history[-1] if history else None

    def history(self) -> tuple[Promotion, ...]:
        """Oldest first."""
        return self._read()[0]

    def promote(self, configuration: str, *, run_id: str, at: str, note: str = "", expected_serial: int | None = None) -> Promotion:
        """Point at a configuration. `expected_serial` (0: nothing promoted yet) refuses if someone moved it meanwhile.

        Raises:
            Conflict: the pointer is not at `expected_serial`.
        """
        entry = Promotion(0, "promote", check_digest(configuration), check_name("run id", run_id), at, note)
        return self._append(lambda history: entry, expected_serial)

    def rollback(self, *, at: str, note: str = "", expected_serial: int | None = None) -> Promotion:
        """Point at what was promoted before the current one; again goes one further back.

        Raises:
            UserError: there is nothing before it.
            Conflict: the pointer is not at `expected_serial`.
        """

        def earlier(history: tuple[Promotion, ...]) -> Promotion:
            stack: list[Promotion] = []
            for entry in history:
                if entry.action == "promote":
                    stack.append(entry)
                elif stack:
                    stack.pop()
            if len(stack) < 2:
                raise UserError(
                    f"{self.system} has no promoted configuration before the current one.",
                    remedy="Promote a run's configuration instead.",
                )
            return replace(stack[-2], action="rollback", at=at, note=note)

        return self._append(earlier, expected_serial)

    def _append(self, entry_after: Callable[[tuple[Promotion, ...]], Promotion], expected_serial: int | None) -> Promotion:
        tried: Promotion | None = None
        for _ in range(_TRIES):
            history, etag = self._read()
            if tried is not None and tried in history[tried.serial - 1 : tried.serial]:
                return tried  # it was written, its answer was lost, and someone moved the pointer on
            if expected_serial is not None and len(history) != expected_serial:
                raise Conflict(
                    f"the promoted configuration of {self.system} is at {len(history)}, not at {expected_serial}.",
                    remedy="Look at what was promoted meanwhile, then promote again.",
                )
            entry = tried = replace(entry_after(history), serial=len(history) + 1)
            body = {"format": 1, "system": self.system, "history": [asdict(item) for item in (*history, entry)]}
            data = (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()
            try:
                if etag is None:
                    self.store.put(self._key, data, if_absent=True)
                else:
                    self.store.put(self._key, data, if_match=etag)
                return entry
            except Conflict:
                continue  # someone moved it between our read and our write
        raise Conflict(f"current/{self.system} was moved by others {_TRIES} times in a row.", remedy="Try again.")

    def _read(self) -> tuple[tuple[Promotion, ...], str | None]:
        blob = self.store.get(self._key, max_bytes=_MAX_BYTES)
        if blob is None:
            return (), None
        try:
            history = tuple(_checked(Promotion(**entry)) for entry in parse_json(blob.data)["history"])
            if [entry.serial for entry in history] != list(range(1, len(history) + 1)):
                raise ValueError("serials out of order")
        except (ValueError, KeyError, TypeError, SpecError) as error:
            raise ArtifactCorrupt(
                f"{self._key} in {self.store.url} is not a promotion history ({type(error).__name__}).",
                remedy="Restore the file from a backup, or delete it and promote again.",
            ) from error
        return history, blob.etag

    @property
    def _key(self) -> str:
        return f"current/{self.system}"


def _checked(entry: Promotion) -> Promotion:
    """Raises: ValueError, TypeError, SpecError: a name in it would lead to another place, or a value is of another type."""
    check_digest(entry.configuration)
    check_name("run id", entry.run_id)
    if entry.action not in ("promote", "rollback") or type(entry.serial) is not int:
        raise ValueError("an impossible entry")
    if not isinstance(entry.at, str) or not isinstance(entry.note, str):
        raise TypeError("wrong types")
    return entry
